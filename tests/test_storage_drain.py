"""storage.drain and storage.apply: from the journal into a real PostgreSQL."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, func, select, text

from backend.errors import StorageUnavailable
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
    TaskRequest,
    TaskState,
    Utterance,
)
from backend.storage import drain as drain_module
from backend.storage import journal as journal_module
from backend.storage.apply import RecordRefused, RecordStore
from backend.storage.codec import encode
from backend.storage.drain import Drainer, drain_leftovers
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.engine import make_engine
from backend.storage.journal import Journal, segments
from backend.storage.tables import calls, events, utterances
from backend.storage.tasks import Tasks
from tests.fixtures_storage import ami_event

Events = Callable[..., list[AmiEvent]]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DONE = Outcome(TaskState.DONE, Reason.COMPLETED)


@pytest.fixture
def store(engine: Engine) -> RecordStore:
    return RecordStore(engine)


@pytest.fixture
def journal(journal_folder: Path) -> Iterator[Journal]:
    journal = Journal(journal_folder)
    yield journal
    journal.close()


@pytest.fixture
def drainer(journal: Journal, store: RecordStore) -> Iterator[Drainer]:
    drainer = Drainer(journal, store)
    drainer.start()
    yield drainer
    drainer.stop()
    assert drainer.join(10)


def seqs(engine: Engine) -> list[int]:
    """Of all events, in the order in which they were stored."""
    with engine.connect() as connection:
        return list(connection.execute(select(events.c.seq).order_by(events.c.id)).scalars())


def call_of(task_id: UUID | None) -> list[Record]:
    call = uuid4()
    say = [Utterance("robot", "Придёте?", 0, 900), Utterance("caller", "да", 1000, 1400, 0.9)]
    return [
        CallStarted(
            call, task_id, NOW, "n", "voice-0", "article", "outbound", "PJSIP/t-1", "u", "1", "2"
        ),
        CallRecording(call, task_id, NOW, "/spool/a.wav"),
        CallStep(call, task_id, 0, NOW, "key", "pay", None, "pin", "playing", 900, {"key": "5"}),
        *(CallSaid(call, task_id, n, NOW, said) for n, said in enumerate(say)),
        CallEnded(call, task_id, NOW, DONE, {"coming": "да"}, None, {"frames": 70}),
    ]


def test_events_are_stored_in_order(
    engine: Engine, journal: Journal, drainer: Drainer, ami_events: Events
) -> None:
    for _ in range(50):
        journal.append(*ami_events(50))
    assert drainer.drained(10)
    assert seqs(engine) == list(range(1, 2501))
    assert drainer.stored == 2500


def test_an_event_wakes_the_drainer(
    engine: Engine,
    journal: Journal,
    store: RecordStore,
    ami_events: Events,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain_module, "IDLE_S", 3600.0)
    drainer = Drainer(journal, store)
    drainer.start()
    for stored in (1, 2, 3):
        journal.append(*ami_events(1))
        deadline = time.monotonic() + 20
        while len(seqs(engine)) < stored:
            assert time.monotonic() < deadline, f"event {stored} lies in the journal"
    drainer.stop()
    assert drainer.join(10)


def test_applying_twice_changes_nothing(
    engine: Engine, store: RecordStore, ami_events: Events
) -> None:
    tasks = Tasks(engine)
    task, _ = tasks.submit(TaskRequest("79161234567", "article"))
    batch: list[Record] = [*ami_events(3), *call_of(task.id)]
    assert store.store(batch) == len(batch)
    once = tasks.get(task.id)
    assert store.store([*batch, *batch]) == 0
    assert tasks.get(task.id) == once
    assert len(seqs(engine)) == 3


def test_twice_in_one_batch_is_once(store: RecordStore, ami_events: Events) -> None:
    event = ami_events(1)[0]
    assert store.store([event, event]) == 1


def test_a_whole_call_moves_its_task(
    engine: Engine, store: RecordStore, ami_events: Events
) -> None:
    tasks = Tasks(engine)
    task, _ = tasks.submit(TaskRequest("79161234567", "article"))
    tasks.claim("n", uuid4(), 1)
    uniqueid = f"dialog-{task.id}"
    states = []
    for batch in (
        ami_events(1, "Newstate", Uniqueid=uniqueid, ChannelState="5", Channel="PJSIP/t-1"),
        ami_events(1, "Newstate", Uniqueid=uniqueid, ChannelState="6", Channel="PJSIP/t-1"),
        call_of(task.id),
        ami_events(1, "Hangup", Uniqueid=uniqueid, Cause="16", **{"Cause-txt": "Normal"}),
    ):
        store.store(batch)
        now = tasks.get(task.id)
        assert now is not None
        states.append(now.state)
    assert states == [
        TaskState.RINGING, TaskState.TALKING, TaskState.TALKING, TaskState.DONE,
    ]  # fmt: skip
    assert now is not None
    assert (now.reason, now.hangup_cause, now.hangup_text) == (Reason.COMPLETED, 16, "Normal")
    assert (now.result, now.recording) == ({"coming": "да"}, "/spool/a.wav")
    assert [said.text for said in now.transcript] == ["Придёте?", "да"]
    with engine.connect() as connection:
        row = connection.execute(select(calls)).mappings().one()
    assert (row["task_id"], row["state"], row["worker"]) == (task.id, "done", "voice-0")


def test_each_record_of_a_task_is_a_change(engine: Engine, store: RecordStore) -> None:
    tasks = Tasks(engine)
    task, _ = tasks.submit(TaskRequest("79161234567", "article"))
    cursor = task.change
    for record in call_of(task.id):
        store.store([record])
        found, cursor = tasks.changed_since(cursor, 10)
        moved = [] if isinstance(record, CallStep) else [task.id]
        assert [each.id for each in found] == moved, record
    (final,) = found
    assert len(final.transcript) == 2


def test_an_inbound_call_has_no_task(engine: Engine, store: RecordStore) -> None:
    assert store.store(call_of(None)) == 6
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(utterances)).scalar() == 2


def test_what_jsonb_refuses_is_replaced(
    engine: Engine, store: RecordStore, ami_events: Events
) -> None:
    event = ami_events(1)[0]
    bad = "a\0b\ud800c"
    ended = call_of(None)[-1]
    assert isinstance(ended, CallEnded)
    ended = replace(ended, result={"x\0": [bad, float("nan")]})
    store.store([replace(event, channel=bad, body={"k\0": bad, "n": [bad, "Ж"]}), ended])
    with engine.connect() as connection:
        row = connection.execute(select(events)).mappings().one()
        result = connection.execute(select(calls.c.result)).scalar()
    assert row["channel"] == "ab\ufffdc"
    assert row["body"] == {"k": "ab\ufffdc", "n": ["ab\ufffdc", "Ж"]}
    assert result == {"x": ["ab\ufffdc", None]}


def test_a_record_that_postgresql_refuses_is_put_aside(
    engine: Engine,
    journal: Journal,
    drainer: Drainer,
    ami_events: Events,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = ami_events(300)
    bad = replace(good[100], seq=2**70)
    journal.append(*good[:150], bad, *good[150:])
    with (journal.folder / segment_name(journal)).open("ab") as file:
        file.write(b'{"type":"what"}\n')
    journal.append(*ami_events(1))
    assert drainer.drained(20)
    assert seqs(engine) == list(range(1, 302))
    rejected = (journal.folder / "rejected.jsonl").read_text().splitlines()
    assert len(rejected) == drainer.rejected == 2
    assert "out of range" in caplog.text


def segment_name(journal: Journal) -> str:
    return f"{segments(journal.folder)[-1]:08d}.jsonl"


WRONG: dict[str, list[object]] = {
    "AmiEvent": ["body", "channel", "uniqueid", "seq", "name"],
    "CallStarted": ["channel", "worker", "direction"],
    "CallSaid": ["n"],
    "CallRecording": ["path"],
    "CallStep": ["n", "kind", "flow", "state", "at_ms", "body"],
    "CallEnded": ["error", "figures"],
}


def test_records_of_odd_values_block_nothing(
    engine: Engine, journal: Journal, drainer: Drainer, ami_events: Events
) -> None:
    """Whatever is in a line, the lines after it come through."""
    path = journal.folder / segment_name(journal)
    task, _ = Tasks(engine).submit(TaskRequest("79161234567", "article"))
    for record in [*ami_events(1, Uniqueid=f"dialog-{task.id}"), *call_of(task.id)]:
        good = json.loads(encode(record))
        for name in WRONG[good["type"]]:
            for value in ({"a": 1}, [1], 2**70, "x" * 10, None, True, 1.5, ["\ud800"]):
                with path.open("ab") as file:
                    file.write(json.dumps(good | {str(name): value}).encode() + b"\n")
    journal.append(ami_event(uuid4(), 1, "Last"))
    assert drainer.drained(20)
    assert drainer.alive
    with engine.connect() as connection:
        last = select(events.c.name).order_by(events.c.id.desc()).limit(1)
        assert connection.execute(last).scalar() == "Last"


def test_a_full_disk_stops_no_drainer(
    engine: Engine,
    journal: Journal,
    drainer: Drainer,
    ami_events: Events,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_module, "write_position", full)
    journal.append(*ami_events(5))
    assert drainer.drained(5)
    journal.append(*ami_events(5))
    assert drainer.drained(5)
    assert seqs(engine) == list(range(1, 11))


def test_a_value_that_a_task_does_not_take_keeps_its_event(
    engine: Engine, journal: Journal, drainer: Drainer, ami_events: Events
) -> None:
    tasks = Tasks(engine)
    task, _ = tasks.submit(TaskRequest("79161234567", "article"))
    uniqueid = f"dialog-{task.id}"
    journal.append(*ami_events(1, "Hangup", Uniqueid=uniqueid, Cause="9" * 12))
    assert drainer.drained(10)
    assert seqs(engine) == [1]
    assert drainer.rejected == 0


class Away:
    """A store whose PostgreSQL is away for the first ``times`` batches."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.got: list[Record] = []

    def store(self, records: Sequence[Record], *, move_tasks: bool = True) -> int:
        if self.times:
            self.times -= 1
            raise StorageUnavailable("gone")
        self.got += records
        return len(records)


def test_away_and_back_is_said_once(
    journal: Journal,
    ami_events: Events,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain_module, "BACKOFF_S", (0.001, 0.01))
    store = Away(5)
    drainer = Drainer(journal, store)
    drainer.start()
    wanted = ami_events(10)
    journal.append(*wanted)
    with caplog.at_level(logging.WARNING):
        assert drainer.drain_and_stop(5)
    assert store.got == wanted
    assert caplog.text.count("cannot be reached") == 1
    assert caplog.text.count("is back") == 1


def test_stop_does_not_wait_for_postgresql(journal: Journal, ami_events: Events) -> None:
    drainer = Drainer(journal, Away(10**9))
    drainer.start()
    journal.append(*ami_events(10))
    assert not drainer.drain_and_stop(0.2)
    assert not drainer.alive


def test_leftovers_of_the_dead_are_drained_and_the_living_left_alone(
    engine: Engine, store: RecordStore, tmp_path: Path, ami_events: Events
) -> None:
    root = tmp_path / "journal"
    stop = threading.Event()
    assert drain_leftovers(root, store, stop) == 0
    dead, living = Journal(root / "voice-3", segment_bytes=3000), Journal(root / "control")
    dead.append(*ami_events(2500))
    dead.close()
    living.append(*ami_events(5))
    assert drain_leftovers(root, store, stop) == 2500
    assert drain_leftovers(root, store, stop) == 0
    assert len(seqs(engine)) == 2500
    assert segments(root / "voice-3") == []
    again = Journal(root / "voice-3")
    again.append(*ami_events(1))
    again.close()
    assert drain_leftovers(root, store, stop) == 1
    living.close()


@pytest.mark.timeout(60)
def test_postgresql_away_and_back_under_appends(
    postgres: EmbeddedPostgres,
    engine: Engine,
    journal: Journal,
    drainer: Drainer,
    ami_events: Events,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain_module, "BACKOFF_S", (0.05, 0.2))
    stop = threading.Event()
    count = 0

    def append() -> None:
        nonlocal count
        while not stop.wait(0.002):
            journal.append(*ami_events(7))
            count += 7

    thread = threading.Thread(target=append, name="appender")
    thread.start()
    try:
        for _ in range(2):
            time.sleep(0.3)
            postgres.pause()
            time.sleep(0.3)
            postgres.restart()
    finally:
        stop.set()
        thread.join(5)
    assert drainer.drained(20)
    assert count > 500
    assert seqs(engine) == list(range(1, count + 1))


def test_two_drainers_move_one_task_without_losing_news(
    engine: Engine, store: RecordStore, ami_events: Events
) -> None:
    tasks = Tasks(engine)
    ids = [tasks.submit(TaskRequest("79161234567", "article"))[0].id for _ in range(20)]
    asterisk: list[Record] = []
    for task_id in ids:
        uniqueid = f"dialog-{task_id}"
        asterisk += ami_events(1, "Newstate", Uniqueid=uniqueid, ChannelState="5")
        asterisk += ami_events(1, "Hangup", Uniqueid=uniqueid, Cause="16")
    scenario = [record for task_id in ids for record in call_of(task_id)]

    def bring(records: list[Record], step: int) -> None:
        for at in range(0, len(records), step):
            store.store(records[at : at + step])

    threads = [threading.Thread(target=bring, args=args) for args in ((asterisk, 3), (scenario, 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {task.state for task in tasks.get_many(ids)} == {TaskState.DONE}


def test_refusals_are_told_from_absence(own_dsn: str, ami_events: Events) -> None:
    engine = make_engine(own_dsn, name="test")
    store = RecordStore(engine)
    event = ami_events(1)[0]
    with pytest.raises(RecordRefused):
        store.store([replace(event, seq=2**70)])
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE events RENAME TO gone"))
    with pytest.raises(StorageUnavailable):
        store.store([event])
    engine.dispose()
