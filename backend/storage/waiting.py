"""Waiting for something new without asking all the time."""

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


class Waiter:
    """Waits until something was told of on a channel: LISTEN on a connection of its own.

    A hint, not a promise: also without one the caller looks into the table when its timeout is
    over, so a lost connection costs latency and nothing else. One thread waits, any may wake.
    """

    def __init__(
        self, engine: Engine, channel: str = WAKE_CHANNEL, *, what: str = "new tasks"
    ) -> None:
        """``what`` is told of on ``channel``, for the log."""
        self._engine = engine
        self._channel = channel
        self._what = what
        self._connection: Any = None  # a raw psycopg2 connection, autocommit
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        self._mutex = threading.Lock()  # wake() against close(): the pipe's descriptors
        self._closed = False
        self._away = False

    def wait(self, timeout_s: float) -> bool:
        """True: look now (it was told of, or wake()); False: the timeout is over.

        Right after a (re)connection it returns True: something may have come before it listened.
        """
        deadline = monotonic() + timeout_s
        if self._connection is None:
            if self._listen():
                return True
            return self._wait_for_wake(max(0.0, deadline - monotonic()))
        watched = [self._woken, self._connection.fileno()]
        ready = _readable(watched, max(0.0, deadline - monotonic()))
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
                cursor.execute(f"LISTEN {self._channel}")
        except (psycopg2.Error, SQLAlchemyError) as error:
            self._forget()
            if not self._away:
                self._away = True
                log.warning(
                    "not told of %s by PostgreSQL, asking it instead: %s", self._what, error
                )
            return False
        if self._away:
            self._away = False
            log.warning("told of %s by PostgreSQL again", self._what)
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
        return bool(_readable([self._woken], timeout_s)) and self._drain_pipe()

    def _drain_pipe(self) -> bool:
        os.read(self._woken, 4096)
        return True

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.close()


def _readable(descriptors: list[int], timeout_s: float) -> list[int]:
    """Those that can be read; not select(): a worker may have more than 1,024 descriptors."""
    waiter = select.poll()
    for descriptor in descriptors:
        waiter.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in waiter.poll(timeout_s * 1000)]
