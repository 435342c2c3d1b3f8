"""AMI connection, event log, dialer and sweeper on a real Asterisk, with tasks kept in memory."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from uuid import UUID, uuid4

import pytest
from lab import Instance, Lab

from backend import ami_probe
from backend.ami_events import GAP, EventLog
from backend.ami_listener import Account, AmiConnection, Timing
from backend.dialing.dialer import Dialer
from backend.dialing.progress import Progress, advance, channel_id, settled, task_of
from backend.dialing.sweeper import Grace, Sweeper, live_channels
from backend.model import (
    AmiEvent,
    CallEnded,
    Outcome,
    Reason,
    Record,
    Task,
    TaskRequest,
    TaskState,
)

CHANNELS = {"default": "PJSIP/{phone}@subscriber", "missing": "PJSIP/{phone}@missing"}
ANSWERS, BUSY, RINGS, REJECTS, ANNOUNCES, NOBODY = "111", "105", "106", "107", "109", "999"
FAST_GRACE = Grace(gone_s=3.0, no_end_s=3.0, no_channel_s=1.0)
ON_16, ON_22 = pytest.mark.only_asterisk("16"), pytest.mark.only_asterisk("22")
QUICK = Timing(ping_s=1, ping_answer_s=1, retry_first_s=0.05, retry_most_s=0.2)


@dataclass(frozen=True)
class Open:
    task: Task
    progress: Progress


class Memory:
    """Tasks and records in memory: the task queue, the sweeper's store and the record sink."""

    def __init__(self) -> None:
        self.tasks: dict[UUID, Task] = {}
        self.progress: dict[UUID, Progress] = {}
        self.records: list[Record] = []
        self.claimed: Counter[UUID] = Counter()
        self.lock = threading.RLock()
        self._news = threading.Event()

    def submit(self, number: str, *, stay_s: float = 1, **request: object) -> UUID:
        """Our side beeps, stays on the line for ``stay_s``, and hangs up."""
        variables = {"LAB_PROMPT": "beep", "LAB_STAY": str(stay_s)}
        phone = f"{number}{len(self.tasks):04d}"
        asked = TaskRequest(phone, "article", context="lab-play", variables=variables)
        asked = replace(asked, **request)  # type: ignore[arg-type]
        task = Task(uuid4(), asked, TaskState.QUEUED, None, 1, datetime.now(UTC))
        with self.lock:
            self.tasks[task.id] = task
            self.progress[task.id] = Progress(TaskState.QUEUED)
        self._news.set()
        return task.id

    def append(self, *records: Record) -> None:
        with self.lock:
            self.records += records
            for record in records:
                task_id = task_of(record)
                if task_id in self.progress:
                    self.progress[task_id] = advance(self.progress[task_id], record)

    def wait(self, timeout_s: float) -> bool:
        found = self._news.wait(timeout_s)
        self._news.clear()
        return found

    def in_progress(self) -> int:
        return len(self.open_tasks())

    def claim(self, limit: int) -> Sequence[Task]:
        now = datetime.now(UTC)
        with self.lock:
            queued = [k for k, p in self.progress.items() if p.state is TaskState.QUEUED][:limit]
            for task_id in queued:
                self.claimed[task_id] += 1
                self.progress[task_id] = Progress(TaskState.DIALING, dialed_at=now)
            return [self.tasks[task_id] for task_id in queued]

    def release(self, task_id: UUID) -> bool:
        self.progress[task_id] = Progress(TaskState.QUEUED)
        return True

    def settle(self, task_id: UUID, outcome: Outcome, *, error: str | None = None) -> bool:
        with self.lock:
            now = datetime.now(UTC)
            self.progress[task_id] = settled(self.progress[task_id], outcome, now, error)
            return True

    def open_tasks(self) -> Sequence[Open]:
        with self.lock:
            return [
                Open(self.tasks[task_id], progress)
                for task_id, progress in self.progress.items()
                if not progress.state.final and progress.state is not TaskState.QUEUED
            ]

    def backlog_s(self) -> float:
        return 0.0

    def events(self) -> list[AmiEvent]:
        with self.lock:
            return [record for record in self.records if isinstance(record, AmiEvent)]

    def ended(self, task_id: UUID, timeout_s: float = 15) -> str:
        until(lambda: self.progress[task_id].state.final, timeout_s)
        progress = self.progress[task_id]
        return f"{progress.state}/{progress.reason}"


class Node:
    """What the control process holds."""

    def __init__(self, pbx: Instance, memory: Memory) -> None:
        self.memory = memory
        self.log = EventLog(memory)
        account = Account("127.0.0.1", pbx.ami_port, pbx.ami_user, pbx.ami_secret)
        self.ami = AmiConnection(account, listeners=[self.log], timing=QUICK)
        self.dialer = Dialer(memory, self.ami, channels=CHANNELS, max_calls=100, rate_per_s=100)
        self.sweeper = Sweeper(
            memory,
            self.ami,
            asterisk_started_at=lambda: self.log.asterisk_started_at,
            grace=FAST_GRACE,
            period_s=0.3,
        )

    def __enter__(self) -> Node:
        self.ami.start()
        self.dialer.start()
        self.sweeper.start()
        until(lambda: self.ami.connected)
        return self

    def __exit__(self, *_: object) -> None:
        self.dialer.stop()
        self.sweeper.stop()
        self.ami.stop()


class Onlooker:
    """An AMI connection that shares no line with the backend. ``seen``: events as text."""

    def __init__(self, pbx: Instance) -> None:
        self.seen: list[str] = []
        self._socket = socket.create_connection(("127.0.0.1", pbx.ami_port))
        login = f"Action: Login\r\nUsername: {pbx.ami_user}\r\nSecret: {pbx.ami_secret}\r\n\r\n"
        self._socket.sendall(login.encode())
        self._thread = threading.Thread(target=self._read, name="onlooker", daemon=True)
        self._thread.start()
        until(lambda: any("FullyBooted" in text for text in self.seen))

    def _read(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                *blocks, rest = (rest + data).split(b"\r\n\r\n")
                self.seen += [b.decode() for b in blocks if b.startswith(b"Event: ")]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = monotonic() + timeout_s
    while not condition():
        assert monotonic() < deadline, "did not come true in time"
        sleep(0.01)


def as_text(event: AmiEvent) -> tuple[str, ...]:
    """Its lines, sorted: a header that comes twice is one list in the log."""
    lines = []
    for name, value in event.body.items():
        lines += [f"{name}: {item}" for item in (value if isinstance(value, list) else [value])]
    return tuple(sorted(lines))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), asterisk=asterisk) as lab:
        yield lab


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def node(lab: Lab, memory: Memory) -> Iterator[Node]:
    with Node(lab.pbx, memory) as node:
        yield node


@pytest.mark.parametrize(
    ("number", "outcome", "cause"),
    [
        (BUSY, "failed/busy", 17),
        (REJECTS, "failed/rejected", 21),
        (NOBODY, "failed/invalid_number", 1),
        pytest.param(ANNOUNCES, "failed/unreachable", 20, marks=ON_16),
        pytest.param(ANNOUNCES, "failed/no_answer", 19, marks=ON_22),
        pytest.param(RINGS, "failed/no_answer", 0, marks=ON_16),
        pytest.param(RINGS, "failed/no_answer", 19, marks=ON_22),
    ],
)
def test_a_call_that_nobody_answers(
    node: Node, memory: Memory, number: str, outcome: str, cause: int
) -> None:
    """22 takes the cause from the SIP status, 16 from the Reason header (outcomes.py)."""
    timeout_s = 1.5 if number == RINGS else 20.0
    task_id = memory.submit(number, dial_timeout_s=timeout_s)
    assert memory.ended(task_id, 20) == outcome
    progress = memory.progress[task_id]
    assert progress.hangup_cause == cause
    assert progress.answered_at is None
    assert (progress.ringing_at is not None) == (number == RINGS)
    assert progress.originate_reason == (3 if number == RINGS else 0)


def test_a_call_that_is_answered(node: Node, memory: Memory) -> None:
    task_id = memory.submit(ANSWERS)
    until(lambda: memory.progress[task_id].state is TaskState.TALKING)
    until(lambda: memory.progress[task_id].hangup_cause == 16)
    assert not memory.progress[task_id].state.final
    done = Outcome(TaskState.DONE, Reason.COMPLETED)
    memory.append(CallEnded(uuid4(), task_id, datetime.now(UTC), done, {"a": 1}, None))
    progress = memory.progress[task_id]
    assert (progress.state, progress.result) == (TaskState.DONE, {"a": 1})
    assert progress.dialed_at and progress.answered_at and progress.ended_at
    assert progress.dialed_at < progress.answered_at < progress.ended_at


def test_no_scenario_came(node: Node, memory: Memory) -> None:
    assert memory.ended(memory.submit(ANSWERS)) == "failed/backend_lost"


def test_the_trunk_is_missing(node: Node, memory: Memory) -> None:
    task_id = memory.submit(ANSWERS, channel="missing")
    assert memory.ended(task_id) == "failed/asterisk_refused"
    assert "no channel" in (memory.progress[task_id].error or "")


def test_the_context_is_missing(node: Node, memory: Memory) -> None:
    task_id = memory.submit(ANSWERS, context="nowhere")
    assert memory.ended(task_id) == "failed/asterisk_refused"
    why = "Asterisk refused to dial: Extension does not exist."
    assert memory.progress[task_id].error == why


def test_the_variables_arrive_as_they_are(node: Node, memory: Memory) -> None:
    mood = "merry (100 %) [x] = 'y' ; ж $"
    task_id = memory.submit(
        ANSWERS, file="custom/hello", variables={"MOOD": mood, "LAB_STAY": "0.2"}
    )
    until(lambda: memory.progress[task_id].hangup_cause is not None)
    set_ = {
        event.body["Variable"]: event.body["Value"]
        for event in memory.events()
        if event.name == "VarSet" and event.uniqueid == channel_id(task_id)
    }
    assert set_["DIALOG_TASK"] == str(task_id)
    assert set_["DIALOG_SCENARIO"] == "article"
    assert set_["DIALOG_FILE"] == "custom/hello"
    assert set_["MOOD"] == mood.replace("'", "\\'"), "the event escapes it, the variable does not"


def test_a_live_channels_id_is_a_fence(node: Node, memory: Memory) -> None:
    headers: dict[str, str | list[str]] = {
        "Channel": f"PJSIP/{ANSWERS}7777@subscriber",
        "ChannelId": "dialog-fence",
        "Context": "lab-play",
        "Exten": "s",
        "Priority": "1",
        "Async": "true",
        "Variable": ["LAB_PROMPT=beep", "LAB_STAY=2"],
    }
    assert node.ami.action("Originate", {**headers, "ActionID": "first"}).success
    until(lambda: "dialog-fence" in live_channels(node.ami))
    assert node.ami.action("Originate", {**headers, "ActionID": "second"}).success, "it says"
    until(lambda: any(event.body.get("ActionID") == "second" for event in memory.events()))
    made = [event for event in memory.events() if event.name == "Newchannel"]
    assert [event.uniqueid for event in made].count("dialog-fence") == 1
    until(lambda: "dialog-fence" not in live_channels(node.ami))


def test_every_event_once(lab: Lab, node: Node, memory: Memory) -> None:
    """20 calls: what an independent connection saw is in the log, each exactly once."""
    onlooker = Onlooker(lab.pbx)
    first = len(memory.events())
    numbers = [ANSWERS] * 8 + [BUSY] * 4 + [REJECTS] * 4 + [ANNOUNCES] * 4
    for number in numbers:
        memory.submit(number)
    for _ in range(20):  # answers of our own actions lie in between
        live_channels(node.ami)
        sleep(0.05)
    until(lambda: all(progress.hangup_cause is not None for progress in memory.progress.values()))

    def logged() -> Counter[tuple[str, ...]]:
        return Counter(as_text(event) for event in memory.events()[first:])

    def seen() -> Counter[tuple[str, ...]]:
        texts = [text for text in onlooker.seen if not text.startswith("Event: FullyBooted")]
        return Counter(tuple(sorted(text.split("\r\n"))) for text in texts)

    with contextlib.suppress(AssertionError):  # the last events are still on their way
        until(lambda: seen() == logged())
    onlooker.close()
    assert seen() - logged() == Counter(), "lost"
    assert logged() - seen() == Counter(), "logged twice, or never sent"
    assert seen().total() > 20 * 8
    assert any("Event: OriginateResponse" in lines for lines in seen())
    assert set(memory.claimed.values()) == {1}


def test_a_live_call_is_adopted(lab: Lab, memory: Memory) -> None:
    """The backend dies in mid-call; its successor waits for the call's end, then settles it."""
    with Node(lab.pbx, memory):
        task_id = memory.submit(ANSWERS, stay_s=4)
        until(lambda: memory.progress[task_id].state is TaskState.TALKING)
    with Node(lab.pbx, memory) as successor:
        until(lambda: channel_id(task_id) in live_channels(successor.ami))
        assert memory.ended(task_id, 20) == "failed/backend_lost"
        assert memory.progress[task_id].hangup_cause == 16, "not before its channel was gone"
    assert memory.claimed[task_id] == 1
    made = [e for e in memory.events() if e.name == "Newchannel"]
    assert [e.uniqueid for e in made].count(channel_id(task_id)) == 1


def test_a_call_that_left_no_trace(node: Node, memory: Memory) -> None:
    """Claimed by a process that died before it sent anything."""
    with memory.lock:
        task_id = memory.submit(ANSWERS)
        memory.claim(100)
    assert memory.ended(task_id) == "unknown/backend_lost"


def test_a_frozen_asterisk_loses_no_event(lab: Lab, node: Node, memory: Memory) -> None:
    onlooker = Onlooker(lab.pbx)
    first = len(memory.events())
    task_id = memory.submit(ANSWERS)
    until(lambda: memory.progress[task_id].state is TaskState.TALKING)
    os.kill(lab.pbx.pid, signal.SIGSTOP)
    try:
        until(lambda: not node.ami.connected, 5)
    finally:
        os.kill(lab.pbx.pid, signal.SIGCONT)
    until(lambda: node.ami.connected)
    memory.ended(task_id)
    onlooker.close()
    gaps = [event for event in memory.events()[first:] if event.name == GAP]
    assert [gap.body["Gap"] for gap in gaps] == ["begin", "end"]
    assert "ping" in str(gaps[0].body["Reason"])


def test_probes(node: Node, asterisk: str) -> None:
    found = ami_probe.version(node.ami)
    ami = {"16": "5.", "22": "11."}[asterisk]
    assert (found.major, found.ami[: len(ami)]) == (int(asterisk), ami)
    assert ami_probe.rights(node.ami) == ami_probe.Rights((), ())
    assert ami_probe.module(node.ami).loaded
    assert not ami_probe.module(node.ami, "NoSuchModule").loaded
    assert ami_probe.context(node.ami, "dialog-outbound").exists
    assert not ami_probe.context(node.ami, "nowhere").exists
    assert abs(ami_probe.clock(node.ami).skew_s) < 0.1


def test_asterisk_is_killed_in_mid_call(tmp_path: Path, asterisk: str) -> None:
    """Its own lab: the subscriber of the other tests should not be disturbed."""
    memory = Memory()
    with Lab(tmp_path / "lab", asterisk=asterisk) as lab, Node(lab.pbx, memory) as node:
        task_id = memory.submit(ANSWERS, stay_s=60)
        until(lambda: memory.progress[task_id].state is TaskState.TALKING)
        sleep(2)  # Asterisk tells its uptime, by which its lives are told apart, in whole seconds
        lab.pbx.kill()
        until(lambda: not node.ami.connected)
        assert not memory.progress[task_id].state.final
        lab.restart(lab.pbx)
        until(lambda: node.ami.connected)
        assert memory.ended(task_id) == "failed/asterisk_lost"
        gaps = [event.body["Gap"] for event in memory.events() if event.name == GAP]
        assert gaps == ["end", "begin", "end"]
        again = memory.submit(BUSY)
        assert memory.ended(again) == "failed/busy"
    assert set(memory.claimed.values()) == {1}
