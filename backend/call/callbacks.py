"""A call's callbacks: one after the other, in order, on a thread of the call's own.

The scenario's thread waits for Asterisk most of the time, the audio loop and the recogniser must
not wait for a scenario's code: so neither can run it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

MAX_WAITING = 1000  # more means that a callback does not come back: the newest is dropped
Item = TypeVar("Item")


class Callbacks:
    """``call`` from any thread; the thread is started with the first one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._cond = threading.Condition()  # guards all below
        self._waiting: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.dropped = 0

    def call(self, callback: Callable[[Item], object], item: Item) -> None:
        """Run ``callback(item)`` when those before it have run; never waits. What it raises is
        logged."""
        with self._cond:
            if self._closed:
                return
            if len(self._waiting) >= MAX_WAITING:
                self.dropped += 1
                if self.dropped == 1:
                    log.error("%s: a callback does not return: results are dropped", self._name)
                return
            self._waiting.append(lambda: callback(item))
            self._cond.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    @property
    def inside(self) -> bool:
        """Whether this is the callbacks' own thread."""
        return threading.current_thread() is self._thread

    def close(self, timeout_s: float) -> None:
        """Let those that wait run, and end the thread. One that takes longer is left behind and
        logged; those after it do not run."""
        with self._cond:
            self._closed = True
            self._cond.notify_all()
            thread = self._thread
        if thread is None:
            return
        thread.join(timeout_s)
        if thread.is_alive():
            with self._cond:
                left = len(self._waiting)
                self._waiting.clear()
            log.error(
                "%s: a callback has not returned %g s after the call's end; %d others do not run",
                self._name,
                timeout_s,
                left,
            )

    def _run(self) -> None:
        while (callback := self._next()) is not None:
            try:
                callback()
            except Exception:
                log.exception("%s: a callback of the scenario raised", self._name)

    def _next(self) -> Callable[[], object] | None:
        with self._cond:
            self._cond.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None
