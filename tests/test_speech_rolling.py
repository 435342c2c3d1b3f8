"""RollingRecognizer over a recogniser that hears numbered words: none lost, none doubled."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.ports import (
    Hypothesis,
    RecognitionEvent,
    RecognitionFailed,
    RecognitionOptions,
    StreamEnded,
    UtteranceEnded,
)
from backend.speech.rolling import RollingRecognizer, RollingStream, RollLimits
from tests.fakes.speech import FakeRecognizer, quiet, spoken

LIMITS = RollLimits(soft_ms=2_000, hard_ms=3_000, look_back_ms=600, replay_ms=5_000)


class Talk:
    """A stream, what was said into it and what came back."""

    def __init__(self, inner: FakeRecognizer, limits: RollLimits = LIMITS) -> None:
        self.inner = inner
        self.events: list[RecognitionEvent] = []
        self.stream: RollingStream = RollingRecognizer(inner, limits).open(
            RecognitionOptions(), self.events.append
        )
        self.now_ms = 0
        self.said: list[tuple[str, int]] = []

    def say(self, word: int, frames: int = 5) -> None:
        self.said.append((str(word), self.now_ms))
        self.feed(spoken(word, frames))

    def feed(self, pcm: bytes) -> None:
        self.stream.feed(pcm)
        self.now_ms += len(pcm) // 16

    def pause(self, duration_ms: int) -> None:
        self.stream.silence(duration_ms)
        self.now_ms += duration_ms

    @property
    def finals(self) -> list[Hypothesis]:
        return [e for e in self.events if isinstance(e, Hypothesis) and e.final]

    @property
    def heard(self) -> list[tuple[str, int]]:
        return [(word.text, word.start_ms) for final in self.finals for word in final.words]

    @property
    def ends(self) -> list[int]:
        return [e.at_ms for e in self.events if type(e) is UtteranceEnded]

    @property
    def failure(self) -> RecognitionFailed | None:
        return next((e for e in self.events if isinstance(e, RecognitionFailed)), None)


def test_rolls_between_utterances_and_shifts_times() -> None:
    talk = Talk(FakeRecognizer(session_ms=3_000))
    for word in range(30):
        talk.say(word)
        talk.stream.end_utterance()
        talk.pause(300)
    talk.stream.close()
    assert talk.heard == talk.said
    assert len(talk.ends) == 30
    assert talk.stream.rolled == len(talk.inner.streams) - 1 == 6
    assert all(stream.closed for stream in talk.inner.streams)
    assert isinstance(talk.events[-1], StreamEnded)


def test_rolls_in_a_pause_within_a_long_utterance() -> None:
    talk = Talk(FakeRecognizer(session_ms=3_000))
    for word in range(60):
        talk.say(word)
        talk.feed(quiet(7))
    talk.stream.end_utterance()
    talk.stream.close()
    assert talk.heard == talk.said
    assert talk.ends == [talk.now_ms]  # the roll-overs ended nothing
    assert talk.stream.rolled >= 5


def test_without_any_pause_it_cuts_at_the_quietest_place_of_the_last_seconds() -> None:
    talk = Talk(FakeRecognizer(session_ms=3_600))
    for word in range(100):
        talk.say(word, frames=6)
        talk.feed(quiet(2))  # 40 ms: too short to be a pause, but the quietest there is
    talk.stream.end_utterance()
    talk.stream.close()
    assert talk.heard == talk.said
    assert talk.stream.rolled >= 4
    assert talk.failure is None


def test_many_bytes_also_roll() -> None:
    limits = RollLimits(soft_bytes=32_000, hard_bytes=64_000)
    talk = Talk(FakeRecognizer(), limits)
    for word in range(20):
        talk.say(word, frames=25)
        talk.stream.end_utterance()
    assert talk.stream.rolled >= 4
    assert all(stream.audio_bytes < 64_000 for stream in talk.inner.streams)


def test_silence_alone_rolls_too() -> None:
    talk = Talk(FakeRecognizer(session_ms=3_000))
    for _ in range(20):
        talk.pause(1_000)
    talk.stream.close()
    assert talk.failure is None
    assert [type(e) for e in talk.events] == [StreamEnded]
    assert talk.events[0] == StreamEnded(20_000)


def test_a_lost_session_hears_again_what_had_no_final() -> None:
    talk = Talk(FakeRecognizer())
    talk.say(1)
    talk.stream.end_utterance()
    talk.pause(500)
    talk.say(2)
    talk.say(3)
    talk.inner.streams[-1].fail()
    talk.say(4)
    talk.stream.end_utterance()
    talk.pause(500)
    talk.stream.close()
    assert talk.heard == talk.said
    assert len(talk.ends) == 2
    assert talk.stream.reopened == 1


def test_a_session_lost_while_the_final_is_owed_is_replaced_at_once() -> None:
    talk = Talk(FakeRecognizer())
    talk.say(7)
    first = talk.inner.streams[0]
    first.over = True  # takes all, answers nothing
    talk.stream.end_utterance()
    assert talk.heard == []
    first.fail("no answer")
    assert talk.heard == talk.said
    assert talk.ends == [talk.now_ms]


def test_a_session_lost_in_silence_is_replaced_when_the_stream_goes_on() -> None:
    talk = Talk(FakeRecognizer())
    talk.pause(1_000)
    talk.inner.streams[0].fail("no message for 5 s")
    assert len(talk.inner.streams) == 1
    talk.pause(1_000)
    talk.say(5)
    talk.stream.end_utterance()
    assert talk.heard == talk.said


def test_it_backs_off_and_gives_up() -> None:
    limits = RollLimits(back_off_ms=(0, 300, 1_000))
    inner = FakeRecognizer(refuse=99)
    talk = Talk(inner, limits)
    opened_at = []
    while talk.failure is None and talk.now_ms < 10_000:
        before = len(inner.streams)
        talk.say(1)
        opened_at += [talk.now_ms] * (len(inner.streams) - before)
    assert opened_at == [100, 400, 1_400]
    assert talk.failure == RecognitionFailed("refused", retryable=True)
    talk.say(2)
    talk.stream.close()
    assert isinstance(talk.events[-1], RecognitionFailed)
    assert len(inner.streams) == 4


def test_what_cannot_be_helped_fails_at_once() -> None:
    talk = Talk(FakeRecognizer())
    talk.say(1)
    talk.inner.streams[0].fail("unknown key", retryable=False)
    assert talk.events[-1] == RecognitionFailed("unknown key", retryable=False)
    assert len(talk.inner.streams) == 1


def test_the_replay_is_bounded() -> None:
    talk = Talk(FakeRecognizer(), RollLimits(replay_ms=1_000))
    for word in range(30):
        talk.say(word)
    talk.inner.streams[0].fail()
    talk.say(30)
    assert talk.inner.streams[-1].audio_bytes == 1_100 * 16
    talk.stream.end_utterance()
    assert talk.heard == talk.said[-11:]


def test_finals_of_the_old_session_come_first() -> None:
    talk = Talk(FakeRecognizer())
    for word in range(20):
        talk.say(word)
    old = talk.inner.streams[0]
    late: list[RecognitionEvent] = []
    deliver = old.divert(late.append)
    talk.feed(quiet(5))  # rolls
    assert talk.stream.rolled == 1
    talk.say(20)
    talk.stream.end_utterance()
    assert talk.finals == []
    for event in late:
        deliver(event)
    assert talk.heard == talk.said
    assert talk.ends == [talk.now_ms]


STEP = st.one_of(
    st.tuples(st.just("say"), st.integers(3, 12)),
    st.tuples(st.just("quiet"), st.integers(1, 10)),
    st.tuples(st.just("end"), st.integers(1, 40)),
    st.tuples(st.just("lost"), st.just(0)),
)


@given(st.lists(STEP, max_size=120))
@settings(max_examples=150, deadline=None)
def test_no_word_is_lost_or_doubled(steps: Iterable[tuple[str, int]]) -> None:
    limits = RollLimits(soft_ms=1_500, hard_ms=60_000, replay_ms=60_000, back_off_ms=(0,) * 10)
    talk = Talk(FakeRecognizer(), limits)
    ends = 0
    for number, (what, amount) in enumerate(steps):
        if what == "say":
            talk.say(number, amount)
        elif what == "quiet":
            talk.feed(quiet(amount))
        elif what == "end":
            talk.stream.end_utterance()
            ends += 1
            talk.pause(amount * 20)
        elif not talk.inner.streams[-1].over:
            talk.inner.streams[-1].fail()
    talk.stream.end_utterance()
    talk.stream.close()
    assert talk.heard == talk.said
    assert len(talk.ends) == ends + 1
    assert isinstance(talk.events[-1], StreamEnded)


@pytest.mark.parametrize("call", ["feed", "silence", "end_utterance", "close"])
def test_after_close_nothing_happens(call: str) -> None:
    talk = Talk(FakeRecognizer())
    talk.stream.close()
    count = len(talk.events)
    arguments = {"feed": (spoken(1),), "silence": (100,)}.get(call, ())
    getattr(talk.stream, call)(*arguments)
    assert len(talk.events) == count


# Other options in the midst of a call

KAZAKH = RecognitionOptions(languages=("kk-KZ",))


def test_other_options_begin_a_session_and_the_same_do_not() -> None:
    talk = Talk(FakeRecognizer())
    talk.stream.change(RecognitionOptions())
    assert len(talk.inner.streams) == 1
    talk.stream.change(KAZAKH)
    talk.stream.change(KAZAKH)
    assert [options.languages for options in talk.inner.options] == [("ru-RU",), ("kk-KZ",)]
    assert talk.inner.streams[0].closed


def test_what_is_being_said_is_heard_by_the_new_session_from_its_beginning() -> None:
    talk = Talk(FakeRecognizer())
    talk.say(1)
    talk.stream.end_utterance()
    talk.pause(500)
    talk.say(2)
    talk.say(3)
    talk.stream.change(KAZAKH)
    talk.say(4)
    talk.stream.end_utterance()
    assert talk.heard == talk.said
    assert [final.text for final in talk.finals] == ["1", "2 3 4"], "the new one heard all of it"
    assert talk.ends == [100, talk.now_ms]
    talk.stream.close()
    assert isinstance(talk.events[-1], StreamEnded)


def test_an_utterance_that_has_ended_is_still_the_old_sessions() -> None:
    """Its text is owed: it comes first, and once."""
    inner = FakeRecognizer()
    talk = Talk(inner)
    talk.say(1)
    old = inner.streams[0]
    held: list[RecognitionEvent] = []
    deliver = old.divert(held.append)  # a slow service
    talk.stream.end_utterance()
    talk.stream.change(KAZAKH)
    talk.say(2)
    talk.stream.end_utterance()
    assert talk.heard == [], "the new one waits for its turn"
    for event in held:
        deliver(event)
    assert talk.heard == talk.said


def test_a_session_that_fails_comes_back_with_its_own_options() -> None:
    inner = FakeRecognizer()
    talk = Talk(inner)
    talk.stream.change(KAZAKH)
    talk.say(1)
    inner.streams[-1].fail()
    talk.say(2)
    talk.stream.end_utterance()
    assert [options.languages[0] for options in inner.options] == ["ru-RU", "kk-KZ", "kk-KZ"]
    assert talk.heard == talk.said


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["say", "end", "pause", "change", "fail"]), min_size=5, max_size=40)
)
def test_whatever_changes_no_word_is_lost_or_doubled(steps: list[str]) -> None:
    inner = FakeRecognizer()
    talk = Talk(inner, RollLimits(back_off_ms=(0,) * 50))
    languages = [RecognitionOptions((f"{a}{b}",)) for a in "abcdefgh" for b in "abcdefgh"]
    open_utterance = False
    for step in steps:
        if step == "say":
            talk.say(len(talk.said))
            open_utterance = True
        elif step == "end" and open_utterance:
            talk.stream.end_utterance()
            open_utterance = False
        elif step == "pause":
            talk.pause(100)
        elif step == "change":
            talk.stream.change(languages.pop())
        elif step == "fail" and not inner.streams[-1].closed:
            inner.streams[-1].fail()
    talk.stream.close()
    assert talk.heard == talk.said
