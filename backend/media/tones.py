"""Call-progress tones in a stream, by frequency and cadence. A pure machine.

Frames become runs (``tone_runs``), runs are held against the cadences of a country
(``tone_table``). A cadence is looked for backwards from the burst that has just ended, so it may
begin in its middle. The clock is the stream's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from backend.media.tone_bank import ToneBank, pure_tone
from backend.media.tone_runs import OTHER, SILENCE, Run, RunBuilder
from backend.media.tone_table import Tone, ToneKind, spectra_of
from backend.ports import FRAME_BYTES

_RUNS = 24  # remembered
_OVER_MS = 60.0  # a cadence whose burst or gap lasts longer than its limit by this has ended
_LOST_MS = 500.0  # ... or something else was heard so long
_ALIKE = 4.0  # bursts of one cadence have powers within this ratio
_THIRD_MS = 180.0  # of the last tone of a sequence is enough
_FLOOR_DBFS = -48.0

# Which of North America's special information tones it is: segments of 274 or 380 ms, ± 5 %, and
# two frequencies each for the first and second, known by their ratio to the third (1776.7 Hz), so
# that a line's deviation cancels out. 950, 1400 and 1800 Hz of 330 ms are ITU-T E.180's: no class.
_SHORT_MS, _LONG_MS = (250.0, 298.0), (352.0, 410.0)
_FIRST = ((0.500, 0.526), (0.541, 0.568))  # 913.8, 985.2
_SECOND = ((0.757, 0.785), (0.790, 0.818))  # 1370.6, 1428.5


class SitKind(StrEnum):
    """What a special information tone says, where it says anything."""

    VACANT_CODE = "vacant_code"  # no such number
    INTERCEPT = "intercept"  # number changed or disconnected
    REORDER = "reorder"  # incomplete digits, or congestion
    NO_CIRCUIT = "no_circuit"
    OTHER = "ineffective_other"


# (first short?, first low?, second short?, second low?)
_SIT: dict[tuple[bool, bool, bool, bool], SitKind] = {
    (True, True, True, True): SitKind.INTERCEPT,
    (False, False, True, True): SitKind.VACANT_CODE,
    (True, True, False, False): SitKind.REORDER,  # the local exchange's
    (True, False, False, True): SitKind.REORDER,  # the long-distance carrier's
    (False, False, False, False): SitKind.NO_CIRCUIT,
    (False, True, False, True): SitKind.NO_CIRCUIT,
    (False, True, True, False): SitKind.OTHER,
}


@dataclass(frozen=True, slots=True)
class ToneStarted:
    """A tone is certain at ``at_ms``; the first of the bursts that prove it began at
    ``since_ms``. Times of the stream. ``sit``: for SIT, where it can be told."""

    kind: ToneKind
    at_ms: int
    since_ms: int
    sit: SitKind | None = None


@dataclass(frozen=True, slots=True)
class ToneEnded:
    """The tone that started last is no longer there, which is certain at ``at_ms``. A SIT, which
    is heard once, has no end."""

    kind: ToneKind
    at_ms: int


ToneEvent = ToneStarted | ToneEnded


@dataclass(frozen=True, slots=True)
class _Cadence:
    """A tone seen from the gap after its n-th burst. ``gap_ms``: the gap has to last so long."""

    tone: Tone
    place: int
    gap_ms: float


class ToneDetector:
    """``feed`` it the stream in pieces of any length, get ToneStarted and ToneEnded in turn.

    ``tones``: ``ToneTable.of(country)``. Nothing below ``floor_dbfs`` (of full scale; the level
    of a line, dBm0, is 6 dB more) is a tone. A frame costs 10 to 40 µs (docs/benchmarks.md).
    """

    def __init__(self, tones: Sequence[Tone], floor_dbfs: float = _FLOOR_DBFS) -> None:
        spectra = spectra_of(tones)
        number = {spectrum: n for n, spectrum in enumerate(spectra)}
        self._runs = RunBuilder(ToneBank(spectra, floor_dbfs))
        self._history: deque[Run] = deque(maxlen=_RUNS)
        self._cadences: dict[int, list[_Cadence]] = {n: [] for n in number.values()}
        self._continuous: dict[int, Tone] = {}
        self._sequences: dict[int, tuple[Tone, tuple[int, ...]]] = {}  # by the last one's number
        for tone in tones:
            numbers = tuple(number[spectrum] for spectrum in tone.spectra)
            if tone.cells:
                self._cadences[numbers[0]] += _rotations(tone, tones)
            elif tone.each:
                self._sequences[numbers[-1]] = (tone, numbers)
            else:
                self._continuous[numbers[0]] = tone
        self._within = {n for _, numbers in self._sequences.values() for n in numbers}
        self._tried: set[int] = set()  # in the run that goes on
        self._hz: list[float] = []  # of its frames, where it may be part of a sequence
        self._history_hz: deque[float] = deque(maxlen=_RUNS)
        self._active: Tone | None = None
        self._sound_ms = 0.0  # of runs that have ended
        self._rest = b""

    @property
    def now_ms(self) -> int:
        """Stream time up to which has been judged (a multiple of 20 ms)."""
        return int(self._runs.now_ms)

    @property
    def in_tone(self) -> bool:
        """One of the frequencies is heard now, whatever the cadence."""
        return self._runs.current.kind >= 0 and self._runs.whole

    @property
    def sound_ms(self) -> int:
        """How long there was sound so far that is none of the tones: voice, music, noise."""
        current = self._runs.current
        return round(self._sound_ms + (current.length_ms if current.kind == OTHER else 0.0))

    @property
    def active(self) -> ToneKind | None:
        """The tone that is there now."""
        return self._active.kind if self._active else None

    def feed(self, pcm: bytes) -> list[ToneEvent]:
        """Judge 8 kHz slin16; what does not fill a 20 ms frame is kept for the next call."""
        events: list[ToneEvent] = []
        data = self._rest + pcm if self._rest else pcm
        end = len(data) - len(data) % FRAME_BYTES
        for place in range(0, end, FRAME_BYTES):
            self._judge(data[place : place + FRAME_BYTES], events)
        self._rest = data[end:]
        return events

    def _judge(self, frame: bytes, events: list[ToneEvent]) -> None:
        runs = self._runs
        if runs.push(frame):
            if runs.ended is not None:
                self._sound_ms += runs.ended.length_ms if runs.ended.kind == OTHER else 0.0
                self._history.append(runs.ended)
                self._history_hz.append(sum(self._hz) / len(self._hz) if self._hz else 0.0)
            self._tried.clear()
            self._hz = []
        current = runs.current
        if not runs.whole:
            return
        if current.kind in self._within:
            self._hz.append(pure_tone(frame)[0])
        if self._active is not None and self._is_over(self._active, current):
            self._end(events)
        if current.kind == SILENCE:
            self._after_burst(current, events)
        elif current.kind != OTHER:
            self._in_tone(current, events)

    def _after_burst(self, gap: Run, events: list[ToneEvent]) -> None:
        if not self._history or (kind := self._history[-1].kind) < 0:
            return
        for cadence in self._cadences[kind]:
            if gap.length_ms < cadence.gap_ms or id(cadence) in self._tried:
                continue
            self._tried.add(id(cadence))
            since = _bursts(self._history, cadence)
            if since is not None and self._active is not cadence.tone:
                self._start(cadence.tone, since.start_ms, None, events)

    def _in_tone(self, run: Run, events: list[ToneEvent]) -> None:
        tone = self._continuous.get(run.kind)
        if tone is not None and run.length_ms >= tone.continuous_ms and id(tone) not in self._tried:
            self._tried.add(id(tone))
            if self._active is not tone:
                self._start(tone, run.start_ms, None, events)
        if (found := self._sequences.get(run.kind)) is None or run.length_ms < _THIRD_MS:
            return
        tone, numbers = found
        before = list(self._history)[-len(numbers) + 1 :]
        if id(tone) not in self._tried and tone.each is not None:
            self._tried.add(id(tone))
            kinds = tuple(part.kind for part in before)
            if kinds == numbers[:-1] and all(tone.each.holds(p.length_ms) for p in before):
                hz = [*list(self._history_hz)[-len(before) :], sum(self._hz) / len(self._hz)]
                self._start(tone, before[0].start_ms, _sit_kind(before, hz), events)
                self._active = None  # it is heard once

    def _is_over(self, tone: Tone, run: Run) -> bool:
        if run.kind == OTHER:
            return run.length_ms >= _LOST_MS
        if not tone.cells:
            return True if run.kind == SILENCE else self._continuous.get(run.kind) is not tone
        if run.kind == SILENCE:
            return run.length_ms > max(cell.off.most_ms for cell in tone.cells) + _OVER_MS
        mine = any(cadence.tone is tone for cadence in self._cadences[run.kind])
        return not mine or run.length_ms > max(cell.on.most_ms for cell in tone.cells) + _OVER_MS

    def _start(
        self, tone: Tone, since_ms: float, sit: SitKind | None, events: list[ToneEvent]
    ) -> None:
        if self._active is not None:
            self._end(events)
        self._active = tone
        events.append(ToneStarted(tone.kind, self.now_ms, round(since_ms), sit))

    def _end(self, events: list[ToneEvent]) -> None:
        if self._active is not None:
            events.append(ToneEnded(self._active.kind, self.now_ms))
            self._active = None


def _rotations(tone: Tone, tones: Sequence[Tone]) -> list[_Cadence]:
    """The tone seen from each of its gaps. A gap need not be waited for to its end: longer than
    any shorter one of the same frequencies is enough. Where several bursts and the gaps between
    them have proved it, the end of the last burst is."""
    shorter = [
        cell.off.most_ms for other in tones if other.spectra == tone.spectra for cell in other.cells
    ]
    found = []
    for place, cell in enumerate(tone.cells):
        below = [most for most in shorter if most < cell.off.least_ms]
        enough = max(below, default=0.0) + _OVER_MS
        proved = tone.bursts > len(tone.cells)
        found.append(_Cadence(tone, place, 0.0 if proved else min(enough, cell.off.least_ms)))
    return found


def _bursts(history: Sequence[Run], cadence: _Cadence) -> Run | None:
    """The first of the bursts at the end of ``history`` that are the tone; None: they are not."""
    tone, cells = cadence.tone, cadence.tone.cells
    last = history[-1]
    if len(history) < 2 * tone.bursts - 1:
        return None
    for back in range(tone.bursts):
        cell = cells[(cadence.place - back) % len(cells)]
        burst = history[-1 - 2 * back]
        alike = last.power / _ALIKE <= burst.power <= last.power * _ALIKE
        if burst.kind != last.kind or not alike or not cell.on.holds(burst.length_ms):
            return None
        if back:
            gap = history[-2 * back]
            if gap.kind != SILENCE or not cell.off.holds(gap.length_ms):
                return None
    return history[-1 - 2 * (tone.bursts - 1)]


def _sit_kind(parts: Sequence[Run], hz: Sequence[float]) -> SitKind | None:
    if len(hz) != 3 or not hz[2]:
        return None
    first, second = (_either(part.length_ms, _SHORT_MS, _LONG_MS) for part in parts)
    low, low_second = _either(hz[0] / hz[2], *_FIRST), _either(hz[1] / hz[2], *_SECOND)
    if first is None or second is None or low is None or low_second is None:
        return None
    return _SIT.get((first, low, second, low_second))


def _either(value: float, one: tuple[float, float], other: tuple[float, float]) -> bool | None:
    """True: within ``one``; False: within ``other``; None: neither."""
    if one[0] <= value <= one[1]:
        return True
    return False if other[0] <= value <= other[1] else None
