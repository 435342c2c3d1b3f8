"""The bus: what publishing costs a call, what a bus takes in a second, how late events come.

Without Asterisk:  python3 -m tests.bench.bus [--quick]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import uuid4

from confluent_kafka import Producer

from backend.bus.kafka import KafkaCarrier
from backend.bus.publisher import NoBus, Publisher
from backend.bus.redis_pubsub import RedisCarrier
from backend.bus.telling import Teller
from backend.model import CallStarted, CallStep
from backend.ports import BusCarrier, BusEvent
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.notify import NotifyCarrier
from tests.bench.figures import Sample, Table
from tests.fakes.pg_listener import PgListener
from tests.fakes.redis_server import RedisServer

TOPIC = "dialog_events"
QUEUE = 10_000
PACE_S = 0.005
_numbers = count(1)


class Steps:
    """Events of a call's steps, as many as wanted."""

    def __init__(self) -> None:
        self._call = uuid4()
        self._teller = Teller("bench", "voice-0")
        channel = ("PJSIP/trunk-00000001", "1", "74951234567", "79161234567", "sip")
        self._teller.of_record(
            CallStarted(self._call, None, _now(), "bench", "voice-0", "pay", "inbound", *channel)  # type: ignore[arg-type]
        )

    def next(self) -> BusEvent:
        number = next(_numbers)
        body = {"key": "5", "verdict": "blocked", "duration_ms": 100, "sent": time.monotonic()}
        step = CallStep(
            self._call, None, number, _now(), "key", "pay", "ab12cd34ef56", "pin", "playing",
            number * 20, body,
        )  # fmt: skip
        event = self._teller.of_record(step)
        assert event is not None
        return event


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def running(carrier: BusCarrier) -> Iterator[Publisher]:
    publisher = Publisher(carrier, QUEUE)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


def cost_us(bus: Publisher | NoBus, events: int) -> Sample:
    """Of making an event of a step and publishing it, in the caller's thread."""
    steps, taken = Steps(), []
    for _ in range(events):
        began = time.perf_counter()
        bus.publish(steps.next())
        taken.append((time.perf_counter() - began) * 1e6)
        if len(taken) % 20 == 0:
            time.sleep(PACE_S)  # as calls do: not all at once
    return Sample.of(taken)


def rate(publisher: Publisher, events: int) -> float:
    """Events delivered in a second, the queue never full."""
    steps = Steps()
    while not publisher.figures()["bus_connected"]:
        time.sleep(0.01)
    before = publisher.figures()["bus_published"]
    began = time.monotonic()
    for _ in range(events):
        publisher.publish(steps.next())
        while publisher.figures()["bus_queue"] > QUEUE // 2:
            time.sleep(0.001)
    while publisher.figures()["bus_published"] < before + events:
        time.sleep(0.001)
    return events / (time.monotonic() - began)


def delays_ms(publisher: Publisher, get: Callable[[], bytes | str], events: int) -> Sample:
    """publish() → a listener has it; one at a time, 200 a second."""
    steps, taken = Steps(), []
    for _ in range(events):
        publisher.publish(steps.next())
        told = json.loads(get())
        taken.append((time.monotonic() - told["body"]["sent"]) * 1000)
        time.sleep(PACE_S)
    return Sample.of(taken)


def tables(folder: Path, events: int) -> list[Table]:
    """Servers of its own, in FOLDER."""
    costs = Table(
        "The bus: making an event of a step and publishing it, in the call's thread",
        ("µs", "samples", "median", "p95", "max"),
    )
    rates = Table("The bus: events delivered", ("bus", "per second"))
    late = Table(
        "The bus: publish() → a listener has it", ("ms", "samples", "median", "p95", "max")
    )
    costs.add("off (the event is made all the same)", *cost_us(NoBus(), events).cells(1))
    server = EmbeddedPostgres(folder / "postgres")
    dsn = server.start()
    try:
        with running(NotifyCarrier(dsn, TOPIC, name="bench")) as publisher:
            costs.add("PostgreSQL", *cost_us(publisher, events).cells(1))
            rates.add("PostgreSQL NOTIFY (embedded server)", f"{rate(publisher, events):.0f}")
            heard = PgListener(dsn, TOPIC)
            found = delays_ms(publisher, lambda: heard.get(1)[0], events // 20)
            late.add("PostgreSQL NOTIFY", *found.cells(1))
            heard.close()
    finally:
        server.stop()
    with RedisServer(folder) as redis_server:
        with running(RedisCarrier(redis_server.url, TOPIC)) as publisher:
            costs.add("Redis", *cost_us(publisher, events).cells(1))
            rates.add("Redis", f"{rate(publisher, events):.0f}")
            listener = redis_server.listen(TOPIC)
            found = delays_ms(publisher, lambda: listener.get() or b"", events // 20)
            late.add("Redis", *found.cells(1))
            listener.close()
            redis_server.freeze(True)
            costs.add("Redis, frozen", *cost_us(publisher, events).cells(1))
            redis_server.freeze(False)
        redis_server.kill()
        with running(RedisCarrier(redis_server.url, TOPIC)) as publisher:
            costs.add("Redis, dead", *cost_us(publisher, events).cells(1))
    mock = Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 1, "log_level": 2})
    brokers = ",".join(f"{b.host}:{b.port}" for b in mock.list_topics(timeout=20).brokers.values())
    with running(KafkaCarrier(f"kafka://{brokers}", TOPIC)) as publisher:
        costs.add("Kafka (mock cluster)", *cost_us(publisher, events).cells(1))
        rates.add("Kafka (librdkafka's mock cluster, in the same process)",
                  f"{rate(publisher, events):.0f}")  # fmt: skip
    costs.notes = ["20 events every 5 ms, as some hundred calls with keys and states make."]
    rates.notes = ["One publisher; batches of 500 at most, the next when one is confirmed."]
    return [costs, rates, late]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few samples")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dialog-bus-") as folder:
        for table in tables(Path(folder), 2000 if options.quick else 20_000):
            print(table.markdown())


if __name__ == "__main__":
    main()
