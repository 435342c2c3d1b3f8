"""Audio at another rate, read in pieces: the same as in one piece, whatever the source's growth."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

import pytest

from backend.media.pcm import resample
from backend.media.rate import AtRate
from backend.speech.making import GrowingPcm, WholePcm


def tone(ms: int, rate_hz: int, hz: int = 440) -> bytes:
    count = ms * rate_hz // 1000
    turn = 2 * math.pi * hz / rate_hz
    return array("h", (round(8000 * math.sin(turn * n)) for n in range(count))).tobytes()


def read_all(audio: AtRate, size: int) -> bytes:
    out = b""
    while (piece := audio.read(len(out), size)) is not None:
        assert piece, "it is all there"
        out += piece
    return out


@pytest.mark.parametrize("ms", [20, 200, 1000, 1013])
@pytest.mark.parametrize(("from_hz", "to_hz"), [(8000, 16000), (16000, 8000), (8000, 48000)])
@pytest.mark.parametrize("piece_ms", [20, 200, 5000])
def test_pieces_are_the_whole(from_hz: int, to_hz: int, piece_ms: int, ms: int) -> None:
    source = tone(ms, from_hz)
    whole = array("h", resample(source, from_hz, to_hz))
    found = array("h", read_all(AtRate(WholePcm(source, from_hz), to_hz), piece_ms * to_hz // 500))
    assert len(found) == pytest.approx(len(whole), abs=2)
    pairs = zip(found, whole, strict=False)
    assert max(abs(one - other) for one, other in pairs) <= 2, "no step where pieces join"


def test_it_waits_for_what_is_still_made() -> None:
    source = GrowingPcm()
    audio = AtRate(source, 16000)
    found: list[bytes] = []

    def made() -> Iterator[bytes]:
        assert audio.read(0, 6400) == b""
        yield tone(100, 8000)
        found.append(audio.read(0, 6400) or b"")
        assert 0 < len(found[0]) < 100 * 32, "the last samples wait for those after them"

    source.make(made())
    rest = audio.read(len(found[0]), 6400)
    assert rest is not None
    assert len(found[0]) + len(rest) == 100 * 32
    assert audio.read(100 * 32, 6400) is None


def test_less_than_a_step_is_not_read() -> None:
    assert AtRate(WholePcm(tone(100, 8000)), 16000).read(0, 100) == b""
