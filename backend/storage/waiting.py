"""Waiting for tasks without asking all the time."""

from __future__ import annotations

import logging
import os
import select
import threading
from contextlib import suppress
from time import monotonic
from typing import Any

import psycopg2
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from backend.storage.changes import WAKE_CHANNEL

log = logging.getLogger(__name__)


class TaskWaiter:
    """Waits until a task was queued: LISTEN on a connection of its own.

    A hint, not a promise: also without one the caller looks into the table when its timeout is
    over, so a lost connection costs latency and nothing else. One thread waits, any may wake.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None  # a raw psycopg2 connection, autocommit
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        self._mutex = threading.Lock()  # wake() against close(): the pipe's descriptors
        self._closed = False
        self._away = False

    def wait(self, timeout_s: float) -> bool:
        """True: look now (a task was queued, or wake()); False: the timeout is over.

        Right after a (re)connection it returns True: something may have come before it listened.
        """
        deadline = monotonic() + timeout_s
        if self._connection is None:
            if self._listen():
                return True
            return self._wait_for_wake(max(0.0, deadline - monotonic()))
        watched = [self._woken, self._connection.fileno()]
        ready, _, _ = select.select(watched, [], [], max(0.0, deadline - monotonic()))
        woken = self._woken in ready and self._drain_pipe()
        return (self._connection.fileno() in ready and self._heard()) or woken

    def wake(self) -> None:
        """End a wait() of another thread, now or the next."""
        with self._mutex:
            if not self._closed:
                with suppress(BlockingIOError):  # full: it will wake anyhow
                    os.write(self._waker, b"!")

    def close(self) -> None:
        """The waiting thread is done. Safe to call twice."""
        self._forget()
        with self._mutex:
            if not self._closed:
                self._closed = True
                os.close(self._woken)
                os.close(self._waker)

    def _listen(self) -> bool:
        try:
            pooled = self._engine.raw_connection()
            self._connection = pooled.driver_connection
            pooled.detach()  # out of the pool: it is ours until it is closed
            self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                cursor.execute(f"LISTEN {WAKE_CHANNEL}")
        except (psycopg2.Error, SQLAlchemyError) as error:
            self._forget()
            if not self._away:
                self._away = True
                log.warning("not told of new tasks by PostgreSQL, asking it instead: %s", error)
            return False
        if self._away:
            self._away = False
            log.warning("told of new tasks by PostgreSQL again")
        return True

    def _heard(self) -> bool:
        try:
            self._connection.poll()
        except psycopg2.Error:
            self._forget()
            return False
        heard = bool(self._connection.notifies)
        self._connection.notifies.clear()
        return heard

    def _wait_for_wake(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._woken], [], [], timeout_s)
        return bool(ready) and self._drain_pipe()

    def _drain_pipe(self) -> bool:
        os.read(self._woken, 4096)
        return True

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.close()
