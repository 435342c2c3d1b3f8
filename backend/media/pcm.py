"""Arithmetic on signed linear 16 bit little-endian mono PCM, as ``bytes``. No audioop, no numpy.

The machine is assumed little-endian, as ``array('h')`` reads native order (checked at import).
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Sequence
from functools import lru_cache
from operator import mul

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("backend.media.pcm needs a little-endian machine")

SAMPLE_BYTES = 2
SILENCE_DBFS = -96.0  # below the smallest value 16 bits can hold; also the level of digital zero
_FULL_SCALE = 32768.0
_TAPS = 8  # zero crossings of the resampler's sinc on each side


def samples(pcm: bytes | memoryview) -> array[int]:
    """``pcm`` as numbers. Raises ValueError for half a sample."""
    if len(pcm) % SAMPLE_BYTES:
        raise ValueError(f"{len(pcm)} bytes are no whole number of 16 bit samples")
    values = array("h")
    values.frombytes(pcm)
    return values


def rms(pcm: bytes | memoryview) -> float:
    """Root mean square, 0 … 32768. Empty: 0."""
    values = samples(pcm)
    return math.sqrt(sum(map(mul, values, values)) / len(values)) if values else 0.0


def dbfs(amplitude: float) -> float:
    """An RMS or peak amplitude in dB below full scale (0 = full scale, SILENCE_DBFS the least)."""
    if amplitude <= 0:
        return SILENCE_DBFS
    return max(SILENCE_DBFS, 20 * math.log10(amplitude / _FULL_SCALE))


def level_dbfs(pcm: bytes | memoryview) -> float:
    """The RMS level of ``pcm`` in dBFS."""
    return dbfs(rms(pcm))


def zeros(duration_ms: int, rate_hz: int = 8000) -> bytes:
    """Digital silence."""
    return bytes(duration_ms * rate_hz // 1000 * SAMPLE_BYTES)


def duration_ms(size: int, rate_hz: int = 8000) -> int:
    """How long ``size`` bytes last, whole ms, rounded down."""
    return size // SAMPLE_BYTES * 1000 // rate_hz


def upsample_2x(pcm: bytes, previous: int = 0) -> bytes:
    """Twice the rate by linear interpolation; ``previous``: the last sample before ``pcm``.

    The result lags half a sample, so that chunks join without a step.
    """
    values = samples(pcm)
    if not values:
        return b""
    before = array("h", [previous])
    before.extend(values[:-1])
    out = array("h", bytes(2 * len(pcm)))
    out[0::2] = array("h", [(a + b) >> 1 for a, b in zip(before, values, strict=True)])
    out[1::2] = values
    return out.tobytes()


def resample(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    """``pcm`` at another rate by windowed-sinc interpolation, band-limited to the lower rate.

    Pure Python: about 20 ms for a second of 8 kHz output. For whole utterances, not for streams.
    """
    if from_hz <= 0 or to_hz <= 0:
        raise ValueError(f"no such rates: {from_hz} Hz to {to_hz} Hz")
    if from_hz == to_hz:
        return pcm
    divisor = math.gcd(from_hz, to_hz)
    up, down = to_hz // divisor, from_hz // divisor
    half, phases = _filter_bank(up, down)
    padding = array("h", bytes(SAMPLE_BYTES * half))
    values = padding + samples(pcm) + padding
    out = array("h")
    for position in range(0, (len(values) - 2 * half) * up, down):
        start, phase = divmod(position, up)
        taps = phases[phase]
        value = sum(map(mul, taps, values[start : start + 2 * half]))
        out.append(max(-32768, min(32767, round(value))))
    return out.tobytes()


@lru_cache(maxsize=8)
def _filter_bank(up: int, down: int) -> tuple[int, list[Sequence[float]]]:
    """Half the number of taps, and for each of ``up`` phases the taps, a Hann-windowed sinc."""
    cutoff = min(1.0, up / down) * 0.95
    half = math.ceil(_TAPS / cutoff)
    bank: list[Sequence[float]] = []
    for phase in range(up):
        # Tap k weighs the sample at k - half, relative to the output's own place in the input.
        places = [k - half - phase / up for k in range(2 * half)]
        taps = [
            cutoff * _sinc(cutoff * x) * (0.5 + 0.5 * math.cos(math.pi * x / (half + 1)))
            for x in places
        ]
        total = sum(taps)
        bank.append([tap / total for tap in taps])
    return half, bank


def _sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def wav_bytes(pcm: bytes, rate_hz: int = 8000) -> bytes:
    """A mono 16 bit WAV file holding ``pcm``."""
    riff = struct.pack("<4sI4s", b"RIFF", 36 + len(pcm), b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, rate_hz * 2, 2, 16)
    return b"".join((riff, form, struct.pack("<4sI", b"data", len(pcm)), pcm))


def read_wav(data: bytes) -> tuple[int, bytes]:
    """Rate in Hz and the PCM of a mono 16 bit WAV file.

    A data length that is too big (streams written to a pipe) means "to the end". Raises
    ValueError for anything else than mono 16 bit PCM.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("no WAV file")
    rate_hz, place = 0, 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        body = data[place + 8 : place + 8 + size]
        if name == b"fmt ":
            kind, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
            if (kind, channels, bits) != (1, 1, 16):
                raise ValueError(
                    f"expected mono 16 bit PCM, found {kind}/{channels} channels/{bits} bit"
                )
        elif name == b"data":
            if not rate_hz:
                raise ValueError("WAV data before its format")
            return rate_hz, body[: len(body) & ~1]
        place += 8 + size + (size & 1)
    raise ValueError("WAV file without data")
