"""The HTTP contract as types: answers and errors. No Flask, no storage.

docs/http.md tells the same to people, http_openapi.py to programs; a test holds the three together.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from backend.dialing.routing import Route
from backend.model import Reason, Task, TaskState

MAX_IDS = 500
MAX_PAGE = 1000
DEFAULT_PAGE = 100
MAX_BODY_BYTES = 64 * 1024

# Names in POST /outbound-calls and what they are called everywhere else.
OUTBOUND_NAMES: Mapping[str, str] = {
    "destinationNumber": "phone",
    "bizId": "external_id",
    "callerIdNumber": "caller_id",
    "variables": "variables",
    "scenario": "scenario",
    "file": "file",
    "context": "context",
    "channel": "channel",
    "timeout": "timeout",
}


ROUTE_FIELDS = ("pattern", "scenario", "direction")  # of PUT /routes


class Model(BaseModel):
    """Every answer: no other fields, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Accepted(Model):
    """A call is in the queue. A repeated external_id gets the very same answer again."""

    id: UUID = Field(description="The task: GET /tasks/{id} tells how far it is.")
    state: Literal["queued"] = Field(description="As it was handed in; not how far it is now.")
    external_id: str | None = Field(description="As you gave it.")


class Said(Model):
    """One utterance."""

    speaker: Literal["caller", "robot"]
    text: str
    start_ms: int = Field(description="From the first audio frame of the call.")
    end_ms: int
    confidence: float | None = Field(description="0 to 1; null when the recogniser gave none.")
    language: str | None


class TaskAnswer(Model):
    """A task. Times are ISO 8601 in UTC, null until it happened."""

    id: UUID
    external_id: str | None
    state: TaskState = Field(description="done, failed and unknown are final.")
    final: bool = Field(description="true: state and reason will not change any more.")
    reason: Reason | None = Field(description="Why it ended; null until it is final.")
    phone: str
    scenario: str
    file: str | None
    context: str
    channel: str = Field(description="The trunk, as named in the request or 'default'.")
    caller_id: str | None
    variables: dict[str, str]
    timeout_s: float = Field(description="How long it may ring.")
    created_at: datetime
    dialed_at: datetime | None
    ringing_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime | None
    talk_s: float | None = Field(description="From the answer to the end, seconds.")
    hangup_cause: int | None = Field(description="Q.850; 0: Asterisk gave none.")
    hangup_text: str | None
    asterisk_channel: str | None
    asterisk_uniqueid: str | None
    transcript: list[Said]
    text: str = Field(description="What the caller said, one line an utterance.")
    result: Any = Field(description="What the scenario returned: any JSON.")
    recording: str | None = Field(description="Path of the recording, as Asterisk writes it.")
    recording_url: str | None = Field(description="Where it can be fetched: GET /recordings/….")
    error: str | None = Field(description="For a person; what went wrong.")
    change: int = Field(description="The cursor of this change.")


class TaskList(Model):
    """Tasks asked for by their ids, in that order."""

    tasks: list[TaskAnswer]
    unknown: list[UUID] = Field(description="Ids that are no task.")


class TaskChanges(Model):
    """Tasks that changed, the oldest change first."""

    tasks: list[TaskAnswer]
    cursor: int = Field(description="Give it as changed_since the next time. Keep it.")
    more: bool = Field(description="true: there are more; ask again at once.")


class RouteAnswer(Model):
    """A route: numbers that fit the pattern get the scenario."""

    pattern: str = Field(description="A number, a beginning with '*', or '_' and a pattern.")
    direction: Literal["inbound", "outbound"]
    scenario: str
    changed_at: datetime


class RouteAnswers(Model):
    """Routes; with ``number`` those that fit it, the one that counts first."""

    routes: list[RouteAnswer]


class Part(Model):
    """One part of the backend."""

    ok: bool
    why: str = Field(description="For a person.")


class Health(Model):
    """Whether calls can be made. ``parts`` only with a token."""

    status: Literal["ok", "down"]
    parts: dict[str, Part] | None = None


class Problem(Model):
    """What was wrong."""

    code: str = Field(description="For programs: bad_request, unauthorized, not_found, …")
    parameter: str | None = Field(description="The name of the parameter as you wrote it.")
    why: str = Field(description="For people.")


class ErrorAnswer(Model):
    """Every answer that is not a success."""

    error: Problem


def task_answer(task: Task, recording_url: str | None = None) -> dict[str, Any]:
    """The JSON of a task."""
    ended = task.ended_at if task.state.final else None
    said = [
        Said(
            speaker=item.speaker,
            text=item.text,
            start_ms=item.start_ms,
            end_ms=item.end_ms,
            confidence=item.confidence,
            language=item.language,
        )
        for item in task.transcript
    ]
    return TaskAnswer(
        id=task.id,
        external_id=task.request.external_id,
        state=task.state,
        final=task.state.final,
        reason=task.reason,
        phone=task.request.phone,
        scenario=task.request.scenario,
        file=task.request.file,
        context=task.request.context,
        channel=task.request.channel,
        caller_id=task.request.caller_id,
        variables=dict(task.request.variables),
        timeout_s=task.request.dial_timeout_s,
        created_at=task.created_at.astimezone(UTC),
        dialed_at=_utc(task.dialed_at),
        ringing_at=_utc(task.ringing_at),
        answered_at=_utc(task.answered_at),
        ended_at=_utc(task.ended_at),
        talk_s=_seconds(task.answered_at, ended),
        hangup_cause=task.hangup_cause,
        hangup_text=task.hangup_text,
        asterisk_channel=task.channel,
        asterisk_uniqueid=task.uniqueid,
        transcript=said,
        text="\n".join(item.text for item in task.transcript if item.speaker == "caller"),
        result=task.result,
        recording=task.recording,
        recording_url=recording_url,
        error=task.error,
        change=task.change,
    ).model_dump(mode="json")


def route_answer(route: Route) -> dict[str, Any]:
    """The JSON of a route."""
    assert route.changed_at is not None, "only stored routes are answers"
    return RouteAnswer(
        pattern=route.pattern,
        direction=route.direction,
        scenario=route.scenario,
        changed_at=route.changed_at.astimezone(UTC),
    ).model_dump(mode="json")


def accepted(task: Task) -> dict[str, Any]:
    """The answer to a request to dial: depends on the request alone, so that each of many
    identical requests gets the same."""
    answer = Accepted(id=task.id, state="queued", external_id=task.request.external_id)
    return answer.model_dump(mode="json")


def problem(code: str, why: str, parameter: str | None = None) -> dict[str, Any]:
    """The JSON of an error."""
    error = ErrorAnswer(error=Problem(code=code, parameter=parameter, why=why))
    return error.model_dump(mode="json")


def _utc(time: datetime | None) -> datetime | None:
    return time.astimezone(UTC) if time else None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return round(max(0.0, (end - start).total_seconds()), 3) if start and end else None
