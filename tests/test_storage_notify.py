"""storage.notify: the bus of PostgreSQL, against a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from backend.bus import publisher as module
from backend.bus.publisher import Publisher
from backend.errors import BusUnavailable
from backend.ports import Letter
from backend.storage.notify import NotifyCarrier
from tests.fakes.bus import balance, event, until
from tests.fakes.pg_listener import PgListener

TOPIC = "dialog_events"


@pytest.fixture
def listener(dsn: str) -> Iterator[PgListener]:
    listener = PgListener(dsn, TOPIC)
    yield listener
    listener.close()


def test_events_arrive_in_order(dsn: str, listener: PgListener) -> None:
    publisher = Publisher(NotifyCarrier(dsn, TOPIC, name="test bus"), 10_000)
    publisher.start()
    for n in range(1200):
        publisher.publish(event(n, {"text": "сумма \u0000 \ud800"}))
    found = [json.loads(line) for line in listener.get(1200)]
    assert [told["n"] for told in found] == list(range(1200))
    assert found[0]["body"]["text"].startswith("сумма \u0000")
    until(lambda: publisher.figures()["bus_published"] == 1200)
    publisher.stop()


def test_the_longest_payload(dsn: str, listener: PgListener) -> None:
    carrier = NotifyCarrier(dsn, TOPIC, name="test bus")
    longest = Letter("k", b"x" * carrier.limit_bytes)
    assert not carrier.send([longest]).left
    assert listener.get(1) == ["x" * 7999]
    too_long = Letter("k", b"x" * (carrier.limit_bytes + 1))
    assert "too long" in carrier.send([too_long]).why
    carrier.close()


def test_a_large_event_is_shortened(dsn: str, listener: PgListener) -> None:
    publisher = Publisher(NotifyCarrier(dsn, TOPIC, name="test bus"), 100)
    publisher.start()
    publisher.publish(event(1, {"answer": "я" * 20_000, "ok": True}))
    told = json.loads(listener.get(1)[0])
    assert (told["shortened"], told["body"]["ok"]) == (True, True)
    publisher.stop()


def test_connections_that_are_cut_lose_nothing(
    dsn: str, engine: Engine, listener: PgListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", (0.02, 0.1))
    publisher = Publisher(NotifyCarrier(dsn, TOPIC, name="cut bus"), 1000)
    publisher.start()
    for n in range(200):
        publisher.publish(event(n))
        if n % 20 == 0:
            with engine.begin() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name LIKE '%cut bus'"
                    )
                )
    until(lambda: publisher.figures()["bus_published"] == 200)
    found: dict[int, None] = {}  # some may come twice: the first time counts
    while 199 not in found:
        found[json.loads(listener.get(1)[0])["n"]] = None
    assert list(found) == list(range(200))
    assert balance(publisher) == 200
    publisher.stop()


def test_nobody_there() -> None:
    carrier = NotifyCarrier("postgresql://u:geheim@127.0.0.1:9/x", TOPIC, name="test bus")
    with pytest.raises(BusUnavailable, match="refused") as raised:
        carrier.connect()
    sent = carrier.send([Letter("k", b"{}")])
    assert len(sent.left) == 1
    assert "geheim" not in str(raised.value) + sent.why + carrier.where
    carrier.close()
