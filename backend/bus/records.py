"""A sink of records that tells other systems what it keeps."""

from __future__ import annotations

from backend.bus.telling import Teller
from backend.model import Record
from backend.ports import Bus, RecordSink


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
