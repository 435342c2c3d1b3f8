"""The table of call-progress tones by country: ``tones.toml``, or an admin's copy of it.

Read once, at start. Whatever is wrong with it is a ConfigError that names the file and the entry
(the line, where the file is no TOML at all).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from backend import tables
from backend.errors import ConfigError
from backend.media.tone_bank import MAX_SPREAD_HZ, Spectrum

BUILT_IN = Path(__file__).with_name("tones.toml")
COMMON, DEFAULT = "common", "default"
_SLACK, _SLACK_MS = 0.2, 40.0  # of a cadence without limits
_SLOW_MS = 2000.0  # a cadence this long is certain after one round
_QUICK_BURSTS = 3
_LEAST_MS, _MOST_MS = 60.0, 20_000.0  # of a burst, a gap
_LEAST_HZ, _MOST_HZ = 200.0, 3400.0
_APART_HZ = 20.0
_MAX_CELLS = 4  # pairs of on and off in a cadence


class ToneKind(StrEnum):
    """What a tone says."""

    RINGBACK = "ringback"
    BUSY = "busy"
    CONGESTION = "congestion"  # reorder, fast busy
    DIAL = "dial"
    UNOBTAINABLE = "unobtainable"  # number unobtainable
    SIT = "sit"  # special information tone: an announcement follows
    CNG = "cng"  # a calling fax
    CED = "ced"  # an answering fax or modem


@dataclass(frozen=True, slots=True)
class Span:
    """From … to, ms, both included."""

    least_ms: float
    most_ms: float

    def holds(self, length_ms: float) -> bool:
        return self.least_ms <= length_ms <= self.most_ms


@dataclass(frozen=True, slots=True)
class Cell:
    """A burst and the gap after it. ``on_ms``, ``off_ms``: nominal."""

    on: Span
    off: Span
    on_ms: float
    off_ms: float


@dataclass(frozen=True, slots=True)
class Tone:
    """One tone of a country. Exactly one of: ``cells`` with ``bursts``, repeated; ``continuous_ms``
    without a gap; ``each`` for spectra one after the other."""

    kind: ToneKind
    spectra: tuple[Spectrum, ...]  # one, but for a sequence
    cells: tuple[Cell, ...] = ()
    bursts: int = 0
    continuous_ms: float = 0.0
    each: Span | None = None


Tones = tuple[Tone, ...]


@dataclass(frozen=True, slots=True)
class ToneTable:
    """All countries of a file."""

    countries: Mapping[str, Tones]

    def of(self, country: str) -> Tones:
        """A country's tones and those of all countries; of "default" where it is not listed."""
        own = self.countries.get(country.lower(), self.countries[DEFAULT])
        return own + self.countries[COMMON]


def load(path: Path | None = None) -> ToneTable:
    """The table in ``path``; None: the one that came with this package. Raises ConfigError."""
    return tables.load(path or BUILT_IN, parse)


def parse(text: str, name: str) -> ToneTable:
    """The table in ``text``; ``name`` for errors. Raises ConfigError."""
    data = tables.entries(text, name)
    for needed in (COMMON, DEFAULT):
        if needed not in data:
            raise ConfigError(f"{name}: there is no entry [{needed}]")
    return ToneTable({country: _tones(data, country, name, ()) for country in data})


def _tones(data: dict[str, Any], country: str, name: str, below: tuple[str, ...]) -> Tones:
    entry = data[country]
    where = f"{name}: {country}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected a table of tones, [{country}]")
    found: dict[ToneKind, Tone] = {}
    if (other := entry.get("like")) is not None:
        if other not in data or other in (country, *below):
            raise ConfigError(f"{where}.like: {other!r} is no other entry of this file")
        found = {tone.kind: tone for tone in _tones(data, other, name, (country, *below))}
    for key, value in entry.items():
        if key in ("name", "like"):
            continue
        if key not in list(ToneKind):
            raise ConfigError(f"{where}.{key}: no such tone; known: {', '.join(ToneKind)}")
        found[ToneKind(key)] = _tone(ToneKind(key), value, f"{where}.{key}")
    _check_apart(found, where)
    return tuple(found.values())


def _check_apart(found: Mapping[ToneKind, Tone], where: str) -> None:
    """Two tones that one sound would fit are refused: which it is, nobody could tell."""
    for one, other in combinations(found.values(), 2):
        if one.spectra != other.spectra:
            continue
        same = bool(one.continuous_ms and other.continuous_ms) or (
            len(one.cells) == len(other.cells) == 1
            and _overlap(one.cells[0].on, other.cells[0].on)
            and _overlap(one.cells[0].off, other.cells[0].off)
        )
        if same:
            raise ConfigError(f"{where}: {one.kind} and {other.kind} may sound the same")


def _overlap(one: Span, other: Span) -> bool:
    return one.least_ms < other.most_ms and other.least_ms < one.most_ms


def _tone(kind: ToneKind, value: object, where: str) -> Tone:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a table, [{where.split(': ')[-1]}]")
    known = {"hz", "spread_hz", "cadence_ms", "limits_ms", "bursts", "continuous_ms"}
    known |= {"sequence_hz", "each_ms"}
    if unknown := sorted(value.keys() - known):
        raise ConfigError(f"{where}.{unknown[0]}: no such key; known: {', '.join(sorted(known))}")
    shapes = [key for key in ("cadence_ms", "continuous_ms", "sequence_hz") if key in value]
    if len(shapes) != 1:
        raise ConfigError(
            f"{where}: expected exactly one of cadence_ms, continuous_ms, sequence_hz; "
            f"found {', '.join(shapes) or 'none'}"
        )
    spread = _number(value.get("spread_hz", 0), 0, MAX_SPREAD_HZ, f"{where}.spread_hz")
    if shapes[0] == "sequence_hz":
        parts = _numbers(value["sequence_hz"], _LEAST_HZ, _MOST_HZ, f"{where}.sequence_hz")
        if not 2 <= len(parts) <= 4:
            raise ConfigError(f"{where}.sequence_hz: {len(parts)} tones; expected 2 to 4")
        each = _span(value.get("each_ms"), f"{where}.each_ms")
        return Tone(kind, tuple(Spectrum((hz,), spread) for hz in parts), each=each)
    hz = _numbers(value.get("hz"), _LEAST_HZ, _MOST_HZ, f"{where}.hz")
    close = any(b - a < _APART_HZ for a, b in pairwise(sorted(hz)))
    if not 1 <= len(hz) <= 3 or close:
        raise ConfigError(
            f"{where}.hz: {value['hz']!r}; expected 1 to 3 frequencies, {_APART_HZ:g} Hz apart"
        )
    spectra = (Spectrum(hz, spread),)
    if shapes[0] == "continuous_ms":
        least = _number(value["continuous_ms"], 300, _MOST_MS, f"{where}.continuous_ms")
        return Tone(kind, spectra, continuous_ms=least)
    cells = _cells(value, where)
    lasts_ms = sum(cell.on_ms + cell.off_ms for cell in cells)
    default = len(cells) if lasts_ms >= _SLOW_MS else max(_QUICK_BURSTS, len(cells))
    bursts = int(_number(value.get("bursts", default), 1, 10, f"{where}.bursts"))
    return Tone(kind, spectra, cells=cells, bursts=bursts)


def _cells(value: dict[str, Any], where: str) -> tuple[Cell, ...]:
    lengths = _numbers(value["cadence_ms"], _LEAST_MS, _MOST_MS, f"{where}.cadence_ms")
    if not lengths or len(lengths) % 2 or len(lengths) > 2 * _MAX_CELLS:
        raise ConfigError(
            f"{where}.cadence_ms: {len(lengths)} lengths; expected on, off, on, off …, "
            f"an even number up to {2 * _MAX_CELLS}"
        )
    if "limits_ms" in value:
        limits = value["limits_ms"]
        if not isinstance(limits, list) or len(limits) != len(lengths):
            raise ConfigError(f"{where}.limits_ms: expected {len(lengths)} pairs [least, most]")
        spans = [_span(limit, f"{where}.limits_ms[{n}]") for n, limit in enumerate(limits)]
    else:
        spans = [_around(length) for length in lengths]
    for n, (span, length) in enumerate(zip(spans, lengths, strict=True)):
        if not span.holds(length):
            raise ConfigError(
                f"{where}.limits_ms[{n}]: the nominal {length:g} ms lies outside of "
                f"{span.least_ms:g} to {span.most_ms:g}"
            )
    return tuple(
        Cell(spans[n], spans[n + 1], lengths[n], lengths[n + 1]) for n in range(0, len(lengths), 2)
    )


def _around(length_ms: float) -> Span:
    slack_ms = max(_SLACK * length_ms, _SLACK_MS)
    return Span(length_ms - slack_ms, length_ms + slack_ms)


def _span(value: object, where: str) -> Span:
    pair = _numbers(value, 0, 2 * _MOST_MS, where)
    if len(pair) != 2 or pair[0] >= pair[1]:
        raise ConfigError(f"{where}: {value!r}; expected [least, most]")
    return Span(*pair)


def _numbers(value: object, least: float, most: float, where: str) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{where}: {value!r}; expected a list of numbers")
    return tuple(_number(part, least, most, where) for part in value)


def _number(value: object, least: float, most: float, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigError(f"{where}: {value!r}; expected a number from {least:g} to {most:g}")
    return float(value)


def spectra_of(tones: Sequence[Tone]) -> tuple[Spectrum, ...]:
    """Every spectrum once, in order."""
    return tuple(dict.fromkeys(spectrum for tone in tones for spectrum in tone.spectra))
