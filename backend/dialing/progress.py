"""How far a task is, computed from the records of its call. Pure: no clock, no database.

Records come from two sources that know nothing of each other: Asterisk's events (``AmiEvent``,
in Asterisk's order) and the scenario (``CallStarted`` … ``CallEnded``, in the worker's order).
They meet in any interleaving, after a crash also repeated. So ``advance`` first joins what a
record proves to what is known (earliest time wins, first word wins), then derives the state from
the whole: the order in which the two sources are read does not matter.

When a task is final
--------------------
============================================  ============================================
not answered: OriginateResponse says Failure  ``outcomes.unanswered(cause, reason)``
and the channel hung up
the channel hung up and CallEnded is there    the scenario's outcome
only one of such a pair came, or no channel   not final: the sweeper settles it after a grace
was made (OriginateResponse and no Hangup)
============================================  ============================================

A final state and reason never change; evidence that comes later (a cause, a time) is still kept.

How a record names its task
---------------------------
The dialer gives its Originate ``ChannelId: dialog-<task uuid>`` and the same text as ActionID.
Asterisk makes it the channel's Uniqueid. A Local channel has two halves: ``;1``, which runs our
dialplan, gets that id; ``;2`` gets ``dialog-<task uuid>-2`` (OtherChannelId) and does not count:
its hangup or answer is no news of the task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from backend.dialing.outcomes import ORIGINATE_ANSWERED, unanswered
from backend.model import (
    AmiEvent,
    CallEnded,
    CallRecording,
    CallSaid,
    CallStarted,
    CallStep,
    Outcome,
    Reason,
    Record,
    TaskState,
)

CHANNEL_ID_PREFIX = "dialog-"

_CHANNEL_ID = re.compile(r"dialog-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_ORDER = (TaskState.QUEUED, TaskState.DIALING, TaskState.RINGING, TaskState.TALKING)
_RINGING = "5"  # ChannelState, channelstate.h
_UP = "6"


@dataclass(frozen=True, slots=True)
class Progress:
    """The columns of a task that records change. Times are those of the records, with zone."""

    state: TaskState
    reason: Reason | None = None
    dialed_at: datetime | None = None
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None  # the channel's hangup; of a task without one, its settling
    channel: str | None = None
    uniqueid: str | None = None
    hangup_cause: int | None = None  # Q.850; 0: Asterisk gave none
    hangup_text: str | None = None
    originate_reason: int | None = None  # OriginateResponse: control frame, see outcomes
    scenario_outcome: Outcome | None = None
    scenario_ended_at: datetime | None = None
    result: Any = None  # JSON
    error: str | None = None
    recording: str | None = None

    @property
    def answered(self) -> bool:
        """The subscriber answered: Asterisk or the scenario proves it."""
        return self.answered_at is not None or self.scenario_outcome is not None


def channel_id(task_id: UUID) -> str:
    """The id that the dialer gives the task's channel, and its Originate as ActionID."""
    return f"{CHANNEL_ID_PREFIX}{task_id}"


def task_of_channel(uniqueid: str | None) -> UUID | None:
    """The task of a channel's Uniqueid; None for a channel that is not a task's own."""
    match = _CHANNEL_ID.fullmatch(uniqueid or "")
    return UUID(match[1]) if match else None


def task_of(record: Record) -> UUID | None:
    """The task that the record is about; None when it is about none."""
    if isinstance(record, CallStep):
        return None  # it moves no task
    if not isinstance(record, AmiEvent):
        return record.task_id
    if record.name == "OriginateResponse":
        return task_of_channel(_text(record.body, "ActionID"))
    return task_of_channel(record.uniqueid)


def advance(progress: Progress, record: Record) -> Progress:
    """The progress after ``record``, which must be the task's own (``task_of``).

    Equal to ``progress`` when the record tells nothing new.
    """
    if isinstance(record, CallStep):
        return progress
    if isinstance(record, AmiEvent):
        join = _AMI.get(record.name)
        known = join(progress, record) if join else progress
    else:
        known = _join_scenario(progress, record)
    return _derive(known)


def settled(
    progress: Progress, outcome: Outcome, at: datetime, error: str | None = None
) -> Progress:
    """The progress when somebody who is no record (dialer, sweeper) ends the task.

    Unchanged when it is final already.
    """
    if progress.state.final:
        return progress
    return replace(
        progress,
        state=outcome.result,
        reason=outcome.reason,
        ended_at=progress.ended_at or progress.scenario_ended_at or at,
        error=progress.error if error is None else error,
    )


def _derive(known: Progress) -> Progress:
    if known.state.final:
        return known
    outcome = _ending(known)
    if outcome is not None:
        return replace(known, state=outcome.result, reason=outcome.reason)
    if known.answered:
        reached = TaskState.TALKING
    elif known.ringing_at:
        reached = TaskState.RINGING
    elif known.dialed_at:
        reached = TaskState.DIALING
    else:
        reached = TaskState.QUEUED
    return replace(known, state=max(known.state, reached, key=_ORDER.index))


def _ending(known: Progress) -> Outcome | None:
    if known.ended_at is None:
        return None
    if known.scenario_outcome is not None:
        return known.scenario_outcome
    if known.answered_at is None and known.originate_reason not in (None, ORIGINATE_ANSWERED):
        return unanswered(known.hangup_cause, known.originate_reason)
    return None


def _join_newchannel(progress: Progress, event: AmiEvent) -> Progress:
    return replace(
        _named(progress, event.channel, event.uniqueid),
        dialed_at=progress.dialed_at or event.received_at,
    )


def _join_newstate(progress: Progress, event: AmiEvent) -> Progress:
    named = _named(progress, event.channel, event.uniqueid)
    state = _text(event.body, "ChannelState")
    if state == _RINGING:
        return replace(named, ringing_at=_earliest(progress.ringing_at, event.received_at))
    if state == _UP:
        return replace(named, answered_at=_earliest(progress.answered_at, event.received_at))
    return named


def _join_hangup(progress: Progress, event: AmiEvent) -> Progress:
    named = _named(progress, event.channel, event.uniqueid)
    if progress.hangup_cause is not None:
        return named
    return replace(
        named,
        ended_at=progress.ended_at or event.received_at,
        hangup_cause=_number(event.body, "Cause") or 0,
        hangup_text=_text(event.body, "Cause-txt"),
    )


def _join_originate_response(progress: Progress, event: AmiEvent) -> Progress:
    if progress.originate_reason is not None:
        return progress
    reason = _number(event.body, "Reason") or 0
    if _text(event.body, "Response") == "Success":
        return replace(
            progress,
            originate_reason=ORIGINATE_ANSWERED,
            answered_at=_earliest(progress.answered_at, event.received_at),
        )
    return replace(progress, originate_reason=reason)


_AMI: Mapping[str, Callable[[Progress, AmiEvent], Progress]] = {
    "Newchannel": _join_newchannel,
    "Newstate": _join_newstate,
    "Hangup": _join_hangup,
    "OriginateResponse": _join_originate_response,
}


def _join_scenario(
    progress: Progress, record: CallStarted | CallSaid | CallRecording | CallEnded
) -> Progress:
    if isinstance(record, CallStarted):
        return replace(
            _named(progress, record.channel, record.uniqueid),
            answered_at=_earliest(progress.answered_at, record.at),
        )
    if isinstance(record, CallRecording):
        return replace(progress, recording=progress.recording or record.path)
    if isinstance(record, CallEnded) and progress.scenario_outcome is None:
        frozen = progress.state.final  # settled without it: the client has seen that answer
        return replace(
            progress,
            scenario_outcome=record.outcome,
            scenario_ended_at=record.at,
            result=progress.result if frozen else record.result,
            error=progress.error if frozen else record.error,
        )
    return progress


def _named(progress: Progress, channel: str | None, uniqueid: str | None) -> Progress:
    return replace(
        progress,
        channel=progress.channel or channel,
        uniqueid=progress.uniqueid or uniqueid,
    )


def _earliest(known: datetime | None, seen: datetime) -> datetime:
    return seen if known is None else min(known, seen)


def _text(body: Mapping[str, str | list[str]], name: str) -> str | None:
    value = body.get(name)
    return value[-1] if isinstance(value, list) else value


def _number(body: Mapping[str, str | list[str]], name: str) -> int | None:
    text = _text(body, name)
    return int(text) if text is not None and text.isdecimal() and text.isascii() else None
