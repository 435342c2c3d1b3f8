"""An admin's tables, which are TOML files. Whatever is wrong with one is a ConfigError that names
the file. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from backend.errors import ConfigError

Table = TypeVar("Table")


def load(path: Path, parse: Callable[[str, str], Table], *, setting: str = "") -> Table:
    """What ``parse(text, name)`` makes of the file; ``name``, for errors, is the path, after the
    setting's own name where one is given. Raises ConfigError."""
    name = f"{setting} {path}".lstrip()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot be read: {error}") from None
    return parse(text, name)


def entries(text: str, name: str) -> dict[str, Any]:
    """The entries of a TOML text; ``name`` for errors. Raises ConfigError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from None
