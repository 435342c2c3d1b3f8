"""Person or machine, and beeps. How many of a whole set: test_screening_accuracy.py."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.media.answering import (
    Answered,
    AnsweredBy,
    AnsweringConfig,
    AnsweringDetector,
    AnsweringReason,
)
from backend.media.beep import Beep, BeepDetector
from tests.fixtures_speech import line_noise
from tests.tone_signals import Part, music, sound

Say = Callable[[str], bytes]


def quiet(ms: int) -> bytes:
    return line_noise(ms)


def test_a_word_and_silence_is_a_person(say: Say) -> None:
    word = say("hello")
    detector = AnsweringDetector()
    verdict = detector.feed(quiet(400) + word + quiet(3000))
    assert verdict == detector.answered
    assert verdict is not None
    assert (verdict.by, verdict.reason) == (AnsweredBy.PERSON, AnsweringReason.SHORT_GREETING)
    spoken_ms = len(word) // 16
    assert verdict.greeting_ms <= spoken_ms + 60
    assert 1000 <= verdict.at_ms - 400 <= spoken_ms + 1100
    assert detector.feed(quiet(9000)) is None


def test_a_long_greeting_is_a_machine_before_it_ends(say: Say) -> None:
    speech = say("You have reached the office of Smith and Sons, leave a message after the tone.")
    verdict = AnsweringDetector().feed(quiet(200) + speech + quiet(1000))
    assert verdict is not None
    assert (verdict.by, verdict.reason) == (AnsweredBy.MACHINE, AnsweringReason.LONG_GREETING)
    assert verdict.at_ms <= 200 + 2500 + 300


def test_pauses_belong_to_the_greeting(say: Say) -> None:
    pcm = b"".join(say(word) + quiet(500) for word in ("hello", "operator", "yes", "no thank you"))
    verdict = AnsweringDetector().feed(quiet(200) + pcm + quiet(1000))
    assert verdict is not None
    assert verdict.by is AnsweredBy.MACHINE


def test_nobody_speaks() -> None:
    verdict = AnsweringDetector().feed(quiet(6000))
    expected = Answered(AnsweredBy.SILENCE, AnsweringReason.INITIAL_SILENCE, 4000, 0)
    assert verdict == expected


def test_the_longest_it_may_take(say: Say) -> None:
    config = AnsweringConfig(greeting_ms=60_000, after_greeting_ms=2000, total_ms=3000)
    verdict = AnsweringDetector(config).feed(quiet(2000) + say("hello") + quiet(3000))
    assert verdict is not None
    assert (verdict.by, verdict.reason) == (AnsweredBy.UNSURE, AnsweringReason.TIME_OVER)
    assert verdict.at_ms == 3000


@pytest.mark.parametrize(
    "text", ["Алло!", "Да, слушаю.", "Hello?", "hello who is this", "иә, тыңдап тұрмын"]
)
def test_words_of_people(say: Say, text: str) -> None:
    detector = AnsweringDetector()
    assert detector.feed(say("hello") + quiet(400)) is None
    verdict = detector.words(text)
    assert verdict is not None
    assert (verdict.by, verdict.reason) == (AnsweredBy.PERSON, AnsweringReason.GREETING_WORDS)
    assert detector.words(text) is None


def test_words_that_decide_nothing(say: Say) -> None:
    detector = AnsweringDetector()
    assert detector.words("Здравствуйте, вы позвонили в компанию Ромашка") is None
    assert detector.words("") is None
    assert detector.feed(say("hello") + say("operator")) is None  # still speaking
    assert detector.words("hello") is None


def test_words_of_a_machine(say: Say) -> None:
    detector = AnsweringDetector()
    detector.feed(say("hello") + quiet(300))
    verdict = detector.machine_words()
    assert verdict is not None
    assert (verdict.by, verdict.reason) == (AnsweredBy.MACHINE, AnsweringReason.MACHINE_WORDS)
    assert detector.machine_words() is None


def test_the_beep_after_the_verdict_is_told(say: Say) -> None:
    detector = AnsweringDetector()
    detector.feed(say("You have reached the office of Smith and Sons, please leave a message"))
    assert detector.answered is not None
    before_ms = detector.now_ms
    detector.feed(quiet(500) + sound([((1000.0,), 400)]) + quiet(300))
    (beep,) = detector.beeps
    assert abs(beep.hz - 1000) <= 10
    assert abs(beep.since_ms - before_ms - 500) <= 40
    assert 380 <= beep.at_ms - beep.since_ms <= 460


@given(st.lists(st.integers(1, 4000), max_size=40), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_length_give_the_same(sizes: list[int], seed: int) -> None:
    source = random.Random(seed)
    pcm = quiet(source.randrange(3000)) + music(1500, seed) + quiet(700) + sound([((1400.0,), 300)])
    pcm += quiet(2000) + b"\1"
    whole = AnsweringDetector()
    expected = whole.feed(pcm)
    pieces, place = AnsweringDetector(), 0
    found = []
    for size in [*sizes, len(pcm)]:
        found.append(pieces.feed(pcm[place : place + size]))
        place += size
    assert [verdict for verdict in found if verdict] == ([expected] if expected else [])
    assert pieces.beeps == whole.beeps
    assert pieces.now_ms == whole.now_ms


# Beeps alone


def beeps(pcm: bytes) -> list[Beep]:
    detector = BeepDetector()
    frames = (pcm[place : place + 320] for place in range(0, len(pcm) - 319, 320))
    return [beep for frame in frames if (beep := detector.push(frame)) is not None]


@pytest.mark.parametrize("dbm0", [-10, -20, -30])
@pytest.mark.parametrize("hz", [820, 1000, 1400, 1633, 2050])
@pytest.mark.parametrize("ms", [180, 500, 1500])
def test_beeps(hz: float, ms: int, dbm0: float) -> None:
    parts: list[Part] = [((), 330), ((hz,), ms), ((), 500)]
    (beep,) = beeps(sound(parts, dbm0=dbm0, noise_dbm0=dbm0 - 20))
    assert abs(beep.hz - hz) <= 15
    assert abs(beep.since_ms - 330) <= 40
    assert abs(beep.at_ms - 330 - ms) <= 80


@pytest.mark.parametrize(
    "parts",
    [
        [((1000.0,), 80)],
        [((1000.0,), 2600)],
        [((425.0,), 400)],
        [((2600.0,), 400)],
        [((1000.0, 1400.0), 400)],
    ],
    ids=str,
)
def test_what_is_no_beep(parts: list[Part]) -> None:
    assert beeps(sound([((), 200), *parts, ((), 500)])) == []


def test_a_frame_is_a_frame() -> None:
    with pytest.raises(ValueError, match="100 bytes; expected 320"):
        BeepDetector().push(bytes(100))
