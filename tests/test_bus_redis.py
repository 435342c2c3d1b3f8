"""bus.redis_pubsub against a real Redis (tests/fakes/redis_server.py)."""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.bus import publisher as module
from backend.bus.publisher import Publisher
from backend.bus.redis_pubsub import RedisCarrier
from backend.errors import BusUnavailable, ConfigError
from backend.ports import Letter
from tests.fakes.authority import Authority
from tests.fakes.bus import balance, event, until
from tests.fakes.redis_server import PASSWORD, RedisServer

TOPIC = "dialog_events"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, f"user bus on >{PASSWORD} -@all +ping +publish &{TOPIC}") as server:
        yield server


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[RedisCarrier], Publisher]]:
    monkeypatch.setattr(module, "BACKOFF_S", (0.02, 0.1))
    started: list[Publisher] = []

    def make(carrier: RedisCarrier, size: int = 1000) -> Publisher:
        publisher = Publisher(carrier, size)
        publisher.start()
        started.append(publisher)
        return publisher

    yield make
    for publisher in started:
        publisher.stop(0.1)


def numbers(listener: Any, count: int) -> list[int]:
    found = [listener.get() for _ in range(count)]
    assert None not in found
    return [json.loads(line)["n"] for line in found if line]


def test_events_arrive_in_order(server: RedisServer, start: Callable[..., Publisher]) -> None:
    listener = server.listen(TOPIC)
    publisher = start(RedisCarrier(server.url, TOPIC))
    for n in range(500):
        publisher.publish(event(n, {"text": "сумма"}))
    assert numbers(listener, 500) == list(range(500))
    until(lambda: publisher.figures()["bus_published"] == 500)
    listener.close()


def test_a_redis_that_is_killed_and_comes_back(
    server: RedisServer, start: Callable[..., Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    """What was made meanwhile waits; the count is exact at any moment."""
    first = server.listen(TOPIC)
    publisher = start(RedisCarrier(server.url, TOPIC), 200)
    for n in range(100):
        publisher.publish(event(n))
    assert numbers(first, 100) == list(range(100))
    until(lambda: publisher.figures()["bus_published"] == 100)
    server.kill()
    first.close()
    for n in range(100, 400):
        publisher.publish(event(n))
    until(lambda: publisher.figures()["bus_connected"] is False)
    assert balance(publisher) == 400
    assert publisher.figures()["bus_dropped_full"] == 100
    server.start()
    until(lambda: publisher.figures()["bus_queue"] == 0)
    second = server.listen(TOPIC)
    for n in range(400, 420):
        publisher.publish(event(n))
    assert numbers(second, 20) == list(range(400, 420))
    second.close()
    until(lambda: publisher.figures()["bus_published"] == 320)
    assert balance(publisher) == 420
    assert caplog.text.count("cannot be reached") == 1
    assert "100 events were not delivered (all: full 100, failed 0, timed_out 0)" in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("account", ["", ":wrong@", "nobody:wrong@"])
def test_a_wrong_password_is_said_clearly(server: RedisServer, account: str) -> None:
    carrier = RedisCarrier(f"redis://{account}127.0.0.1:{server.port}/0", TOPIC)
    with pytest.raises(BusUnavailable, match="refuses the user or password of bus_url") as raised:
        carrier.connect()
    assert "wrong" not in str(raised.value).replace("WRONGPASS", "")
    sent = carrier.send([Letter("k", b"x")])
    assert len(sent.left) == 1
    assert "refuses the user or password" in sent.why
    carrier.close()


def test_a_user_with_the_least_rights(server: RedisServer) -> None:
    url = f"redis://bus:{PASSWORD}@127.0.0.1:{server.port}/0"
    carrier = RedisCarrier(url, TOPIC)
    carrier.connect()
    listener = server.listen(TOPIC)
    assert not carrier.send([Letter("k", b"hello")]).left
    assert listener.get() == b"hello"
    listener.close()
    carrier.close()
    stranger = RedisCarrier(url, "other")
    sent = stranger.send([Letter("k", b"hello")])
    assert len(sent.left) == 1
    assert "its ACL needs +ping, +publish and &other" in sent.why
    stranger.close()


def test_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("redis", "IP:127.0.0.1")
    lines = (
        f"tls-cert-file {certificate}",
        f"tls-key-file {key}",
        f"tls-ca-cert-file {authority.ca}",
        "tls-auth-clients no",
    )
    with RedisServer(tmp_path, *lines, tls=True) as server:
        url = server.url.replace("redis:", "rediss:")
        carrier = RedisCarrier(f"{url}?ssl_ca_certs={authority.ca}", TOPIC)
        carrier.connect()
        assert not carrier.send([Letter("k", b"x")]).left
        carrier.close()
        stranger = RedisCarrier(url, TOPIC)
        with pytest.raises(BusUnavailable, match="certificate verify failed"):
            stranger.connect()
        stranger.close()


def test_nobody_there() -> None:
    carrier = RedisCarrier("redis://u:geheim@127.0.0.1:9/0", TOPIC)
    with pytest.raises(BusUnavailable, match="refused") as raised:
        carrier.connect()
    assert "geheim" not in str(raised.value) + carrier.where
    assert carrier.where == "redis 127.0.0.1:9 channel dialog_events"


def test_a_redis_that_hangs_ends_in_time(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.bus.redis_pubsub.SEND_S", 0.3)
    carrier = RedisCarrier(server.url, TOPIC)
    carrier.connect()
    server.freeze(True)
    began = time.monotonic()
    assert len(carrier.send([Letter("k", b"x")]).left) == 1
    assert time.monotonic() - began < 10
    server.freeze(False)
    carrier.close()


@pytest.mark.parametrize("url", ["redis://h:port/0", "http://h", "redis://h:1/0?no_such=1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="bus_url: expected redis://"):
        RedisCarrier(url, TOPIC)


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "redis":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'asterisk-dialog\[bus\]'"):
        RedisCarrier("redis://h", TOPIC)
