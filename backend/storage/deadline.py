"""Deadlines of our own for what a thread asks of PostgreSQL.

None of the others ends the wait for a server that is reached but does not answer (it hangs, its
disk stalls): statement_timeout is kept by the server itself, TCP's limits count only while the
other kernel is silent. So the driver waits in the poll(2) here, which knows the thread's deadline.

With a wait callback psycopg2 does not keep connect_timeout (it is libpq's, for a connection made
in one call); it is kept here. Names are still looked up by libpq, in its own time.
(psycopg2: extensions.set_wait_callback; libpq: PQconnectStart.)
"""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import psycopg2
from psycopg2 import extensions

from backend.storage.engine import CONNECT_TIMEOUT_S, STATEMENT_TIMEOUT_S

ANSWER_S = STATEMENT_TIMEOUT_S + 10.0  # without a deadline: the server itself would have ended it

_thread = threading.local()
_EVENTS = {
    extensions.POLL_READ: select.POLLIN,
    extensions.POLL_WRITE: select.POLLOUT,
}


def keep_deadlines() -> None:
    """Make ``within`` count in this process; where a thread has no deadline, a connection may take
    CONNECT_TIMEOUT_S, a statement ANSWER_S. To be called before the first connection."""
    extensions.set_wait_callback(_wait)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Whatever this thread asks of PostgreSQL inside ends by then, together: with its answer or
    with an OperationalError; the connection is closed then, and nobody knows what became of the
    statement under way."""
    before: float | None = getattr(_thread, "ends", None)
    ends = monotonic() + seconds
    _thread.ends = ends if before is None else min(ends, before)
    try:
        yield
    finally:
        _thread.ends = before


def _wait(connection: Any) -> None:
    ends: float | None = getattr(_thread, "ends", None)
    if ends is None:
        connecting = connection.status == extensions.STATUS_SETUP
        ends = monotonic() + (CONNECT_TIMEOUT_S if connecting else ANSWER_S)
    while (state := connection.poll()) != extensions.POLL_OK:
        waiter = select.poll()  # not select(): a worker has more than 1,024 descriptors
        waiter.register(connection.fileno(), _EVENTS[state])
        left_s = ends - monotonic()
        if left_s <= 0 or not waiter.poll(left_s * 1000):
            raise psycopg2.OperationalError("no answer from PostgreSQL within the deadline")
