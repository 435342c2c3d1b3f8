"""The log of AMI events: what the connection receives, numbered and given to the record sink.

What is logged: every event that Asterisk sends to this login, exactly once, in its order — also
``OriginateResponse``, which is broadcast though it bears an action's id. What is not: responses,
and the events that are the answer to an action of ours (the list of ``CoreShowChannels``): another
connection does not see them. ``FullyBooted`` comes to each connection at its own login, so it is
logged once per connection.

Gaps: nobody keeps events for a client that is away. So a synthetic event ``DialogGap`` stands in
the log where hearing ended (``Gap: begin``, the last of its stream) and where it began again
(``Gap: end``, the first of the next), with ``From``, ``To`` (ISO 8601), ``Seconds`` and ``Reason``.
The first stream of a process begins with ``Gap: end`` too; its ``From`` is empty.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from backend.errors import AsteriskError
from backend.model import AmiEvent
from backend.ports import RecordSink
from backend.protocol.ami import Message

log = logging.getLogger(__name__)

GAP = "DialogGap"
SLICE = 500
RETRY_S = 1.0  # between tries to reach a journal that refuses
MAX_UNSTORED = 100_000  # events kept in memory while the disk refuses; then the oldest are dropped


def _now() -> datetime:
    return datetime.now(UTC)


class EventLog:
    """A connection's listener (``ami_listener.Listener``); runs on its thread.

    ``asterisk_started_at``: when the Asterisk of this connection started, from FullyBooted's
    Uptime, a second fine; None before the first.
    """

    def __init__(
        self,
        sink: RecordSink,
        *,
        clock: Callable[[], datetime] = _now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self.received_total = 0
        self.dropped_total = 0  # received, but neither disk nor memory had room
        self.gaps_total = 0
        self.asterisk_started_at: datetime | None = None
        self._sink = sink
        self._clock = clock
        self._stream: UUID = uuid4()
        self._seq = 0
        self._lost_at: datetime | None = None
        self._reason = "the backend was started"
        self._unstored: deque[AmiEvent] = deque()
        self._retry_at = 0.0

    def opened(self) -> None:
        self._stream, self._seq = uuid4(), 0
        self._gap("end", self._clock())

    def received(self, events: Sequence[Message]) -> None:
        at = self._clock()
        self.received_total += len(events)
        for event in events:
            if event.headers.get("Event") == "FullyBooted":
                self._note_start(event, at)
        self._store([self._record(event.headers, at) for event in events])

    def ready(self) -> None:
        """Nothing: the log begins at the login."""

    def lost(self, error: AsteriskError) -> None:
        self._lost_at, self._reason = self._clock(), str(error)
        self.gaps_total += 1
        self._gap("begin", self._lost_at)

    def _gap(self, which: str, at: datetime) -> None:
        since = self._lost_at
        body: dict[str, str | list[str]] = {
            "Event": GAP,
            "Gap": which,
            "From": since.isoformat() if since else "",
            "To": at.isoformat() if which == "end" else "",
            "Seconds": f"{(at - since).total_seconds():.3f}" if since and which == "end" else "",
            "Reason": self._reason,
        }
        self._store([self._record(body, at)])

    def _record(self, headers: Mapping[str, str | list[str]], at: datetime) -> AmiEvent:
        self._seq += 1
        event = Message(headers)
        return AmiEvent(
            stream=self._stream,
            seq=self._seq,
            received_at=at,
            name=event.get("Event") or "",
            uniqueid=event.get("Uniqueid") or event.get("DestUniqueid"),
            linkedid=event.get("Linkedid") or event.get("DestLinkedid"),
            channel=event.get("Channel") or event.get("DestChannel"),
            body=headers,
        )

    def _note_start(self, event: Message, at: datetime) -> None:
        uptime = event.get("Uptime") or ""
        if uptime.isdecimal():
            self.asterisk_started_at = at - timedelta(seconds=int(uptime))

    def _store(self, records: list[AmiEvent]) -> None:
        if not self._unstored:
            try:
                self._sink.append(*records)
            except OSError as error:
                self._keep(records)
                self._refused(error)
            return
        self._keep(records)
        if self._monotonic() >= self._retry_at:
            self._drain()

    def _keep(self, records: list[AmiEvent]) -> None:
        self._unstored.extend(records)
        while len(self._unstored) > MAX_UNSTORED:
            self._unstored.popleft()
            self.dropped_total += 1

    def _drain(self) -> None:
        """Store what waits, in order, a slice at a time; a slice stored twice is harmless, since
        (stream, seq) is unique."""
        while self._unstored:
            some = [self._unstored[i] for i in range(min(SLICE, len(self._unstored)))]
            try:
                self._sink.append(*some)
            except OSError as error:
                self._refused(error)
                return
            for _ in some:
                self._unstored.popleft()
        log.warning("event log: the journal takes events again")

    def _refused(self, error: OSError) -> None:
        self._retry_at = self._monotonic() + RETRY_S
        log.error(
            "event log: the journal refuses (%s); %d events wait in memory, %d are lost",
            error,
            len(self._unstored),
            self.dropped_total,
        )
