"""A leg's end as others learn of it: who asked to be called back, and who waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.call.legs import Leg

log = logging.getLogger(__name__)

CALLBACKS_S = 5.0


class Ending:
    """Of one leg; any thread. ``name``: for the log, and for the threads of callbacks."""

    def __init__(self, name: str, owner: str) -> None:
        self._name = name
        self._owner = owner
        self._lock = threading.Lock()  # guards the two lists
        self._callbacks: list[Callable[[Leg], object]] = []
        self._threads: list[threading.Thread] = []
        self._calling = threading.Lock()  # one callback after another
        self._finished = threading.Event()

    def call_back(self, callback: Callable[[Leg], object]) -> None:
        """Once, with the next ``tell``."""
        with self._lock:
            self._callbacks.append(callback)

    def tell(self, leg: Leg) -> None:
        """Run the callbacks that wait, in a thread of their own, which ends with them."""
        thread = threading.Thread(
            target=self._run, args=(leg,), name=f"{self._name}-hangup", daemon=True
        )
        with self._lock:
            if not self._callbacks:
                return
            thread.start()
            self._threads.append(thread)

    def _run(self, leg: Leg) -> None:
        with self._calling:
            while self._callbacks:
                callback = self._callbacks.pop(0)
                try:
                    callback(leg)
                except Exception:
                    log.exception("call %s: %s: on_hangup failed", self._owner, self._name)

    def finish(self) -> None:
        """All that the end entails is done, or has its thread."""
        self._finished.set()

    def join(self) -> None:
        """Wait, within a deadline, for ``finish`` in whatever thread, and for the callbacks."""
        self._finished.wait(CALLBACKS_S)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(CALLBACKS_S)
