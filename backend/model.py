"""Frozen types of the domain. They pass between modules; they hold no behaviour but their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID


class TaskState(StrEnum):
    """Where a task is. The last three are final: a task enters one of them once, and stays.

    queued → dialing → ringing → talking → done | failed | unknown
    """

    QUEUED = "queued"
    DIALING = "dialing"
    RINGING = "ringing"
    TALKING = "talking"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.UNKNOWN})


class Reason(StrEnum):
    """Why a call ended: a closed list, also the contract with 1C (docs/http.md)."""

    COMPLETED = "completed"  # done: the scenario returned; its result is in the task
    BUSY = "busy"  # Q.850 17
    NO_ANSWER = "no_answer"  # Q.850 18, 19, or the dial timeout
    REJECTED = "rejected"  # Q.850 21
    INVALID_NUMBER = "invalid_number"  # Q.850 1, 22, 28
    UNREACHABLE = "unreachable"  # Q.850 2, 3, 20, 27: no route, subscriber absent, out of order
    CONGESTION = "congestion"  # Q.850 34, 38, 41, 42, 44: the network, try later
    CALLER_HANGUP = "caller_hangup"  # answered, and hung up before the scenario's end
    SCENARIO_ERROR = "scenario_error"  # the function raised; see the task's error
    RECOGNITION_UNAVAILABLE = "recognition_unavailable"
    SYNTHESIS_UNAVAILABLE = "synthesis_unavailable"
    BACKEND_LOST = "backend_lost"  # the backend died or was away during the call
    ASTERISK_REFUSED = "asterisk_refused"  # Originate was refused: trunk, context or rights
    ASTERISK_LOST = "asterisk_lost"  # Asterisk went away during the call
    OTHER = "other"  # hung up with a cause not listed; see hangup_cause


@dataclass(frozen=True, slots=True)
class Outcome:
    """How something ended: ``result`` is one of the final states."""

    result: TaskState
    reason: Reason

    def __str__(self) -> str:
        return f"{self.result}/{self.reason}"


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A call to make, checked at the door (dialing.policy.admit)."""

    phone: str
    scenario: str
    file: str | None = None
    context: str = "dialog-outbound"
    channel: str = "default"  # the name of a configured trunk, never a dial string
    caller_id: str | None = None
    external_id: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    dial_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Task:
    """A task as stored: the request and how far it is."""

    id: UUID
    request: TaskRequest
    state: TaskState
    reason: Reason | None
    change: int  # rises with every change of any task: the cursor of changed_since
    created_at: datetime
    dialed_at: datetime | None = None
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    channel: str | None = None  # Asterisk's channel name
    uniqueid: str | None = None
    hangup_cause: int | None = None  # Q.850
    hangup_text: str | None = None
    result: Any = None  # what the scenario returned, JSON
    error: str | None = None
    recording: str | None = None
    transcript: tuple[Utterance, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word; times in ms of the call's audio stream."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something said in a call, by the caller (recognised) or by us (spoken).

    ``start_ms``/``end_ms`` count from the first audio frame of the call.
    """

    speaker: Literal["caller", "robot"]
    text: str
    start_ms: int
    end_ms: int
    confidence: float | None = None
    language: str | None = None
    words: tuple[Word, ...] = ()


# --- Records: what is written to the journal on disk first, and from there to PostgreSQL ---------


@dataclass(frozen=True, slots=True)
class AmiEvent:
    """One AMI event as received. ``(stream, seq)`` is unique for ever: a stream is one life of
    one connection's reader, seq counts from 1 within it. ``body`` holds every header."""

    stream: UUID
    seq: int
    received_at: datetime
    name: str
    uniqueid: str | None
    linkedid: str | None
    channel: str | None
    body: Mapping[str, str | list[str]]


# What a call came over: WebRTC is PJSIP with a browser at the other end (protocol.channels).
ChannelKind = Literal["sip", "webrtc", "local", "other"]


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A scenario took a call. ``task_id`` is None for an inbound call."""

    call_id: UUID
    task_id: UUID | None
    at: datetime
    node: str
    worker: str
    scenario: str
    direction: Literal["inbound", "outbound"]
    channel: str
    uniqueid: str
    caller: str
    called: str
    channel_kind: ChannelKind = "other"


@dataclass(frozen=True, slots=True)
class CallSaid:
    """The n-th utterance of a call (n counts from 0)."""

    call_id: UUID
    task_id: UUID | None
    n: int
    at: datetime
    utterance: Utterance


@dataclass(frozen=True, slots=True)
class CallRecording:
    """A recording was started; ``path`` as Asterisk writes it."""

    call_id: UUID
    task_id: UUID | None
    at: datetime
    path: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The scenario of a call has ended; it is the last record of a call."""

    call_id: UUID
    task_id: UUID | None
    at: datetime
    outcome: Outcome
    result: Any
    error: str | None
    figures: Mapping[str, float] = field(default_factory=dict)  # e.g. frames, lost frames


StepKind = Literal["flow", "node", "state", "key", "conflict", "alarm", "flow_end"]


@dataclass(frozen=True, slots=True)
class CallStep:
    """The n-th step of a call whose keys are guarded, or that a flow leads (n counts from 0).

    ``flow``, ``version``, ``node``: where it happened; None outside a flow. ``state``: of the keys'
    machine, after it. ``at_ms``: the place in the call's audio. ``body`` by kind: docs/flows.md.
    """

    call_id: UUID
    task_id: UUID | None
    n: int
    at: datetime
    kind: StepKind
    flow: str | None
    version: str | None
    node: str | None
    state: str
    at_ms: int
    body: Mapping[str, Any] = field(default_factory=dict)


Record = AmiEvent | CallStarted | CallSaid | CallRecording | CallStep | CallEnded
