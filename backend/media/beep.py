"""The beep after which an answering machine records: a short pure tone. A pure machine."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from backend.media.pcm import dbfs, rms
from backend.media.tone_bank import pure_tone
from backend.ports import FRAME_BYTES, FRAME_MS

_PURE = 0.8  # share of the energy; voice has overtones
_NEAR_HZ = 45.0  # of one frame from the mean: what the end of a frame in mid-wave makes of it
_LOUD_DBFS = -40.0
_STEADY_DB = 4.0
_OVER_FRAMES = 2  # without the tone: it has ended


@dataclass(frozen=True, slots=True)
class Beep:
    """A beep from ``since_ms`` on, over for certain at ``at_ms``. Times of the stream."""

    at_ms: int
    since_ms: int
    hz: int


class BeepDetector:
    """``push`` frames of exactly 20 ms, get a Beep once it is over.

    ``hz``: lowest and highest; ``least_ms``, ``most_ms``: its length.
    """

    def __init__(
        self,
        hz: tuple[float, float] = (800.0, 2100.0),
        least_ms: int = 140,
        most_ms: int = 2000,
    ) -> None:
        self._hz = hz
        self._least_ms, self._most_ms = least_ms, most_ms
        self._now_ms = 0
        self._frames: deque[tuple[float, float]] = deque(maxlen=most_ms // FRAME_MS + 1)  # Hz, dB
        self._since_ms = 0
        self._over = 0

    def push(self, frame: bytes) -> Beep | None:
        """20 ms of 8 kHz slin16."""
        if len(frame) != FRAME_BYTES:
            raise ValueError(f"{len(frame)} bytes; expected {FRAME_BYTES}")
        self._now_ms += FRAME_MS
        found = self._tone(frame)
        if found is not None and self._goes_on(found):
            if not self._frames:
                self._since_ms = self._now_ms - FRAME_MS
            self._frames.append(found)
            self._over = 0
            return None
        self._over += 1
        if self._over < _OVER_FRAMES:
            return None
        beep = self._ended()
        self._frames.clear()
        self._over = 0
        if found is not None:
            self._since_ms = self._now_ms - FRAME_MS
            self._frames.append(found)
        return beep

    def _tone(self, frame: bytes) -> tuple[float, float] | None:
        level = dbfs(rms(frame))
        if level < _LOUD_DBFS:
            return None
        hz, share = pure_tone(frame)
        return (hz, level) if share >= _PURE and self._hz[0] <= hz <= self._hz[1] else None

    def _goes_on(self, found: tuple[float, float]) -> bool:
        if not self._frames:
            return True
        count = len(self._frames)
        hz = sum(frame[0] for frame in self._frames) / count
        level = sum(frame[1] for frame in self._frames) / count
        return abs(found[0] - hz) <= _NEAR_HZ and abs(found[1] - level) <= _STEADY_DB

    def _ended(self) -> Beep | None:
        length_ms = len(self._frames) * FRAME_MS
        if not self._least_ms <= length_ms <= self._most_ms:
            return None
        hz = sum(frame[0] for frame in self._frames) / len(self._frames)
        return Beep(self._now_ms, self._since_ms, round(hz))
