"""A sink of records that tells other systems what it keeps."""

from __future__ import annotations

import logging

from backend.bus.telling import Teller
from backend.model import CallStep, Record
from backend.ports import Bus, RecordSink

log = logging.getLogger(__name__)


class ToldRecords:
    """Keeps records, then publishes what of them other systems are told (ports.RecordSink)."""

    def __init__(self, sink: RecordSink, bus: Bus, teller: Teller) -> None:
        self._sink = sink
        self._bus = bus
        self._teller = teller

    def append(self, *records: Record) -> None:
        """As the sink's: what it refuses is told to nobody."""
        self._sink.append(*records)
        for record in records:
            event = self._teller.of_record(record)
            if event is not None:
                self._bus.publish(event)

    def keep_step(self, step: CallStep) -> None:
        """A call's step. Never raises: it comes from the audio loop, too, where a full disk must
        end no stream."""
        try:
            self.append(step)
        except OSError as error:
            log.error("call %s: its step %d is lost: %s", step.call_id, step.n, error)
