"""A prompt's audio while it is synthesised: one thread makes it, others play it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic

from backend.errors import SpeechError, SynthesisUnavailable
from backend.ports import RATE_HZ

MAX_BYTES = 600 * RATE_HZ * 2  # ten minutes: a mistake in a scenario, not a prompt


class WholePcm:
    """A ports.PromptAudio that is all there."""

    def __init__(self, pcm: bytes, rate_hz: int = RATE_HZ) -> None:
        self.rate_hz = rate_hz
        self._pcm = pcm

    def read(self, at: int, size: int) -> bytes | None:
        return self._pcm[at : at + size] if at < len(self._pcm) else None

    def size(self) -> int:
        return len(self._pcm)

    def subscribe(self, on_more: Callable[[], None]) -> None:
        """Nothing more will come."""


class GrowingPcm:
    """A ports.PromptAudio that one thread makes (``make``). All of it is kept, MAX_BYTES at
    most: any number of calls may play it, and one that hangs up does not keep it from the
    cache."""

    rate_hz = RATE_HZ

    def __init__(self) -> None:
        self._cond = threading.Condition()  # guards all below
        self._pcm = bytearray()
        self._over = False
        self._error: SpeechError | None = None
        self._subscribers: list[Callable[[], None]] = []

    def make(self, pieces: Iterator[bytes]) -> bytes:
        """Take all of ``pieces``; the whole. Raises what they raise; players then get a
        SpeechError after what there is."""
        try:
            for piece in pieces:
                self._grow(piece)
        except SpeechError as error:
            self._end(error)
            raise
        except BaseException:
            self._end(SynthesisUnavailable("the synthesiser failed"))
            raise
        self._end(None)
        return bytes(self._pcm)

    def wait(self, timeout_s: float) -> None:
        """Until it is whole. Raises SpeechError: it never will be, or not within ``timeout_s``
        without any progress."""
        deadline, seen = monotonic() + timeout_s, 0
        with self._cond:
            while not self._over:
                if not self._cond.wait(max(deadline - monotonic(), 0)) and monotonic() >= deadline:
                    raise SynthesisUnavailable(f"no sound for {timeout_s:g} s")
                if len(self._pcm) > seen:
                    deadline, seen = monotonic() + timeout_s, len(self._pcm)
            if self._error is not None:
                raise self._error

    @property
    def failed(self) -> bool:
        return self._error is not None

    def read(self, at: int, size: int) -> bytes | None:
        with self._cond:
            if at < len(self._pcm):
                return bytes(self._pcm[at : at + size])
            if self._error is not None:
                raise self._error
            return None if self._over else b""

    def size(self) -> int | None:
        with self._cond:
            return len(self._pcm) if self._over and self._error is None else None

    def subscribe(self, on_more: Callable[[], None]) -> None:
        with self._cond:
            self._subscribers.append(on_more)

    def _grow(self, piece: bytes) -> None:
        if len(self._pcm) + len(piece) > MAX_BYTES:
            raise SynthesisUnavailable(f"the prompt is longer than {MAX_BYTES // RATE_HZ // 2} s")
        with self._cond:
            self._pcm += piece
        self._tell()

    def _end(self, error: SpeechError | None) -> None:
        with self._cond:
            self._over, self._error = True, error
        self._tell()

    def _tell(self) -> None:
        with self._cond:
            self._cond.notify_all()
            subscribers = list(self._subscribers)
        for on_more in subscribers:
            on_more()
