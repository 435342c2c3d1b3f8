"""What one 20 ms frame sounds like: one of the known tones, or not. Pure.

A tone of fixed frequencies lies, whatever its phases, in a small linear space: cosine and sine of
each frequency. How much of a frame's energy lies in that space is a Goertzel filter's question
for one frequency; for two that are closer than 50 Hz (440 and 480, 20 ms) single filters cannot
answer it, the space can. The spaces are made once; a frame costs a few scalar products.

Views of a frame keep them short: tones below 750 Hz are looked for at 2 kHz, the others in the
steps between samples (which weaken hum and voice), those below 2.2 kHz at 4 kHz. What is folded
over by this is kept out by the slope, the energy of the steps, which tells about where the energy
is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from operator import add, mul, sub

from backend.media.pcm import samples
from backend.ports import FRAME_BYTES, RATE_HZ

FRAME_SAMPLES = FRAME_BYTES // 2
LOW_HZ, MIDDLE_HZ = 750.0, 2200.0  # tones below: the low view, the middle one
SHARE = 0.75  # of a frame's energy, at least; white noise 6 dB below the tone leaves as much
SIMPLER_SHARE = 0.08  # a tone of more frequencies must fit better by this than one of fewer
TOLERANCE = 0.015  # deviation of a tone's frequencies
# How a band is covered: half its width in Hz, and where in it a space needs frequencies.
_COVERS = ((8.0, (0.0,)), (35.0, (-0.7, 0.7)), (80.0, (-0.75, -0.25, 0.25, 0.75)))
MAX_SPREAD_HZ = 50.0
_GRID_HZ, _PLACE = 20.0, 0.7
_NOISE_SLOPE = 2.0  # white noise
_FULL_SCALE = 32768.0


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Frequencies that sound at once; each may be off by ``spread_hz`` besides TOLERANCE."""

    hz: tuple[float, ...]
    spread_hz: float = 0.0


@dataclass(frozen=True, slots=True)
class FrameSound:
    """``spectrum``: number of the known tone, None: none of them. ``power``: mean square of the
    samples."""

    spectrum: int | None
    power: float


class _View(Enum):
    LOW = auto()
    MIDDLE = auto()
    HIGH = auto()


@dataclass(frozen=True, slots=True)
class _Space:
    # The sum of the squared products of a view with the axes is the energy that the part of the
    # frame has which lies in the space.
    axes: tuple[tuple[float, ...], ...]
    view: _View
    slope_min: float
    slope_max: float


class ToneBank:
    """``hear`` frames of exactly 20 ms. Knows nothing of time. Below ``floor_dbfs``, none."""

    def __init__(self, spectra: Sequence[Spectrum], floor_dbfs: float = -48.0) -> None:
        spaces = [(number, _space(spectrum)) for number, spectrum in enumerate(spectra)]
        self._spaces = sorted(spaces, key=lambda space: len(space[1].axes))
        self.floor = (_FULL_SCALE * 10 ** (floor_dbfs / 20)) ** 2

    def hear(self, frame: bytes) -> FrameSound:
        """What is in ``frame``, FRAME_BYTES of slin16."""
        values = list(map(float, samples(frame)))
        energy = sum(map(mul, values, values))
        if energy < self.floor * FRAME_SAMPLES:
            return FrameSound(None, energy / FRAME_SAMPLES)
        steps = list(map(sub, values[1:], values))
        slope = sum(map(mul, steps, steps)) / energy
        low: list[float] | None = None
        middle = steps[::2]
        found, best, dimensions = None, 0.0, 0
        for number, space in self._spaces:
            if not space.slope_min <= slope <= space.slope_max:
                continue
            view = steps if space.view is _View.HIGH else middle
            if space.view is _View.LOW:
                view = low = low or _low_view(values)
            share = _captured(space.axes, view) / energy
            more = SIMPLER_SHARE if len(space.axes) > dimensions and found is not None else 0.0
            if share > max(SHARE, best + more):
                found, best, dimensions = number, share, len(space.axes)
        return FrameSound(found, energy / FRAME_SAMPLES)


def pure_tone(frame: bytes) -> tuple[float, float]:
    """Frequency in Hz of a single tone in ``frame``, whatever it is, and its share of the energy.
    Silence: 0, 0.

    Pisarenko's method, from the first two autocorrelations, which white noise leaves alone. It
    finds a frequency in anything; the share tells whether there is a tone.
    """
    values = list(map(float, samples(frame)))
    count = len(values)
    energy = sum(map(mul, values, values)) / count
    if not energy:
        return 0.0, 0.0
    once = sum(map(mul, values[1:], values)) / (count - 1)
    twice = sum(map(mul, values[2:], values)) / (count - 2)
    power = (math.sqrt(twice * twice + 8 * once * once) - twice) / 2
    if power <= 0:
        return 0.0, 0.0
    hz = math.acos(max(-1.0, min(1.0, once / power))) * RATE_HZ / math.tau
    if power < SHARE * energy:
        return hz, power / energy
    return hz, _captured(_around(round(hz / _GRID_HZ)), values) / (energy * count)


@lru_cache(maxsize=256)
def _around(place: int) -> tuple[tuple[float, ...], ...]:
    """Axes of the frequencies around a place of the grid."""
    waves = [wave for side in (-1, 1) for wave in _waves((place + side * _PLACE) * _GRID_HZ)]
    return tuple(map(tuple, _orthonormal(waves, waves)[0]))


def _captured(axes: tuple[tuple[float, ...], ...], view: list[float]) -> float:
    energy = 0.0
    for axis in axes:
        product = sum(map(mul, axis, view))
        energy += product * product
    return energy


def _low_view(values: list[float]) -> list[float]:
    """Sums of four samples."""
    pairs = list(map(add, values[::2], values[1::2]))
    return list(map(add, pairs[::2], pairs[1::2]))


def _seen(view: _View, values: list[float]) -> list[float]:
    if view is _View.LOW:
        return _low_view(values)
    steps = list(map(sub, values[1:], values))
    return steps if view is _View.HIGH else steps[::2]


def _slope(hz: float) -> float:
    return 2 - 2 * math.cos(math.tau * hz / RATE_HZ)


@lru_cache(maxsize=256)
def _space(spectrum: Spectrum) -> _Space:
    highest = max(spectrum.hz)
    view = _View.HIGH if highest >= MIDDLE_HZ else _View.MIDDLE
    if highest < LOW_HZ:
        view = _View.LOW
    waves = [wave for hz in _places(spectrum) for wave in _waves(hz)]
    off = 1 + TOLERANCE
    least, most = min(spectrum.hz) - spectrum.spread_hz, max(spectrum.hz) + spectrum.spread_hz
    steepest = _slope(most * off)
    return _Space(
        axes=_axes([_seen(view, wave) for wave in waves], waves),
        view=view,
        slope_min=SHARE * _slope(least / off) - 0.03,
        slope_max=max(steepest, SHARE * steepest + (1 - SHARE) * _NOISE_SLOPE) + 0.05,
    )


def _places(spectrum: Spectrum) -> list[float]:
    """The frequencies whose space holds the spectrum and its deviations."""
    places: list[float] = []
    for hz in spectrum.hz:
        wide = spectrum.spread_hz + (hz * TOLERANCE if len(spectrum.hz) == 1 else 0.0)
        cover = next((cover for most, cover in _COVERS if wide <= most), _COVERS[-1][1])
        places += [hz + wide * place for place in cover]
    return places


def _waves(hz: float) -> tuple[list[float], list[float]]:
    turn = math.tau * hz / RATE_HZ
    count = range(FRAME_SAMPLES)
    return [math.cos(turn * n) for n in count], [math.sin(turn * n) for n in count]


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    product: float = sum(map(mul, one, other))
    return product


def _axes(seen: list[list[float]], waves: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    """From waves and what a view shows of them. The views are made orthonormal, and the waves go
    through the same steps: then a view's products with the former are the latter's amplitudes.
    A view weakens frequencies unequally, so the waves are not orthonormal; the energy of a sum
    of them, as a sum of squares, is what their own orthonormal axes make of the amplitudes."""
    views, signals = _orthonormal(seen, waves)
    units, _ = _orthonormal(signals, signals)
    columns = list(zip(*views, strict=True))
    parts = [[_product(unit, signal) for signal in signals] for unit in units]
    return tuple(tuple(_product(part, column) for column in columns) for part in parts)


def _orthonormal(
    vectors: list[list[float]], along: list[list[float]]
) -> tuple[list[list[float]], list[list[float]]]:
    """``vectors`` by Gram and Schmidt, twice over for exactness; ``along`` by the same steps."""
    axes: list[list[float]] = []
    others: list[list[float]] = []
    for vector, other in zip(vectors, along, strict=True):
        for axis, partner in zip(axes * 2, others * 2, strict=True):
            part = _product(axis, vector)
            vector = [value - part * unit for value, unit in zip(vector, axis, strict=True)]
            other = [value - part * unit for value, unit in zip(other, partner, strict=True)]
        length = math.sqrt(_product(vector, vector))
        axes.append([value / length for value in vector])
        others.append([value / length for value in other])
    return axes, others
