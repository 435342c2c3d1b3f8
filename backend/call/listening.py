"""Recognition through the whole call, beside everything else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from backend.call.callbacks import Callbacks
from backend.errors import RecognitionUnavailable
from backend.model import Utterance, Word
from backend.ports import Hypothesis

MAX_WAITING = 1000
POLL_S = 0.2  # a hangup is looked for as often


@dataclass(frozen=True, slots=True)
class Result:
    """Something the caller said, or, with ``final`` False, seems to be saying: then all of the
    utterance so far. Times in ms of the call's audio."""

    text: str
    final: bool
    start_ms: int
    end_ms: int
    confidence: float | None = None
    language: str | None = None
    words: tuple[Word, ...] = ()


ResultCallback = Callable[[Result], object]


class Listening:
    """Made by ``Call.listen``. Iterate over it, or give it callbacks, or both.

    ``for result in listening`` waits for the next result; it ends after ``stop``, and raises
    Hangup when the other side hangs up, RecognitionUnavailable when recognition fails for good.
    As a context manager it stops at the block's end. Results that nobody takes wait, up to 1000;
    then partial ones are dropped first, the oldest first (``dropped`` counts).
    """

    def __init__(
        self,
        callbacks: Callbacks,
        poll_hangup: Callable[[], None],
        on_stop: Callable[[Listening], None],
        *,
        partials: bool,
        on_result: ResultCallback | None,
        on_final: ResultCallback | None,
    ) -> None:
        self._callbacks = callbacks
        self._poll_hangup = poll_hangup
        self._on_stop = on_stop
        self._partials = partials
        self._on_result = on_result
        self._on_final = on_final
        self._cond = threading.Condition()  # guards all below
        self._waiting: deque[Result] = deque()
        self._stopped: str | None = None
        self._failure: str | None = None
        self.dropped = 0

    def __iter__(self) -> Iterator[Result]:
        """The scenario's thread only."""
        while True:
            self._poll_hangup()
            self._wait()
            with self._cond:
                if self._waiting:
                    result = self._waiting.popleft()
                elif self._stopped is not None:
                    return
                elif self._failure is not None:
                    raise RecognitionUnavailable(self._failure)
                else:
                    continue
            yield result

    def _wait(self) -> None:
        """Until there is something to take, or it is over; POLL_S at most."""
        with self._cond:
            self._cond.wait_for(lambda: self._waiting or self._over, POLL_S)

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
        """No more results; an iteration ends when it has had those that wait. Any thread, a
        callback, too; a second stop does nothing. Callbacks that are due already still run."""
        with self._cond:
            if self._stopped is not None:
                return
            self._stopped = reason
            self._cond.notify_all()
        self._on_stop(self)

    @property
    def stopped(self) -> str | None:
        """Why it was stopped; None: it goes on."""
        return self._stopped

    @property
    def _over(self) -> bool:
        return self._stopped is not None or self._failure is not None

    # ear.Observer

    def on_voice(self, speaking: bool) -> None:
        """Of no interest here."""

    def on_time(self) -> None:
        """Of no interest here."""

    def on_words(self, hypothesis: Hypothesis) -> None:
        if self._partials and not hypothesis.final:  # a final one comes with its utterance
            self._tell(
                Result(
                    hypothesis.text,
                    False,
                    hypothesis.start_ms,
                    hypothesis.end_ms,
                    hypothesis.confidence,
                    hypothesis.language,
                    hypothesis.words,
                )
            )

    def on_utterance(self, utterance: Utterance | None) -> None:
        if utterance is not None:
            self._tell(
                Result(
                    utterance.text,
                    True,
                    utterance.start_ms,
                    utterance.end_ms,
                    utterance.confidence,
                    utterance.language,
                    utterance.words,
                )
            )

    def on_failure(self, message: str) -> None:
        with self._cond:
            self._failure = message
            self._cond.notify_all()

    def _tell(self, result: Result) -> None:
        with self._cond:
            if self._over:
                return
            self._make_room()
            self._waiting.append(result)
            self._cond.notify_all()
        if self._on_result is not None:
            self._callbacks.call(self._on_result, result)
        if result.final and self._on_final is not None:
            self._callbacks.call(self._on_final, result)

    def _make_room(self) -> None:
        if len(self._waiting) < MAX_WAITING:
            return
        self.dropped += 1
        partial = next((n for n, result in enumerate(self._waiting) if not result.final), 0)
        del self._waiting[partial]
