"""Recognition through the whole call, beside everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from backend.model import Word


@dataclass(frozen=True, slots=True)
class Result:
    """Something the caller said, or, with ``final`` False, seems to be saying. Times in ms of the
    call's audio."""

    text: str
    final: bool
    start_ms: int
    end_ms: int
    confidence: float | None = None
    language: str | None = None
    words: tuple[Word, ...] = ()


class Listening:
    """Made by ``Call.listen``. Iterate over it, or give it callbacks, or both.

    ``for result in listening`` waits for the next result; it ends after ``stop``, and raises
    Hangup when the other side hangs up, RecognitionUnavailable when recognition fails for good.
    As a context manager it stops at the block's end. Results that nobody takes wait, up to 1000;
    then partial ones are dropped first, the oldest first (``dropped`` counts).
    """

    dropped: int

    def __iter__(self) -> Iterator[Result]:
        """The scenario's thread only. Callbacks and other iterations take nothing away."""
        raise NotImplementedError

    def __enter__(self) -> Listening:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self, reason: str = "stopped") -> None:
        """No more results; an iteration that waits ends. Any thread, a callback, too; a second stop
        does nothing. Callbacks that are due already still run."""
        raise NotImplementedError

    @property
    def stopped(self) -> str | None:
        """Why it was stopped; None: it goes on."""
        raise NotImplementedError


ResultCallback = Callable[[Result], object]
