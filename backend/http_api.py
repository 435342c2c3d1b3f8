"""The HTTP contract as types: answers, errors, the OpenAPI description. No Flask, no storage.

docs/http.md tells the same to people; a test holds the three together.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

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


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Accepted(_Model):
    """A call is in the queue. A repeated external_id gets the very same answer again."""

    id: UUID = Field(description="The task: GET /tasks/{id} tells how far it is.")
    state: Literal["queued"] = Field(description="As it was handed in; not how far it is now.")
    external_id: str | None = Field(description="As you gave it.")


class Said(_Model):
    """One utterance."""

    speaker: Literal["caller", "robot"]
    text: str
    start_ms: int = Field(description="From the first audio frame of the call.")
    end_ms: int
    confidence: float | None = Field(description="0 to 1; null when the recogniser gave none.")
    language: str | None


class TaskAnswer(_Model):
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
    error: str | None = Field(description="For a person; what went wrong.")
    change: int = Field(description="The cursor of this change.")


class TaskList(_Model):
    """Tasks asked for by their ids, in that order."""

    tasks: list[TaskAnswer]
    unknown: list[UUID] = Field(description="Ids that are no task.")


class TaskChanges(_Model):
    """Tasks that changed, the oldest change first."""

    tasks: list[TaskAnswer]
    cursor: int = Field(description="Give it as changed_since the next time. Keep it.")
    more: bool = Field(description="true: there are more; ask again at once.")


class Part(_Model):
    """One part of the backend."""

    ok: bool
    why: str = Field(description="For a person.")


class Health(_Model):
    """Whether calls can be made. ``parts`` only with a token."""

    status: Literal["ok", "down"]
    parts: dict[str, Part] | None = None


class Problem(_Model):
    """What was wrong."""

    code: str = Field(description="For programs: bad_request, unauthorized, not_found, …")
    parameter: str | None = Field(description="The name of the parameter as you wrote it.")
    why: str = Field(description="For people.")


class ErrorAnswer(_Model):
    """Every answer that is not a success."""

    error: Problem


def task_answer(task: Task) -> dict[str, Any]:
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
        error=task.error,
        change=task.change,
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


# --- OpenAPI -------------------------------------------------------------------------------------

_MODELS = (Accepted, TaskAnswer, TaskList, TaskChanges, Health, ErrorAnswer)

_DIAL_PARAMETERS: tuple[tuple[str, str], ...] = (
    ("phone", "The number: 3 to 15 digits, a plus before them if any (in a URL: %2B)."),
    ("file", "The sound the scenario plays first: relative to Asterisk's sounds, no extension."),
    ("scenario", "Name of the scenario; default: setting default_scenario."),
    ("context", "Dialplan context, one of the setting contexts; default: the first."),
    ("channel", "Name of the trunk, one of the setting channels; default: 'default'."),
    ("caller_id", "Caller id, one of the setting caller_ids; default: setting caller_id."),
    ("external_id", "Your key, up to 128 bytes: the same key is the same task, for ever."),
    ("timeout", "How long it may ring, seconds, 1 to 300; default: setting dial_timeout_s."),
)


def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 description."""
    _, schemas = models_json_schema(
        [(model, "serialization") for model in _MODELS],
        ref_template="#/components/schemas/{model}",
    )
    secured: list[dict[str, list[str]]] = [{"bearer": []}, {"basic": []}, {"query": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asterisk-dialog",
            "version": version,
            "description": "Calls to make, and what became of them.",
        },
        "security": secured,
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"] | {"OutboundCall": _outbound_schema()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "user: the client's name; password: its token",
                },
                "query": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "only where the setting http_token_in_query allows it",
                },
            },
        },
    }


def _paths() -> dict[str, Any]:
    return {
        "/originate": {"get": _originate()},
        "/outbound-calls": {"post": _outbound()},
        "/tasks/{id}": {"get": _one_task()},
        "/tasks": {"get": _many_tasks()},
        "/health": {
            "get": {
                "summary": "Whether calls can be made; the parts only with a token.",
                "security": [{}, {"bearer": []}, {"basic": []}],
                "responses": {
                    "200": _answer("Health", "all parts work"),
                    "503": _answer("Health", "a part does not"),
                },
            }
        },
        "/metrics": {"get": _plain("Figures for Prometheus.", "text/plain")},
        "/openapi.json": {"get": _plain("This description.", "application/json")},
        "/docs": {"get": _plain("This description for people.", "text/html")},
    }


def _originate() -> dict[str, Any]:
    parameters = [_query(name, text, name == "phone") for name, text in _DIAL_PARAMETERS]
    parameters.append(
        _query("var_NAME", "Channel variable NAME, one of the setting variables; repeatable.")
    )
    return {
        "summary": "Make a call. Safe to repeat with the same external_id.",
        "parameters": parameters,
        "responses": _responses(_accepted("200")),
    }


def _outbound() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/OutboundCall"}
    return {
        "summary": "Make a call (JSON). The same as /originate under other names.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": _responses(
            _accepted("202"),
            **{"413": "too large", "415": "not application/json"},
        ),
    }


def _one_task() -> dict[str, Any]:
    return {
        "summary": "One task.",
        "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "responses": _responses({"200": _answer("TaskAnswer", "the task")}, **{"404": "no task"}),
    }


def _many_tasks() -> dict[str, Any]:
    one = {"$ref": "#/components/schemas/TaskList"}
    other = {"$ref": "#/components/schemas/TaskChanges"}
    return {
        "summary": "Several tasks (ids), or those that changed (changed_since).",
        "parameters": [
            _query("ids", f"Ids, comma separated, at most {MAX_IDS}."),
            _query("changed_since", "The cursor of the last answer; 0: from the beginning."),
            _query("limit", f"With changed_since: 1 to {MAX_PAGE}, default {DEFAULT_PAGE}."),
        ],
        "responses": _responses(
            {
                "200": {
                    "description": "the tasks",
                    "content": {"application/json": {"schema": {"oneOf": [one, other]}}},
                }
            }
        ),
    }


def _outbound_schema() -> dict[str, Any]:
    texts = dict(_DIAL_PARAMETERS)
    properties: dict[str, Any] = {
        name: {"type": "string", "description": texts[ours]}
        for name, ours in OUTBOUND_NAMES.items()
        if ours in texts
    }
    properties["timeout"]["type"] = "number"
    properties["variables"] = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Channel variables, names from the setting variables.",
    }
    return {
        "type": "object",
        "properties": properties,
        "required": ["destinationNumber"],
        "additionalProperties": False,
    }


def _query(name: str, text: str, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": text,
        "schema": {"type": "string"},
    }


def _accepted(status: str) -> dict[str, Any]:
    answer = _answer("Accepted", "in the queue, or there already")
    answer["headers"] = {
        "Idempotent-Replayed": {
            "description": "true: the external_id was known; this is its task, unchanged",
            "schema": {"type": "string", "enum": ["true", "false"]},
        }
    }
    return {status: answer}


def _answer(model: str, text: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _responses(success: dict[str, Any], **others: str) -> dict[str, Any]:
    errors = {
        "400": "a parameter is wrong; error.parameter names it",
        "401": "no token, or a wrong one",
        **others,
        "503": "PostgreSQL is away; repeat after Retry-After seconds (external_id makes it safe)",
    }
    return success | {status: _answer("ErrorAnswer", text) for status, text in errors.items()}


def _plain(summary: str, kind: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "text", "content": {kind: {}}},
            "401": _answer("ErrorAnswer", "no token, or a wrong one"),
        },
    }
