"""Text of a flow file to values that know their lines. Pure.

YAML is read with JSON's scalars alone: ``yes``, ``no``, ``on``, ``off``, dates and ``0123`` are
texts (YAML 1.1 makes booleans, dates and octal numbers of them), and keys are always texts.
Anchors, aliases, merges, tags and second documents are refused, so a file is as large as it looks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # the standard decoder's own
from typing import Any

import yaml

from backend.errors import FlowError, FlowProblem

MAX_CHARS = 1 << 20
MAX_DEPTH = 30

Place = tuple[str | int, ...]  # keys and indexes from the top

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}
_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser, ten times as fast


@dataclass(frozen=True, slots=True)
class Document:
    """``value``: dicts, lists, texts, numbers, bools, None. ``lines``: of each key, or item, by its
    place; from 1. ``problems``: what was read, and is not allowed; not ``whole``:
    therefore something is missing in the value."""

    source: str
    value: Any
    lines: Mapping[Place, int]
    problems: tuple[FlowProblem, ...] = ()
    whole: bool = True

    def line(self, place: Place) -> int:
        """Of the innermost part of the place that is there."""
        for end in range(len(place), -1, -1):
            if (found := self.lines.get(place[:end])) is not None:
                return found
        return 1


def read(text: str, *, source: str) -> Document:
    """JSON where the file's name says so, or YAML. Raises FlowError."""
    if len(text) > MAX_CHARS:
        raise _error(
            source, 1, f"the file has {len(text)} characters: expected at most {MAX_CHARS}"
        )
    reader = _Json if source.lower().endswith(".json") else _Yaml
    return reader(text, source).document()


def _error(source: str, line: int, text: str) -> FlowError:
    return FlowError([FlowProblem(source, line, None, text)])


class _Reader:
    """What both have: places, lines, problems."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._lines: dict[Place, int] = {(): 1}
        self._problems: list[FlowProblem] = []
        self._whole = True

    def document(self) -> Document:
        value = self._read()
        return Document(self._source, value, self._lines, tuple(self._problems), self._whole)

    def _read(self) -> Any:
        raise NotImplementedError

    def _problem(self, line: int, text: str) -> None:
        self._problems.append(FlowProblem(self._source, line, None, text))

    def _put(self, into: dict[str, Any], key: str, place: Place, line: int) -> None:
        """A key is met; the value comes later."""
        if key in into:
            first = self._lines[(*place, key)]
            self._problem(line, f"the key {key!r} is there twice, first in line {first}")
            return
        into[key] = None
        self._lines[(*place, key)] = line

    def _check_text(self, text: str, line: int) -> str:
        """What neither a voice nor PostgreSQL can do anything with."""
        if _NO_TEXT.search(text):
            self._problem(line, "a text with a NUL, or with half of a sign (\\ud800 to \\udfff)")
        return text

    def _check_depth(self, place: Place, line: int) -> None:
        if len(place) > MAX_DEPTH:
            raise _error(self._source, line, f"nested deeper than {MAX_DEPTH} levels")


class _Yaml(_Reader):
    def _read(self) -> Any:
        try:
            self._events: Iterator[Any] = iter(yaml.parse(self._text, Loader=_YAML))
            next(self._events)  # the stream's start
            if isinstance(next(self._events), yaml.StreamEndEvent):
                raise _error(self._source, 1, "the file is empty: expected a flow")
            value = self._value(next(self._events), ())
            next(self._events)  # the document's end
            if not isinstance(further := next(self._events), yaml.StreamEndEvent):
                self._problem(_line(further), "a second document begins: expected one flow a file")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise _error(self._source, line, self._explain(error, line)) from None
        except yaml.YAMLError as error:
            raise _error(self._source, 1, f"no YAML: {' '.join(str(error).split())}") from None
        return value

    def _explain(self, error: yaml.MarkedYAMLError, line: int) -> str:
        said = " ".join(part for part in (error.context, error.problem) if part)
        lines = self._text.splitlines()
        around = lines[line - 1] if line <= len(lines) else ""
        hint = ""
        if re.search(r"[:\-,\[]\s*[*&@`%!]", around):
            hint = "; a text that begins with * & ! % @ ` needs quotes"
        elif "\t" in around:
            hint = "; indent with spaces, not tabs"
        return f"no YAML: {said}{hint}"

    def _value(self, event: Any, place: Place) -> Any:
        line = _line(event)
        self._check_depth(place, line)
        if isinstance(event, yaml.AliasEvent):
            self._problem(line, f"the alias *{event.anchor}: aliases are not allowed; write it out")
            self._whole = False
            return None
        if event.anchor is not None:
            self._problem(line, f"the anchor &{event.anchor}: anchors are not allowed")
        if event.tag is not None and event.tag != "!":
            self._problem(line, f"the tag {event.tag}: tags are not allowed")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(place)
        text = self._check_text(event.value, line)
        return _scalar(text) if event.implicit[0] else text

    def _mapping(self, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _error(self._source, line, "a key that is no text")
            self._value(event, place)  # refuses anchors and tags
            key, known = event.value, event.value in found
            if key == "<<" and event.implicit[0]:
                self._problem(line, "the merge key <<: merging is not allowed; write it out")
                self._whole = False
            self._put(found, key, place, line)
            value = self._value(next(self._events), (*place, key))
            if not known:
                found[key] = value
        return found

    def _sequence(self, place: Place) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            here = (*place, len(found))
            self._lines[here] = _line(event)
            found.append(self._value(event, here))
        return found


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _scalar(text: str) -> Any:
    """A plain scalar, as JSON has them; all else is a text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if (found := _NUMBER.fullmatch(text)) is None or len(text) > 40:
        return text
    if not (found[1] or found[2]):
        return int(text)
    value = float(text)
    return value if abs(value) < float("inf") else text


class _Json(_Reader):
    """JSON by hand: the standard decoder knows no lines, and takes a key twice."""

    def _read(self) -> Any:
        self._at = 0
        self._line_ends = [found.start() for found in re.finditer("\n", self._text)]
        self._at = self._skip(0)
        value = self._value(())
        self._at = self._skip(self._at)
        if self._at != len(self._text):
            raise self._wrong("expected nothing more")
        return value

    def _line(self) -> int:
        low, high = 0, len(self._line_ends)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._line_ends[middle] < self._at else (low, middle)
        return low + 1

    def _wrong(self, text: str) -> FlowError:
        return _error(self._source, self._line(), f"no JSON: {text}")

    def _skip(self, at: int) -> int:
        found = re.compile(r"[ \t\r\n]*").match(self._text, at)
        assert found is not None
        return found.end()

    def _next(self) -> str:
        self._at = self._skip(self._at)
        return self._text[self._at : self._at + 1]

    def _value(self, place: Place) -> Any:
        self._check_depth(place, self._line())
        first = self._next()
        if first == "{":
            return self._object(place)
        if first == "[":
            return self._array(place)
        if first == '"':
            return self._string()
        found = re.compile(r"[-+.\w]+").match(self._text, self._at)
        word = found[0] if found else ""
        if word in ("true", "false", "null"):
            self._at += len(word)
            return _CONSTANTS[word]
        if not isinstance(number := _scalar(word), int | float):
            raise self._wrong(f"expected a value, found {word or first!r}")
        self._at += len(word)
        return number

    def _string(self) -> str:
        try:
            text, self._at = scanstring(self._text, self._at + 1, True)
        except json.JSONDecodeError as error:
            raise self._wrong(error.msg) from None
        return self._check_text(text, self._line())

    def _object(self, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._more("}", first=not found):
            if self._next() != '"':
                raise self._wrong("expected a key in double quotes")
            line, key = self._line(), self._string()
            known = key in found
            self._put(found, key, place, line)
            if self._next() != ":":
                raise self._wrong("expected ':' behind the key")
            self._at += 1
            value = self._value((*place, key))
            if not known:
                found[key] = value
        return found

    def _array(self, place: Place) -> list[Any]:
        found: list[Any] = []
        while self._more("]", first=not found):
            here = (*place, len(found))
            self._next()
            self._lines[here] = self._line()
            found.append(self._value(here))
        return found

    def _more(self, end: str, *, first: bool) -> bool:
        """Whether another part comes; eats the bracket or the comma."""
        if first:
            self._at += 1
            if self._next() != end:
                return True
        elif (sign := self._next()) == ",":
            self._at += 1
            return True
        elif sign != end:
            raise self._wrong(f"expected ',' or {end!r}")
        self._at += 1
        return False
