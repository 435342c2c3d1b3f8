"""Several sounds as one: no gap, no synthesis too early, errors in their place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.call.chain import Chain
from backend.errors import BadRequest, SynthesisUnavailable
from backend.ports import PromptAudio
from backend.speech.making import GrowingPcm, WholePcm


class Asked:
    """A sound that notes when it is asked for."""

    def __init__(self, audio: PromptAudio | None, error: Exception | None = None) -> None:
        self._audio = audio
        self._error = error
        self.asked = 0

    def audio(self) -> PromptAudio | None:
        self.asked += 1
        if self._error is not None:
            raise self._error
        return self._audio

    def file(self, timeout_s: float | None = None) -> str:
        raise AssertionError("it is streamed")


def chain(*sounds: Asked) -> Chain:
    first = sounds[0].audio()
    assert first is not None
    return Chain(first, sounds)


def all_of(audio: Chain, size: int = 7 * 2) -> bytes:
    """Read to the end, as the pump does."""
    pcm = b""
    while (piece := audio.read(len(pcm), size)) is not None:
        assert piece, "it is all there"
        pcm += piece
    return pcm


def test_whole_ones_are_read_as_one() -> None:
    parts = [b"\x01\x00" * 100, b"\x02\x00" * 3, b"\x03\x00" * 50]
    audio = chain(*(Asked(WholePcm(part)) for part in parts))
    assert all_of(audio) == b"".join(parts)
    assert audio.count == 3
    assert audio.read(120, 14) == b"\x01\x00" * 7, "again, from any place that has been read"
    assert audio.read(204, 14) == b"\x02\x00"
    assert audio.read(206, 14) == b"\x03\x00" * 7


def test_where_a_place_is() -> None:
    audio = chain(Asked(WholePcm(bytes(16 * 500))), Asked(WholePcm(bytes(16 * 300))))
    all_of(audio, 1600)
    assert [audio.place(ms) for ms in (0, 499, 500, 700)] == [(0, 0), (0, 499), (1, 0), (1, 200)]


def test_the_next_is_asked_for_when_the_one_before_is_whole() -> None:
    first, second, third = GrowingPcm(), GrowingPcm(), WholePcm(b"\x03\x00")
    sounds = [Asked(first), Asked(second), Asked(third)]
    audio = chain(*sounds)
    woken: list[int] = []
    audio.subscribe(lambda: woken.append(1))
    assert (sounds[1].asked, audio.read(0, 100)) == (0, b"")

    def pieces(value: bytes) -> Iterator[bytes]:
        yield value
        assert woken, "whoever plays it is told of each piece"
        yield value

    first.make(pieces(b"\x01\x00"))
    assert [sound.asked for sound in sounds] == [1, 1, 0]
    assert audio.read(0, 100) == b"\x01\x00" * 2
    assert audio.read(4, 100) == b"", "the second is in the making"
    second.make(pieces(b"\x02\x00"))
    assert [sound.asked for sound in sounds] == [1, 1, 1]
    assert all_of(audio) == b"\x01\x00" * 2 + b"\x02\x00" * 2 + b"\x03\x00"


def test_a_repeated_sound_is_asked_for_once() -> None:
    sound = Asked(WholePcm(b"\x01\x00" * 10))
    audio = chain(sound, sound, sound)
    assert len(all_of(audio)) == 60
    assert sound.asked == 1


@pytest.mark.parametrize("other", [None, WholePcm(b"\x02\x00", 16000)], ids=["asterisks", "rate"])
def test_it_ends_before_what_cannot_be_streamed_with_it(other: PromptAudio | None) -> None:
    audio = chain(Asked(WholePcm(b"\x01\x00" * 10)), Asked(other), Asked(WholePcm(b"\x03\x00")))
    assert len(all_of(audio)) == 20
    assert audio.count == 1


@pytest.mark.parametrize("error", [SynthesisUnavailable("away"), BadRequest("sound", "away")])
def test_an_error_comes_in_its_place(error: Exception) -> None:
    audio = chain(Asked(WholePcm(b"\x01\x00" * 10)), Asked(None, error))
    assert len(audio.read(0, 100) or b"") == 20
    with pytest.raises(SynthesisUnavailable, match="away"):
        audio.read(20, 100)


def test_a_synthesis_that_fails_in_its_midst() -> None:
    growing = GrowingPcm()
    audio = chain(Asked(growing), Asked(WholePcm(b"\x02\x00")))

    def pieces() -> Iterator[bytes]:
        yield b"\x01\x00"
        raise SynthesisUnavailable("away")

    with pytest.raises(SynthesisUnavailable):
        growing.make(pieces())
    assert audio.read(0, 100) == b"\x01\x00"
    with pytest.raises(SynthesisUnavailable, match="away"):
        audio.read(2, 100)
