"""The dialer: each task at most one Originate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic, sleep
from uuid import UUID, uuid4

import pytest

from backend.dialing.dialer import REFUSED, Dialer, RateLimit, TaskQueue, originate
from backend.errors import (
    AsteriskError,
    AsteriskUnavailable,
    BadRequest,
    CommandTimeout,
    StorageUnavailable,
)
from backend.model import Outcome, Task, TaskRequest, TaskState
from backend.ports import Ami, AmiReply
from backend.protocol.ami import serialize

CHANNELS = {"default": "PJSIP/{phone}@trunk"}
QUEUED = AmiReply(True, "Originate successfully queued", {})
OnReply = Callable[[AmiReply | AsteriskError], None]


def task(phone: str = "100", **request: object) -> Task:
    asked = replace(TaskRequest(phone, "article"), **request)  # type: ignore[arg-type]
    return Task(uuid4(), asked, TaskState.DIALING, None, 1, datetime.now(UTC))


@dataclass
class FakeQueue:
    queued: list[Task] = field(default_factory=list)
    busy: int = 0
    released: list[UUID] = field(default_factory=list)
    settled: list[tuple[UUID, Outcome, str | None]] = field(default_factory=list)
    away: bool = False
    waits: int = 0
    news: threading.Event = field(default_factory=threading.Event)

    def _reach(self) -> None:
        if self.away:
            raise StorageUnavailable("PostgreSQL is away")

    def wait(self, timeout_s: float) -> bool:
        self.waits += 1
        found = self.news.wait(timeout_s)
        self.news.clear()
        return found

    def in_progress(self) -> int:
        self._reach()
        return self.busy

    def claim(self, limit: int) -> Sequence[Task]:
        self._reach()
        claimed, self.queued = self.queued[:limit], self.queued[limit:]
        return claimed

    def release(self, task_id: UUID) -> bool:
        self.released.append(task_id)
        return True

    def settle(self, task_id: UUID, outcome: Outcome, *, error: str | None = None) -> bool:
        self._reach()
        self.settled.append((task_id, outcome, error))
        return True


@dataclass
class FakeAmi:
    answer: AmiReply | AsteriskError | None = QUEUED
    connected: bool = True
    sent: list[tuple[float, Mapping[str, str | list[str]]]] = field(default_factory=list)

    def action(
        self, name: str, headers: Mapping[str, str | list[str]], *, timeout_s: float = 5.0
    ) -> AmiReply:
        raise AssertionError("the dialer does not wait")

    def send(self, name: str, headers: Mapping[str, str | list[str]], on_reply: OnReply) -> None:
        rest = {key: value for key, value in headers.items() if key != "ActionID"}
        serialize(name, rest, str(headers["ActionID"]))
        self.sent.append((monotonic(), headers))
        if self.answer is not None:
            on_reply(self.answer)


def dialer(
    queue: TaskQueue,
    ami: Ami,
    *,
    max_calls: int = 100,
    rate: float = 1000,
    clock: Callable[[], float] = monotonic,
) -> Dialer:
    return Dialer(queue, ami, channels=CHANNELS, max_calls=max_calls, rate_per_s=rate, clock=clock)


# --- what is sent -------------------------------------------------------------------------------


def test_the_originate() -> None:
    one = task(
        "+7999", file="hello", caller_id="7495", variables={"MOOD": "1"}, dial_timeout_s=12.5
    )
    own = f"dialog-{one.id}"
    assert originate(one, CHANNELS) == {
        "ActionID": own,
        "Channel": "PJSIP/+7999@trunk",
        "ChannelId": own,
        "OtherChannelId": f"{own}-2",
        "Context": "dialog-outbound",
        "Exten": "s",
        "Priority": "1",
        "Timeout": "12500",
        "Async": "true",
        "CallerID": "7495",
        "Variable": [
            f"DIALOG_TASK={one.id}",
            "DIALOG_SCENARIO=article",
            "DIALOG_NUMBER=+7999",
            "DIALOG_FILE=hello",
            "MOOD=1",
        ],
    }


def test_what_is_not_asked_for_is_not_sent() -> None:
    headers = originate(task(), CHANNELS)
    assert "CallerID" not in headers
    assert not any(item.startswith("DIALOG_FILE") for item in headers["Variable"])


def test_a_trunk_that_is_gone() -> None:
    with pytest.raises(BadRequest):
        originate(task(channel="old"), CHANNELS)


# --- what a step does ---------------------------------------------------------------------------


def test_a_task_is_dialled_once() -> None:
    queue, ami = FakeQueue([task()]), FakeAmi()
    one = dialer(queue, ami)
    queue.news.set()
    one.step()
    one.step()
    assert len(ami.sent) == 1
    assert queue.settled == []


@pytest.mark.parametrize(
    "answer", [AsteriskUnavailable("lost"), CommandTimeout("Originate: no answer in 5 s"), None]
)
def test_no_answer_is_never_sent_again(answer: AsteriskError | None) -> None:
    queue, ami = FakeQueue([task()]), FakeAmi(answer)
    one = dialer(queue, ami)
    queue.news.set()
    for _ in range(3):
        queue.news.set()
        one.step()
    assert len(ami.sent) == 1
    assert queue.settled == [], "its events or the sweeper will"
    assert queue.released == []


def test_asterisk_refuses() -> None:
    refused = AmiReply(False, "Extension does not exist.", {})
    queue, ami = FakeQueue([task()]), FakeAmi(refused)
    [waiting] = queue.queued
    one = dialer(queue, ami)
    one.step()
    queue.news.set()
    one.step()
    why = "Asterisk refused to dial: Extension does not exist."
    assert queue.settled == [(waiting.id, REFUSED, why)]
    assert one.refused_total == 1


def test_asterisk_is_being_stopped() -> None:
    """It refused, so nothing was dialled: another time, or another machine."""
    queue, ami = FakeQueue([task()]), FakeAmi(AmiReply(False, "Asterisk is shutting down", {}))
    [waiting] = queue.queued
    one = dialer(queue, ami)
    one.step()
    one.step()
    assert queue.released == [waiting.id]
    assert queue.settled == []


def test_what_cannot_be_written_is_refused() -> None:
    queue, ami = FakeQueue([task(channel="old"), task(variables={"A": "x\ny"})]), FakeAmi()
    one = dialer(queue, ami)
    one.step()
    queue.news.set()
    one.step()
    assert [error for _, _, error in queue.settled] == [
        "channel: old is no configured trunk",
        "Variable: holds a control character (CR, LF, NUL …)",
    ]
    assert ami.sent == []


def test_a_refusal_outlives_postgresql() -> None:
    queue, ami = FakeQueue([task()]), FakeAmi(AmiReply(False, "no", {}))
    one = dialer(queue, ami)
    one.step()
    queue.away = True
    with pytest.raises(StorageUnavailable):
        one.step()
    queue.away = False
    queue.news.set()
    one.step()
    assert len(queue.settled) == 1


def test_nothing_is_claimed_while_asterisk_is_away() -> None:
    queue, ami = FakeQueue([task()]), FakeAmi(connected=False)
    dialer(queue, ami).step()
    assert len(queue.queued) == 1


def test_lost_between_claim_and_sending() -> None:
    class Flickering(FakeAmi):
        looks = 0

        @property
        def connected(self) -> bool:
            self.looks += 1
            return self.looks == 1

        @connected.setter
        def connected(self, value: bool) -> None: ...

    queue, ami = FakeQueue([task()]), Flickering()
    [waiting] = queue.queued
    dialer(queue, ami).step()
    assert queue.released == [waiting.id]
    assert ami.sent == []


def test_no_more_calls_than_lines() -> None:
    queue, ami = FakeQueue([task() for _ in range(5)], busy=7), FakeAmi()
    one = dialer(queue, ami, max_calls=10)
    one.step()
    assert len(ami.sent) == 3
    queue.busy = 10
    one.step()
    assert len(ami.sent) == 3


def test_no_faster_than_the_rate() -> None:
    now = [0.0]
    queue, ami = FakeQueue([task() for _ in range(100)]), FakeAmi()
    one = dialer(queue, ami, rate=20, clock=lambda: now[0])
    for _ in range(3):
        one.step()
    assert len(ami.sent) == 2, "a tenth of a second's worth at once"
    for _ in range(10):
        now[0] += 0.1001
        one.step()
    assert len(ami.sent) == 22


def test_rate_limit() -> None:
    now = [0.0]
    limit = RateLimit(2, lambda: now[0])
    assert limit.available() == 1
    limit.take(1)
    assert (limit.available(), limit.delay_s()) == (0, 0.5)
    now[0] = 100.0
    assert limit.available() == 1


# --- the thread ---------------------------------------------------------------------------------


def test_a_new_task_is_dialled_in_milliseconds() -> None:
    queue, ami = FakeQueue(), FakeAmi()
    one = dialer(queue, ami)
    one.start()
    while not queue.waits:
        sleep(0.001)
    sleep(0.02)
    queue.queued = [task()]
    began = monotonic()
    queue.news.set()
    while not ami.sent:
        sleep(0.0005)
    assert ami.sent[0][0] - began < 0.05
    one.stop()
    assert not any(thread.name == "dialer" for thread in threading.enumerate())


def test_it_survives_postgresql(caplog: pytest.LogCaptureFixture) -> None:
    queue, ami = FakeQueue(away=True), FakeAmi()
    one = dialer(queue, ami)
    one.start()
    while "PostgreSQL is away" not in caplog.text:
        sleep(0.005)
    one.stop()


def test_stop_without_start() -> None:
    dialer(FakeQueue(), FakeAmi()).stop()
