"""Scenarios by name: the decorator."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backend.errors import ScenarioError

if TYPE_CHECKING:
    from backend.call.call import Call

ScenarioFunction = Callable[["Call"], Any]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_thread = threading.local()  # .found: where the file that this thread is loading puts its scenarios


def scenario(name: str) -> Callable[[ScenarioFunction], ScenarioFunction]:
    """Make a function a scenario: ``name`` is what tasks, routes and ``agi://host/name`` call.

    What it returns (any JSON value) becomes the task's result. Raises ScenarioError for a name
    that is not letters, digits, ``_`` and ``-``.
    """
    if not _NAME.fullmatch(name):
        raise ScenarioError(f"scenario name {name!r}: expected letters, digits, '_' and '-'")

    def register(function: ScenarioFunction) -> ScenarioFunction:
        function.__dict__["scenario_name"] = name
        found: dict[str, ScenarioFunction] | None = getattr(_thread, "found", None)
        if found is not None:
            if name in found:
                raise ScenarioError(f"scenario {name!r} is defined twice")
            found[name] = function
        return function

    return register


@contextmanager
def registering() -> Iterator[dict[str, ScenarioFunction]]:
    """The scenarios that are defined by this thread inside; not those of a file loaded within."""
    before = getattr(_thread, "found", None)
    found: dict[str, ScenarioFunction] = {}
    _thread.found = found
    try:
        yield found
    finally:
        _thread.found = before
