"""The sweeper: tasks whose end was never recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import sleep
from uuid import UUID, uuid4

import pytest

from backend.dialing.progress import Progress, channel_id
from backend.dialing.sweeper import (
    Grace,
    OpenTask,
    Sweeper,
    live_channels,
    verdict,
    verdict_without_asterisk,
)
from backend.errors import (
    AsteriskError,
    AsteriskUnavailable,
    CommandRefused,
    StorageUnavailable,
)
from backend.model import Outcome, Reason, Task, TaskRequest, TaskState
from backend.ports import AmiReply

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
GRACE = Grace()
DIALING = Progress(TaskState.DIALING, dialed_at=START)
RINGING = replace(DIALING, state=TaskState.RINGING, channel="PJSIP/x", ringing_at=START)
TALKING = replace(RINGING, state=TaskState.TALKING, answered_at=START)
HUNG_UP = replace(TALKING, ended_at=START, hangup_cause=16)
COMPLETED = Outcome(TaskState.DONE, Reason.COMPLETED)


def judged(progress: Progress, gone_s: float = 30.0, asterisk_s: float = -9e5) -> str | None:
    found = verdict(progress, gone_s, START + timedelta(seconds=asterisk_s), GRACE)
    return str(found.outcome) if found else None


@pytest.mark.parametrize(
    ("progress", "outcome"),
    [
        (DIALING, "unknown/backend_lost"),
        (RINGING, "unknown/backend_lost"),
        (TALKING, "failed/backend_lost"),
        (HUNG_UP, "failed/backend_lost"),
        (replace(TALKING, scenario_outcome=COMPLETED), "done/completed"),
        (replace(RINGING, ended_at=START, hangup_cause=17), "failed/busy"),
        (replace(RINGING, originate_reason=3), "failed/no_answer"),
        (replace(DIALING, originate_reason=0), "failed/asterisk_refused"),
    ],
)
def test_the_evidence_decides(progress: Progress, outcome: str) -> None:
    assert judged(progress) == outcome
    assert judged(progress, gone_s=1.9) is None


def test_a_call_without_any_channel_waits_less() -> None:
    assert judged(replace(DIALING, originate_reason=0), gone_s=2) == "failed/asterisk_refused"
    assert judged(replace(RINGING, originate_reason=0), gone_s=9.9) is None
    assert judged(DIALING, gone_s=9.9) is None
    assert judged(DIALING, gone_s=10) == "unknown/backend_lost"


def test_a_scenario_may_go_on_after_the_hangup() -> None:
    assert judged(HUNG_UP, gone_s=29.9) is None
    assert judged(replace(TALKING, scenario_outcome=COMPLETED), gone_s=10) == "done/completed"


@pytest.mark.parametrize(
    ("progress", "outcome"),
    [
        (DIALING, "failed/asterisk_lost"),
        (TALKING, "failed/asterisk_lost"),
        (HUNG_UP, "failed/backend_lost"),  # it had ended before
        (replace(TALKING, scenario_outcome=COMPLETED), "done/completed"),
        (replace(RINGING, ended_at=START, hangup_cause=17), "failed/busy"),
    ],
)
def test_asterisk_was_restarted_since(progress: Progress, outcome: str) -> None:
    assert judged(progress, asterisk_s=60) == outcome


def test_its_uptime_is_a_second_fine() -> None:
    assert judged(TALKING, asterisk_s=0.9) == "failed/backend_lost"
    assert judged(TALKING, asterisk_s=1.1) == "failed/asterisk_lost"
    found = verdict(TALKING, 30, None, GRACE)
    assert found
    assert found.outcome.reason is Reason.BACKEND_LOST


@pytest.mark.parametrize(
    ("progress", "outcome"),
    [
        (DIALING, "unknown/asterisk_lost"),
        (TALKING, "failed/asterisk_lost"),
        (replace(TALKING, scenario_outcome=COMPLETED), "done/completed"),
    ],
)
def test_asterisk_does_not_come_back(progress: Progress, outcome: str) -> None:
    assert verdict_without_asterisk(progress, 119, GRACE) is None
    found = verdict_without_asterisk(progress, 120, GRACE)
    assert found
    assert str(found.outcome) == outcome


def test_every_verdict_is_final() -> None:
    for progress in (DIALING, RINGING, TALKING, HUNG_UP):
        found = verdict(progress, 30, None, GRACE)
        assert found
        assert found.outcome.result.final


# --- the thread around it -----------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    task: Task
    progress: Progress


def open_task(progress: Progress = TALKING) -> Open:
    request = TaskRequest("100", "article")
    return Open(Task(uuid4(), request, progress.state, None, 1, START), progress)


@dataclass
class FakeStore:
    tasks: list[Open] = field(default_factory=list)
    backlog: float = 0.0
    away: bool = False
    settled: list[tuple[UUID, str]] = field(default_factory=list)

    def open_tasks(self) -> Sequence[OpenTask]:
        if self.away:
            raise StorageUnavailable("PostgreSQL is away")
        return self.tasks

    def backlog_s(self) -> float:
        return self.backlog

    def settle(self, task_id: UUID, outcome: Outcome, *, error: str | None = None) -> bool:
        self.settled.append((task_id, str(outcome)))
        self.tasks = [one for one in self.tasks if one.task.id != task_id]
        return True


@dataclass
class FakeAmi:
    live: list[str] = field(default_factory=list)
    error: AsteriskError | None = None
    asked: int = 0
    connected: bool = True

    def action(
        self, name: str, headers: Mapping[str, str | list[str]], *, timeout_s: float = 5.0
    ) -> AmiReply:
        assert name == "CoreShowChannels", "the sweeper never dials"
        self.asked += 1
        if self.error is not None:
            raise self.error
        events = tuple({"Uniqueid": uniqueid} for uniqueid in self.live)
        return AmiReply(True, "Channels will follow", {}, events)

    def send(
        self,
        name: str,
        headers: Mapping[str, str | list[str]],
        on_reply: Callable[[AmiReply | AsteriskError], None],
    ) -> None:
        raise AssertionError("the sweeper never sends")


class Desk:
    """A sweeper with its world and a clock."""

    def __init__(self, *tasks: Open) -> None:
        self.now = 0.0
        self.store = FakeStore(list(tasks))
        self.ami = FakeAmi()
        self.sweeper = Sweeper(self.store, self.ami, clock=lambda: self.now)

    def sweep(self, until_s: float) -> list[str]:
        while self.now < until_s:
            self.sweeper.sweep()
            self.now += 2
        return [outcome for _, outcome in self.store.settled]


def test_a_live_channel_is_left_alone() -> None:
    one = open_task()
    desk = Desk(one)
    desk.ami.live = [channel_id(one.task.id), "1795.1"]
    assert desk.sweep(1000) == []
    desk.ami.live = []
    assert desk.sweep(1040) == ["failed/backend_lost"]


def test_gone_and_back_is_not_gone() -> None:
    one = open_task()
    desk = Desk(one)
    desk.sweep(28)
    desk.ami.live = [channel_id(one.task.id)]
    desk.sweep(32)
    desk.ami.live = []
    assert desk.sweep(60) == []


def test_tasks_of_a_dead_instance_end_within_a_minute() -> None:
    desk = Desk(open_task(DIALING), open_task(RINGING), open_task(TALKING), open_task(HUNG_UP))
    assert sorted(desk.sweep(36)) == ["failed/backend_lost"] * 2 + ["unknown/backend_lost"] * 2


def test_with_records_still_on_disk_nothing_ends() -> None:
    desk = Desk(open_task())
    desk.sweep(28)
    desk.store.backlog = 30
    assert desk.sweep(100) == []
    desk.store.backlog = 0
    assert desk.sweep(128) == [], "the grace begins anew"
    assert desk.sweep(134) == ["failed/backend_lost"]


def test_without_asterisk(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(open_task())
    desk.ami.error = AsteriskUnavailable("cannot connect")
    assert desk.sweep(100) == []
    desk.ami.error = None
    desk.sweep(104)
    desk.ami.error = AsteriskUnavailable("cannot connect")
    assert desk.sweep(222) == []
    assert desk.sweep(230) == ["failed/asterisk_lost"]
    assert caplog.text.count("Asterisk cannot be asked") == 2


def test_without_tasks_asterisk_is_not_asked() -> None:
    desk = Desk()
    desk.sweep(10)
    assert desk.ami.asked == 0


def test_a_refusal_is_no_empty_list() -> None:
    class Refusing(FakeAmi):
        def action(
            self, name: str, headers: Mapping[str, str | list[str]], *, timeout_s: float = 5.0
        ) -> AmiReply:
            return AmiReply(False, "Permission denied", {})

    with pytest.raises(CommandRefused, match="Permission denied"):
        live_channels(Refusing())


def test_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    store, ami = FakeStore([open_task()], away=True), FakeAmi()
    grace = Grace(gone_s=0.0, no_end_s=0.0)
    sweeper = Sweeper(store, ami, grace=grace, period_s=60)
    sweeper.start()
    while "PostgreSQL is away" not in caplog.text:
        sleep(0.005)
    store.away = False
    sweeper.wake()
    while not store.settled:
        sleep(0.005)
    sweeper.stop()
    assert sweeper.settled_total == 1
    assert not any(thread.name == "sweeper" for thread in threading.enumerate())
    Sweeper(store, ami).stop()
