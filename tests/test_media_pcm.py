"""PCM arithmetic."""

from __future__ import annotations

import io
import math
import wave
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.media import pcm

SAMPLES = st.lists(st.integers(-32768, 32767), max_size=400)


def tone(hz: float, rate_hz: int, duration_ms: int, amplitude: float = 10_000) -> bytes:
    step = 2 * math.pi * hz / rate_hz
    count = rate_hz * duration_ms // 1000
    return array("h", [round(amplitude * math.sin(step * n)) for n in range(count)]).tobytes()


def strength(data: bytes, hz: float, rate_hz: int) -> float:
    """Amplitude of one frequency."""
    values = pcm.samples(data)
    step = 2 * math.pi * hz / rate_hz
    a = sum(v * math.cos(step * n) for n, v in enumerate(values))
    b = sum(v * math.sin(step * n) for n, v in enumerate(values))
    return 2 * math.hypot(a, b) / len(values)


def test_levels() -> None:
    assert pcm.level_dbfs(b"") == pcm.SILENCE_DBFS
    assert pcm.level_dbfs(pcm.zeros(20)) == pcm.SILENCE_DBFS
    full = array("h", [-32768] * 160).tobytes()
    assert pcm.level_dbfs(full) == pytest.approx(0)
    assert pcm.level_dbfs(tone(400, 8000, 100, 32767 / 10)) == pytest.approx(-23.0, abs=0.05)


@given(SAMPLES)
def test_rms_is_the_definition(values: list[int]) -> None:
    expected = math.sqrt(sum(v * v for v in values) / len(values)) if values else 0
    assert pcm.rms(array("h", values).tobytes()) == pytest.approx(expected)


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        pcm.rms(b"abc")


def test_lengths() -> None:
    assert len(pcm.zeros(20)) == 320
    assert len(pcm.zeros(20, 16000)) == 640
    assert pcm.duration_ms(320) == 20
    assert pcm.duration_ms(640, 16000) == 20


@given(SAMPLES, st.integers(0, 400))
def test_upsampled_chunks_join_without_a_seam(values: list[int], place: int) -> None:
    place = min(place, len(values))
    whole = array("h", values).tobytes()
    first, second = whole[: 2 * place], whole[2 * place :]
    last = values[place - 1] if place else 0
    assert pcm.upsample_2x(first) + pcm.upsample_2x(second, last) == pcm.upsample_2x(whole)
    assert len(pcm.upsample_2x(whole)) == 2 * len(whole)
    assert pcm.samples(pcm.upsample_2x(whole))[1::2] == array("h", values)


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(22050, 8000), (16000, 8000), (8000, 16000), (11025, 8000)]
)
def test_resampling_keeps_speech_and_length(from_hz: int, to_hz: int) -> None:
    out = pcm.resample(tone(1000, from_hz, 200), from_hz, to_hz)
    assert abs(len(out) // 2 - to_hz // 5) <= 1
    middle = out[len(out) // 10 & ~1 : -(len(out) // 10) & ~1]
    assert strength(middle, 1000, to_hz) == pytest.approx(10_000, rel=0.03)


def test_resampling_does_not_fold_high_tones_back() -> None:
    out = pcm.resample(tone(6000, 22050, 200), 22050, 8000)
    assert strength(out, 2000, 8000) < 300  # 30 dB below what went in


def test_resampling_full_scale_does_not_wrap() -> None:
    square = array("h", ([32767] * 20 + [-32768] * 20) * 20).tobytes()
    values = pcm.samples(pcm.resample(square, 16000, 8000))
    assert min(values[100:110]) > 0 or max(values[100:110]) < 0 or len(set(values)) > 2
    assert max(values) == 32767


def test_the_same_rate_is_left_alone() -> None:
    assert pcm.resample(b"\1\2", 8000, 8000) == b"\1\2"
    with pytest.raises(ValueError, match="0 Hz"):
        pcm.resample(b"", 0, 8000)


@given(SAMPLES, st.sampled_from([8000, 16000, 22050]))
def test_wav_there_and_back(values: list[int], rate_hz: int) -> None:
    data = array("h", values).tobytes()
    written = pcm.wav_bytes(data, rate_hz)
    assert pcm.read_wav(written) == (rate_hz, data)
    with wave.open(io.BytesIO(written)) as reader:
        assert (reader.getframerate(), reader.getnchannels()) == (rate_hz, 1)
        assert reader.readframes(len(values)) == data


def test_a_wav_written_to_a_pipe_does_not_know_its_length() -> None:
    written = bytearray(pcm.wav_bytes(b"\1\0\2\0\3"))
    written[40:44] = b"\xff\xff\xff\x7f"
    assert pcm.read_wav(bytes(written)) == (8000, b"\1\0\2\0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        pcm.wav_bytes(b"")[:36],
        pcm.wav_bytes(b"").replace(b"\1\0\1\0", b"\1\0\2\0"),
        b"RIFF\0\0\0\0WAVEdata\0\0\0\0",
    ],
)
def test_what_is_no_mono_16_bit_wav(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"WAV|mono"):
        pcm.read_wav(data)
