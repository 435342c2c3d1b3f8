"""Which scenario a number gets: patterns, and the most specific of those that fit. Pure.

| pattern | fits |
|---|---|
| ``74951234567`` | this number |
| ``7495*`` | every number that begins so; ``*`` alone: every number |
| ``_7495XXXXXXX`` | as in Asterisk's dialplan: X 0-9, Z 1-9, N 2-9, ``[15-7]`` 1, 5, 6 or 7; at the
  end ``.``: any, one or more; ``!``: any or none |

Compared from left to right, as Asterisk does (main/pbx.c, extension patterns): where two patterns
that fit differ for the first time, the one that leaves fewer choices there wins; a literal before
a set, a small set before a large one, any set before ``.``, that before ``!`` (and ``*`` at the
end, which is the same). Of two that are alike to the end, the one that is first by its text.
A number without a pattern in it wins over all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from backend.errors import BadRequest

Direction = Literal["inbound", "outbound"]
DIRECTIONS: tuple[Direction, ...] = ("inbound", "outbound")
MAX_PATTERN = 64

_LITERAL = r"[0-9A-Za-z+#*.@-]"  # what a number may hold; inbound it may be a name
_EXACT = re.compile(r"[+]?[0-9A-Za-z#.@-]+")
_PREFIX = re.compile(r"([+]?[0-9A-Za-z#.@-]*)\*")
_ELEMENT = re.compile(r"\[([0-9-]+)\]|([XZN])|([0-9+#*])|([.!]\Z)")
_SETS = {"X": "0123456789", "Z": "123456789", "N": "23456789"}
_ANY, _ANY_OR_NONE = 1000, 1001  # choices, for the comparison: more than any set has


@dataclass(frozen=True, slots=True)
class Route:
    """``pattern`` as written, ``changed_at`` None before it was stored."""

    pattern: str
    direction: Direction
    scenario: str
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Compiled:
    expression: re.Pattern[str]
    choices: tuple[int, ...]  # how many characters fit, place by place: less is more specific


def check_pattern(pattern: str) -> str:
    """``pattern``, if it is one. Raises BadRequest."""
    _compiled(pattern)
    return pattern


def check_direction(direction: str) -> Direction:
    """Raises BadRequest."""
    for known in DIRECTIONS:
        if direction == known:
            return known
    raise BadRequest("direction", f"{direction[:40]!a}: expected 'inbound' or 'outbound'")


class RouteTable:
    """Routes, ready to be asked. Patterns that are none (written past check_pattern) are in
    ``bad`` and fit nothing."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.bad: list[Route] = []
        self._exact: dict[tuple[str, str], Route] = {}
        patterns: list[tuple[tuple[int, ...], Route, re.Pattern[str]]] = []
        for route in routes:
            if _is_exact(route.pattern):
                self._exact[route.direction, route.pattern] = route
                continue
            try:
                compiled = _compiled(route.pattern)
            except BadRequest:
                self.bad.append(route)
            else:
                patterns.append((compiled.choices, route, compiled.expression))
        patterns.sort(key=lambda item: (item[0], item[1].pattern))
        self._patterns: Sequence[tuple[Route, re.Pattern[str]]] = [
            (route, expression) for _, route, expression in patterns
        ]

    def fitting(self, number: str, direction: Direction) -> list[Route]:
        """All that fit, the one that counts first."""
        exact = self._exact.get((direction, number))
        others = [
            route
            for route, expression in self._patterns
            if route.direction == direction and expression.fullmatch(number)
        ]
        return [exact, *others] if exact is not None else others

    def scenario_for(self, number: str, direction: Direction) -> str | None:
        """The scenario of the most specific route; None: there is no route."""
        return next((route.scenario for route in self.fitting(number, direction)), None)


def _is_exact(pattern: str) -> bool:
    return len(pattern) <= MAX_PATTERN and _EXACT.fullmatch(pattern) is not None


def _compiled(pattern: str) -> _Compiled:
    if not pattern or len(pattern) > MAX_PATTERN:
        raise BadRequest("pattern", f"must have 1 to {MAX_PATTERN} characters")
    if pattern.startswith("_"):
        return _asterisks(pattern)
    if _is_exact(pattern):
        return _Compiled(re.compile(re.escape(pattern)), (1,) * len(pattern))
    if prefix := _PREFIX.fullmatch(pattern):
        begins = prefix[1]
        expression = re.compile(f"{re.escape(begins)}{_LITERAL}*", re.ASCII)
        return _Compiled(expression, (1,) * len(begins) + (_ANY_OR_NONE,))
    raise BadRequest(
        "pattern",
        f"{pattern!a}: expected a number, a number's beginning and '*', or '_' and a pattern as in"
        " Asterisk's dialplan",
    )


def _asterisks(pattern: str) -> _Compiled:
    place, expression, choices = 1, "", []
    while place < len(pattern):
        element = _ELEMENT.match(pattern, place)
        if element is None:
            raise BadRequest(
                "pattern",
                f"{pattern!a}: {pattern[place:]!a} is no X, Z, N, digit, '+', '#', '*' or [set];"
                " '.' and '!' stand at the end",
            )
        part, count = _element(pattern, element)
        expression += part
        choices.append(count)
        place = element.end()
    if not choices:
        raise BadRequest("pattern", "'_': a pattern must follow")
    return _Compiled(re.compile(expression, re.ASCII), tuple(choices))


def _element(pattern: str, element: re.Match[str]) -> tuple[str, int]:
    """Its regular expression, and how many characters fit."""
    chosen, letter, literal, end = element.groups()
    if end:
        return (f"{_LITERAL}+", _ANY) if end == "." else (f"{_LITERAL}*", _ANY_OR_NONE)
    if literal:
        return re.escape(literal), 1
    digits = _SETS[letter] if letter else _digits_of(pattern, chosen)
    return f"[{digits}]", len(digits)


def _digits_of(pattern: str, chosen: str) -> str:
    """The digits of ``15-7``, each once."""
    if not re.fullmatch(r"(?:[0-9](?:-[0-9])?)+", chosen):
        raise BadRequest("pattern", f"{pattern!a}: [{chosen}] is no set of digits like [15-7]")
    digits: set[int] = set()
    for first, last in re.findall(r"([0-9])(?:-([0-9]))?", chosen):
        if last and last < first:
            raise BadRequest("pattern", f"{pattern!a}: {first}-{last} runs backwards")
        digits |= set(range(int(first), int(last or first) + 1))
    return "".join(str(digit) for digit in sorted(digits))
