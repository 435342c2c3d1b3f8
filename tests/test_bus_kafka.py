"""bus.kafka against librdkafka's own mock cluster: brokers inside the library, spoken to over
loopback TCP by the real protocol. No Kafka was there to test with."""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Consumer, Producer

from backend.bus import kafka as kafka_module
from backend.bus.kafka import KafkaCarrier, read_url
from backend.bus.publisher import Publisher
from backend.errors import BusUnavailable, ConfigError
from backend.ports import Letter
from tests.fakes.bus import balance, event, until

TOPIC = "dialog_events"


class MockCluster:
    """Lives in a producer of its own. ``brokers``: their addresses."""

    def __init__(self) -> None:
        settings = {"bootstrap.servers": "none:1", "test.mock.num.brokers": 2, "log_level": 2}
        self._producer: Producer | None = Producer(settings)
        found = self._producer.list_topics(timeout=20).brokers.values()
        self.brokers = ",".join(f"{broker.host}:{broker.port}" for broker in found)

    @property
    def url(self) -> str:
        return f"kafka://{self.brokers}"

    def end(self) -> None:
        self._producer = None  # the brokers go with it

    def read(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """Key and event of the first ``count`` messages: in order within a partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.brokers,
                "group.id": str(uuid4()),
                "auto.offset.reset": "earliest",
                "log_level": 2,
            }
        )
        consumer.subscribe([TOPIC])
        found: list[tuple[str, dict[str, Any]]] = []
        end = time.monotonic() + 60
        while len(found) < count:
            assert time.monotonic() < end, f"{len(found)} of {count}"
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                key, value = message.key(), message.value()
                assert isinstance(key, bytes)
                assert isinstance(value, bytes)
                found.append((key.decode(), json.loads(value)))
        consumer.close()
        return found


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    cluster.end()


def test_a_calls_events_stay_in_order(cluster: MockCluster) -> None:
    publisher = Publisher(KafkaCarrier(cluster.url, TOPIC), 10_000)
    publisher.start()
    calls = [uuid4() for _ in range(5)]
    for n in range(100):
        for call in calls:
            publisher.publish(event(n, call=call))
    found = cluster.read(500)
    for call in calls:
        assert [told["n"] for key, told in found if key == str(call)] == list(range(100))
    until(lambda: publisher.figures()["bus_published"] == 500)
    assert balance(publisher) == 500
    publisher.stop()


def test_a_cluster_that_dies_is_counted(
    cluster: MockCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kafka_module, "SEND_S", 0.5)
    publisher = Publisher(KafkaCarrier(cluster.url, TOPIC), 100, keep_s=1.0)
    publisher.start()
    publisher.publish(event(0))
    until(lambda: publisher.figures()["bus_published"] == 1)
    cluster.end()
    for n in range(1, 31):
        publisher.publish(event(n))
    until(lambda: publisher.figures()["bus_dropped_timed_out"] == 30)
    assert balance(publisher) == 31
    assert publisher.figures()["bus_connected"] is False
    publisher.stop(0.5)
    assert caplog.text.count("cannot be reached") == 1


def test_what_is_taken_back_can_be_sent_again(
    cluster: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_module, "SEND_S", 0.3)
    carrier = KafkaCarrier(cluster.url, TOPIC)
    carrier.connect()
    cluster.end()
    letters = [Letter("a", b"1"), Letter("a", b"2")]
    began = time.monotonic()
    sent = carrier.send(letters)
    assert time.monotonic() - began < 10
    assert list(sent.left) == letters
    assert sent.why
    carrier.close()


def test_what_is_too_large_is_refused(cluster: MockCluster) -> None:
    carrier = KafkaCarrier(cluster.url, TOPIC, message_max_bytes=2000)
    sent = carrier.send([Letter("a", b"x" * 5000), Letter("a", b"2")])
    assert (len(sent.left), sent.refused) == (0, 1)
    assert "large" in sent.why.lower()
    carrier.close()


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_module, "SEND_S", 0.5)
    carrier = KafkaCarrier("kafka://u:geheim@127.0.0.1:9?mechanism=PLAIN", TOPIC)
    with pytest.raises(BusUnavailable) as raised:
        carrier.connect()
    assert "geheim" not in str(raised.value) + carrier.where
    assert carrier.where == "kafka 127.0.0.1:9 topic dialog_events"
    carrier.close()


def test_the_address() -> None:
    plain = {"acks": "all", "security.protocol": "PLAINTEXT"}
    assert read_url("kafka://a:1,b:2") == {"bootstrap.servers": "a:1,b:2", **plain}
    assert read_url("kafka://a:1/?acks=1")["acks"] == "1"
    assert read_url("kafkas://us%40er:p%3Aw@a:1?ca=/x.pem") == {
        "bootstrap.servers": "a:1",
        "acks": "all",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "us@er",
        "sasl.password": "p:w",
        "ssl.ca.location": "/x.pem",
    }
    assert read_url("kafkas://a:1")["security.protocol"] == "SSL"
    assert read_url("kafka://u:p@a:1?mechanism=PLAIN")["security.protocol"] == "SASL_PLAINTEXT"


@pytest.mark.parametrize(
    "url",
    [
        "kafka://",
        "http://a:1",
        "kafka://geheim@a:1",
        "kafka://u:geheim@a:1?acks=2",
        "kafka://u:geheim@a:1?topic=x",
        "kafkas://a:1?ca=/no/such/file",
    ],
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="bus_url") as raised:
        KafkaCarrier(url, TOPIC)
    assert "geheim" not in str(raised.value)


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "confluent_kafka":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'asterisk-dialog\[bus\]'"):
        KafkaCarrier("kafka://h:1", TOPIC)


def test_the_key_is_the_calls(cluster: MockCluster) -> None:
    call = UUID(int=7)
    publisher = Publisher(KafkaCarrier(cluster.url, TOPIC), 100)
    publisher.start()
    publisher.publish(event(1, call=call))
    publisher.stop(20)
    assert [(key, told["n"]) for key, told in cluster.read(1)] == [(str(call), 1)]
