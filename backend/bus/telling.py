"""Records to events, in one place. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from backend.model import CallEnded, CallStarted, CallStep, Record
from backend.ports import BusChannel, BusEvent

MAX_CALLS = 20_000  # whose channel is remembered; of more at once the oldest is forgotten


class Teller:
    """Makes the events of one life of one process. Thread-safe.

    Their ids are a name of that life and a number that counts from 1 without a gap: what a
    listener misses, it sees by the numbers.
    """

    def __init__(self, node: str, process: str) -> None:
        self._node = node
        self._process = process
        self._life = uuid4().hex
        self._numbers = count(1)
        # Single operations of a dict and of count() are whole under the interpreter's lock.
        self._channels: dict[UUID, BusChannel] = {}

    def of_record(self, record: Record) -> BusEvent | None:
        """None: other systems are not told of it (AMI events, what was said, recordings)."""
        if isinstance(record, CallStep):
            return self._step(record)
        if isinstance(record, CallStarted):
            return self._started(record)
        return self._ended(record) if isinstance(record, CallEnded) else None

    def rollout(
        self, at: datetime, flow: str, version: str | None, body: Mapping[str, Any]
    ) -> BusEvent:
        """A flow's versions are rolled out otherwise from now on; ``body`` says how."""
        return BusEvent(
            self._id(),
            at,
            self._node,
            self._process,
            "rollout",
            flow=flow,
            version=version,
            body=body,
        )

    def test(self, at: datetime) -> BusEvent:
        """For an admin who tries whether events arrive."""
        return BusEvent(self._id(), at, self._node, self._process, "test")

    def _id(self) -> str:
        return f"{self._life}-{next(self._numbers)}"

    def _step(self, step: CallStep) -> BusEvent:
        return BusEvent(
            id=self._id(),
            at=step.at,
            node=self._node,
            process=self._process,
            kind=step.kind,
            call=step.call_id,
            task=step.task_id,
            n=step.n,
            flow=step.flow,
            version=step.version,
            flow_node=step.node,
            channel=self._channels.get(step.call_id),
            state=step.state,
            at_ms=step.at_ms,
            body=step.body,
        )

    def _started(self, record: CallStarted) -> BusEvent:
        channel = BusChannel(record.channel_kind, record.channel, record.caller, record.called)
        self._channels[record.call_id] = channel
        if len(self._channels) > MAX_CALLS:
            self._channels.pop(tuple(self._channels)[0], None)  # noqa: RUF015  whole, unlike an iterator
        return BusEvent(
            id=self._id(),
            at=record.at,
            node=self._node,
            process=self._process,
            kind="call_started",
            call=record.call_id,
            task=record.task_id,
            channel=channel,
            body={
                "scenario": record.scenario,
                "direction": record.direction,
                "uniqueid": record.uniqueid,
            },
        )

    def _ended(self, record: CallEnded) -> BusEvent:
        """Without the scenario's result: that is the client's, in the task."""
        return BusEvent(
            id=self._id(),
            at=record.at,
            node=self._node,
            process=self._process,
            kind="call_ended",
            call=record.call_id,
            task=record.task_id,
            channel=self._channels.pop(record.call_id, None),
            body={
                "state": str(record.outcome.result),
                "reason": str(record.outcome.reason),
                "error": record.error,
            },
        )
