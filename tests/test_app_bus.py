"""app.bus and doctor: the bus by the settings, on real servers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from backend import config, doctor
from backend.app.bus import ProcessBus, open_carrier
from backend.app.home import Home, SpeechAddress
from backend.config import Settings
from backend.errors import ConfigError
from backend.model import CallEnded, CallStarted, CallStep, Outcome, Reason, Record, TaskState
from tests.fakes.redis_server import PASSWORD, RedisServer

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
CALL = uuid4()
STARTED = CallStarted(
    CALL, None, NOW, "pbx", "voice-0", "pay", "inbound", "PJSIP/t-1", "u", "1", "2", "sip"
)
STEP = CallStep(CALL, None, 0, NOW, "key", "pay", "ab12", "pin", "playing", 900, {"key": "5"})
ENDED = CallEnded(CALL, None, NOW, Outcome(TaskState.DONE, Reason.COMPLETED), None, None)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("DIALOG_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def home(settings: Settings, dsn: str = "postgresql://127.0.0.1:9/none") -> Home:
    return Home(settings, dsn, SpeechAddress("", "", local=True))


class Kept:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, *records: Record) -> None:
        self.records += records


def test_what_is_kept_is_told_and_the_last_is_flushed(redis_server: RedisServer) -> None:
    listener = redis_server.listen("dialog_events")
    kept = Kept()
    with ExitStack() as rooms:
        bus = ProcessBus(home(config.load(bus="redis", bus_url=redis_server.url)), "voice-0", rooms)
        told = bus.told(kept)
        told.append(STARTED)
        told.keep_step(STEP)
        told.append(ENDED)
    found = [json.loads(line) for _ in range(3) if (line := listener.get())]
    assert [event["kind"] for event in found] == ["call_started", "key", "call_ended"]
    assert {event["channel"]["kind"] for event in found} == {"sip"}
    assert kept.records == [STARTED, STEP, ENDED]
    assert bus.figures()["bus_published"] == 3
    listener.close()


def test_off_starts_nothing() -> None:
    with ExitStack() as rooms:
        before = threading.active_count()
        bus = ProcessBus(home(config.load(bus="off")), "voice-0", rooms)
        bus.told(Kept()).append(STARTED)
        assert threading.active_count() == before
        assert bus.figures() == {}


def test_each_bus_by_its_name() -> None:
    dsn = "postgresql://u:p@h/x"
    wheres = []
    for more in (
        {},
        {"bus": "redis", "bus_url": "redis://u:geheim@h/1"},
        {"bus": "kafka", "bus_url": "kafka://u:geheim@h:1?mechanism=PLAIN"},
    ):
        carrier = open_carrier(config.load(bus_topic="t", **more), dsn, "voice-0")
        assert carrier is not None
        wheres.append(carrier.where)
        carrier.close()
    assert wheres == ["postgres channel t", "redis h:6379 channel t", "kafka h:1 topic t"]
    assert open_carrier(config.load(bus="off"), dsn, "voice-0") is None


def test_packages_are_loaded_only_when_they_are_needed() -> None:
    code = (
        "import sys, backend.app.bus; "
        "assert not {'redis', 'confluent_kafka'} & {name.split('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_wrong_address_ends_the_start() -> None:
    settings = config.load(bus="redis", bus_url="redis://h:port")
    with ExitStack() as rooms, pytest.raises(ConfigError, match="bus_url"):
        ProcessBus(home(settings), "voice-0", rooms)


def test_doctor_sends_a_test_event(redis_server: RedisServer) -> None:
    listener = redis_server.listen("dialog_events")
    settings = config.load(bus="redis", bus_url=redis_server.url)
    (finding,) = doctor.check_bus(settings)
    assert finding.ok, finding
    line = listener.get()
    assert line and json.loads(line)["kind"] == "test"
    listener.close()


def test_doctor_on_postgres(dsn: str) -> None:
    (finding,) = doctor.check_bus(config.load(database_url=dsn))
    assert str(finding) == "ok    bus postgres channel dialog_events: it took an event of kind test"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"bus": "off"}, "ok    bus: off"),
        ({}, "ok    bus: NOTIFY dialog_events in the embedded PostgreSQL"),
        ({"bus": "redis", "bus_url": "redis://:geheim@127.0.0.1:9"}, "refused"),
        ({"bus": "redis", "bus_url": "redis://h:port"}, "the backend does not start"),
        ({"database_url": "postgresql://u:geheim@127.0.0.1:9/x"}, "refused"),
    ],
)
def test_doctor_says_what_is_wrong(more: dict[str, str], said: str) -> None:
    (finding,) = doctor.check_bus(config.load(**more))
    assert said in str(finding)
    assert finding.ok is not bool(finding.mend)
    assert "geheim" not in str(finding)


def test_doctor_knows_a_wrong_password(redis_server: RedisServer) -> None:
    url = redis_server.url.replace(PASSWORD, "wrong")
    (finding,) = doctor.check_bus(config.load(bus="redis", bus_url=url))
    assert "refuses the user or password of bus_url" in finding.what
