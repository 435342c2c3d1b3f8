"""A call's keys during prompts: the gate between the machine, the fork's module and the scenario;
the module plays in virtual time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from backend.call.gate import HIDDEN, KeyGate
from backend.call.guard_rules import KeyGuard
from backend.call.keys import Digits, DigitsStatus, Keys
from backend.call.places import Places
from backend.call.playback import Played, PlayEnd
from backend.call.prompt import Sound, Text
from backend.call.turn import HearStatus
from backend.errors import BadRequest, Hangup, SynthesisUnavailable
from backend.protocol import fork
from backend.speech.making import GrowingPcm, WholePcm
from tests.fakes.talk import QUIET, Talk

PROMPT_MS = 2000  # of FakePrompts' texts
BUFFER = KeyGuard("buffer")


@pytest.fixture
def talk() -> Iterator[Talk]:
    talk = Talk(streamed=True, decide_ms=5000)
    talk.call.answer()
    yield talk
    talk.close()


def sent(talk: Talk) -> list[fork.Guard]:
    assert talk.module is not None
    talk.settle()
    return [m for m in talk.module.messages if isinstance(m, fork.Guard)]


def states(talk: Talk) -> list[tuple[str, str]]:
    talk.settle()
    return [(s.body["event"], s.state) for s in talk.steps if s.kind == "state"]


def verdicts(talk: Talk) -> list[tuple[str, str]]:
    talk.settle()
    return [(s.body["key"], s.body["verdict"]) for s in talk.steps if s.kind == "key"]


def alarms(talk: Talk) -> list[str]:
    return [s.body["alarm"] for s in talk.steps if s.kind == "alarm"]


def press_at(talk: Talk, played_ms: int, keys: str) -> None:
    """When so much of the next prompt has been played, in the audio loop, as the module tells
    them."""
    assert talk.module is not None
    module, left = talk.module, [keys]
    talk.at(played_ms, lambda: module.run(lambda: talk.press(left.pop() if left else "")))


# The block


def test_nothing_is_guarded_unless_asked_for(talk: Talk) -> None:
    talk.call.speak("Hello.")
    talk.call.read_digits(1, timeout_s=0.01)
    assert (sent(talk), talk.steps) == ([], [])


def test_a_prompt_is_blocked_before_it_begins_and_opens_at_its_place(talk: Talk) -> None:
    assert talk.module is not None
    talk.call.guard_keys(KeyGuard(open_before_end_s=0.3))
    talk.call.speak("Hello.")
    order, exact, opening, *_ = sent(talk)
    assert (order.mode, order.play, order.kept) == ("block", None, "take")
    assert exact.limit_ms is not None
    assert abs(exact.limit_ms - PROMPT_MS - 1000 - 5000) < 500
    assert (opening.mode, opening.play, opening.at_ms) == ("pass", "p1", PROMPT_MS - 300)
    kinds = [type(m) for m in talk.module.messages]
    assert kinds.index(fork.Guard) < kinds.index(fork.Play), "no frame is played unguarded"
    found = states(talk)
    assert found[0] == ("play", "playing")
    assert ("opened", "waiting_input") in found
    assert ("played", "waiting_input") in found
    (opened,) = [s for s in talk.steps if s.body.get("event") == "opened"]
    assert opened.body["error_ms"] == 0


def test_several_parts_are_one_prompt(talk: Talk) -> None:
    """The opening is in the last one's end; of a part of another rate, in that."""
    talk.prompts.own["wide"] = WholePcm(bytes(32 * 1000), 16_000)
    talk.call.guard_keys()
    talk.call.speak(["One.", Text("Two.", "ru-RU")])
    talk.call.speak(["One.", Sound("wide")])
    places = [(guard.play, guard.at_ms) for guard in sent(talk) if guard.play is not None]
    assert places == [("p1", 2 * PROMPT_MS - 500), ("p3", 500)]


def test_a_text_in_the_making_opens_where_its_end_turns_out_to_be(talk: Talk) -> None:
    assert talk.module is not None
    making = GrowingPcm()
    talk.prompts.own["made"] = making
    pieces = iter([bytes(16 * 1000), bytes(16 * 800)])
    making._grow(next(pieces))

    def more() -> None:
        for piece in pieces:
            making._grow(piece)
        making._end(None)

    talk.module.on_dry = more
    talk.call.speak(Sound("made"), guard=KeyGuard())
    (opening,) = [guard for guard in sent(talk) if guard.play is not None]
    assert opening.at_ms == 1300


def test_a_synthesis_that_fails_leaves_nothing_blocked(talk: Talk) -> None:
    assert talk.module is not None
    making = GrowingPcm()
    talk.prompts.own["made"] = making
    making._grow(bytes(16 * 200))
    talk.module.on_dry = lambda: making._end(SynthesisUnavailable("broken"))
    with pytest.raises(SynthesisUnavailable):
        talk.call.speak(Sound("made"), guard=KeyGuard())
    assert states(talk)[-1] == ("failed", "waiting_input")
    assert talk.module.mode == "pass"


# Keys


def test_a_key_breaks_no_prompt_until_it_is_open(talk: Talk) -> None:
    talk.call.guard_keys()
    press_at(talk, 600, "1")
    press_at(talk, 1700, "2")
    played = talk.call.speak("Hello.", interruptible="keys")
    assert played == Played(PlayEnd.INTERRUPTED, 1700, "keys")
    assert talk.call.read_digits(1, timeout_s=0.05).digits == "2"
    assert verdicts(talk) == [("1", "blocked"), ("2", "taken")]


def test_typed_ahead_they_are_kept_and_stop_nothing(talk: Talk) -> None:
    talk.call.guard_keys(BUFFER)
    press_at(talk, 600, "12")
    read = talk.call.read_digits(3, prompt="Three keys, please.", between_s=0.1)
    assert (read.digits, read.status) == ("12", DigitsStatus.BETWEEN)
    assert read.prompt == Played(PlayEnd.COMPLETED, PROMPT_MS)
    assert verdicts(talk) == [(k, "buffered") for k in "12"] + [(k, "released") for k in "12"]


def test_typed_ahead_over_the_prompt_before_they_make_the_next_one_needless(talk: Talk) -> None:
    talk.call.guard_keys(BUFFER)
    press_at(talk, 600, "4")
    talk.call.speak("Welcome.")
    read = talk.call.read_digits(1, prompt="One key, please.")
    assert (read.digits, read.prompt) == ("4", None)


def test_dropped_they_are_gone_and_the_prompt_is_played(talk: Talk) -> None:
    talk.call.guard_keys()
    press_at(talk, 600, "4")
    talk.call.speak("Welcome.")
    read = talk.call.read_digits(1, prompt="One key, please.", timeout_s=0.05)
    assert (read.digits, read.status) == ("", DigitsStatus.TIMEOUT)
    assert read.prompt is not None
    assert verdicts(talk) == [("4", "blocked")]


@pytest.mark.parametrize(("rules", "left"), [(KeyGuard(), ""), (BUFFER, "2")])
def test_surplus_keys(talk: Talk, rules: KeyGuard, left: str) -> None:
    talk.call.guard_keys(rules)
    talk.call.read_digits(1, timeout_s=0.01)
    assert talk.module is not None
    talk.gate.open()
    talk.settle()
    talk.press("12")
    assert talk.call.read_digits(1).digits == "1"
    assert talk.call.read_digits(1, timeout_s=0.05).digits == left
    assert verdicts(talk)[:2] == [("1", "taken"), ("2", "taken" if left else "discarded")]


def test_a_turn_that_takes_speech_is_guarded_as_well(talk: Talk) -> None:
    press_at(talk, 600, "1")
    heard = talk.call.hear(
        "Yes or no?", barge_in="off", timeout_s=0.05, digits=Digits(1), guard=KeyGuard()
    )
    assert (heard.status, heard.digits) == (HearStatus.TIMEOUT, "")
    assert states(talk)[-1] == ("timeout", "off"), "only this turn was guarded"
    assert sent(talk)[-1].mode == "off"


def test_this_prompt_alone_is_not_guarded(talk: Talk) -> None:
    talk.call.guard_keys()
    press_at(talk, 600, "1")
    talk.call.speak("Hello.", guard=None, interruptible="keys")
    assert talk.steps == []
    assert talk.call.read_digits(1, guard=None).digits == "1"
    assert states(talk)[0] == ("digits", "processing"), "what comes is guarded again"


def test_secret_keys_are_told_to_nobody(talk: Talk) -> None:
    talk.call.guard_keys(KeyGuard("buffer", secret=True))
    press_at(talk, 600, "1")
    press_at(talk, 1700, "2")
    assert talk.call.read_digits(2, prompt="Your PIN, please.").digits == "12"
    assert {key for key, _ in verdicts(talk)} == {HIDDEN}
    assert {guard.mode for guard in sent(talk)} == {"buffer"}, "Asterisk never has them"


# Other ends


def test_what_reads_keys_in_asterisk_gets_them(talk: Talk) -> None:
    talk.call.guard_keys()
    talk.call.read_digits(1, timeout_s=0.01)
    talk.call.execute("Read", "CHOICE")
    assert sent(talk)[-1].mode == "pass"
    assert ("other", "waiting_input") in states(talk)


def test_a_recording_opens_nothing(talk: Talk) -> None:
    talk.call.guard_keys()
    talk.call.read_digits(1, timeout_s=0.01)
    talk.call.start_recording()
    assert states(talk)[-2:][0][1] == "processing"


def test_no_guard_any_more(talk: Talk) -> None:
    talk.call.guard_keys()
    talk.call.speak("Hello.")
    talk.call.guard_keys(None)
    assert sent(talk)[-1].mode == "off"
    assert states(talk)[-1] == ("off", "off")


def test_a_hangup_in_the_midst(talk: Talk) -> None:
    assert talk.module is not None
    module = talk.module
    talk.call.guard_keys(BUFFER)
    press_at(talk, 600, "1")

    def hang_up() -> None:
        talk.channel.hang_up()
        module.hang_up()

    talk.at(1000, hang_up)
    with pytest.raises(Hangup):
        talk.call.read_digits(1, prompt="Hello?")
    assert states(talk)[-1] == ("hangup", "off")
    assert verdicts(talk) == [("1", "buffered"), ("1", "discarded")]


def test_the_talks_end_discards_what_nobody_has_read(talk: Talk) -> None:
    talk.call.guard_keys()
    press_at(talk, 1700, "1")
    talk.call.speak("Hello.")
    talk.dialogue.close()
    assert verdicts(talk) == [("1", "discarded")]


# The module


@pytest.mark.parametrize("about", ["guard", "message"])
def test_a_module_that_does_not_guard(
    talk: Talk, caplog: pytest.LogCaptureFixture, about: str
) -> None:
    assert talk.module is not None
    talk.module.refuses = about
    talk.module.guards = False
    talk.call.guard_keys()
    press_at(talk, 600, "1")
    with caplog.at_level(logging.WARNING):
        talk.call.speak("Hello.", interruptible="keys")
        talk.call.speak("Hello again.")
    assert alarms(talk) == ["guard_refused"]
    assert verdicts(talk) == [("1", "blocked")]
    said = [r.message for r in caplog.records if "does not block keys" in r.message]
    assert len(said) == 1


@pytest.mark.parametrize(
    ("rules", "expected"),
    [(KeyGuard(), [("1", "conflict")]), (BUFFER, [("1", "buffered"), ("1", "released")])],
)
def test_a_key_at_the_moment_of_the_order(
    talk: Talk, rules: KeyGuard, expected: list[tuple[str, str]]
) -> None:
    """The module has not heard of the order yet and lets it pass: the order wins."""
    assert talk.module is not None
    talk.module.obeys = False
    talk.hear_frames(*[QUIET] * 50)
    press_at(talk, 100, "1")
    talk.at(60, lambda: talk.hear_frames(*[QUIET] * 10))
    played = talk.call.speak("Hello.", interruptible="keys", guard=rules)
    assert played.end is PlayEnd.COMPLETED
    assert talk.call.read_digits(1, timeout_s=0.05, guard=rules).digits == (
        "" if rules.policy == "drop" else "1"
    )
    (conflict,) = [s for s in talk.steps if s.kind == "conflict"]
    assert (conflict.body["order"], conflict.body["key"]) == ("play", "1")
    assert conflict.body["after_ms"] >= 0
    assert verdicts(talk) == expected


def test_a_fork_that_is_lost_in_a_prompt_is_told_anew(talk: Talk) -> None:
    assert talk.module is not None
    module = talk.module
    talk.prompts.own["long"] = WholePcm(bytes(16 * 6000))

    def lose() -> None:
        module.lose()
        module.mode = "off"  # its fork has ended
        module.connect(talk.fork)

    losses = iter([lose])
    talk.at(1000, lambda: next(losses, lambda: None)())
    press_at(talk, 1500, "1")
    played = talk.call.speak(Sound("long"), guard=KeyGuard())
    assert played == Played(PlayEnd.COMPLETED, 6000)
    (_, before), (play, place) = [(g.play, g.at_ms) for g in sent(talk) if g.play is not None][:2]
    assert before == 5500
    assert (play, place) in [("p1", 5500), ("p2", 3500)]
    openings = [g for g in sent(talk) if g.play == "p2"]
    assert [g.at_ms for g in openings] == [6000 - 2000 - 500], "it went on after what it had"
    assert verdicts(talk) == [("1", "blocked")]


def test_without_a_fork_keys_are_asterisks_and_blocked_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    talk = Talk()
    talk.call.answer()
    talk.channel.escape = "1"
    talk.channel.on_play = talk.channel.finish
    talk.call.guard_keys()
    with caplog.at_level(logging.WARNING):
        played = talk.call.speak("Hello.", interruptible="keys")
    assert played.end is PlayEnd.COMPLETED, "Asterisk was not told to end it"
    assert talk.channel.escapes == [""]
    talk.channel.keys = ["2"]
    assert talk.call.read_digits(1).digits == "2"
    assert sum("does not block keys" in r.message for r in caplog.records) == 1
    talk.close()


def test_a_pause_moves_the_modules_limit(talk: Talk) -> None:
    talk.at(500, lambda: talk.speaker.pause())
    talk.while_paused(talk.speaker.resume)
    talk.call.speak("Hello.", guard=KeyGuard())
    limits = [guard.limit_ms or 0 for guard in sent(talk) if guard.mode == "block"]
    assert any(limit > 15_000 for limit in limits[1:-1]), limits
    assert limits[-1] < PROMPT_MS + 6000 + 500


def test_a_missed_end_is_asked_for_and_found(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGI's answer does not come, nor the module's word; its counters tell."""
    assert talk.module is not None
    module = talk.module
    for where in ("machine", "state"):
        monkeypatch.setattr(f"backend.keying.{where}.REPORT_MS", -10_000)  # at once
    asked: list[str] = []

    def ask() -> None:
        talk.gate.on_tick()
        asked.extend(s for _, s in states(talk)[-1:])
        talk.gate.on_message(fork.Counters({"played_ms": PROMPT_MS}))
        asked.extend(s for _, s in states(talk)[-1:])

    talk.at(800, lambda: module.run(ask))
    talk.call.speak("Hello.", guard=KeyGuard())
    assert any(isinstance(m, fork.AskCounters) for m in module.messages)
    assert asked == ["playing", "waiting_input"]
    assert alarms(talk) == ["no_report"]


# Details


def test_a_telephone_without_audio_while_a_key_is_held(talk: Talk) -> None:
    """The stream stands still meanwhile: the time that has passed tells when it went down."""
    now = [0.0]
    gate = KeyGate("x", Keys(lambda: now[0]), talk.ear, lambda: None, None)
    for _ in range(10):
        now[0] += 0.02
        talk.ear.on_audio(QUIET)
        gate.on_audio(len(QUIET))
    now[0] += 0.1
    assert gate._begun_ms(fork.Digit("1", 100, "passed", 200)) == 200
    assert gate._begun_ms(fork.Digit("1", 140, "passed", 200)) == 160


def test_places() -> None:
    places = Places()
    assert places.at(5) is None
    for n in range(1000):
        places.note(n * 20, n)
    assert (places.at(999 * 20), places.at(998 * 20 + 19), places.at(0)) == (999, 998, None)


@pytest.mark.parametrize("wrong", ["drop", True, 5, {}])
def test_wrong_rules_are_named(talk: Talk, wrong: Any) -> None:
    for ask in (
        lambda: talk.call.guard_keys(wrong),
        lambda: talk.call.speak("x", guard=wrong),
        lambda: talk.call.hear(guard=wrong),
        lambda: talk.call.read_digits(guard=wrong),
    ):
        with pytest.raises(BadRequest, match=r"rules|guard"):
            ask()


def test_a_legs_prompts_are_not_guarded() -> None:
    talk = Talk(streamed=True)
    talk.gate._steps = None
    with pytest.raises(BadRequest, match="guard: only a call"):
        talk.call.speak("x", guard=KeyGuard())
    talk.close()
