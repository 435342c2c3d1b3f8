"""Instances (heartbeats and figures), the retention of events and steps, counts for the metrics."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Delete, Engine, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from backend.model import TaskState
from backend.storage.engine import reaching
from backend.storage.figures import FlowFigures
from backend.storage.flows import Flows
from backend.storage.tables import calls, events, instances, steps
from backend.storage.tasks import Tasks

FORGET_INSTANCES_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Instance:
    """One life of one process. ``process``: supervisor, control, web, voice-0, voice-1, …"""

    node: str
    process: str
    id: UUID = field(default_factory=uuid4)
    pid: int = field(default_factory=os.getpid)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Seen:
    """An instance as others see it; ``age_s`` since its last heartbeat, by PostgreSQL's clock.

    ``stats``: figures (numbers) for /metrics, and ``ami_connected`` (control) for /health.
    """

    instance: Instance
    age_s: float
    stats: Mapping[str, Any]

    @property
    def node(self) -> str:
        return self.instance.node

    @property
    def process(self) -> str:
        return self.instance.process


class Instances:
    """Who is alive. Every method raises StorageUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def beat(self, instance: Instance, stats: Mapping[str, Any] | None = None) -> None:
        """A heartbeat: every few seconds from every process."""
        values = {"seen_at": func.clock_timestamp(), "stats": dict(stats or {})}
        statement = insert(instances).values(
            id=instance.id,
            node=instance.node,
            process=instance.process,
            pid=instance.pid,
            started_at=instance.started_at,
            **values,
        )
        with reaching("heartbeat"), self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))

    def leave(self, instance: Instance) -> None:
        """The process ends in order: it is neither alive nor missed."""
        with reaching("leave"), self._engine.begin() as connection:
            connection.execute(delete(instances).where(instances.c.id == instance.id))

    def seen(self, within_s: float = 60.0) -> list[Seen]:
        """Instances with a heartbeat in the last ``within_s`` seconds, by node and process."""
        age = func.extract("epoch", func.clock_timestamp() - instances.c.seen_at).label("age_s")
        query = (
            select(instances, age)
            .where(instances.c.seen_at > func.clock_timestamp() - timedelta(seconds=within_s))
            .order_by(instances.c.node, instances.c.process, instances.c.seen_at)
        )
        with reaching("read instances"), self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            Seen(
                Instance(row["node"], row["process"], row["id"], row["pid"], row["started_at"]),
                float(row["age_s"]),
                row["stats"],
            )
            for row in rows
        ]

    def forget_old(self) -> int:
        """Delete rows of processes that died long ago."""
        old = instances.c.seen_at < func.now() - FORGET_INSTANCES_AFTER
        with reaching("forget instances"), self._engine.begin() as connection:
            return connection.execute(delete(instances).where(old)).rowcount


class Events:
    """The AMI event log's upkeep. Every method raises StorageUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def delete_older(self, days: int, stop: threading.Event, batch: int = 5000) -> int:
        """Delete events received more than ``days`` ago, in small transactions, until ``stop``."""
        limit = datetime.now(UTC) - timedelta(days=days)
        old = select(events.c.id).where(events.c.received_at < limit).limit(batch)
        statement = delete(events).where(events.c.id.in_(old.scalar_subquery()))
        return _delete_in_batches(self._engine, statement, stop, batch)

    def estimate(self) -> int:
        """About how many events are stored (PostgreSQL's statistics; counting would take long)."""
        query = text("SELECT n_live_tup FROM pg_stat_user_tables WHERE relid = 'events'::regclass")
        with reaching("estimate events"), self._engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)


def _delete_in_batches(engine: Engine, statement: Delete, stop: threading.Event, batch: int) -> int:
    """Run ``statement``, which deletes ``batch`` rows at most, until it deletes fewer."""
    total = 0
    while not stop.is_set():
        with reaching("delete what is old"), engine.begin() as connection:
            count = connection.execute(statement).rowcount
        total += count
        if count < batch:
            break
        stop.wait(0.05)
    return total


class Steps:
    """The steps' upkeep. Raises StorageUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def delete_older(self, days: int, stop: threading.Event, batch: int = 5000) -> int:
        """Delete steps made more than ``days`` ago, as Events does. What was counted from them
        stays."""
        limit = datetime.now(UTC) - timedelta(days=days)
        key = tuple_(steps.c.call_id, steps.c.n)
        old = select(steps.c.call_id, steps.c.n).where(steps.c.at < limit).limit(batch)
        return _delete_in_batches(self._engine, delete(steps).where(key.in_(old)), stop, batch)


class Calls:
    """Counts of calls. Every method raises StorageUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def count_by_outcome(self) -> dict[tuple[str, str], int]:
        """Ended calls by (state, reason)."""
        query = (
            select(calls.c.state, calls.c.reason, func.count())
            .where(calls.c.ended_at.is_not(None))
            .group_by(calls.c.state, calls.c.reason)
        )
        with reaching("count calls"), self._engine.connect() as connection:
            return {(state, reason): n for state, reason, n in connection.execute(query).all()}


class Overview:
    """What the operator's pages show (http_figures.Overview)."""

    def __init__(self, engine: Engine) -> None:
        self._tasks = Tasks(engine)
        self._calls = Calls(engine)
        self._events = Events(engine)
        self._instances = Instances(engine)
        self._flows = FlowFigures(engine)
        self._published = Flows(engine)

    def count_tasks(self) -> Mapping[TaskState, int]:
        return self._tasks.count_by_state()

    def count_calls(self) -> Mapping[tuple[str, str], int]:
        return self._calls.count_by_outcome()

    def count_events(self) -> int:
        return self._events.estimate()

    def count_flows(self) -> Mapping[tuple[str, str], Mapping[str, float]]:
        return self._flows.all()

    def flow_shares(self) -> Mapping[tuple[str, str], float]:
        return self._published.shares()

    def processes(self, within_s: float) -> list[Seen]:
        return self._instances.seen(within_s)
