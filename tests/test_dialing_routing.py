from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.dialing.routing import (
    MAX_PATTERN,
    Direction,
    Route,
    RouteTable,
    check_direction,
    check_pattern,
)
from backend.errors import BadRequest


def table(*patterns: str, direction: Direction = "inbound") -> RouteTable:
    """Routes to scenarios that are called as their patterns."""
    return RouteTable(Route(pattern, direction, pattern) for pattern in patterns)


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("74951234567", ["74951234567"], ["+74951234567", "7495123456", "749512345678", ""]),
        ("+7495", ["+7495"], ["7495"]),
        ("support", ["support"], ["Support", "support1"]),
        ("7495*", ["7495", "74951", "7495#"], ["749", "87495", "7495 1"]),
        ("*", ["", "1", "+7", "support"], ["a b", "1\n"]),
        ("_X", ["0", "9"], ["", "a", "10", "٣"]),
        ("_Z", ["1", "9"], ["0"]),
        ("_N", ["2", "9"], ["0", "1"]),
        ("_[15-7]", ["1", "5", "6", "7"], ["2", "4", "8", "-"]),
        ("_7495XXXXXXX", ["74951234567"], ["7495123456", "749512345678"]),
        ("_7495.", ["74951", "749512"], ["7495"]),
        ("_7495!", ["7495", "74951"], ["749"]),
        ("_.", ["1", "support"], [""]),
        ("_!", ["", "1"], ["a b"]),
        ("_+7X", ["+71"], ["71"]),
        ("_*12#", ["*12#"], ["12#"]),
    ],
)
def test_what_a_pattern_fits(pattern: str, fits: list[str], others: list[str]) -> None:
    routes = table(pattern)
    assert check_pattern(pattern) == pattern
    assert [n for n in fits if routes.scenario_for(n, "inbound") != pattern] == []
    assert [n for n in others if routes.scenario_for(n, "inbound") is not None] == []


@pytest.mark.parametrize(
    ("number", "order"),
    [
        ("7495", ["7495", "_7495", "_749X", "749*", "_749!", "_74.", "*", "_!"]),
        ("71", ["_71", "_7[12]", "_7[1-3]", "_7N", "_7Z", "_7X", "_7.", "_7!"]),
        ("12", ["_1X", "_1.", "_XX", "_X.", "_.", "_!"]),
        ("7800123", ["7800123", "7800123*", "7800*", "_780X.", "*"]),
    ],
)
def test_the_most_specific_wins(number: str, order: list[str]) -> None:
    fitting = [p for p in order if table(p).scenario_for(number, "inbound")]
    for written in itertools.islice(itertools.permutations(order), 200):
        assert [r.pattern for r in table(*written).fitting(number, "inbound")] == fitting
    assert len(fitting) >= len(order) - 1


def test_left_comes_first() -> None:
    """As in Asterisk: the first place where they differ decides, not how long they are."""
    found = table("_7X99", "_7[1-5].").fitting("7199", "inbound")
    assert [route.pattern for route in found] == ["_7[1-5].", "_7X99"]


def test_alike_patterns_are_in_the_order_of_their_text() -> None:
    for order in (("_[12]", "_[13]"), ("_[13]", "_[12]")):
        assert table(*order).scenario_for("1", "inbound") == "_[12]"


def test_directions_are_apart() -> None:
    routes = RouteTable([Route("1", "inbound", "in"), Route("1", "outbound", "out")])
    assert routes.scenario_for("1", "inbound") == "in"
    assert routes.scenario_for("1", "outbound") == "out"
    assert table("*").scenario_for("1", "outbound") is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "1 to 64"),
        ("1" * (MAX_PATTERN + 1), "1 to 64"),
        ("7*5", "expected a number"),
        ("7495X!", "expected a number"),
        ("74 95", "expected a number"),
        ("7495\n", "expected a number"),
        ("٧", "expected a number"),
        ("a_b", "expected a number"),
        ("_", "must follow"),
        ("_7.5", "stand at the end"),
        ("_7!5", "stand at the end"),
        ("_7.\n", "stand at the end"),
        ("_7-495", "is no X, Z, N"),
        ("_x", "is no X, Z, N"),
        ("_[]", "is no X, Z, N"),
        ("_[1", "is no X, Z, N"),
        ("_[-1]", "no set of digits"),
        ("_[1-]", "no set of digits"),
        ("_[7-5]", "runs backwards"),
    ],
)
def test_what_is_no_pattern(pattern: str, why: str) -> None:
    with pytest.raises(BadRequest, match="pattern: ") as caught:
        check_pattern(pattern)
    assert why in caught.value.why
    routes = table(pattern, "5")
    assert [route.pattern for route in routes.bad] == [pattern]
    assert routes.scenario_for("5", "inbound") == "5"


def test_directions() -> None:
    assert check_direction("outbound") == "outbound"
    with pytest.raises(BadRequest, match="direction"):
        check_direction("both")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=12) | st.text("_XZN[]0123456789-.!*+#", max_size=12), st.text(max_size=12))
def test_every_text_is_a_pattern_or_refused(pattern: str, number: str) -> None:
    routes = table(pattern)
    try:
        check_pattern(pattern)
    except BadRequest:
        assert routes.bad
        assert routes.fitting(number, "inbound") == []
    else:
        assert not routes.bad
        assert len(routes.fitting(number, "inbound")) <= 1
