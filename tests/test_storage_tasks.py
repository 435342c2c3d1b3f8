"""storage.tasks against a real PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from backend.errors import StorageUnavailable
from backend.model import Outcome, Reason, TaskRequest, TaskState
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.engine import make_engine
from backend.storage.tasks import Tasks
from backend.storage.upkeep import Instance, Instances
from backend.storage.waiting import Waiter

REQUEST = TaskRequest(phone="79161234567", scenario="article", file="hello")
FAILED = Outcome(TaskState.FAILED, Reason.ASTERISK_REFUSED)


@pytest.fixture
def tasks(engine: Engine) -> Tasks:
    return Tasks(engine)


def test_submit_keeps_the_whole_request(tasks: Tasks) -> None:
    request = replace(
        REQUEST,
        external_id="order 17 / Ж",
        caller_id="74951234567",
        channel="beeline",
        variables={"order": "17"},
        dial_timeout_s=12.5,
    )
    task, created = tasks.submit(request)
    assert created
    assert task.request == request
    assert task.state is TaskState.QUEUED
    assert task.change > 0
    assert tasks.get(task.id) == task


def test_the_same_external_id_is_the_same_task(tasks: Tasks) -> None:
    first, _ = tasks.submit(replace(REQUEST, external_id="a"))
    again, created = tasks.submit(replace(REQUEST, external_id="a", phone="70000000000"))
    assert not created
    assert again == first


def test_fifty_at_once_make_one_task(tasks: Tasks) -> None:
    barrier = threading.Barrier(25)

    def submit(_: int) -> tuple[UUID, bool]:
        barrier.wait(10)
        task, created = tasks.submit(replace(REQUEST, external_id="one"))
        return task.id, created

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(submit, range(50)))
    assert len({task_id for task_id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    assert tasks.count_by_state()[TaskState.QUEUED] == 1


def test_without_external_id_each_is_a_task(tasks: Tasks) -> None:
    assert tasks.submit(REQUEST)[0].id != tasks.submit(REQUEST)[0].id


def test_get_many_keeps_the_order_and_leaves_out_the_unknown(tasks: Tasks) -> None:
    ids = [tasks.submit(REQUEST)[0].id for _ in range(3)]
    asked = [ids[2], uuid4(), ids[0], ids[2]]
    assert [task.id for task in tasks.get_many(asked)] == [ids[2], ids[0]]
    assert tasks.get(uuid4()) is None


def test_claim_takes_the_oldest_first(tasks: Tasks) -> None:
    ids = [tasks.submit(REQUEST)[0].id for _ in range(3)]
    owner = uuid4()
    claimed = tasks.claim("node", owner, 2)
    assert [task.id for task in claimed] == ids[:2]
    assert {task.state for task in claimed} == {TaskState.DIALING}
    assert claimed[0].uniqueid == f"dialog-{ids[0]}"
    assert claimed[0].dialed_at is not None
    assert [open_task.owner for open_task in tasks.open_tasks("node")] == [owner, owner]
    assert tasks.open_tasks("another") == []
    assert (tasks.in_progress("node"), tasks.in_progress("another")) == (2, 0)
    assert [task.id for task in tasks.claim("node", owner, 9)] == ids[2:]
    assert tasks.claim("node", owner, 9) == []


def test_two_claimers_never_get_the_same_task(tasks: Tasks) -> None:
    ids = {tasks.submit(REQUEST)[0].id for _ in range(60)}

    def claim_all(_: int) -> list[UUID]:
        mine: list[UUID] = []
        while got := tasks.claim("node", uuid4(), 3):
            mine += [task.id for task in got]
        return mine

    with ThreadPoolExecutor(4) as pool:
        claimed = [task_id for mine in pool.map(claim_all, range(4)) for task_id in mine]
    assert sorted(claimed) == sorted(ids)


def test_release_puts_back_what_was_not_dialled(tasks: Tasks) -> None:
    task, _ = tasks.submit(REQUEST)
    assert not tasks.release(task.id)
    tasks.claim("node", uuid4(), 1)
    assert tasks.release(task.id)
    again = tasks.get(task.id)
    assert again is not None
    assert (again.state, again.dialed_at, again.uniqueid) == (TaskState.QUEUED, None, None)
    assert tasks.claim("node", uuid4(), 1)[0].id == task.id


def test_settle_ends_a_task_once(tasks: Tasks) -> None:
    task, _ = tasks.submit(REQUEST)
    tasks.claim("node", uuid4(), 1)
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert tasks.settle(task.id, FAILED, error="no such context", at=at)
    assert not tasks.settle(task.id, Outcome(TaskState.DONE, Reason.COMPLETED))
    assert not tasks.settle(uuid4(), FAILED)
    ended = tasks.get(task.id)
    assert ended is not None
    assert (ended.state, ended.reason) == (TaskState.FAILED, Reason.ASTERISK_REFUSED)
    assert (ended.error, ended.ended_at) == ("no such context", at)
    assert tasks.open_tasks() == []


def test_open_tasks_know_when_their_owner_was_seen(tasks: Tasks, engine: Engine) -> None:
    me = Instance("node", "control")
    Instances(engine).beat(me)
    tasks.submit(REQUEST)
    tasks.claim("node", me.id, 1)
    (found,) = tasks.open_tasks("node")
    assert found.owner_seen_at is not None
    assert found.progress.state is TaskState.DIALING


def test_changed_since_gives_each_change_in_pages(tasks: Tasks) -> None:
    ids = [tasks.submit(REQUEST)[0].id for _ in range(5)]
    page, cursor = tasks.changed_since(0, 3)
    assert [task.id for task in page] == ids[:3]
    page, cursor = tasks.changed_since(cursor, 3)
    assert [task.id for task in page] == ids[3:]
    assert tasks.changed_since(cursor, 3) == ([], cursor)
    tasks.settle(ids[0], FAILED)
    page, later = tasks.changed_since(cursor, 3)
    assert [task.id for task in page] == ids[:1]
    assert later > cursor


def test_a_poller_misses_no_change_of_concurrent_writers(tasks: Tasks) -> None:
    done = threading.Event()
    seen: dict[UUID, TaskState] = {}

    def poll() -> None:
        cursor = 0
        while True:
            last = done.is_set()
            page, cursor = tasks.changed_since(cursor, 7)
            seen.update((task.id, task.state) for task in page)
            if last and not page:
                return

    def write(_: int) -> list[UUID]:
        mine = [tasks.submit(REQUEST)[0].id for _ in range(15)]
        for task_id in mine[::2]:
            tasks.settle(task_id, FAILED)
        return mine

    poller = threading.Thread(target=poll, name="poller")
    poller.start()
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, range(8)))
    done.set()
    poller.join(10)
    assert not poller.is_alive()
    for mine in written:
        assert [seen[task_id] for task_id in mine] == [
            TaskState.QUEUED if n % 2 else TaskState.FAILED for n in range(15)
        ]


def test_a_waiter_wakes_at_once(tasks: Tasks, engine: Engine) -> None:
    waiter = Waiter(engine)
    try:
        assert waiter.wait(1)  # just connected: look
        assert not waiter.wait(0.05)
        timer = threading.Timer(0.1, tasks.submit, [REQUEST])
        timer.start()
        assert waiter.wait(60), "nobody told it"
        timer.join()
        assert not waiter.wait(0.05)
        waiter.wake()
        assert waiter.wait(5)
    finally:
        waiter.close()
        waiter.close()
        waiter.wake()


def test_a_waiter_survives_a_restart_of_postgresql(
    postgres: EmbeddedPostgres, tasks: Tasks, engine: Engine
) -> None:
    waiter = Waiter(engine)
    try:
        assert waiter.wait(1)
        postgres.pause()
        for _ in range(3):
            assert not waiter.wait(0.02)
        postgres.restart()
        assert waiter.wait(1)  # connected again: look, something may have been missed
        tasks.submit(REQUEST)
        assert waiter.wait(5)
    finally:
        waiter.close()


def test_no_postgresql_is_one_error() -> None:
    engine = make_engine("postgresql://nobody:geheim@127.0.0.1:17999/none", name="test")
    with pytest.raises(StorageUnavailable) as raised:
        Tasks(engine).submit(REQUEST)
    assert "geheim" not in str(raised.value)
    waiter = Waiter(engine)
    assert not waiter.wait(0.05)
    waiter.close()
