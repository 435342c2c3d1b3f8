"""Scenarios by name: the decorator, and loading from a folder."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.errors import ScenarioError

if TYPE_CHECKING:
    from backend.call.call import Call

ScenarioFunction = Callable[["Call"], Any]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_loading: list[dict[str, ScenarioFunction]] = []


def scenario(name: str) -> Callable[[ScenarioFunction], ScenarioFunction]:
    """Make a function a scenario: ``name`` is what tasks, routes and ``agi://host/name`` call.

    What it returns (any JSON value) becomes the task's result. Raises ScenarioError for a name
    that is not letters, digits, ``_`` and ``-``.
    """
    if not _NAME.fullmatch(name):
        raise ScenarioError(f"scenario name {name!r}: expected letters, digits, '_' and '-'")

    def register(function: ScenarioFunction) -> ScenarioFunction:
        function.__dict__["scenario_name"] = name
        if _loading:
            known = _loading[-1]
            if name in known:
                raise ScenarioError(f"scenario {name!r} is defined twice")
            known[name] = function
        return function

    return register


def load(folders: list[Path]) -> dict[str, ScenarioFunction]:
    """Every scenario in the ``*.py`` files of the folders; a later folder replaces by name.

    Raises ScenarioError that names the file and what is wrong with it.
    """
    found: dict[str, ScenarioFunction] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ScenarioError(f"scenarios folder {folder}: there is no such folder")
        in_folder: dict[str, ScenarioFunction] = {}
        for file in sorted(folder.glob("*.py")):
            if file.name == "__init__.py":
                continue
            in_file = _load_file(file)
            if twice := in_folder.keys() & in_file.keys():
                raise ScenarioError(f"{file}: scenario {min(twice)!r} is also in another file")
            in_folder.update(in_file)
        found.update(in_folder)
    return found


def _load_file(file: Path) -> dict[str, ScenarioFunction]:
    module_name = f"dialog_scenario_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{file}: cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    _loading.append({})
    try:
        spec.loader.exec_module(module)
    except ScenarioError as error:
        raise ScenarioError(f"{file}: {error}") from None
    except Exception as error:
        raise ScenarioError(f"{file}: {type(error).__name__}: {error}") from error
    finally:
        found = _loading.pop()
    return found
