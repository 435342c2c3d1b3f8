"""The machine of keys: its path, and what holds for every sequence of events."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import BadRequest
from backend.keying import events as ev
from backend.keying.machine import step
from backend.keying.rules import KeyGuard
from backend.keying.state import (
    CONFIRM_MS,
    FILE_MS,
    MAX_KEPT,
    PAUSE_MS,
    REPORT_MS,
    UNKNOWN_MS,
    State,
)

DROP, BUFFER = KeyGuard(), KeyGuard("buffer")
LENGTH_MS = 3000


class Hand:
    """The machine with a clock: audio and time go on together."""

    def __init__(self, *, able: bool = True) -> None:
        self.now_ms = 0
        self.state = State()
        self.actions: list[ev.Action] = []
        self.tell(lambda: ev.Linked(self.now_ms, able))

    def tell(self, event: ev.Event | Callable[[], ev.Event]) -> list[ev.Action]:
        self.state, actions = step(self.state, event() if callable(event) else event)
        self.actions += actions
        return list(actions)

    def after(self, ms: int) -> Hand:
        self.now_ms += ms
        return self

    def order(self, rules: KeyGuard | None = DROP) -> list[ev.Action]:
        return self.tell(ev.PlayOrdered(self.now_ms, self.now_ms, 1, rules))

    def stretch(
        self, length_ms: int | None = LENGTH_MS, *, play: str | None = "p1", last: bool = True
    ) -> list[ev.Action]:
        return self.tell(ev.Stretch(self.now_ms, play, length_ms, last))

    def confirm(self) -> list[ev.Action]:
        """The module obeys the last order that is for at once."""
        guards = [a for a in self.actions if isinstance(a, ev.SetGuard) and a.play is None]
        last = guards[-1]
        return self.tell(ev.GuardSet(self.now_ms, self.now_ms, last.name, last.mode, "asked"))

    def reach(self, error_ms: int = 0) -> list[ev.Action]:
        """The prompt comes to the place of its opening."""
        last = self.placed[-1]
        assert last.place_ms is not None
        played_ms, now_ms = last.place_ms + error_ms, self.now_ms
        return self.tell(
            ev.GuardSet(now_ms, now_ms, last.name, last.mode, "place", last.play, played_ms)
        )

    @property
    def placed(self) -> list[ev.SetGuard]:
        return [a for a in self.actions if isinstance(a, ev.SetGuard) and a.play is not None]

    def over(self, how: ev.Ending = "played") -> list[ev.Action]:
        return self.tell(ev.PlayOver(self.now_ms, self.now_ms, how))

    def want(self, rules: KeyGuard | None = DROP) -> list[ev.Action]:
        return self.tell(ev.InputWanted(self.now_ms, self.now_ms, rules))

    def end(self, how: ev.InputEnding = "digits", rules: KeyGuard | None = DROP) -> list[ev.Action]:
        return self.tell(ev.InputOver(self.now_ms, self.now_ms, how, rules))

    def tick(self) -> list[ev.Action]:
        return self.tell(ev.Tick(self.now_ms, self.now_ms))

    def press(
        self, key: str = "1", verdict: str | None = "passed", *, lasts_ms: int = 0
    ) -> list[ev.Action]:
        return self.tell(
            ev.Pressed(self.now_ms, self.now_ms - lasts_ms, key, verdict, lasts_ms, self.now_ms)
        )

    def take(self) -> str | None:
        taken = [a.key.key for a in self.tell(ev.Take(self.now_ms)) if isinstance(a, ev.Taken)]
        return taken[0] if taken else None

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        return [(a.key.key, a.verdict) for a in self.actions if isinstance(a, ev.KeyJudged)]

    @property
    def alarms(self) -> list[str]:
        return [a.alarm for a in self.actions if isinstance(a, ev.Raised)]

    @property
    def path(self) -> list[tuple[str, str]]:
        return [(a.event, a.after) for a in self.actions if isinstance(a, ev.Changed)]


def guarded(rules: KeyGuard = DROP, *, able: bool = True) -> Hand:
    """A prompt of LENGTH_MS under way, ordered at 1000, its block in force at 1010."""
    hand = Hand(able=able)
    hand.after(1000).order(rules)
    hand.after(10)
    if able:
        hand.confirm()
    hand.stretch()
    return hand


# The path


def test_the_whole_path() -> None:
    hand = guarded()
    assert hand.placed == [ev.SetGuard("g3", "pass", "p1", 2500)]
    hand.after(2500).reach(error_ms=4)
    hand.after(500).over()
    hand.want()
    hand.after(700).press("5")
    assert hand.take() == "5"
    hand.end()
    hand.after(20).confirm()
    hand.after(100).order()
    assert hand.path == [
        ("play", "playing"),
        ("in_force", "playing"),
        ("opened", "waiting_input"),
        ("played", "waiting_input"),
        ("input", "waiting_input"),
        ("digits", "processing"),
        ("in_force", "processing"),
        ("play", "playing"),
    ]
    changes = [a for a in hand.actions if isinstance(a, ev.Changed)]
    assert [c.took_ms for c in changes if c.event == "in_force"] == [10, 20]
    assert [c.error_ms for c in changes if c.event == "opened"] == [4]
    assert hand.verdicts == [("5", "taken")]
    assert hand.alarms == []


def test_the_module_is_told_limits_with_each_block() -> None:
    hand = guarded()
    first, second = [a for a in hand.actions if isinstance(a, ev.SetGuard) and a.play is None]
    assert (first.mode, first.limit_ms) == ("block", UNKNOWN_MS + 5000)
    assert (second.mode, second.limit_ms) == ("block", LENGTH_MS + 1000 + 5000)


@pytest.mark.parametrize(
    ("length_ms", "open_before_s", "place_ms"),
    [(3000, 0.5, 2500), (3000, 0, 3000), (300, 0.5, 0), (20_000, 10, 10_000)],
)
def test_the_place_of_the_opening(length_ms: int, open_before_s: float, place_ms: int) -> None:
    hand = Hand()
    hand.order(KeyGuard(open_before_end_s=open_before_s))
    hand.stretch(length_ms)
    assert [guard.place_ms for guard in hand.placed] == [place_ms]


def test_a_text_that_is_being_made_is_opened_when_its_length_is_known() -> None:
    hand = Hand()
    hand.order()
    hand.stretch(None)
    assert hand.placed == []
    hand.after(800).stretch(LENGTH_MS)
    assert [guard.place_ms for guard in hand.placed] == [2500]
    hand.stretch(LENGTH_MS)
    assert len(hand.placed) == 1, "told again it is the same"


def test_what_is_not_the_prompts_last_stretch_opens_nothing() -> None:
    hand = Hand()
    hand.order()
    hand.stretch(LENGTH_MS, last=False)
    hand.tell(ev.PlayOver(0, 0, "played", "p1"))
    assert (hand.placed, hand.state.name) == ([], "playing")
    hand.stretch(LENGTH_MS, play="p2")
    assert [guard.play for guard in hand.placed] == ["p2"]


@pytest.mark.parametrize("how", ["played", "stopped", "failed", "lost"])
def test_a_prompt_that_ends_before_its_place_opens_at_once(how: ev.Ending) -> None:
    hand = guarded()
    actions = hand.after(100).over(how)
    assert [a.mode for a in actions if isinstance(a, ev.SetGuard)] == ["pass"]
    assert hand.path[-1] == (how, "waiting_input")


def test_a_file_of_asterisks_may_be_long() -> None:
    hand = Hand()
    hand.order()
    for length_ms, last in ((None, False), (None, True)):
        hand.stretch(length_ms, play=None, last=last)
        hand.after(FILE_MS // 2).tick()
        assert hand.alarms in ([], ["guard_refused"])
    assert hand.state.name == "playing"


def test_an_unguarded_prompt_turns_it_off() -> None:
    hand = guarded()
    hand.over()
    hand.order(None)
    assert hand.path[-1] == ("unguarded", "off")
    assert hand.press("7", "passed") != []
    assert hand.take() == "7"
    assert hand.verdicts == [], "nobody counts where nobody guards"


# Keys


@pytest.mark.parametrize(
    ("rules", "verdict", "expected"),
    [(DROP, "blocked", "blocked"), (BUFFER, "buffered", "buffered"), (DROP, "passed", "blocked")],
)
def test_a_key_in_the_prompt(rules: KeyGuard, verdict: str, expected: str) -> None:
    hand = guarded(rules)
    hand.after(500).press("1", verdict)
    assert hand.verdicts == [("1", expected)]
    assert hand.take() is None


def test_a_key_that_was_under_way_when_the_order_came() -> None:
    hand = Hand()
    hand.want()
    hand.after(1000).order()
    hand.after(5).confirm()
    hand.after(60).press("1", lasts_ms=100)
    assert (hand.take(), hand.verdicts) == ("1", [("1", "taken")])


@pytest.mark.parametrize("told", ["before", "after"])
@pytest.mark.parametrize(
    ("rules", "verdicts"),
    [
        (DROP, [("1", "conflict")]),
        (BUFFER, [("1", "buffered")]),
    ],
)
def test_the_order_wins_over_a_key_of_the_same_moment(
    told: str, rules: KeyGuard, verdicts: list[tuple[str, str]]
) -> None:
    hand = Hand()
    hand.want(rules)
    hand.after(1000).order(rules)
    if told == "after":
        hand.after(20).confirm()
        hand.after(83).press("1", lasts_ms=100)
    else:
        hand.after(3).press("1")
    (conflict,) = [a for a in hand.actions if isinstance(a, ev.Conflict)]
    assert (conflict.order, conflict.after_ms) == ("play", 3)
    assert hand.verdicts == verdicts
    assert hand.take() is None


@pytest.mark.parametrize(
    ("before", "after", "verdict", "expected"),
    [
        (DROP, BUFFER, "blocked", "blocked"),
        (BUFFER, DROP, "buffered", "buffered"),
        (KeyGuard(secret=True), DROP, "blocked", "blocked"),
    ],
)
def test_a_key_is_judged_by_the_rules_of_its_own_time(
    before: KeyGuard, after: KeyGuard, verdict: str, expected: str
) -> None:
    """It goes down while the backend thinks, and is told after the next prompt's order."""
    hand = guarded(before)
    hand.over()
    hand.want(before)
    hand.end(rules=before)
    hand.after(10).confirm()
    hand.after(100).order(after)
    hand.after(50).press("1", verdict, lasts_ms=100)
    assert [verdict for _, verdict in hand.verdicts] == [expected]
    (told,) = [a.key for a in hand.actions if isinstance(a, ev.KeyJudged)]
    assert told.hidden is before.secret, "a secret stays one"


def test_a_kept_key_that_is_told_when_input_has_begun() -> None:
    """Held over the prompt's end: typed ahead, and nothing comes after it."""
    hand = guarded(BUFFER)
    hand.after(3000).over()
    hand.want(BUFFER)
    hand.after(100).press("1", "buffered", lasts_ms=700)
    assert hand.take() == "1"
    assert hand.verdicts == [("1", "buffered"), ("1", "released")]


def test_a_block_that_was_renewed_meanwhile_is_opened_again() -> None:
    """The order to renew it and the news that the place was reached pass each other."""
    hand = guarded()
    hand.tell(ev.Progress(hand.now_ms, "p1", 2900))
    assert len(hand.placed) == 1
    assert [a.mode for a in hand.reach() if isinstance(a, ev.SetGuard)] == ["pass"]
    assert hand.state.name == "waiting_input"


def test_without_a_module_the_backends_gate_is_in_force_with_the_order() -> None:
    hand = guarded(able=False)
    hand.press("1", None)
    hand.after(LENGTH_MS).over()
    hand.press("2", None)
    assert hand.verdicts == [("1", "blocked")]
    assert hand.take() == "2"
    assert not any(isinstance(a, ev.SetGuard) for a in hand.actions)


def test_a_key_that_the_module_blocked_when_the_prompt_was_over_already() -> None:
    """It had not heard of that yet: the key's own time counts."""
    hand = guarded()
    hand.after(100).over("stopped")
    hand.after(115).press("1", "blocked", lasts_ms=100)
    hand.after(5).press("2", "blocked", lasts_ms=130)
    assert hand.take() == "1"
    assert hand.verdicts == [("2", "blocked"), ("1", "taken")]


@pytest.mark.parametrize(("how", "expected"), [("played", "blocked"), ("stopped", "taken")])
def test_what_the_module_stopped_is_told_long_after_the_prompt(
    how: ev.Ending, expected: str
) -> None:
    """The audio has stood still for a second when the prompt's end is known: its place is of then.
    A module that had its place to open at has opened there; else the prompt's end counts."""
    hand = guarded()
    hand.confirm()
    hand.after(3000).tell(ev.PlayOver(hand.now_ms, hand.now_ms - 1500, how))
    hand.want()
    hand.tell(ev.Pressed(hand.now_ms + 90, hand.now_ms - 1200, "1", "blocked", 100))
    hand.take()
    assert hand.verdicts == [("1", expected)]


def test_typed_ahead_keys_are_delivered_when_input_begins() -> None:
    hand = guarded(BUFFER)
    hand.after(500).press("1", "buffered")
    hand.after(200).press("2", "buffered")
    hand.after(1800).reach()
    assert hand.take() is None, "not yet: they stop no prompt"
    hand.after(500).over()
    hand.want(BUFFER)
    assert [hand.take(), hand.take(), hand.take()] == ["1", "2", None]
    assert hand.verdicts[-2:] == [("1", "released"), ("2", "released")]


def test_they_come_before_a_key_of_the_open_part() -> None:
    hand = guarded(BUFFER)
    hand.after(500).press("1", "buffered")
    hand.after(2000).reach()
    hand.after(100).press("2")
    assert [hand.take(), hand.take()] == ["1", "2"]


@pytest.mark.parametrize(("rules", "left"), [(DROP, None), (BUFFER, "2")])
def test_surplus_keys_of_an_input(rules: KeyGuard, left: str | None) -> None:
    hand = Hand()
    hand.want(rules)
    hand.press("1")
    hand.press("2")
    assert hand.take() == "1"
    hand.end(rules=rules)
    hand.tell(ev.TurnBegins(0))
    assert hand.take() == left
    assert hand.verdicts[1] == ("2", "taken" if left else "discarded")


@pytest.mark.parametrize(
    ("rules", "how", "left"),
    [(DROP, "digits", None), (DROP, "timeout", "2"), (BUFFER, "digits", "2")],
)
def test_surplus_that_is_told_late(rules: KeyGuard, how: ev.InputEnding, left: str | None) -> None:
    """It went down before the input was over."""
    hand = Hand()
    hand.want(rules)
    hand.after(1000).press("1")
    assert hand.take() == "1"
    hand.after(20).end(how, rules)
    hand.after(60).press("2", lasts_ms=70)
    assert hand.take() == left
    assert hand.verdicts[1:] == [("2", "taken" if left else "discarded")]


def test_the_time_between_keys_counts_from_the_inputs_beginning() -> None:
    hand = guarded(KeyGuard(open_before_end_s=2))
    hand.after(1000).reach()
    hand.after(100).press("1")
    hand.after(1800).press("2")
    hand.after(100).over()
    hand.want()
    assert [key.pressed_ms for key in hand.state.readable] == [hand.now_ms] * 2


def test_a_needless_terminator() -> None:
    hand = Hand(able=False)
    hand.want(BUFFER)
    hand.tell(ev.InputOver(0, 0, "digits", BUFFER, "#", 3000))
    hand.want(BUFFER)
    hand.after(2000).press("#")
    hand.press("#")
    assert (hand.take(), hand.take()) == ("#", None)
    assert hand.verdicts == [("#", "discarded"), ("#", "taken")]


def test_more_keys_than_are_kept() -> None:
    hand = Hand()
    hand.want()
    for _ in range(MAX_KEPT + 1):
        hand.press()
    assert Counter(verdict for _, verdict in hand.verdicts) == {"lost": 1}
    buffered = guarded(BUFFER)
    for _ in range(MAX_KEPT + 1):
        buffered.press("1", "buffered")
    found = Counter(verdict for _, verdict in buffered.verdicts)
    assert found == {"buffered": MAX_KEPT, "lost": 1}


def test_secret_keys_never_come_into_asterisk() -> None:
    secret = KeyGuard(secret=True)
    hand = guarded(secret)
    assert [guard.mode for guard in hand.placed] == ["buffer"]
    hand.after(2500).reach()
    hand.press("1", "buffered", lasts_ms=100)  # its phone sends no audio meanwhile
    hand.after(500).over()
    hand.want(secret)
    assert hand.take() == "1"
    hand.end(rules=secret)
    hand.press("2", "blocked")
    assert hand.verdicts == [("1", "taken"), ("2", "blocked")]
    assert all(a.key.hidden for a in hand.actions if isinstance(a, ev.KeyJudged))


def test_what_is_typed_behind_a_secret_input_is_secret_too() -> None:
    hand = Hand()
    hand.want(KeyGuard(secret=True))
    hand.press("1", "buffered")
    hand.take()
    hand.end(rules=DROP)
    hand.after(40).press("2", "blocked", lasts_ms=20)
    hand.after(50).order(DROP)
    hand.after(20).press("3", "blocked", lasts_ms=40)
    hand.after(100).press("4", "blocked", lasts_ms=40)
    told = [(a.key.key, a.key.hidden) for a in hand.actions if isinstance(a, ev.KeyJudged)]
    assert told == [("1", True), ("2", True), ("3", True), ("4", False)]


# Limits and alarms


def test_a_prompt_that_goes_on_and_on() -> None:
    hand = guarded()
    hand.tell(ev.Progress(hand.now_ms, "p1", 0))  # it begins: the end is due in LENGTH_MS
    hand.after(LENGTH_MS + REPORT_MS)
    assert ev.AskOver() in hand.tick()
    hand.after(5000 - REPORT_MS - 1).tick()
    assert hand.state.name == "playing"
    actions = hand.after(1).tick()
    assert ev.StopPlay() in actions
    assert hand.alarms == ["no_report", "block_limit", "overrun"]
    assert hand.path[-1] == ("limit", "waiting_input")
    assert ev.StopPlay() in hand.after(100).tick(), "until it is over"
    hand.over("stopped")
    assert hand.after(100).tick() == []
    assert len(hand.alarms) == 3


def test_an_opened_prompt_that_goes_on_is_stopped() -> None:
    hand = guarded()
    hand.after(2500).reach()
    hand.after(20_000).tick()
    assert hand.alarms == ["no_report", "overrun"]


def test_a_missed_end_is_asked_for() -> None:
    hand = guarded()
    hand.after(LENGTH_MS + 1000 + REPORT_MS).tick()
    hand.tell(ev.Asked(hand.now_ms, hand.now_ms, LENGTH_MS))
    assert (hand.path[-1], hand.alarms) == (("played", "waiting_input"), ["no_report"])


def test_a_late_prompt_is_waited_for_as_long_as_it_gets_on() -> None:
    hand = guarded()
    hand.after(LENGTH_MS + 1000 + REPORT_MS).tick()
    hand.tell(ev.Asked(hand.now_ms, hand.now_ms, 1000))
    due_ms = hand.state.due_ms
    assert due_ms == hand.now_ms + 2000
    hand.after(2000 + REPORT_MS).tick()
    hand.tell(ev.Asked(hand.now_ms, hand.now_ms, 1000))
    assert hand.state.due_ms == due_ms
    hand.after(4000).tick()
    assert hand.alarms[-2:] == ["block_limit", "overrun"]


def test_the_modules_limit_opens_here_too() -> None:
    hand = guarded()
    assert hand.state.block is not None
    hand.tell(ev.GuardSet(9000, 9000, hand.state.block, "pass", "limit"))
    assert (hand.state.name, hand.alarms) == ("waiting_input", ["block_limit"])
    assert not isinstance(hand.actions[-1], ev.SetGuard), "it has obeyed already"


def test_a_limit_that_is_told_late() -> None:
    """The backend stood still: it renews the block, then hears that the one before was over. A key
    of that time was open."""
    hand = guarded()
    hand.after(9000).tell(ev.Progress(hand.now_ms, "p1", 0))
    first = next(a for a in hand.actions if isinstance(a, ev.SetGuard))
    opened = hand.tell(ev.GuardSet(hand.now_ms, 9000, first.name, "pass", "limit"))
    assert [a.mode for a in opened if isinstance(a, ev.SetGuard)] == ["pass"], "not the new one"
    hand.press("1")
    assert (hand.take(), hand.alarms) == ("1", ["block_limit"])


def test_the_limit_of_a_block_before_is_not_this_ones() -> None:
    hand = guarded()
    name = hand.state.block or ""
    hand.over()
    hand.order()
    hand.tell(ev.GuardSet(9000, 9000, name, "pass", "limit"))
    assert (hand.state.name, hand.alarms) == ("playing", [])


def test_processing_has_a_limit() -> None:
    hand = Hand()
    hand.want()
    hand.end("speech")
    assert hand.after(4999).tick() == [] or hand.alarms == ["guard_refused"]
    hand.after(1).tick()
    assert hand.alarms[-1] == "block_limit"
    assert hand.path[-1] == ("limit", "waiting_input")


def test_a_pause_moves_the_limits() -> None:
    hand = guarded()
    hand.tell(ev.Progress(hand.now_ms, "p1", 1000))
    hand.tell(ev.Paused(hand.now_ms, True))
    hand.after(10_000).tick()
    hand.tell(ev.Paused(hand.now_ms, False))
    assert hand.state.due_ms == hand.now_ms + 2000
    assert hand.alarms == []
    last = [a for a in hand.actions if isinstance(a, ev.SetGuard)][-1]
    assert (last.mode, last.limit_ms) == ("block", 7000)


def test_the_modules_limit_follows_a_prompt_that_is_late() -> None:
    hand = guarded()
    hand.after(2000)
    assert not any(
        isinstance(a, ev.SetGuard) for a in hand.tell(ev.Progress(hand.now_ms, "p1", 800))
    )
    (renewed,) = hand.after(1000).tell(ev.Progress(hand.now_ms, "p1", 900))
    assert isinstance(renewed, ev.SetGuard)
    assert renewed.limit_ms == 2100 + 5000


def test_a_guard_that_another_has_replaced_is_not_told_of() -> None:
    hand = Hand()
    hand.order()
    hand.stretch()
    hand.after(10).confirm()
    assert [a.took_ms for a in hand.actions if isinstance(a, ev.Changed)] == [None, 10]
    hand.after(CONFIRM_MS).tick()
    assert hand.alarms == []


@pytest.mark.parametrize("silent", [True, False])
def test_a_module_that_does_not_guard(silent: bool) -> None:
    hand = Hand()
    hand.order()
    if silent:
        hand.after(CONFIRM_MS).tick()
    else:
        hand.tell(ev.Refused(0, "unknown type"))
    assert hand.alarms == ["guard_refused"]
    hand.after(10).press("1")
    assert hand.verdicts == [("1", "blocked")]
    hand.over()
    assert not any(isinstance(a, ev.SetGuard) for a in hand.order()), "it is not told again"
    assert hand.alarms == ["guard_refused"]


@pytest.mark.parametrize("left_ms", [1000, 999, 0])
def test_a_block_is_not_renewed_shortly_before_its_opening(left_ms: int) -> None:
    """It might come to the module behind it, and block the keys that are awaited."""
    hand = Hand()
    hand.order(KeyGuard(open_before_end_s=1.0))
    hand.stretch(1000 + left_ms)
    hand.confirm()
    told = hand.tell(ev.Progress(hand.now_ms, "p1", 0))
    renewed = [a.limit_ms for a in told if isinstance(a, ev.SetGuard)]
    assert renewed == ([2000 + 5000] if left_ms == 1000 else [])


@pytest.mark.parametrize("told", [True, False])
def test_a_block_that_is_renewed_at_the_very_place_of_the_opening(told: bool) -> None:
    hand = guarded()
    hand.after(2500).tell(ev.Progress(hand.now_ms, "p1", 1500))
    if told:
        hand.confirm()
    modes = [a.mode for a in hand.reach() if isinstance(a, ev.SetGuard)]
    assert modes == ([] if told else ["pass"])


def test_a_fork_that_comes_back_is_told_anew() -> None:
    hand = guarded()
    hand.tell(ev.Linked(1500, False))
    block, opening = hand.after(1000).tell(ev.Linked(2010, True))
    assert isinstance(block, ev.SetGuard)
    assert isinstance(opening, ev.SetGuard)
    assert (block.mode, opening.play, opening.place_ms) == ("block", "p1", 2500)
    hand.over()
    assert [a.mode for a in hand.tell(ev.Linked(3000, True)) if isinstance(a, ev.SetGuard)] == [
        "pass"
    ]


def test_a_hangup_ends_all() -> None:
    hand = guarded(BUFFER)
    hand.press("1", "buffered")
    hand.tell(ev.HangUp(2000, 2000))
    assert hand.verdicts == [("1", "buffered"), ("1", "discarded")]
    assert hand.path[-1] == ("hangup", "off")
    assert hand.after(10**6).tick() == hand.order() == hand.press() == []


# Every sequence

ALPHABET: dict[str, Callable[[Hand], object]] = {
    "order": lambda hand: hand.order(),
    "stretch": lambda hand: hand.stretch(),
    "confirm": lambda hand: confirm_any(hand),
    "reach": lambda hand: hand.reach() if hand.placed else None,
    "key": lambda hand: hand.press(),
    "blocked": lambda hand: hand.press("2", "blocked", lasts_ms=100),
    "over": lambda hand: hand.over(),
    "want": lambda hand: hand.want(),
    "take": lambda hand: hand.take(),
    "end": lambda hand: hand.end(),
    "tick": lambda hand: hand.after(4000).tick(),
    "hangup": lambda hand: hand.tell(ev.HangUp(hand.now_ms, hand.now_ms)),
}


def confirm_any(hand: Hand) -> None:
    if any(isinstance(a, ev.SetGuard) and a.play is None for a in hand.actions):
        hand.confirm()


def test_every_short_sequence() -> None:
    """All of four events: the properties below hold."""
    for names in itertools.product(ALPHABET, repeat=4):
        hand = Hand()
        for name in names:
            hand.after(30)
            ALPHABET[name](hand)
        check(hand)


def check(hand: Hand) -> None:
    check_state(hand.state, hand.now_ms)
    finish(hand)
    check_keys(hand)


def check_state(state: State, now_ms: int) -> None:
    """No state without a way out: a block has an end, and somebody sees to it."""
    ends_ms = state.block_ends_ms
    if state.blocks:
        assert ends_ms is not None
        assert state.tick_due_ms is not None
        assert state.tick_due_ms <= ends_ms
        assert ends_ms <= now_ms + FILE_MS + PAUSE_MS + 60_000
    if state.name == "off":
        assert not state.under_way
    if state.over:
        assert (state.name, state.held, state.readable) == ("off", (), ())
    opened, _ = step(state, ev.Tick(max(ends_ms or 0, now_ms), 0))
    assert not opened.blocks, "never blocked beyond the limit"


def finish(hand: Hand) -> None:
    """Whatever the state, a prompt can be played and an answer be had from it."""
    if hand.state.over:
        return
    hand.after(1000).order()
    hand.over()
    hand.want()
    hand.press("9")
    found = None
    while (key := hand.take()) is not None:
        found = key
    assert found == "9"
    hand.tell(ev.HangUp(hand.now_ms, hand.now_ms))


FINAL = {"taken", "blocked", "released", "conflict", "discarded", "lost"}


def check_keys(hand: Hand) -> None:
    """Each key that was told while something was guarded has one verdict; none was taken twice."""
    ends = Counter(
        id_of(a.key) for a in hand.actions if isinstance(a, ev.KeyJudged) and a.verdict in FINAL
    )
    assert all(count == 1 for count in ends.values())
    taken = Counter(id_of(a.key) for a in hand.actions if isinstance(a, ev.Taken))
    assert all(count == 1 for count in taken.values())
    seen = {
        id_of(a.key)
        for a in hand.actions
        if isinstance(a, ev.KeyJudged | ev.Readable | ev.Conflict) and a.key.guarded
    }
    if hand.state.over:
        assert seen == set(ends)
    delivered = [
        a.key
        for a in hand.actions
        if isinstance(a, ev.KeyJudged) and a.verdict in ("taken", "released")
    ]
    assert {id_of(key) for key in delivered} == {i for i in taken if i in ends}


def id_of(key: ev.HeldKey) -> tuple[str, int]:
    """Keys of the tests below are told apart by their place."""
    return (key.key, key.begun_ms)


ODD = (KeyGuard(secret=True), KeyGuard("buffer", 0, 0.1), KeyGuard("drop", 10, 60))
RULES = st.sampled_from([DROP, BUFFER, *ODD, None])
Happening = tuple[int, str, tuple[KeyGuard | None, int, int]]
History = tuple[bool, list[Happening]]


@st.composite
def histories(draw: st.DrawFn) -> History:
    kinds = st.sampled_from(
        [
            "order", "stretch", "progress", "pause", "resume", "asked", "over", "over_told",
            "confirm", "reach", "limit", "refused", "lost", "linked", "key", "key", "key", "turn",
            "want", "take", "take", "end", "opened", "off", "tick", "tick",
        ]
    )  # fmt: skip
    gaps = st.sampled_from([1, 7, 40, 130, 600, 2500, 9000])
    some = st.tuples(gaps, kinds, st.tuples(RULES, st.integers(0, 8000), st.integers(0, 3)))
    return draw(st.booleans()), draw(st.lists(some, max_size=60))


def play_history(able: bool, history: Iterable[Happening]) -> Iterator[Hand]:
    hand = Hand(able=able)
    for gap_ms, kind, extra in history:
        hand.after(gap_ms)
        rules, number, choice = extra
        now = hand.now_ms
        if kind == "key":
            verdict = ("passed", "blocked", "buffered", None)[choice]
            hand.press("123A"[choice], verdict, lasts_ms=min(number % 300, gap_ms - 1))
        elif kind == "reach":
            if hand.placed:
                hand.reach(choice)
        elif kind == "confirm":
            confirm_any(hand)
        elif kind == "limit":
            hand.tell(ev.GuardSet(now, now, hand.state.block or "g0", "pass", "limit"))
        else:
            hand.tell(_EVENTS[kind](now, rules, number, choice))
        yield hand


_EVENTS: dict[str, Callable[[int, KeyGuard | None, int, int], ev.Event]] = {
    "order": lambda now, rules, _, n: ev.PlayOrdered(now, now, n, rules),
    "stretch": lambda now, _, ms, n: ev.Stretch(
        now, f"p{n}" if n else None, ms if ms % 3 else None, ms % 2 == 0
    ),
    "progress": lambda now, _, ms, n: ev.Progress(now, f"p{n}", ms),
    "pause": lambda now, *_: ev.Paused(now, True),
    "resume": lambda now, *_: ev.Paused(now, False),
    "asked": lambda now, _, ms, n: ev.Asked(now, now, ms),
    "over": lambda now, *_: ev.PlayOver(now, now, "stopped"),
    "over_told": lambda now, _, ms, n: ev.PlayOver(now, now, "played", f"p{n}"),
    "refused": lambda now, *_: ev.Refused(now, "why"),
    "lost": lambda now, *_: ev.Linked(now, False),
    "linked": lambda now, *_: ev.Linked(now, True),
    "turn": lambda now, *_: ev.TurnBegins(now),
    "want": lambda now, rules, *_: ev.InputWanted(now, now, rules),
    "take": lambda now, *_: ev.Take(now),
    "end": lambda now, rules, ms, n: ev.InputOver(
        now, now, "digits", rules, "1" if n else None, ms
    ),
    "opened": lambda now, *_: ev.Opened(now, now),
    "off": lambda now, *_: ev.Off(now, now),
    "tick": lambda now, *_: ev.Tick(now, now),
}


@settings(max_examples=200, deadline=None)
@given(histories())
def test_whatever_happens(history: History) -> None:
    hand = Hand()
    for hand in play_history(*history):
        check_state(hand.state, hand.now_ms)
    check(hand)


@settings(max_examples=200, deadline=None)
@given(histories(), st.sampled_from([DROP, BUFFER]))
def test_a_blocked_key_is_never_readable(history: History, rules: KeyGuard) -> None:
    """However it came to this prompt: a key that goes down in it, and that the module blocks, is
    not read before input begins."""
    *_, hand = (Hand(), *play_history(*history))
    hand.after(1000).order(rules)
    while hand.take():
        pass
    hand.after(500).press("8", "blocked" if rules is DROP else "buffered", lasts_ms=100)
    assert hand.take() is None
    hand.over()
    hand.want(rules)
    read = [hand.take() for _ in range(2 * MAX_KEPT)]
    assert read.count("8") == (0 if rules is DROP else 1)


@settings(max_examples=200, deadline=None)
@given(histories())
def test_a_key_in_the_open_state_is_never_lost(
    history: History,
) -> None:
    *_, hand = (Hand(), *play_history(*history))
    hand.after(1000).order(DROP)
    hand.after(100).over()
    hand.want()
    while hand.take():
        pass
    hand.after(500).press("8", lasts_ms=100)
    hand.press("9", "blocked", lasts_ms=0)  # the module had not heard of it yet
    assert (hand.take(), hand.take()) == ("8", "9")


def test_a_step_changes_nothing_of_the_state_before() -> None:
    state = guarded(BUFFER).state
    same = replace(state)
    step(state, ev.Pressed(2000, 2000, "1", "buffered"))
    assert state == same


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"policy": "keep"}, "policy"),
        ({"open_before_end_s": 10.1}, "open_before_end_s"),
        ({"open_before_end_s": True}, "open_before_end_s"),
        ({"max_block_s": 0}, "max_block_s"),
        ({"max_block_s": float("nan")}, "max_block_s"),
        ({"secret": 1}, "secret"),
    ],
)
def test_wrong_rules(wrong: dict[str, object], name: str) -> None:
    with pytest.raises(BadRequest) as error:
        KeyGuard(**wrong)  # type: ignore[arg-type]
    assert error.value.parameter == name
