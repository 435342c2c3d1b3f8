"""The machine of barge-in: each case by hand, then what holds for every sequence of events."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from backend.call.backchannel import Backchannel
from backend.call.barge import ANSWER_TAIL_MS, Act, Barge, BargeRules
from backend.model import Utterance

DECIDE_MS = 1000
WORDS = BargeRules("words", keys=True, decide_ms=DECIDE_MS)
BACKCHANNEL = Backchannel(["uh-huh", "yes yes"])


def barge(rules: BargeRules = WORDS) -> Barge:
    return Barge(rules, lambda text, final: BACKCHANNEL.judge(text, final=final))


def said(text: str) -> Utterance:
    return Utterance("caller", text, 0, 500)


def test_voice_stops_at_once_where_any_voice_does() -> None:
    machine = barge(BargeRules("voice"))
    assert machine.voice(True, 0) is Act.STOP
    assert (machine.state, machine.stopped_by) == ("stopped", "voice")
    assert machine.voice(False, 700) is None
    assert machine.voice(True, 900) is None


def test_voice_does_nothing_where_it_may_not() -> None:
    machine = barge(BargeRules("off"))
    assert machine.voice(True, 0) is None
    assert machine.words("stop it", 100) is None
    assert machine.utterance(said("stop it"), 700) is None
    assert machine.time(5000) is None
    assert machine.state == "plays"
    assert machine.over(6000) == ()


def test_words_stop_what_voice_paused() -> None:
    machine = barge()
    assert machine.voice(True, 0) is Act.PAUSE
    assert machine.words("no", 300) is Act.STOP
    assert (machine.state, machine.stopped_by) == ("stopped", "words")


def test_a_cough_resumes_when_the_recogniser_has_no_words_for_it() -> None:
    machine = barge()
    assert machine.voice(True, 0) is Act.PAUSE
    assert machine.voice(False, 700) is None, "its text may come"
    assert machine.utterance(None, 800) is Act.RESUME
    assert machine.state == "plays"


def test_a_long_noise_resumes_after_the_time_to_decide() -> None:
    machine = barge()
    machine.voice(True, 0)
    assert machine.time(DECIDE_MS - 1) is None
    assert machine.time(DECIDE_MS) is Act.RESUME
    assert machine.time(DECIDE_MS + 20) is None
    assert machine.voice(True, DECIDE_MS + 40) is None, "the same voice"
    assert machine.words("now i say something", DECIDE_MS + 500) is Act.STOP, "words are words"


def test_the_next_voice_pauses_again() -> None:
    machine = barge()
    machine.voice(True, 0)
    machine.time(DECIDE_MS)
    machine.voice(False, 2000)
    assert machine.voice(True, 3000) is Act.PAUSE
    assert machine.time(3000 + DECIDE_MS) is Act.RESUME


def test_a_backchannel_word_resumes_and_is_no_answer() -> None:
    machine = barge()
    machine.voice(True, 0)
    assert machine.words("uh-huh", 300) is None, "more may follow"
    machine.voice(False, 900)
    uh_huh = said("Uh-huh.")
    assert machine.utterance(uh_huh, 950) is Act.RESUME
    assert machine.over(10_000) == (uh_huh,)


def test_a_backchannel_word_whose_end_is_late_resumes_by_the_time() -> None:
    machine = barge()
    machine.voice(True, 0)
    machine.words("uh-huh", 300)
    assert machine.time(DECIDE_MS) is Act.RESUME
    uh_huh = said("uh-huh")
    assert machine.utterance(uh_huh, DECIDE_MS + 200) is None
    assert machine.over(10_000) == (uh_huh,)


def test_what_began_as_one_and_goes_on_is_speech() -> None:
    machine = barge()
    machine.voice(True, 0)
    assert machine.words("uh-huh", 300) is None
    assert machine.words("uh-huh but wait", 600) is Act.STOP


def test_the_beginning_of_one_waits_and_then_is_speech() -> None:
    machine = barge()
    machine.voice(True, 0)
    assert machine.words("yes", 300) is None, "it may become 'yes yes'"
    assert machine.words("yes yes", 500) is None
    assert machine.utterance(said("yes yes"), 900) is Act.RESUME or machine.state == "paused"
    other = barge()
    other.voice(True, 0)
    other.words("yes", 300)
    assert other.time(DECIDE_MS) is Act.STOP
    third = barge()
    third.voice(True, 0)
    third.words("yes", 300)
    assert third.utterance(said("yes"), 800) is Act.STOP


def test_while_he_speaks_again_the_pause_goes_on() -> None:
    machine = barge()
    machine.voice(True, 0)
    machine.voice(False, 600)
    machine.voice(True, 700)
    assert machine.utterance(None, 750) is None, "that was the first noise"
    assert machine.words("no", 900) is Act.STOP


def test_an_answer_in_the_last_moment_is_an_answer_whatever_it_is() -> None:
    machine = barge()
    machine.voice(True, 0)
    machine.voice(False, 700)
    assert machine.utterance(said("uh-huh"), 800) is Act.RESUME
    assert machine.over(800 + ANSWER_TAIL_MS) == ()


def test_what_was_said_before_the_words_that_stopped_it_is_no_answer() -> None:
    machine = barge()
    machine.voice(True, 0)
    machine.voice(False, 700)
    uh_huh = said("uh-huh")
    machine.utterance(uh_huh, 800)
    machine.voice(True, 900)
    assert machine.words("no", 1000) is Act.STOP
    assert machine.over(1010) == (uh_huh,)


@pytest.mark.parametrize("voice", ["off", "voice", "words"])
def test_a_key_stops_it_where_keys_do(voice: str) -> None:
    machine = barge(BargeRules(voice, keys=True))  # type: ignore[arg-type]
    assert machine.key() is Act.STOP
    assert machine.stopped_by == "keys"
    assert machine.key() is None
    deaf = barge(BargeRules(voice))  # type: ignore[arg-type]
    assert deaf.key() is None
    assert deaf.state == "plays"


def test_cancelled() -> None:
    machine = barge(BargeRules())
    assert machine.cancel() is Act.STOP
    assert (machine.stopped_by, machine.cancel()) == ("cancel", None)


def test_after_the_prompts_end_nothing_matters() -> None:
    machine = barge()
    machine.over(100)
    events: list[Act | None] = [
        machine.voice(True, 200),
        machine.words("no", 300),
        machine.utterance(said("no"), 400),
        machine.key(),
        machine.cancel(),
        machine.time(9000),
    ]
    assert events == [None] * 6


STEP_MS = 300
EVENTS: dict[str, Callable[[Barge, int], Act | None]] = {
    "voice": lambda machine, now: machine.voice(True, now),
    "silence": lambda machine, now: machine.voice(False, now),
    "backchannel": lambda machine, now: machine.words("uh-huh", now),
    "beginning": lambda machine, now: machine.words("yes", now),
    "speech": lambda machine, now: machine.words("no", now),
    "noise": lambda machine, now: machine.utterance(None, now),
    "uh-huh": lambda machine, now: machine.utterance(said("uh-huh"), now),
    "no": lambda machine, now: machine.utterance(said("no"), now),
    "key": lambda machine, _: machine.key(),
    "time": lambda machine, now: machine.time(now),
}


@pytest.mark.parametrize(
    ("voice", "keys", "length"),
    [("words", True, 5), ("words", False, 4), ("voice", True, 4), ("voice", False, 4),
     ("off", True, 4), ("off", False, 4)],
)  # fmt: skip
def test_every_sequence_of_events(voice: str, keys: bool, length: int) -> None:
    """From playing to paused and back, any number of times; stopped once, for ever; no pause
    outlasts the time to decide; what is no answer has been said and is a back-channel word."""
    rules = BargeRules(voice, keys=keys, decide_ms=DECIDE_MS)  # type: ignore[arg-type]
    for names in itertools.product(EVENTS, repeat=length):
        machine = barge(rules)
        state, paused_at = "plays", 0
        for number, name in enumerate(names, 1):
            now = number * STEP_MS
            act = EVENTS[name](machine, now)
            expected = {Act.PAUSE: "paused", Act.RESUME: "plays", Act.STOP: "stopped"}
            if act is not None:
                assert act is not Act.PAUSE or (state, voice, name) == ("plays", "words", "voice")
                assert act is not Act.RESUME or state == "paused", names
                assert state != "stopped", names
                state = expected[act]
                paused_at = now
            assert machine.state == state, names
            assert (machine.stopped_by is not None) == (state == "stopped")
        if state == "paused":
            assert machine.time(paused_at + DECIDE_MS) in (Act.RESUME, Act.STOP), names
        assert all(u.text == "uh-huh" for u in machine.over(10**6))
