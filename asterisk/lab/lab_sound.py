"""Measures what was heard and said: where the sounds are, and whether they are the ones expected.

Samples are 16-bit mono at 8 kHz; times are milliseconds from the start of the recording.
"""

from __future__ import annotations

import array
import itertools
import math
import wave
from dataclasses import dataclass
from pathlib import Path

RATE_HZ = 8000
SAMPLES_MS = RATE_HZ // 1000
LOUD = 600
"""Above this, of 32,767, a sample is sound: the line's own noise after alaw stays below 16."""

Samples = array.array  # of "h"


@dataclass(frozen=True)
class Span:
    """An uninterrupted stretch of sound."""

    start_ms: float
    end_ms: float

    @property
    def length_ms(self) -> float:
        """How long it lasts."""
        return self.end_ms - self.start_ms


def read(path: Path) -> Samples[int]:
    """The samples of a wav file. Raises ValueError unless it is 8 kHz, 16 bit, mono."""
    with wave.open(str(path), "rb") as file:
        shape = (file.getframerate(), file.getsampwidth(), file.getnchannels())
        if shape != (RATE_HZ, 2, 1):
            raise ValueError(f"{path}: {shape}, expected 8 kHz, 16 bit, mono")
        return array.array("h", file.readframes(file.getnframes()))


def write(path: Path, samples: Samples[int]) -> None:
    """Write samples as a wav file that Asterisk plays."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())


def tone(length_ms: int, hz: int = 1000, level: int = 12_000) -> Samples[int]:
    """A pure tone."""
    turn = 2 * math.pi * hz / RATE_HZ
    count = length_ms * SAMPLES_MS
    return array.array("h", (round(level * math.sin(turn * index)) for index in range(count)))


def silence(length_ms: int) -> Samples[int]:
    """Zeros."""
    return array.array("h", bytes(2 * length_ms * SAMPLES_MS))


def spans(samples: Samples[int], gap_ms: int = 50) -> list[Span]:
    """The stretches of sound; silences shorter than GAP_MS belong to the sound around them."""
    found: list[tuple[int, int]] = []
    for index, sample in enumerate(samples):
        if abs(sample) > LOUD:
            if found and index - found[-1][1] < gap_ms * SAMPLES_MS:
                found[-1] = (found[-1][0], index)
            else:
                found.append((index, index))
    return [Span(first / SAMPLES_MS, (last + 1) / SAMPLES_MS) for first, last in found]


def sound_ms(samples: Samples[int], span: Span) -> float:
    """How much of SPAN is sound; silences of 10 ms and more in it are not."""
    part = samples[round(span.start_ms * SAMPLES_MS) : round(span.end_ms * SAMPLES_MS)]
    return sum(piece.length_ms for piece in spans(part, gap_ms=10))


def pitch_hz(samples: Samples[int], span: Span) -> float:
    """The pitch of a pure tone, by its zero crossings; silences in it do not count. Silence: 0."""
    part = samples[round(span.start_ms * SAMPLES_MS) : round(span.end_ms * SAMPLES_MS)]
    rises = sum(one < 0 <= other for one, other in itertools.pairwise(part))
    loud_ms = sound_ms(samples, span)
    return rises * 1000 / loud_ms if loud_ms else 0.0


def length_ms(samples: Samples[int]) -> float:
    """How long the recording is."""
    return len(samples) / SAMPLES_MS


def likeness(heard: Samples[int], word: Samples[int], at_ms: float, slack_ms: int = 40) -> float:
    """How alike HEARD from AT_MS on and WORD are: 1 the same wave, near 0 another; any volume.

    The best correlation for starts within SLACK_MS of AT_MS, over the first second of the word.
    """
    part = word[:RATE_HZ]
    centre, slack = round(at_ms * SAMPLES_MS), slack_ms * SAMPLES_MS
    starts = range(max(0, centre - slack), min(len(heard) - len(part), centre + slack) + 1)
    return max(
        (_correlation(heard[start : start + len(part)], part) for start in starts), default=0
    )


def _correlation(one: Samples[int], other: Samples[int]) -> float:
    power = math.sqrt(_product(one, one) * _product(other, other))
    return _product(one, other) / power if power else 0.0


def _product(one: Samples[int], other: Samples[int]) -> int:
    return sum(map(int.__mul__, one, other))
