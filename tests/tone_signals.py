"""Tones as exchanges send them, and what is like them but is none: made anew, the same each time.

Levels are dBm0 of a digital line: 0 dBm0 is 6.15 dB below full scale by ITU-T G.711 (a sine of
full scale is +3.14 dBm0).
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from functools import cache
from itertools import repeat
from operator import add, mul

from backend.media.g711 import from_alaw
from backend.media.tone_table import Tone
from backend.ports import RATE_HZ

DBM0_RMS = 32768 * 10 ** (-6.15 / 20)
Part = tuple[tuple[float, ...], float]  # frequencies (none: silence), ms

_ALAW = sorted((value, code) for code, value in enumerate(array("h", from_alaw(bytes(range(256))))))


def _encoder() -> bytes:
    """The nearest alaw code of each of the 65,536 values, by the upper 16 bits' place."""
    codes = bytearray(65536)
    place = 0
    for value in range(-32768, 32768):
        while place + 1 < len(_ALAW) and abs(_ALAW[place + 1][0] - value) <= abs(
            _ALAW[place][0] - value
        ):
            place += 1
        codes[value & 0xFFFF] = _ALAW[place][1]
    return bytes(codes)


_CODES = _encoder()


def through_alaw(pcm: bytes) -> bytes:
    """What comes out of a line of G.711 A-law."""
    values = array("H", pcm)
    return from_alaw(bytes(map(_CODES.__getitem__, values)))


@cache
def white_noise() -> list[float]:
    """Five seconds of white noise, its RMS 1."""
    source = random.Random(3)
    return [source.gauss(0, 1) for _ in range(5 * RATE_HZ)]


def rms_of(dbm0: float) -> float:
    return DBM0_RMS * 10 ** (dbm0 / 20)


def parts_of(tone: Tone, lasts_ms: float) -> list[Part]:
    """A tone of the table, nominal, from the beginning of its first burst."""
    hz = tone.spectra[0].hz
    if tone.each is not None:
        return [(spectrum.hz, 330.0) for spectrum in tone.spectra] + [((), lasts_ms - 990)]
    if not tone.cells:
        return [(hz, lasts_ms)]
    parts: list[Part] = []
    while sum(ms for _, ms in parts) < lasts_ms:
        for cell in tone.cells:
            parts += [(hz, cell.on_ms), ((), cell.off_ms)]
    return parts


def sound(
    parts: Sequence[Part],
    *,
    dbm0: float = -15.0,
    noise_dbm0: float | None = None,
    off: float = 1.0,
    skip_ms: float = 0.0,
    twist_db: float = 0.0,
    seed: int = 1,
    alaw: bool = True,
) -> bytes:
    """``parts`` one after the other, 8 kHz slin16. ``dbm0``: of the whole tone; ``off``: factor
    of all frequencies; ``skip_ms``: begins so late; ``twist_db``: the last frequency is louder."""
    source = random.Random(seed)
    values: list[float] = []
    for hz, ms in parts:
        values += _tone(hz, round(ms * RATE_HZ / 1000), rms_of(dbm0), off, twist_db, source)
    values = values[round(skip_ms * RATE_HZ / 1000) :]
    if noise_dbm0 is not None:
        values = list(map(add, values, noise(len(values), noise_dbm0, source)))
    pcm = to_pcm(values)
    return through_alaw(pcm) if alaw else pcm


def _tone(
    hz: Sequence[float],
    count: int,
    level: float,
    off: float,
    twist_db: float,
    source: random.Random,
) -> list[float]:
    if not hz:
        return [0.0] * count
    gains = [1.0] * (len(hz) - 1) + [10 ** (twist_db / 20)]
    scale = level / math.sqrt(sum(gain * gain for gain in gains) / 2)
    total = [0.0] * count
    for one, gain in zip(hz, gains, strict=True):
        turn, phase, peak = (
            math.tau * one * off / RATE_HZ,
            source.uniform(0, math.tau),
            scale * gain,
        )
        wave = map(math.sin, [turn * n + phase for n in range(count)])
        total = list(map(add, total, map(mul, wave, repeat(peak))))
    return total


def noise(count: int, dbm0: float, source: random.Random) -> list[float]:
    """White noise."""
    white = white_noise()
    place = source.randrange(len(white))
    rounds = white[place:] + white * (count // len(white) + 1)
    return list(map(mul, rounds[:count], repeat(rms_of(dbm0))))


def to_pcm(values: list[float]) -> bytes:
    """Clipped to 16 bit."""
    if values and max(max(values), -min(values)) > 32_767:
        values = [max(-32768.0, min(32767.0, value)) for value in values]
    return array("h", map(round, values)).tobytes()


def music(lasts_ms: int, seed: int, dbm0: float = -15.0) -> bytes:
    """Music on hold: chords and a tune of an equally tempered scale, with overtones and decay."""
    source = random.Random(seed)
    count = lasts_ms * RATE_HZ // 1000
    values = [0.0] * count
    beat = source.choice((120, 180, 250, 375, 500)) * RATE_HZ // 1000
    root = source.randrange(45, 57)
    scale = [root + step for step in (0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19, 21, 23, 24)]
    for start in range(0, count, beat):
        notes = [source.choice(scale[5:])]
        if source.random() < 0.5:
            first = source.randrange(7)
            notes += [scale[first], scale[first + 2], scale[first + 4]]
        if source.random() < 0.15:
            notes = []
        for note in notes:
            _strike(values, start, beat * source.choice((1, 1, 2, 4)), note, source)
    loudest = max(map(abs, values)) or 1.0
    scale_to = min(rms_of(dbm0) * 4, 32000) / loudest
    return through_alaw(to_pcm([value * scale_to for value in values]))


def _strike(values: list[float], start: int, length: int, note: int, source: random.Random) -> None:
    hz = 440 * 2 ** ((note - 69) / 12)
    overtones = source.choice(((1, 0.5, 0.3, 0.2), (1, 0.1), (1, 0, 0.4, 0, 0.2), (1, 0.8, 0.6)))
    decay = source.choice((0.0, 2.0, 6.0)) / RATE_HZ
    turn = math.tau * hz / RATE_HZ
    for n in range(start, min(start + length, len(values))):
        fade = math.exp(-decay * (n - start)) * min(1.0, (n - start) / 80)
        for k, gain in enumerate(overtones, 1):
            if gain and hz * k < RATE_HZ / 2:
                values[n] += gain * fade * math.sin(turn * k * (n - start))
