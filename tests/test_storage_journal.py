"""storage.journal and storage.codec: what is on the disk, without PostgreSQL."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args
from uuid import uuid4

import pytest

from backend.errors import ConfigError
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
from backend.storage import journal as journal_module
from backend.storage.codec import decode, encode
from backend.storage.journal import Journal, JournalReader, segments

Events = Callable[..., list[AmiEvent]]
NOW = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)


def records_of_every_kind() -> list[Record]:
    call, task = uuid4(), uuid4()
    said = Utterance("caller", "да", 10, 500, 0.9, "ru-RU", (Word("да", 10, 500),))
    ended = Outcome(TaskState.DONE, Reason.COMPLETED)
    return [
        AmiEvent(
            uuid4(), 1, NOW, "Newchannel", "1.1", None, "PJSIP/x", {"A": "1", "V": ["a", "b"]}
        ),
        CallStarted(call, task, NOW, "n", "voice-0", "article", "outbound", "c", "u", "7", "8"),
        CallSaid(call, None, 0, NOW, said),
        CallRecording(call, task, NOW, "/var/spool/x.wav"),
        CallStep(call, task, 3, NOW, "key", "pay", "1f", "pin", "playing", 900, {"key": "5"}),
        CallEnded(call, task, NOW, ended, {"answer": ["да", None, 1.5]}, None, {"frames": 100.0}),
    ]


def test_every_kind_of_record_survives_the_journal() -> None:
    records = records_of_every_kind()
    assert {type(record) for record in records} == set(get_args(Record))
    for record in records:
        assert decode(encode(record)) == record


def test_any_text_can_be_written() -> None:
    event = AmiEvent(uuid4(), 1, NOW, "X", None, None, None, {"a\0b": "\ud800 \udcff \n \r\n"})
    line = encode(event)
    assert line.count(b"\n") == 1
    assert decode(line) == event


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"{}", b'{"type":"Nothing"}', b'{"type":"AmiEvent"}', b"\x00\x00", b"\xff"],
)
def test_what_is_no_record_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode(line)


def test_append_and_read_in_order(journal_folder: Path, ami_events: Events) -> None:
    journal = Journal(journal_folder)
    reader = JournalReader(journal_folder, journal)
    events = ami_events(5)
    journal.append(*events[:2])
    journal.append(*events[2:])
    journal.append()
    assert [decode(line) for line in reader.read(3)] == events[:3]
    assert [decode(line) for line in reader.read(3)] == events[3:]
    assert reader.read() == []
    journal.close()
    with pytest.raises(OSError, match="closed"):
        journal.append(*events)


def test_what_is_not_committed_is_read_again(journal_folder: Path, ami_events: Events) -> None:
    journal = Journal(journal_folder)
    reader = JournalReader(journal_folder, journal)
    events = ami_events(4)
    journal.append(*events)
    reader.read(2)
    reader.commit()
    reader.read(2)
    again = JournalReader(journal_folder, journal)
    assert [decode(line) for line in again.read()] == events[2:]
    journal.close()


def test_finished_segments_are_deleted(journal_folder: Path, ami_events: Events) -> None:
    journal = Journal(journal_folder, segment_bytes=2000)
    reader = JournalReader(journal_folder, journal)
    events = ami_events(20)
    for event in events:
        journal.append(event)
    assert len(segments(journal_folder)) > 3
    waited = journal.backlog_bytes
    assert [decode(line) for line in reader.read()] == events
    assert len(segments(journal_folder)) > 3
    reader.commit()
    assert len(segments(journal_folder)) == 1
    assert journal.backlog_bytes < 2000 < waited
    journal.close()


def test_a_new_life_goes_on_behind_the_old(journal_folder: Path, ami_events: Events) -> None:
    events = ami_events(4)
    for event in events:
        journal = Journal(journal_folder)
        journal.append(event)
        journal.close()
    assert [decode(line) for line in JournalReader(journal_folder).read()] == events


def test_a_torn_last_line_is_left_out(
    journal_folder: Path, ami_events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    events = ami_events(3)
    first = Journal(journal_folder)
    first.append(*events[:2])
    first.close()
    path = next(journal_folder.glob("*.jsonl"))
    with path.open("ab") as file:
        file.write(encode(events[2])[:-7])
    second = Journal(journal_folder)
    second.append(events[2])
    with caplog.at_level(logging.ERROR):
        reader = JournalReader(journal_folder, second)
        assert [decode(line) for line in reader.read()] == events
    assert "no whole record" in caplog.text
    second.close()


def test_a_position_that_cannot_be_read_means_from_the_start(
    journal_folder: Path, ami_events: Events
) -> None:
    journal = Journal(journal_folder)
    journal.append(*ami_events(3))
    journal.close()
    (journal_folder / "position").write_bytes(b"\0\0\0")
    assert len(JournalReader(journal_folder).read()) == 3


def test_one_process_a_folder(journal_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "LOCK_WAIT_S", 0.1)
    journal = Journal(journal_folder)
    with pytest.raises(ConfigError, match="data_dir"):
        Journal(journal_folder)
    journal.close()
    Journal(journal_folder).close()


def test_a_full_journal_alarms_and_then_refuses(
    journal_folder: Path, ami_events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(journal_folder, segment_bytes=1000, max_bytes=5000)
    reader = JournalReader(journal_folder, journal)
    with pytest.raises(OSError, match="full"):
        for event in ami_events(100):
            journal.append(event)
    assert "wait for PostgreSQL" in caplog.text
    before = len(reader.read())
    reader.commit()
    journal.append(*ami_events(1))
    assert before < 100
    assert len(reader.read()) == 1
    journal.close()


def test_a_disk_that_takes_half_a_line_spoils_no_other(
    journal_folder: Path, ami_events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(journal_folder)
    events = ami_events(3)
    journal.append(events[0])
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:20]))
        with pytest.raises(OSError, match="No space"):
            journal.append(events[1])
    journal.append(events[2])
    assert [decode(line) for line in JournalReader(journal_folder, journal).read()] == [
        events[0],
        events[2],
    ]
    journal.close()


def test_many_threads_append_whole_lines(journal_folder: Path, ami_events: Events) -> None:
    journal = Journal(journal_folder, segment_bytes=50_000)
    parts = [ami_events(100) for _ in range(8)]

    def append(part: list[AmiEvent]) -> None:
        for event in part:
            journal.append(event)

    threads = [threading.Thread(target=append, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    reader = JournalReader(journal_folder, journal)
    found = [decode(line) for line in reader.read(10_000)]
    assert len(found) == 800
    for part in parts:
        assert [record for record in found if record in part] == part
    journal.close()


KILLED = """
import itertools, sys
from pathlib import Path
from uuid import uuid4
from backend.storage.journal import Journal
from tests.fixtures_storage import ami_event
journal, stream = Journal(Path(sys.argv[1])), uuid4()
for seq in itertools.count(1):
    journal.append(ami_event(stream, seq))
    print(seq, flush=True)
"""


def test_sigkill_loses_nothing_that_was_appended(journal_folder: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(journal_folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(200):
            last = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines(keepends=True)
    promised = int([line for line in [last, *rest] if line.endswith(b"\n")][-1])
    Journal(journal_folder).close()  # the lock died with the process
    found = [json.loads(line)["seq"] for line in JournalReader(journal_folder).read(10**6, 10**9)]
    assert found == list(range(1, len(found) + 1))
    assert promised <= len(found) <= promised + 1
