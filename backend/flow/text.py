"""Texts with ``{variable}`` in them, and data that holds such texts. Pure.

``{name}``, ``{name.part}``, ``{name.0.part}``; ``{{`` and ``}}`` are the brackets themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backend.errors import FlowValueError

Path = tuple[str | int, ...]  # a variable's name, then keys and indexes

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*", re.ASCII)
MAX_TEXT = 20_000  # characters of a text that was filled


class _Missing:
    def __repr__(self) -> str:
        return "missing"


MISSING = _Missing()


@dataclass(frozen=True, slots=True)
class Template:
    """``text`` as it is in the file; ``pieces``: plain texts and paths."""

    text: str
    pieces: tuple[str | Path, ...]

    @property
    def names(self) -> frozenset[str]:
        """The variables in it."""
        return frozenset(str(piece[0]) for piece in self.pieces if isinstance(piece, tuple))

    @property
    def constant(self) -> str | None:
        """The text, where no variable is in it."""
        if self.names:
            return None
        return "".join(piece for piece in self.pieces if isinstance(piece, str))


def parse(text: str) -> Template:
    """Raises FlowValueError that says what is wrong."""
    pieces: list[str | Path] = []
    for found in _PIECE.finditer(text):
        piece = found[0]
        if piece in ("{{", "}}"):
            pieces.append(piece[0])
        elif piece in ("{", "}"):
            raise FlowValueError(
                f"a lone {piece!r} in {text[:60]!r}: expected {{variable}}; the bracket itself is "
                f"{piece * 2!r}"
            )
        elif found[1] is not None:
            pieces.append(path_of(found[1]))
        else:
            pieces.append(piece)
    return Template(text, tuple(pieces))


def path_of(text: str) -> Path:
    """``client.orders.0``. Raises FlowValueError."""
    if not _PATH.fullmatch(text):
        raise FlowValueError(f"{{{text[:60]}}}: expected the name of a variable, {{name}}")
    first, *rest = text.split(".")
    return (first, *(int(part) if part.isdecimal() else part for part in rest))


def look_up(path: Path, value: Any) -> Any:
    """What is there in variables, or in any data; MISSING: nothing."""
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(str(part), MISSING)
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return MISSING
    return value


def spell(path: Path) -> str:
    return ".".join(map(str, path))


def as_text(value: Any) -> str:
    """A value as it is spoken or sent: a whole number without ``.0``. Raises FlowValueError for
    what is no plain value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise FlowValueError(f"{type(value).__name__} is no text")


def fill(template: Template, variables: Mapping[str, Any]) -> str:
    """Raises FlowValueError for a variable without a value."""
    parts: list[str] = []
    for piece in template.pieces:
        if isinstance(piece, str):
            parts.append(piece)
            continue
        value = look_up(piece, variables)
        if value is MISSING or value is None:
            raise FlowValueError(f"{{{spell(piece)}}} has no value")
        try:
            parts.append(as_text(value))
        except FlowValueError as error:
            raise FlowValueError(f"{{{spell(piece)}}}: {error}") from None
    text = "".join(parts)
    if len(text) > MAX_TEXT:
        raise FlowValueError(f"{template.text[:60]!r} becomes longer than {MAX_TEXT} characters")
    return text


# Data: JSON in which each text is a template


def parse_data(value: Any) -> Any:
    """Its texts as templates. Raises FlowValueError."""
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, Mapping):
        return {str(name): parse_data(part) for name, part in value.items()}
    return [parse_data(part) for part in value] if isinstance(value, list) else value


def fill_data(value: Any, variables: Mapping[str, Any], *, lenient: bool = False) -> Any:
    """A text that is one variable and nothing else becomes its value, whatever it is; None where
    it has none. Raises FlowValueError for other texts that cannot be filled; ``lenient``: they
    become None."""
    if isinstance(value, Template):
        if len(value.pieces) == 1 and isinstance(value.pieces[0], tuple):
            found = look_up(value.pieces[0], variables)
            return None if found is MISSING else found
        try:
            return fill(value, variables)
        except FlowValueError:
            if lenient:
                return None
            raise
    if isinstance(value, Mapping):
        return {name: fill_data(part, variables, lenient=lenient) for name, part in value.items()}
    if isinstance(value, list):
        return [fill_data(part, variables, lenient=lenient) for part in value]
    return value


def templates_in(value: Any) -> Iterator[Template]:
    """Every text in the data."""
    if isinstance(value, Template):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from templates_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from templates_in(part)
