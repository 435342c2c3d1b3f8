"""bus.publisher: nobody waits, everything is delivered or counted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest

from backend.bus import publisher as module
from backend.bus.publisher import NoBus, Publisher
from tests.fakes.bus import CALL, FakeBus, balance, event, until

Start = Callable[..., Publisher]


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def start(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(module, "BACKOFF_S", (0.005, 0.02))
    started: list[Publisher] = []

    def make(size: int = 1000, **more: float) -> Publisher:
        publisher = Publisher(bus, size, **more)  # type: ignore[arg-type]
        publisher.start()
        started.append(publisher)
        return publisher

    yield make
    bus.open.set()
    for publisher in started:
        publisher.stop(0.1)
    assert not [thread for thread in threading.enumerate() if thread.name == "bus"]


def test_events_arrive_in_order(bus: FakeBus, start: Start) -> None:
    publisher = start(5000)
    for n in range(3000):
        publisher.publish(event(n))
    bus.wait_for(3000)
    assert [told["n"] for told in bus.arrived] == list(range(3000))
    assert {letter.key for letter in bus.letters} == {str(CALL)}
    until(lambda: publisher.figures()["bus_published"] == 3000)
    assert publisher.figures() == {
        "bus_published": 3000,
        "bus_dropped_full": 0,
        "bus_dropped_failed": 0,
        "bus_dropped_timed_out": 0,
        "bus_queue": 0,
        "bus_connected": True,
    }


def test_a_bus_that_hangs_keeps_nobody_waiting(bus: FakeBus, start: Start) -> None:
    """The queue takes what it may; then the oldest go."""
    publisher = start(100)
    bus.open.clear()
    longest_s = 0.0
    for n in range(20_000):
        began = time.thread_time()  # what it costs the caller; others may have the processor
        publisher.publish(event(n))
        longest_s = max(longest_s, time.thread_time() - began)
    assert longest_s < 0.02
    figures = publisher.figures()
    assert figures["bus_queue"] == 100
    assert figures["bus_dropped_full"] == 19_900
    bus.open.set()
    bus.wait_for(100)
    assert bus.arrived[-1]["n"] == 19_999
    assert balance(publisher) == 20_000


def test_what_waited_is_delivered_when_the_bus_is_back(
    bus: FakeBus, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    bus.away = "connection refused"
    publisher = start()
    bus.wait_tries(3)
    for n in range(10):
        publisher.publish(event(n))
    assert publisher.figures()["bus_connected"] is False
    bus.away = ""
    bus.wait_for(10)
    assert [told["n"] for told in bus.arrived] == list(range(10))
    until(lambda: "there again" in caplog.text)
    assert caplog.text.count("cannot be reached") == 1, "once an outage"
    assert "connection refused" in caplog.text
    assert "0 events were not delivered" in caplog.text


def test_the_end_of_an_outage_tells_what_was_lost(
    bus: FakeBus, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    bus.away = "no route"
    publisher = start(20)
    for n in range(50):
        publisher.publish(event(n))
    bus.away = ""
    until(lambda: "there again" in caplog.text)
    assert "30 events were not delivered (all: full 30, failed 0, timed_out 0)" in caplog.text
    until(lambda: balance(publisher) == 50 and publisher.figures()["bus_queue"] == 0)


def test_what_became_too_old_is_counted(bus: FakeBus, start: Start) -> None:
    now = [1000.0]
    bus.away = "no route"
    publisher = start(1000, clock=lambda: now[0])
    for n in range(700):  # more than a batch
        publisher.publish(event(n))
    until(lambda: publisher.figures()["bus_queue"] == 700)
    bus.wait_tries(2)
    now[0] += module.KEEP_S + 1
    publisher.publish(event(700))
    bus.away = ""
    bus.wait_for(1)
    until(lambda: publisher.figures()["bus_queue"] == 0)
    assert [told["n"] for told in bus.arrived] == [700]
    assert publisher.figures()["bus_dropped_timed_out"] == 700


def test_a_batch_that_breaks_goes_on_where_it_broke(bus: FakeBus, start: Start) -> None:
    bus.open.clear()
    publisher = start()
    for n in range(10):
        publisher.publish(event(n))
    bus.breaks_after = 4
    bus.open.set()
    until(lambda: bus.away == "broken")
    bus.away = ""
    bus.wait_for(10)
    assert [told["n"] for told in bus.arrived] == list(range(10))
    until(lambda: publisher.figures()["bus_published"] == 10)


def test_what_the_bus_refuses_is_counted_and_the_others_go_on(
    bus: FakeBus, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    bus.refuses = b"poison"
    publisher = start()
    for n, body in enumerate([{}, {"text": "poison"}, {}]):
        publisher.publish(event(n, dict(body)))
    bus.wait_for(2)
    until(lambda: publisher.figures()["bus_dropped_failed"] == 1)
    assert [told["n"] for told in bus.arrived] == [0, 2]
    until(lambda: "refuses events" in caplog.text)


def test_a_body_that_is_no_json_harms_nobody(bus: FakeBus, start: Start) -> None:
    publisher = start()
    endless: dict[str, object] = {}
    endless["self"] = endless
    publisher.publish(event(0, endless))
    publisher.publish(event(1, {"sum": float("nan"), "who": uuid4()}))
    bus.wait_for(1)
    assert bus.arrived[0]["body"]["sum"] is None
    assert publisher.figures()["bus_dropped_failed"] == 1


def test_a_mistake_of_ours_does_not_end_the_thread(
    bus: FakeBus, start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = start()
    bus.wait_tries(1)
    with monkeypatch.context() as broken:
        broken.setattr(bus, "send", lambda letters: 1 / 0)
        publisher.publish(event(0))
        until(lambda: publisher.figures()["bus_dropped_failed"] == 1)
    assert "a mistake in this program" in caplog.text
    publisher.publish(event(1))
    bus.wait_for(1)
    assert bus.arrived[0]["n"] == 1


def test_stop_delivers_what_is_left(bus: FakeBus, start: Start) -> None:
    publisher = start()
    bus.open.clear()
    for n in range(50):
        publisher.publish(event(n))
    threading.Timer(0.1, bus.open.set).start()
    publisher.stop(10)
    assert len(bus.letters) == 50
    assert bus.closed
    publisher.publish(event(50))  # nobody's thread any more: counted, that is all
    assert publisher.figures()["bus_dropped_timed_out"] == 1


def test_stop_does_not_wait_for_a_bus_that_is_away(
    bus: FakeBus, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    bus.away = "no route"
    publisher = start()
    for n in range(50):
        publisher.publish(event(n))
    bus.wait_tries(2)
    publisher.stop(60)
    assert publisher.figures()["bus_dropped_timed_out"] == 50
    assert "50 more events were not delivered" in caplog.text


def test_stop_gives_up_a_bus_that_hangs(
    bus: FakeBus, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread is left behind in the bus's hands; what comes of it counts no more."""
    monkeypatch.setattr(module, "SEND_S", 0.05)
    publisher = start()
    until(lambda: publisher.figures()["bus_connected"])
    bus.open.clear()
    for n in range(50):
        publisher.publish(event(n))
    publisher.stop(0.1)
    assert publisher.figures()["bus_dropped_timed_out"] == 50
    bus.open.set()
    bus.wait_for(1)
    until(lambda: bus.closed)
    assert balance(publisher) == 50


def test_an_idle_connection_is_looked_at(
    bus: FakeBus, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So that an outage is told of before a call needs the bus."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    publisher = start()
    until(lambda: publisher.figures()["bus_connected"])
    bus.away = "gone"
    until(lambda: "cannot be reached" in caplog.text)
    assert publisher.figures()["bus_connected"] is False


def test_many_threads_keep_their_order(bus: FakeBus, start: Start) -> None:
    publisher = start(10_000)
    calls = [uuid4() for _ in range(8)]

    def talk(call: UUID) -> None:
        for n in range(500):
            publisher.publish(event(n, call=call))

    threads = [threading.Thread(target=talk, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    bus.wait_for(4000)
    for call in calls:
        assert [e["n"] for e in bus.arrived if e["call"] == str(call)] == list(range(500))


def test_off(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        bus = NoBus()
        bus.publish(event())
    assert bus.figures() == {}
    assert caplog.text == ""
