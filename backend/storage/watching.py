"""A thread that keeps in memory what PostgreSQL holds."""

from __future__ import annotations

import threading
from typing import Protocol

from backend.storage.waiting import Waiter


class Book(Protocol):
    def refresh(self) -> None:
        """Read again; raises nothing when PostgreSQL is away."""


class BookWatch:
    """Refreshes a book at once when a change was told of, and every ``every_s``: a change may
    have been written by SQL, or PostgreSQL was away."""

    def __init__(self, book: Book, waiter: Waiter, name: str, every_s: float) -> None:
        """``name``: the thread's. ``waiter`` is closed by ``stop``."""
        self._book = book
        self._waiter = waiter
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Read, then watch."""
        self._book.refresh()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._waiter.wake()
        self._thread.join(10)
        if not self._thread.is_alive():  # else it waits for a PostgreSQL that hangs
            self._waiter.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._waiter.wait(self._every_s)
            if not self._stopping.is_set():
                self._book.refresh()
