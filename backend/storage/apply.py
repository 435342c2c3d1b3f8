"""Records into PostgreSQL: events, calls, utterances, steps, and what they move and count.

One transaction a batch. Applying a batch twice changes nothing: only records that were new move
a task or count to a figure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, bindparam, select, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import DBAPIError, ProgrammingError, StatementError

from backend.dialing.progress import Progress, advance, task_of
from backend.errors import DialogError
from backend.model import (
    AmiEvent,
    CallEnded,
    CallRecording,
    CallSaid,
    CallStarted,
    CallStep,
    Record,
)
from backend.storage.bulk import insert_many
from backend.storage.changes import take_change_lock
from backend.storage.engine import clean_or_none, clean_text, reaching, to_json
from backend.storage.figures import count_figures
from backend.storage.rows import PROGRESS_COLUMNS, progress_of, progress_values
from backend.storage.tables import calls, events, steps, task_change, tasks, utterances

log = logging.getLogger(__name__)

# SQLSTATEs that begin so are about a value: data, constraint, a limit of PostgreSQL's, its type.
_DATA_CODES = ("22", "23", "54", "42804", "42846")
# What our own code raises for a value of the wrong kind (an edited journal, a mistake of ours).
_ODD_VALUE = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)


class RecordRefused(DialogError):
    """PostgreSQL refuses a batch for what is in it; trying again will not help."""


class RecordStore:
    """Applies batches of records."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def store(self, records: Sequence[Record], *, move_tasks: bool = True) -> int:
        """Store ``records`` in one transaction; returns how many were new.

        ``move_tasks`` False keeps the records only. Raises StorageUnavailable (nothing of the
        batch is there, or all of it: store it again), RecordRefused.
        """
        with reaching("records"):
            try:
                with self._engine.begin() as connection:
                    fresh = _insert(connection, records)
                    count_figures(connection, fresh)
                    if move_tasks:
                        _move_tasks(connection, fresh)
                    return len(fresh)
            except StatementError as error:
                if _is_about_data(error):
                    raise RecordRefused(str(error).splitlines()[0]) from error
                raise
            except _ODD_VALUE as error:
                raise RecordRefused(repr(error)) from error


def _is_about_data(error: StatementError) -> bool:
    if not isinstance(error, DBAPIError):
        return True  # it did not come to a statement: a value that is no JSON, no UUID, …
    code = getattr(error.orig, "pgcode", None)
    if code is None:  # from the driver; "can't adapt type" is its only word on a value
        return isinstance(error, ProgrammingError) and not error.connection_invalidated
    return str(code).startswith(_DATA_CODES)


def _insert(connection: Connection, records: Sequence[Record]) -> list[Record]:
    """Insert what is not there yet; returns that, in order."""
    known = _insert_events(connection, [r for r in records if isinstance(r, AmiEvent)])
    known |= _insert_steps(connection, [r for r in records if isinstance(r, CallStep)])
    fresh: list[Record] = []
    for record in records:
        if isinstance(record, AmiEvent | CallStep):
            key = _key(record)
            if key in known:
                known.discard(key)  # once, if it is twice in the batch
                fresh.append(record)
        elif connection.execute(_call_statement(record)).rowcount:
            fresh.append(record)
    return fresh


def _key(record: AmiEvent | CallStep) -> tuple[str, UUID, int]:
    if isinstance(record, AmiEvent):
        return "event", record.stream, record.seq
    return "step", record.call_id, record.n


def _insert_events(
    connection: Connection, records: Sequence[AmiEvent]
) -> set[tuple[str, UUID, int]]:
    """Returns the keys of those that were new."""
    if not records:
        return set()
    rows = insert_many(
        connection,
        f"INSERT INTO {events.name} (stream, seq, received_at, name, uniqueid, linkedid,"  # noqa: S608
        " channel, body) VALUES %s ON CONFLICT (stream, seq) DO NOTHING RETURNING stream, seq",
        [_event_row(record) for record in records],
        fetch=True,
    )
    return {("event", UUID(str(stream)), seq) for stream, seq in rows}


def _insert_steps(
    connection: Connection, records: Sequence[CallStep]
) -> set[tuple[str, UUID, int]]:
    """Returns the keys of those that were new."""
    if not records:
        return set()
    rows = insert_many(
        connection,
        f"INSERT INTO {steps.name} (call_id, n, task_id, at, kind, flow, version, node, state,"  # noqa: S608
        " at_ms, body) VALUES %s ON CONFLICT (call_id, n) DO NOTHING RETURNING call_id, n",
        [_step_row(record) for record in records],
        fetch=True,
    )
    return {("step", UUID(str(call_id)), n) for call_id, n in rows}


def _step_row(step: CallStep) -> tuple[Any, ...]:
    return (
        str(step.call_id),
        step.n,
        str(step.task_id) if step.task_id else None,
        step.at,
        clean_text(step.kind),
        clean_or_none(step.flow),
        clean_or_none(step.version),
        clean_or_none(step.node),
        clean_text(step.state),
        step.at_ms,
        to_json(dict(step.body)),
    )


def _event_row(event: AmiEvent) -> tuple[Any, ...]:
    return (
        str(event.stream),
        event.seq,
        event.received_at,
        clean_text(event.name),
        clean_or_none(event.uniqueid),
        clean_or_none(event.linkedid),
        clean_or_none(event.channel),
        to_json(event.body),
    )


def _call_statement(record: Record) -> Insert:
    if isinstance(record, CallStarted):
        return _started(record)
    if isinstance(record, CallSaid):
        return _said(record)
    if isinstance(record, CallRecording):
        return _recording(record)
    assert isinstance(record, CallEnded)
    return _ended(record)


def _started(record: CallStarted) -> Insert:
    values = {
        "task_id": record.task_id,
        "started_at": record.at,
        "direction": record.direction,
        **{
            name: clean_text(getattr(record, name))
            for name in ("node", "worker", "scenario", "channel", "uniqueid", "caller", "called")
        },
    }
    statement = insert(calls).values(id=record.call_id, **values)
    return statement.on_conflict_do_update(
        index_elements=["id"], set_=values, where=calls.c.started_at.is_(None)
    )


def _said(record: CallSaid) -> Insert:
    said = record.utterance
    words = [{"text": w.text, "start_ms": w.start_ms, "end_ms": w.end_ms} for w in said.words]
    statement = insert(utterances).values(
        call_id=record.call_id,
        n=record.n,
        task_id=record.task_id,
        at=record.at,
        speaker=said.speaker,
        text=clean_text(said.text),
        start_ms=said.start_ms,
        end_ms=said.end_ms,
        confidence=said.confidence,
        language=clean_or_none(said.language),
        words=words or None,
    )
    return statement.on_conflict_do_nothing(index_elements=["call_id", "n"])


def _recording(record: CallRecording) -> Insert:
    values = {"task_id": record.task_id, "recording": clean_text(record.path)}
    statement = insert(calls).values(id=record.call_id, **values)
    return statement.on_conflict_do_update(
        index_elements=["id"], set_=values, where=calls.c.recording.is_(None)
    )


def _ended(record: CallEnded) -> Insert:
    values = {
        "task_id": record.task_id,
        "ended_at": record.at,
        "state": str(record.outcome.result),
        "reason": str(record.outcome.reason),
        "result": record.result,
        "error": clean_or_none(record.error),
        "figures": dict(record.figures),
    }
    statement = insert(calls).values(id=record.call_id, **values)
    return statement.on_conflict_do_update(
        index_elements=["id"], set_=values, where=calls.c.ended_at.is_(None)
    )


def _move_tasks(connection: Connection, records: Iterable[Record]) -> None:
    by_task: dict[UUID, list[Record]] = {}
    for record in records:
        if (task_id := task_of(record)) is not None:
            by_task.setdefault(task_id, []).append(record)
    if not by_task:
        return
    take_change_lock(connection)
    wanted = select(tasks.c.id, *PROGRESS_COLUMNS).where(tasks.c.id.in_(by_task))
    for row in connection.execute(wanted.with_for_update()).mappings().all():
        before = progress_of(row)
        mine = by_task[row["id"]]
        after = _fold(advance, before, mine)
        # What was said is part of the task's answer, so it is a change, too.
        if after != before or any(isinstance(record, CallSaid) for record in mine):
            values = {f"new_{name}": value for name, value in progress_values(after).items()}
            connection.execute(_UPDATE, {"task": row["id"], **values})


def _fold(
    step: Callable[[Progress, Record], Progress], progress: Progress, records: Iterable[Record]
) -> Progress:
    for record in records:
        progress = step(progress, record)
    return progress


_UPDATE = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"))
    .values(
        change=task_change.next_value(),
        **{column.name: bindparam(f"new_{column.name}") for column in PROGRESS_COLUMNS},
    )
)
