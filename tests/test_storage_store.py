"""storage.store: exact under many callers, and never waited for long."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from psycopg2 import extensions
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from backend.call.store import Store
from backend.errors import StorageUnavailable
from backend.storage import deadline
from backend.storage import store as storage
from backend.storage.deadline import keep_deadlines, within
from backend.storage.engine import make_engine
from backend.storage.store import KeyValues

CALLERS, PROCESSES, ADDITIONS = 50, 2, 40


Patience = Callable[[float], None]


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[Patience]:
    """As in a worker, with as much patience as the test wants, seconds."""
    keep_deadlines()
    yield lambda seconds: monkeypatch.setattr(storage, "STORE_S", seconds)
    extensions.set_wait_callback(None)


# --- 50 calls in two processes -------------------------------------------------------------------


def _caller(store: Store, number: int) -> dict[str, list[Any]]:
    """What one call does; everything it was told."""
    sums = [store.add("total", n) for n in [1] * ADDITIONS]
    windows = [store.add("window", expires_s=0.05) for _ in range(ADDITIONS)]
    free = store.compare_and_set("lock", None, number)
    for _ in range(5):  # a counter by compare and set: as good, if slower
        seen = store.get("slow", 0)
        while not store.compare_and_set("slow", seen or None, int(str(seen)) + 1):
            seen = store.get("slow", 0)
    return {"sums": sums, "windows": windows, "free": [free]}


def _worker(dsn: str, first: int, barrier: Any, results: Any) -> None:
    """A process with its share of the callers, as a voice worker has them."""
    keep_deadlines()
    engine = make_engine(dsn, name=f"store {first}", pool=5)
    store = Store(KeyValues(engine), "test")
    count = CALLERS // PROCESSES
    with ThreadPoolExecutor(count) as pool:
        barrier.wait(60)
        results.put(list(pool.map(lambda n: _caller(store, n), range(first, first + count))))
    engine.dispose()


@pytest.fixture
def told(dsn: str) -> list[dict[str, list[Any]]]:
    """What each of the 50 callers was told."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(PROCESSES), context.Queue()
    workers = [
        context.Process(target=_worker, args=(dsn, n * 100 + 1, barrier, results))
        for n in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    found = [caller for _ in workers for caller in results.get(timeout=120)]
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0]
    return found


def test_fifty_callers_in_two_processes(told: list[dict[str, list[Any]]], engine: Engine) -> None:
    assert len(told) == CALLERS
    store = Store(KeyValues(engine), "test")
    # Each addition counted once, and each caller was told a sum of its own.
    sums = [value for caller in told for value in caller["sums"]]
    assert sorted(sums) == list(range(1, CALLERS * ADDITIONS + 1))
    assert store.get("total") == CALLERS * ADDITIONS
    # Each window counted from 1 up without a gap, whenever it ended: of 1 there are as many as
    # windows, of 2 not more than of 1, and so on, and together they are all.
    windows = Counter(value for caller in told for value in caller["windows"])
    assert windows.total() == CALLERS * ADDITIONS
    assert sorted(windows) == list(range(1, max(windows) + 1))
    assert all(windows[value] >= windows[value + 1] for value in windows)
    assert windows[1] > 1, "no window ended"
    assert sum(caller["free"] == [True] for caller in told) == 1, "one alone took the lock"
    assert store.get("slow") == CALLERS * 5


# --- Expiry --------------------------------------------------------------------------------------


def test_expiry_is_exact_by_postgresqls_clock(engine: Engine) -> None:
    """Whenever the clock said that it was over before the question, nothing was answered; and
    whenever it said after the answer that it was not, the value."""
    values = KeyValues(engine)

    def ask(question: str) -> datetime:
        with engine.connect() as connection:
            found: datetime = connection.execute(text(question)).scalar_one()
            return found

    clock = "SELECT clock_timestamp()"
    values.set("", "key", "1", 0.1)
    ends = ask("SELECT expires_at FROM store")
    seen: set[str] = set()
    last = ends + timedelta(milliseconds=100)
    while (before := ask(clock)) < last:
        found = values.get("", "key")
        after = ask(clock)
        if before >= ends:
            assert found is None
            seen.add("over")
        elif after < ends:
            assert found == 1
            seen.add("there")
    assert "over" in seen


def test_what_is_over_is_deleted_by_and_by(engine: Engine) -> None:
    values = KeyValues(engine)
    for n in range(25):
        values.set("", f"old-{n}", "1", 60)
    with engine.begin() as connection:
        connection.execute(text("UPDATE store SET expires_at = clock_timestamp()"))
    values.set("", "old-0", "2", 60)  # set anew
    values.set("", "lasting", "1", None)
    stop = threading.Event()
    assert values.forget_expired(stop, batch=10) == 24
    with engine.connect() as connection:
        left = connection.execute(text("SELECT key FROM store ORDER BY key")).scalars().all()
    assert left == ["lasting", "old-0"]
    stop.set()
    assert values.forget_expired(stop) == 0


# --- PostgreSQL is away --------------------------------------------------------------------------


def everything(values: KeyValues) -> list[Any]:
    return [
        lambda: values.get("", "k"),
        lambda: values.set("", "k", "1", None),
        lambda: values.add("", "k", 1, None),
        lambda: values.compare_and_set("", "k", None, "1", None),
        lambda: values.compare_and_set("", "k", "1", "2", None),
        lambda: values.compare_and_set("", "k", "1", None, None),
        lambda: values.delete("", "k"),
        lambda: values.keys("", "", 1),
        lambda: values.forget_expired(threading.Event()),
    ]


def test_away() -> None:
    engine = make_engine("postgresql://x@127.0.0.1:17998/x", name="test")
    for ask in everything(KeyValues(engine)):
        with pytest.raises(StorageUnavailable, match="store"):
            ask()
    engine.dispose()


def test_a_server_that_takes_connections_and_says_nothing(patience: Patience) -> None:
    patience(0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"
        engine = make_engine(address, name="test")
        for ask in everything(KeyValues(engine))[:8]:
            with pytest.raises(StorageUnavailable, match="within the deadline"):
                ask()
        engine.dispose()


@contextmanager
def stopped(engine: Engine) -> Iterator[None]:
    """The server's process for the engine's one connection hangs: TCP lives, nothing answers."""
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_server_that_hangs_costs_one_deadline(dsn: str, patience: Patience) -> None:
    engine = make_engine(dsn, name="test", pool=1)
    values = KeyValues(engine)
    values.set("", "k", "1", None)
    with stopped(engine):
        patience(0.2)
        with pytest.raises(StorageUnavailable, match="within the deadline"):
            values.get("", "k")
    patience(30)
    assert values.get("", "k") == 1, "over a new connection"
    engine.dispose()


def test_a_row_that_another_holds_costs_one_deadline(engine: Engine, patience: Patience) -> None:
    values = KeyValues(engine)
    values.set("", "k", "1", None)
    with engine.begin() as connection:
        connection.execute(text("SELECT 1 FROM store FOR UPDATE"))
        patience(0.2)
        with pytest.raises(StorageUnavailable, match="within the deadline"):
            values.add("", "k", 1, None)
        patience(30)
        assert values.get("", "k") == 1
    assert values.add("", "k", 1, None) == 2


@pytest.mark.usefixtures("patience")
def test_the_earlier_deadline_counts_and_ends_with_its_block(engine: Engine) -> None:
    slow = text("SELECT pg_sleep(0.2)")
    with engine.connect() as connection:
        with pytest.raises(OperationalError, match="within the deadline"), within(0.01), within(60):
            connection.execute(slow)
        connection.rollback()
        connection.execute(slow)


@pytest.mark.usefixtures("patience")
def test_without_a_deadline_of_its_own_a_thread_waits_long_but_not_for_ever(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "ANSWER_S", 0.05)
    with engine.connect() as connection, pytest.raises(OperationalError, match="the deadline"):
        connection.execute(text("SELECT pg_sleep(60)"))
    monkeypatch.setattr(deadline, "CONNECT_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"
        other = make_engine(address, name="test")
        with pytest.raises(OperationalError, match="the deadline"):
            other.connect()
        other.dispose()
