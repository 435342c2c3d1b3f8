"""First come, first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from backend.errors import StorageUnavailable


class Turns:
    """At most ``places`` threads at a time, in the order in which they came.

    A pool of connections alone is not fair: a thread that gives one back and asks again at once
    gets it before those who wait, and some wait for seconds while others do hundreds of rounds.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = places
        self._waiting: deque[threading.Event] = deque()  # bounded by the threads there are
        self._mutex = threading.Lock()

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Wait for a place, keep it inside. Raises StorageUnavailable when none becomes free."""
        self._enter(timeout_s)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, timeout_s: float) -> None:
        with self._mutex:
            if self._free and not self._waiting:
                self._free -= 1
                return
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(timeout_s):
            return
        with self._mutex:
            if mine.is_set():  # it was given after all
                return
            self._waiting.remove(mine)
        raise StorageUnavailable(
            f"all {self._places} connections for calls were taken for {timeout_s:g} s"
        )

    def _leave(self) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().set()  # handed over: nobody comes between
            else:
                self._free += 1
