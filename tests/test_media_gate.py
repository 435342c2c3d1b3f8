"""The voice gate: every ms once, nothing of the speech cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.media.gate import Action, Audio, EndOfUtterance, Silence, VoiceGate
from backend.media.voice import SpeechStarted, VoiceDetector
from tests.fixtures_speech import line_noise

Say = Callable[[str], bytes]


def run(pcm: bytes, size: int = 320, gate: VoiceGate | None = None) -> list[Action]:
    gate = gate or VoiceGate(VoiceDetector())
    actions = []
    for place in range(0, len(pcm), size):
        actions += gate.push(pcm[place : place + size])
    return actions + gate.flush()


def rebuilt(actions: list[Action]) -> bytes:
    """The stream as the recogniser's clock sees it; announced silence as zeros."""
    parts = []
    for action in actions:
        if isinstance(action, Audio):
            parts.append(action.pcm)
        elif isinstance(action, Silence):
            parts.append(bytes(action.duration_ms * 16))
    return b"".join(parts)


def kinds(actions: list[Action]) -> list[str]:
    """Names of the actions, repetitions left out."""
    names = [type(action).__name__ for action in actions]
    return [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n]


@pytest.mark.parametrize("size", [320, 160, 1_000, 48_000])
def test_silence_speech_silence(say: Say, size: int) -> None:
    speech = say("yes please")
    pcm = line_noise(2_000) + speech + line_noise(2_000, seed=2)
    actions = run(pcm, size)
    assert kinds(actions) == [
        *("Silence", "SpeechStarted", "Silence", "Audio", "EndOfUtterance", "Silence"),
    ]
    assert 0 <= len(pcm) - len(rebuilt(actions)) < 16
    audio = b"".join(action.pcm for action in actions if isinstance(action, Audio))
    started = next(action for action in actions if isinstance(action, SpeechStarted))
    ended = next(action for action in actions if isinstance(action, EndOfUtterance))
    begin = rebuilt(actions).index(audio) // 16
    assert pcm[begin * 16 :].startswith(audio)  # at its own place in the stream
    assert started.since_ms - 260 <= begin <= started.since_ms - 200  # the pre-roll
    assert abs(begin + len(audio) // 16 - ended.at_ms) <= 20
    assert ended.at_ms - ended.since_ms == 600


def test_audio_comes_in_chunks_and_the_rest_at_the_end_at_once(say: Say) -> None:
    pcm = line_noise(500) + say("operator") + line_noise(1_000)
    sizes = [len(action.pcm) // 16 for action in run(pcm) if isinstance(action, Audio)]
    assert sizes[0] == 300
    assert set(sizes[1:-1]) == {100}
    assert 0 < sizes[-1] <= 100


def test_a_silent_stream_is_never_silent_for_long() -> None:
    gate = VoiceGate(VoiceDetector())
    waited = longest = 0
    for _ in range(500):
        actions = gate.push(line_noise(20))
        waited = 0 if actions else waited + 20
        longest = max(longest, waited)
        assert all(action == Silence(1_000) for action in actions)
    assert longest <= 1_300


def test_the_stream_ends_within_speech(say: Say) -> None:
    pcm = line_noise(500) + say("operator")
    actions = run(pcm)
    assert isinstance(actions[-1], EndOfUtterance)
    assert len(rebuilt(actions)) == len(pcm) // 16 * 16


PART = st.tuples(st.sampled_from([0, 3, 500, 4_000]), st.integers(1, 60))


@given(
    st.lists(PART, max_size=12),
    st.integers(2, 3_000),
    st.integers(0, 600),
    st.integers(20, 300),
    st.integers(20, 2_000),
)
@settings(max_examples=100, deadline=None)
def test_every_ms_goes_out_once_in_order(
    parts: list[tuple[int, int]], size: int, pre_roll_ms: int, chunk_ms: int, silence_ms: int
) -> None:
    pcm = b"".join(line_noise(20 * length, amplitude) for amplitude, length in parts)
    gate = VoiceGate(
        VoiceDetector(end_silence_ms=100),
        pre_roll_ms=pre_roll_ms,
        chunk_ms=chunk_ms,
        silence_ms=silence_ms,
    )
    actions = run(pcm, size, gate)
    assert len(rebuilt(actions)) == len(pcm)
    place = 0
    for action in actions:
        if isinstance(action, Audio):
            assert pcm[place : place + len(action.pcm)] == action.pcm
            place += len(action.pcm)
        elif isinstance(action, Silence):
            place += action.duration_ms * 16
    marks = [a for a in actions if isinstance(a, SpeechStarted | EndOfUtterance)]
    assert all(isinstance(a, SpeechStarted) == (n % 2 == 0) for n, a in enumerate(marks))
    assert len(marks) % 2 == 0
