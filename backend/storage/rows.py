"""Rows to the domain's types and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, RowMapping

from backend.dialing.progress import Progress
from backend.model import Outcome, Reason, Task, TaskRequest, TaskState, Utterance, Word
from backend.storage.engine import clean_or_none
from backend.storage.tables import tasks

_SCENARIO = ("scenario_state", "scenario_reason")  # together Progress.scenario_outcome

PROGRESS_COLUMNS: tuple[Column[Any], ...] = tuple(
    tasks.c[name]
    for name in (
        *(name for name in Progress.__dataclass_fields__ if name != "scenario_outcome"),
        *_SCENARIO,
    )
)


def progress_of(row: RowMapping) -> Progress:
    """A task's progress; ``row`` holds PROGRESS_COLUMNS."""
    values = {c.name: row[c] for c in PROGRESS_COLUMNS if c.name not in _SCENARIO}
    values["state"] = TaskState(values["state"])
    values["reason"] = Reason(values["reason"]) if values["reason"] else None
    outcome = None
    if row["scenario_state"] is not None:
        outcome = Outcome(TaskState(row["scenario_state"]), Reason(row["scenario_reason"]))
    return Progress(**values, scenario_outcome=outcome)


def progress_values(progress: Progress) -> dict[str, Any]:
    """Values of PROGRESS_COLUMNS."""
    values = {c.name: getattr(progress, c.name, None) for c in PROGRESS_COLUMNS}
    for name in ("channel", "uniqueid", "hangup_text", "error", "recording"):
        values[name] = clean_or_none(values[name])
    values["state"] = str(progress.state)
    values["reason"] = str(progress.reason) if progress.reason else None
    outcome = progress.scenario_outcome
    values["scenario_state"] = str(outcome.result) if outcome else None
    values["scenario_reason"] = str(outcome.reason) if outcome else None
    return values


def request_values(request: TaskRequest) -> dict[str, Any]:
    """Column values of a request."""
    return {
        "phone": request.phone,
        "scenario": request.scenario,
        "file": request.file,
        "context": request.context,
        "trunk": request.channel,
        "caller_id": request.caller_id,
        "external_id": request.external_id,
        "variables": dict(request.variables),
        "dial_timeout_s": request.dial_timeout_s,
    }


def task_of_row(row: RowMapping, transcript: Sequence[Utterance] = ()) -> Task:
    """A task; ``row`` holds all columns of the table."""
    return Task(
        id=row["id"],
        request=_request(row),
        state=TaskState(row["state"]),
        reason=Reason(row["reason"]) if row["reason"] else None,
        transcript=tuple(transcript),
        **{name: row[name] for name in _PLAIN},
    )


_PLAIN = (
    "change",
    "created_at",
    "dialed_at",
    "ringing_at",
    "answered_at",
    "ended_at",
    "channel",
    "uniqueid",
    "hangup_cause",
    "hangup_text",
    "result",
    "error",
    "recording",
)


def _request(row: RowMapping) -> TaskRequest:
    return TaskRequest(
        phone=row["phone"],
        scenario=row["scenario"],
        file=row["file"],
        context=row["context"],
        channel=row["trunk"],
        caller_id=row["caller_id"],
        external_id=row["external_id"],
        variables=row["variables"],
        dial_timeout_s=row["dial_timeout_s"],
    )


def utterance_of_row(row: RowMapping) -> Utterance:
    return Utterance(
        speaker=row["speaker"],
        text=row["text"],
        start_ms=row["start_ms"],
        end_ms=row["end_ms"],
        confidence=row["confidence"],
        language=row["language"],
        words=tuple(Word(**word) for word in row["words"] or ()),
    )
