"""Voice detection on noise, clicks, tones and real (synthesised) speech."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.media.voice import SpeechEnded, SpeechStarted, VoiceDetector, VoiceEvent
from tests.fixtures_speech import line_noise

Say = Callable[[str], bytes]
WORDS = ("yes", "no", "operator", "yes please", "no thank you", "hello")


def audible_at_ms(pcm: bytes) -> float:
    values = array("h", pcm)
    return next(n for n, value in enumerate(values) if abs(value) > 500) / 8


@pytest.mark.parametrize("mode", [1, 2, 3])
def test_speech_begins_and_ends_once(say: Say, mode: int) -> None:
    delays = []
    for word in WORDS:
        speech = say(word)
        detector = VoiceDetector(mode, onset_ms=40, end_silence_ms=600)
        events = detector.feed(line_noise(1_000) + speech + line_noise(1_000, seed=2))
        assert [type(event) for event in events] == [SpeechStarted, SpeechEnded]
        started, ended = events
        delays.append(started.at_ms - 1_000 - audible_at_ms(speech))
        assert 40 <= started.at_ms - started.since_ms <= 60
        assert ended.at_ms - ended.since_ms == 600
        assert ended.since_ms <= 1_000 + len(speech) / 16 + 40
    assert max(delays) <= 60  # ms from the first audible sample to the decision
    assert min(delays) > -60


@pytest.mark.parametrize("amplitude", [0, 3, 30, 100])
def test_line_noise_is_not_speech(amplitude: float) -> None:
    assert VoiceDetector().feed(line_noise(20_000, amplitude)) == []


@pytest.mark.parametrize("amplitude", [300, 700])
def test_loud_steady_noise_is_learnt(amplitude: float) -> None:
    detector = VoiceDetector()
    detector.feed(line_noise(4_000, amplitude))
    assert not detector.speaking
    assert detector.feed(line_noise(10_000, amplitude, seed=2)) == []


def test_speech_over_learnt_noise(say: Say) -> None:
    detector = VoiceDetector()
    noise = line_noise(5_000, 100)
    assert detector.feed(noise) == []
    speech = array("h", say("operator"))
    mixed = array("h", [a + b for a, b in zip(speech, array("h", noise), strict=False)])
    assert isinstance(detector.feed(mixed.tobytes())[0], SpeechStarted)


def test_clicks_are_not_speech() -> None:
    source = random.Random(5)
    values = array("h", line_noise(20_000))
    for _ in range(100):
        place = source.randrange(len(values) - 40)
        for offset in range(source.choice([1, 4, 16, 32])):
            values[place + offset] = source.choice([-20_000, 12_000, 20_000])
    assert VoiceDetector().feed(values.tobytes()) == []


def test_a_longer_onset_needs_longer_speech(say: Say) -> None:
    pcm = line_noise(500) + say("no thank you") + line_noise(1_000)
    assert VoiceDetector(onset_ms=1_000).feed(pcm) == []
    (quick, _), (slow, _) = (VoiceDetector(onset_ms=ms).feed(pcm) for ms in (20, 200))
    assert quick.at_ms <= slow.at_ms - 140


def test_a_pause_shorter_than_the_limit_does_not_end(say: Say) -> None:
    pcm = line_noise(300) + say("yes") + line_noise(300) + say("please") + line_noise(2_000)
    assert len(VoiceDetector(end_silence_ms=900).feed(pcm)) == 2
    assert len(VoiceDetector(end_silence_ms=200).feed(pcm)) == 4


@given(st.lists(st.integers(1, 2_000), max_size=30), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_pieces_of_any_length_give_the_same(sizes: list[int], seed: int) -> None:
    source = random.Random(seed)
    pcm = b"".join(line_noise(40, source.choice([3, 3_000])) for _ in range(20))
    whole = VoiceDetector(end_silence_ms=100)
    expected = whole.feed(pcm)
    pieces, found, place = VoiceDetector(end_silence_ms=100), [], 0
    for size in [*sizes, len(pcm)]:
        found += pieces.feed(pcm[place : place + size])
        place += size
    assert found == expected
    assert pieces.now_ms == whole.now_ms == 800


@given(st.binary(max_size=20_000), st.integers(0, 3), st.sampled_from([20, 40, 100]))
@settings(max_examples=50, deadline=None)
def test_whatever_comes_events_alternate_in_time(data: bytes, mode: int, onset_ms: int) -> None:
    detector = VoiceDetector(mode, onset_ms, end_silence_ms=40)
    events: list[VoiceEvent] = detector.feed(data)
    assert all(type(a) is not type(b) and a.at_ms <= b.at_ms for a, b in pairwise(events))
    assert all(0 <= event.since_ms <= event.at_ms <= detector.now_ms for event in events)
    assert detector.speaking == (len(events) % 2 == 1)
