"""The order of changes to tasks: what makes ``changed_since`` miss nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Connection, Engine, text

# Arbitrary, fixed: keys of advisory locks are shared by everybody in the database.
CHANGE_LOCK = 0x61_64_69_61_6C_01
MIGRATION_LOCK = 0x61_64_69_61_6C_02
ROLLOUT_LOCK = 0x61_64_69_61_6C_03

WAKE_CHANNEL = "dialog_tasks"
ROUTES_CHANNEL = "dialog_routes"
FLOWS_CHANNEL = "dialog_flows"


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write tasks, one at a time in the whole system.

    A sequence alone does not do: a transaction that drew an earlier number may commit later, and
    a poller that saw the later number would never see the earlier one. PostgreSQL makes a commit
    visible before it gives the lock back, so under this lock numbers become visible in order.
    """
    with engine.begin() as connection:
        take_change_lock(connection)
        yield connection


def take_change_lock(connection: Connection) -> None:
    """Take the lock for the rest of the transaction. Take it before any row of tasks is locked,
    and after everything else that is slow."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CHANGE_LOCK})


def wake_dialers(connection: Connection, task_id: UUID | None = None) -> None:
    """Tell the listening dialers, at commit, that a task is queued."""
    connection.execute(
        text("SELECT pg_notify(:channel, :task)"),
        {"channel": WAKE_CHANNEL, "task": str(task_id or "")},
    )
