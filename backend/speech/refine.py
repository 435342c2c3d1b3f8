"""Finals that wait for their normalised text. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from backend.ports import Hypothesis, RecognitionEvent, UtteranceEnded


@dataclass(slots=True)
class _Waiting:
    index: int
    event: RecognitionEvent
    ready: bool


class FinalsInOrder:
    """Delivers each final once. ``wait``: with its normalised text, in the order of the finals;
    ends of utterance stay behind the finals before them. Not ``wait``: at once, refinements are
    ignored. Bounded by what one utterance holds: ``release`` comes at the stream's end.
    """

    def __init__(self, *, wait: bool) -> None:
        self._wait = wait
        self._queue: deque[_Waiting] = deque()

    @property
    def waiting(self) -> bool:
        """Whether something is held back."""
        return bool(self._queue)

    def final(self, index: int, hypothesis: Hypothesis | None) -> list[RecognitionEvent]:
        """The ``index``-th final of the session; None when it holds no words."""
        if hypothesis is None:
            return []
        self._queue.append(_Waiting(index, hypothesis, ready=not self._wait))
        return self._ready()

    def refined(self, index: int, hypothesis: Hypothesis | None) -> list[RecognitionEvent]:
        """The normalised text of a final; the words keep the times of the final."""
        for waiting in self._queue:
            final = waiting.event
            if waiting.index == index and not waiting.ready and isinstance(final, Hypothesis):
                if hypothesis is not None:
                    waiting.event = replace(final, text=hypothesis.text)
                waiting.ready = True
        return self._ready()

    def ended(self, event: UtteranceEnded) -> list[RecognitionEvent]:
        self._queue.append(_Waiting(-1, event, ready=True))
        return self._ready()

    def release(self) -> list[RecognitionEvent]:
        """All that still waits, as it is."""
        events = [waiting.event for waiting in self._queue]
        self._queue.clear()
        return events

    def _ready(self) -> list[RecognitionEvent]:
        events = []
        while self._queue and self._queue[0].ready:
            events.append(self._queue.popleft().event)
        return events
