"""Records as lines of JSON, for the journal. Pure.

ASCII only, so that whatever text a record holds (lone surrogates too) can be written and read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

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
    Utterance,
    Word,
)


def encode(record: Record) -> bytes:
    """One line with its newline. A value that is no JSON is written as its text."""
    if isinstance(record, AmiEvent):
        body = _ami(record)
    else:
        body = {"type": type(record).__name__, **asdict(record)}
    return json.dumps(body, default=_plain, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Record:
    """The record of a line. Raises ValueError when it is none."""
    try:
        body = json.loads(line)
        return _DECODERS[body.pop("type")](body)
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a record: {error!r}") from error


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _ami(event: AmiEvent) -> dict[str, Any]:
    return {  # asdict would copy every header
        "type": "AmiEvent",
        "stream": event.stream.hex,
        "seq": event.seq,
        "received_at": event.received_at.isoformat(),
        "name": event.name,
        "uniqueid": event.uniqueid,
        "linkedid": event.linkedid,
        "channel": event.channel,
        "body": event.body if isinstance(event.body, dict) else dict(event.body),
    }


def _to_ami(body: dict[str, Any]) -> AmiEvent:
    body["stream"] = UUID(body["stream"])
    body["received_at"] = datetime.fromisoformat(body["received_at"])
    return AmiEvent(**body)


def _call(body: dict[str, Any]) -> dict[str, Any]:
    """The fields that all records of a call share."""
    body["call_id"] = UUID(body["call_id"])
    body["task_id"] = UUID(body["task_id"]) if body["task_id"] else None
    body["at"] = datetime.fromisoformat(body["at"])
    return body


def _to_said(body: dict[str, Any]) -> CallSaid:
    said = body["utterance"]
    said["words"] = tuple(Word(**word) for word in said["words"])
    body["utterance"] = Utterance(**said)
    return CallSaid(**_call(body))


def _to_ended(body: dict[str, Any]) -> CallEnded:
    outcome = body["outcome"]
    body["outcome"] = Outcome(TaskState(outcome["result"]), Reason(outcome["reason"]))
    return CallEnded(**_call(body))


_DECODERS: dict[str, Callable[[dict[str, Any]], Record]] = {
    "AmiEvent": _to_ami,
    "CallStarted": lambda body: CallStarted(**_call(body)),
    "CallSaid": _to_said,
    "CallRecording": lambda body: CallRecording(**_call(body)),
    "CallStep": lambda body: CallStep(**_call(body)),
    "CallEnded": _to_ended,
}
