"""Deadlines of many streams on one thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable

log = logging.getLogger(__name__)


class Deadlines:
    """Calls a function when a deadline passes that was not cleared.

    One thread, named, started by the first ``set``; ``close`` stops and joins it. Holds one
    deadline per key, so it is bounded by the number of streams.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._due: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def set(self, key: Hashable, after_s: float, action: Callable[[], None]) -> None:
        """``action`` runs on this object's thread in ``after_s`` unless cleared; it must not block.
        A deadline already set for ``key`` is replaced."""
        with self._changed:
            if self._closed:
                return
            self._due[key] = (time.monotonic() + after_s, action)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def clear(self, key: Hashable) -> None:
        """Forget the deadline of ``key``, if any."""
        with self._changed:
            self._due.pop(key, None)

    def close(self, timeout_s: float = 5.0) -> None:
        """Forget all deadlines, stop the thread."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (actions := self._wait()) is not None:
            for action in actions:
                try:
                    action()
                except Exception:
                    log.exception("%s: an action at a deadline failed", self._name)

    def _wait(self) -> list[Callable[[], None]] | None:
        """The actions that are due; None when closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if due := [key for key, (at, _) in self._due.items() if at <= now]:
                    return [self._due.pop(key)[1] for key in due]
                first = min((at for at, _ in self._due.values()), default=None)
                self._changed.wait(None if first is None else first - now)
            return None
