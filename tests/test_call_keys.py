"""Keys: collecting them, and those that nobody has read."""

from __future__ import annotations

import itertools

import pytest

from backend.call.keys import MAX_KEPT, DigitCollector, Digits, DigitsStatus, Key, Keys
from backend.errors import BadRequest
from backend.keying import events as ev
from backend.protocol import fork


def collect(digits: Digits, *presses: tuple[str, float]) -> DigitCollector:
    collector = DigitCollector(digits)
    for key, at_s in presses:
        collector.press(key, at_s)
    return collector


def test_as_many_as_asked_for() -> None:
    found = collect(Digits(2), ("1", 0), ("2", 1), ("3", 1.1))
    assert (found.status, found.text) == (DigitsStatus.COMPLETE, "12")


def test_the_terminator_ends_and_does_not_count() -> None:
    found = collect(Digits(4), ("1", 0), ("#", 1), ("2", 2))
    assert (found.status, found.text) == (DigitsStatus.TERMINATOR, "1")
    assert collect(Digits(4), ("#", 0)).text == ""


def test_without_a_terminator_every_key_counts() -> None:
    found = collect(Digits(3, terminator=None), ("#", 0), ("*", 0), ("D", 0))
    assert (found.status, found.text) == (DigitsStatus.COMPLETE, "#*D")


def test_a_pause_ends_it_also_when_the_next_key_is_what_tells() -> None:
    waiting = collect(Digits(4, between_s=2), ("1", 0), ("2", 1.9))
    assert waiting.look(3.8) is None
    assert waiting.look(3.9) is DigitsStatus.BETWEEN
    late = collect(Digits(4, between_s=2), ("1", 0), ("2", 2.0))
    assert (late.status, late.text) == (DigitsStatus.BETWEEN, "1")


def test_before_the_first_key_nothing_ends_it() -> None:
    assert DigitCollector(Digits(1, between_s=0.1)).look(1e9) is None


def test_every_sequence_of_keys_ends_as_it_must() -> None:
    for keys in itertools.product("12#", repeat=4):
        found = collect(Digits(3), *((key, 0.0) for key in keys))
        text = "".join(keys).split("#")[0]
        complete = len(text) >= 3
        assert found.text == text[:3]
        expected = DigitsStatus.COMPLETE if complete else DigitsStatus.TERMINATOR
        assert found.status is expected


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"max": 0}, "max"),
        ({"max": 65}, "max"),
        ({"max": 1.5}, "max"),
        ({"max": True}, "max"),
        ({"terminator": "##"}, "terminator"),
        ({"terminator": ""}, "terminator"),
        ({"terminator": "x"}, "terminator"),
        ({"between_s": 0}, "between_s"),
        ({"between_s": float("nan")}, "between_s"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(BadRequest, match=name):
        Digits(**arguments)  # type: ignore[arg-type]


def input_over(keys: Keys, digits: Digits) -> None:
    """As many keys as were asked for have come."""
    between_ms = round(digits.between_s * 1000)
    keys.apply(ev.InputOver(keys.now_ms, 0, "digits", None, digits.terminator, between_ms))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys() -> Keys:
    return Keys(Clock())


def test_kept_in_order_the_oldest_goes(keys: Keys) -> None:
    for n in range(MAX_KEPT + 2):
        keys.tell(fork.Digit(str(n % 10), 80, "passed", n))
    assert keys.next == Key("2", 100.0, 2)
    taken = [keys.take() for _ in range(MAX_KEPT)]
    assert [key.at_ms for key in taken if key] == list(range(2, MAX_KEPT + 2))
    assert keys.take() is None
    assert keys.next is None


def test_who_watches_is_told_until_he_does_not_watch_any_more(keys: Keys) -> None:
    seen: list[Key] = []
    keys.watch(seen.append)
    keys.press("1")
    keys.unwatch(seen.append)
    keys.press("2")
    assert [key.key for key in seen] == ["1"]


def test_a_key_that_was_kept_and_then_released_is_one_key(keys: Keys) -> None:
    for verdict in ("buffered", "released", "passed", "blocked"):
        keys.tell(fork.Digit("5", 80, verdict, 0))
    assert [keys.take() is not None for _ in range(4)] == [True, True, True, False]


def test_a_terminator_that_was_not_needed_begins_nothing(keys: Keys) -> None:
    every: list[str] = []
    keys.on_every(lambda key: every.append(key.key))
    input_over(keys, Digits(2))
    keys.press("#")
    keys.press("#")
    assert [key.key for key in iter(keys.take, None)] == ["#"], "the second one is meant"
    assert every == ["#", "#"]


def test_a_terminator_that_was_not_needed_and_has_come_already(keys: Keys) -> None:
    keys.press("#")
    keys.press("7")
    input_over(keys, Digits(2))
    assert [key.key for key in iter(keys.take, None)] == ["7"]


def test_another_key_or_one_much_later_counts() -> None:
    clock = Clock()
    keys = Keys(clock)
    input_over(keys, Digits(2, between_s=3))
    keys.press("7")
    keys.press("#")
    assert [key.key for key in iter(keys.take, None)] == ["7", "#"]
    input_over(keys, Digits(2, between_s=3))
    clock.now += 3.1
    keys.press("#")
    assert keys.take() is not None
    input_over(keys, Digits(2, terminator=None))
    keys.press("#")
    assert keys.take() is not None
