"""From frames to runs: how long a tone, a silence, or something else lasted. A pure machine.

A run counts once three frames in a row agree; what lies between two runs (the frame in which a
tone begins, a lost packet, a click, a phase that turns over) is swallowed where the same goes on
after it, and else shared between the two by its energy, so that lengths are truer than a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.media.tone_bank import FrameSound, ToneBank
from backend.ports import FRAME_MS

SILENCE, OTHER = -1, -2  # kinds besides the numbers of spectra
_AGREE = 3  # frames
_DISAGREE = 6  # frames without three that agree: something else
_QUIETER = 0.16  # silence is 8 dB below the last tone
_STEADY = 4.0  # a tone's power stays within a quarter and four times its mean
_FORGET_MS = 10_000.0  # how loud the last tone was


@dataclass(slots=True)
class Run:
    """``kind``: a spectrum's number, SILENCE or OTHER. ``power``: mean square, of whole frames."""

    kind: int
    start_ms: float
    length_ms: float = 0.0
    power_sum: float = 0.0
    frames: int = 0

    @property
    def end_ms(self) -> float:
        return self.start_ms + self.length_ms

    @property
    def power(self) -> float:
        return self.power_sum / self.frames if self.frames else 0.0

    def add(self, sounds: list[tuple[int, float]]) -> None:
        """Frames of this very kind, or swallowed by it."""
        self.length_ms += len(sounds) * FRAME_MS
        for kind, power in sounds:
            if kind == self.kind:
                self.power_sum += power
                self.frames += 1


class RunBuilder:
    """``push`` frames of 20 ms. ``current`` is the run that goes on, ``ended`` the one before it,
    when ``push`` returned True."""

    def __init__(self, bank: ToneBank) -> None:
        self._bank = bank
        self._between: list[tuple[int, float]] = []  # frames since the current run
        self._tone_power = 0.0  # of the last tone
        self._tone_ms = 0.0
        self.now_ms = 0.0
        self.current = Run(OTHER, 0.0)
        self.ended: Run | None = None

    @property
    def whole(self) -> bool:
        """The last frame belongs to the current run."""
        return not self._between

    def push(self, frame: bytes) -> bool:
        """True: another run has begun (it is ``_AGREE`` frames old, or more)."""
        sound = self._judge(self._bank.hear(frame))
        self.now_ms += FRAME_MS
        if not self._between and sound[0] == self.current.kind:
            self.current.add([sound])
            self._remember()
            return False
        self._between.append(sound)
        last = self._between[-_AGREE:]
        if len(last) == _AGREE and all(kind == sound[0] for kind, _ in last):
            return self._begin(sound[0], len(self._between) - _AGREE)
        if len(self._between) >= _DISAGREE:
            return self._begin(OTHER, 0)
        return False

    def _judge(self, sound: FrameSound) -> tuple[int, float]:
        power = sound.power
        if sound.spectrum is not None:
            mean = self.current.power if self.current.kind == sound.spectrum else 0.0
            steady = not mean or mean / _STEADY <= power <= mean * _STEADY
            return (sound.spectrum if steady else OTHER), power
        if self.now_ms - self._tone_ms > _FORGET_MS:
            self._tone_power = 0.0
        quiet = power < max(self._bank.floor, self._tone_power * _QUIETER)
        return (SILENCE if quiet else OTHER), power

    def _remember(self) -> None:
        if self.current.kind >= 0:
            self._tone_power, self._tone_ms = self.current.power, self.now_ms

    def _begin(self, kind: int, edge: int) -> bool:
        """A run of ``kind`` has come; the first ``edge`` frames since the last lie between."""
        frames, self._between = self._between, []
        before = self.current
        if kind == before.kind:
            before.add(frames)
            self._remember()
            return False
        run = Run(kind, 0.0)
        run.add(frames[edge:])
        for _, power in frames[:edge]:
            share = _share(before, run, power) * FRAME_MS
            before.length_ms += share
            run.length_ms += FRAME_MS - share
        run.start_ms = before.end_ms
        self.ended, self.current = before, run
        self._remember()
        return True


def _share(before: Run, after: Run, power: float) -> float:
    """What part of a frame between two runs belongs to the first."""
    if before.kind >= 0 and after.kind >= 0:
        return 0.5
    if before.kind >= 0 and before.power:
        return min(1.0, power / before.power)
    if after.kind >= 0 and after.power:
        return 1.0 - min(1.0, power / after.power)
    return 0.0
