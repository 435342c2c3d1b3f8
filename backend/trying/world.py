"""A world without real time: a clock that jumps from one event to the next. Pure."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class Event:
    """Something that will happen, unless it is cancelled."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """``now_s`` begins at 0 and moves in ``step`` alone. Not thread-safe."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._numbers = count()
        self._agenda: list[tuple[float, int, Event]] = []

    @property
    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def clock(self) -> float:
        """As ``time.monotonic``."""
        return self.now_s

    def after(self, delay_s: float, action: Callable[[], object]) -> Event:
        """``action`` runs ``delay_s`` from now; of two at the same moment the first planned."""
        event = Event(action)
        heappush(self._agenda, (self.now_s + max(delay_s, 0.0), next(self._numbers), event))
        return event

    def step(self, until_s: float) -> bool:
        """The next event that is due by then; whether there was one. None: the time is then."""
        while self._agenda and self._agenda[0][0] <= until_s:
            at_s, _, event = heappop(self._agenda)
            if event.cancelled:
                continue
            self.now_s = max(self.now_s, at_s)
            event.action()
            return True
        self.now_s = max(self.now_s, until_s)
        return False
