"""The tasks: handed in by clients, taken by dialers, watched by pollers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from backend.dialing.progress import Progress, channel_id, settled
from backend.model import Outcome, Task, TaskRequest, TaskState, Utterance
from backend.storage.changes import changing, wake_dialers
from backend.storage.deadline import within
from backend.storage.engine import POOL, reaching
from backend.storage.pins import pinned_elsewhere, pinned_here
from backend.storage.rows import (
    PROGRESS_COLUMNS,
    progress_of,
    progress_values,
    request_values,
    task_of_row,
    utterance_of_row,
)
from backend.storage.tables import instances, task_change, tasks, utterances
from backend.storage.turns import Turns

IN_CALL_S = 5.0  # a call waits for PostgreSQL in silence

_OPEN = (TaskState.DIALING, TaskState.RINGING, TaskState.TALKING)


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task in progress, with what the sweeper needs to judge it.

    ``owner_seen_at``: last heartbeat of the process that dials it; None when that is unknown.
    """

    task: Task
    progress: Progress
    owner: UUID | None
    owner_seen_at: datetime | None


class Tasks:
    """The table of tasks. Thread-safe. Every method raises StorageUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def submit(self, request: TaskRequest) -> tuple[Task, bool]:
        """Queue a call and wake a dialer. Returns the task and whether it is new.

        A request whose ``external_id`` is known gets the task it belongs to, unchanged, whatever
        else the request says.
        """
        with reaching("submit a task"):
            if request.external_id is not None and (found := self._known(request.external_id)):
                return found, False
            with changing(self._engine) as connection:
                task = self._insert(connection, request)
                if task is not None:
                    wake_dialers(connection, task.id)
                    return task, True
            assert request.external_id is not None
            found = self._known(request.external_id)
            assert found is not None, "tasks are not deleted"
            return found, False

    def get(self, task_id: UUID) -> Task | None:
        """The task with its transcript."""
        return next(iter(self.get_many([task_id])), None)

    def get_many(self, task_ids: Collection[UUID]) -> list[Task]:
        """Those that exist, with their transcripts, in the order of ``task_ids``."""
        with reaching("read tasks"), self._engine.connect() as connection:
            found = {task.id: task for task in _read(connection, tasks.c.id.in_(task_ids))}
        return [found[task_id] for task_id in dict.fromkeys(task_ids) if task_id in found]

    def changed_since(self, cursor: int, limit: int) -> tuple[list[Task], int]:
        """Tasks changed after ``cursor`` (0: all), oldest change first, and the next cursor.

        A task that changes again while pages are read comes again; none is missed.
        """
        with reaching("read changed tasks"), self._engine.connect() as connection:
            found = _read(connection, tasks.c.change > cursor, limit)
        return found, found[-1].change if found else cursor

    def claim(self, node: str, owner: UUID, limit: int, *, pinned_only: bool = False) -> list[Task]:
        """Take up to ``limit`` queued tasks, the oldest first: they are dialing now, and ours.

        ``owner`` is the id of the claiming process's instance row. Tasks of flows that are pinned
        to other nodes are left to those; ``pinned_only``: only those of flows pinned to this one.
        """
        # Read with the tasks, not remembered: a pin counts from its commit on. It costs 0.02 ms;
        # tasks that are left to others are passed over, 100,000 of them in 12 ms.
        mine = tasks.c.scenario.not_in(pinned_elsewhere(node))
        if pinned_only:
            mine = tasks.c.scenario.in_(pinned_here(node))
        queued = select(tasks.c.id).where(tasks.c.state == TaskState.QUEUED, mine)
        ordered = queued.order_by(tasks.c.created_at)  # by the index, whatever is in the way
        with reaching("claim tasks"):
            with self._engine.connect() as connection:  # nearly always empty: no lock for that
                if connection.execute(ordered.limit(1)).first() is None:
                    return []
            oldest = ordered.limit(limit)
            with changing(self._engine) as connection:
                now = datetime.now(UTC)
                ids = connection.execute(oldest.with_for_update(skip_locked=True)).scalars().all()
                for task_id in ids:
                    self._write(
                        connection,
                        task_id,
                        state=TaskState.DIALING,
                        dialed_at=now,
                        uniqueid=channel_id(task_id),
                        node=node,
                        owner=owner,
                    )
                return sorted(
                    _read(connection, tasks.c.id.in_(ids), transcripts=False),
                    key=lambda task: task.created_at,
                )

    def release(self, task_id: UUID) -> bool:
        """Give a claimed task back to the queue: certainly not dialled yet. False: too late."""
        with reaching("release a task"), changing(self._engine) as connection:
            wanted = tasks.c.id == task_id, tasks.c.state == TaskState.DIALING
            if not connection.execute(select(tasks.c.id).where(*wanted).with_for_update()).first():
                return False
            empty: dict[str, Any] = dict.fromkeys(("dialed_at", "uniqueid", "node", "owner"))
            self._write(connection, task_id, state=TaskState.QUEUED, **empty)
            wake_dialers(connection, task_id)
            return True

    def settle(
        self,
        task_id: UUID,
        outcome: Outcome,
        *,
        error: str | None = None,
        at: datetime | None = None,
    ) -> bool:
        """End a task by somebody's decision (dialer, sweeper). False: it had ended already."""
        with reaching("settle a task"), changing(self._engine) as connection:
            query = select(*PROGRESS_COLUMNS).where(tasks.c.id == task_id).with_for_update()
            row = connection.execute(query).mappings().first()
            if row is None:
                return False
            before = progress_of(row)
            after = settled(before, outcome, at or datetime.now(UTC), error)
            if after == before:
                return False
            self._write(connection, task_id, **progress_values(after))
            return True

    def open_tasks(self, node: str | None = None) -> list[OpenTask]:
        """Tasks in progress, of one node or of all, without transcripts."""
        query = (
            select(tasks, instances.c.seen_at.label("owner_seen_at"))
            .outerjoin(instances, instances.c.id == tasks.c.owner)
            .where(tasks.c.state.in_(_OPEN))
        )
        if node is not None:
            query = query.where(tasks.c.node == node)
        with reaching("read open tasks"), self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            OpenTask(task_of_row(row), progress_of(row), row["owner"], row["owner_seen_at"])
            for row in rows
        ]

    def in_progress(self, node: str) -> int:
        """How many tasks of the node are neither queued nor final."""
        query = select(func.count()).where(tasks.c.node == node, tasks.c.state.in_(_OPEN))
        with reaching("count open tasks"), self._engine.connect() as connection:
            return connection.execute(query).scalar_one()

    def count_by_state(self) -> dict[TaskState, int]:
        """How many tasks are in each state, zeros too."""
        query = select(tasks.c.state, func.count()).group_by(tasks.c.state)
        with reaching("count tasks"), self._engine.connect() as connection:
            found = {row[0]: int(row[1]) for row in connection.execute(query).all()}
        return {state: found.get(str(state), 0) for state in TaskState}

    def _known(self, external_id: str) -> Task | None:
        with self._engine.connect() as connection:
            return next(iter(_read(connection, tasks.c.external_id == external_id)), None)

    @staticmethod
    def _insert(connection: Connection, request: TaskRequest) -> Task | None:
        """None: its external_id is there already."""
        statement = (
            insert(tasks)
            .values(
                id=uuid4(),
                state=TaskState.QUEUED,
                change=task_change.next_value(),
                **request_values(request),
            )
            .on_conflict_do_nothing(index_elements=["external_id"])
            .returning(tasks)
        )
        row = connection.execute(statement).mappings().first()
        return task_of_row(row) if row else None

    @staticmethod
    def _write(connection: Connection, task_id: UUID, **values: Any) -> None:
        connection.execute(
            update(tasks)
            .where(tasks.c.id == task_id)
            .values(change=task_change.next_value(), **values)
        )


class CallTasks:
    """The tasks for those who talk meanwhile; implements ports.TaskDesk. ``turns``: of the
    engine's connections."""

    def __init__(self, engine: Engine, turns: Turns | None = None) -> None:
        self._tasks = Tasks(engine)
        self._turns = turns or Turns(POOL)

    def submit(self, request: TaskRequest) -> tuple[Task, bool]:
        with within(IN_CALL_S), self._turns.turn(IN_CALL_S / 2):
            return self._tasks.submit(request)

    def get(self, task_id: UUID) -> Task | None:
        with within(IN_CALL_S), self._turns.turn(IN_CALL_S / 2):
            return self._tasks.get(task_id)


def _read(
    connection: Connection,
    where: ColumnElement[bool],
    limit: int | None = None,
    *,
    transcripts: bool = True,
) -> list[Task]:
    """Tasks in the order of their changes."""
    query = select(tasks).where(where).order_by(tasks.c.change).limit(limit)
    rows = connection.execute(query).mappings().all()
    said: dict[UUID, list[Utterance]] = {}
    if rows and transcripts:
        said = _transcripts(connection, [row["id"] for row in rows])
    return [task_of_row(row, said.get(row["id"], ())) for row in rows]


def _transcripts(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, list[Utterance]]:
    query = (
        select(utterances)
        .where(utterances.c.task_id.in_(ids))
        .order_by(utterances.c.task_id, utterances.c.at, utterances.c.call_id, utterances.c.n)
    )
    said: dict[UUID, list[Utterance]] = {}
    for row in connection.execute(query).mappings():
        said.setdefault(row["task_id"], []).append(utterance_of_row(row))
    return said
