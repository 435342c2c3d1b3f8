"""The event log: every event once, in order, and every gap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from backend import ami_events
from backend.ami_events import GAP, EventLog
from backend.errors import AsteriskUnavailable
from backend.model import AmiEvent, Record
from backend.ports import RecordSink
from backend.protocol.ami import Message, parse

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class FakeSink:
    """Keeps records; ``full``: the disk refuses, perhaps after it has taken some."""

    def __init__(self) -> None:
        self.records: list[AmiEvent] = []
        self.full = False
        self.asked = 0

    def append(self, *records: Record) -> None:
        self.asked += 1
        if self.full:
            raise OSError(28, "No space left on device")
        for record in records:
            assert isinstance(record, AmiEvent)
            self.records.append(record)


class Desk:
    def __init__(self) -> None:
        self.now = 0.0
        self.sink = FakeSink()
        sink: RecordSink = self.sink
        self.log = EventLog(
            sink,
            clock=lambda: START + timedelta(seconds=self.now),
            monotonic=lambda: self.now,
        )

    def names(self) -> list[str]:
        return [record.name for record in self.sink.records]


def events(*blocks: str) -> Sequence[Message]:
    return [parse(block) for block in blocks]


def numbered(first: int, last: int) -> Sequence[Message]:
    return [parse(f"Event: E\r\nN: {n}") for n in range(first, last)]


def test_an_event_becomes_a_record() -> None:
    desk = Desk()
    desk.log.opened()
    desk.log.received(
        events("Event: Hangup\r\nChannel: PJSIP/x\r\nUniqueid: 1\r\nLinkedid: 2\r\nV: a\r\nV: b")
    )
    record = desk.sink.records[1]
    assert record.name == "Hangup"
    assert (record.uniqueid, record.linkedid, record.channel) == ("1", "2", "PJSIP/x")
    assert record.received_at == START
    assert record.body["V"] == ["a", "b"]
    assert record.body["Event"] == "Hangup"


@pytest.mark.parametrize(
    ("block", "uniqueid", "linkedid", "channel"),
    [
        ("Event: Cdr\r\nUniqueID: 7\r\nChannel: c", "7", None, "c"),
        (
            "Event: DialBegin\r\nDestUniqueid: 8\r\nDestLinkedid: 9\r\nDestChannel: d",
            "8",
            "9",
            "d",
        ),
        ("Event: Reload", None, None, None),
    ],
)
def test_where_the_ids_stand(
    block: str, uniqueid: str | None, linkedid: str | None, channel: str | None
) -> None:
    desk = Desk()
    desk.log.received(events(block))
    [record] = desk.sink.records
    assert (record.uniqueid, record.linkedid, record.channel) == (uniqueid, linkedid, channel)


def test_every_record_has_a_number_of_its_own() -> None:
    desk = Desk()
    for _ in range(3):
        desk.log.opened()
        desk.log.received(numbered(0, 5))
        desk.log.lost(AsteriskUnavailable("cut"))
    keys = [(record.stream, record.seq) for record in desk.sink.records]
    assert len(set(keys)) == len(keys) == 21
    assert [seq for _, seq in keys] == list(range(1, 8)) * 3
    assert len({stream for stream, _ in keys}) == 3


def test_a_chunk_is_one_append() -> None:
    desk = Desk()
    desk.log.received(numbered(0, 100))
    assert desk.sink.asked == 1
    assert desk.log.received_total == 100


def test_a_gap_has_both_ends() -> None:
    desk = Desk()
    desk.log.opened()
    desk.now = 60
    desk.log.lost(AsteriskUnavailable("Asterisk closed the AMI connection"))
    desk.now = 72.5
    desk.log.opened()
    first, begin, end = desk.sink.records
    assert first.name == begin.name == end.name == GAP
    assert (first.body["Gap"], first.body["From"]) == ("end", "")
    assert begin.body == {
        "Event": GAP,
        "Gap": "begin",
        "From": "2026-11-20T12:01:00+00:00",
        "To": "",
        "Seconds": "",
        "Reason": "Asterisk closed the AMI connection",
    }
    assert end.body["To"] == "2026-11-20T12:01:12.500000+00:00"
    assert end.body["Seconds"] == "12.500"
    assert end.body["Reason"] == "Asterisk closed the AMI connection"
    assert begin.stream == first.stream != end.stream
    assert desk.log.gaps_total == 1


def test_when_asterisk_started() -> None:
    desk = Desk()
    assert desk.log.asterisk_started_at is None
    desk.log.received(events("Event: FullyBooted\r\nUptime: 90"))
    assert desk.log.asterisk_started_at == START - timedelta(seconds=90)
    desk.log.received(events("Event: FullyBooted"))
    assert desk.log.asterisk_started_at == START - timedelta(seconds=90)


def test_a_full_disk_loses_nothing_and_keeps_the_order(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.sink.full = True
    for n in range(0, 5000, 10):
        desk.log.received(numbered(n, n + 10))
    assert desk.sink.asked == 1, "the disk is not asked for every chunk"
    assert "journal refuses" in caplog.text
    desk.now = 1
    desk.log.received(numbered(5000, 5001))
    assert desk.sink.asked == 2
    desk.sink.full = False
    desk.now = 2
    desk.log.received(numbered(5001, 5002))
    assert [record.body["N"] for record in desk.sink.records] == [str(n) for n in range(5002)]
    assert [record.seq for record in desk.sink.records] == list(range(1, 5003))
    desk.log.received(numbered(5002, 5003))
    assert desk.sink.records[-1].body["N"] == "5002"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ami_events, "MAX_UNSTORED", 10)
    desk = Desk()
    desk.sink.full = True
    for n in range(25):
        desk.log.received(numbered(n, n + 1))
    assert desk.log.dropped_total == 15
    desk.sink.full = False
    desk.now = 1
    desk.log.received(numbered(25, 26))
    assert [record.body["N"] for record in desk.sink.records] == [str(n) for n in range(16, 26)]
    assert desk.log.dropped_total == 16
