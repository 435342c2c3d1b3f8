"""The bus on real calls: all is told, in order; a bus that is away harms no call, and what it did
not get is counted."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import lab_sound
import psycopg2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from stack import Stack

from backend.storage.engine import make_engine
from backend.storage.routes import Routes
from tests.e2e.conftest import probing_stack
from tests.e2e.web_phone import WebPhone
from tests.fakes.redis_server import PASSWORD, Listener, RedisServer, free_port

STEPS = 100
LONG_S = 4  # a thousand steps take some 0.1 s; who waited for the bus once would take 5 s
_suffix = itertools.count(7300)

Event = dict[str, Any]


def number(code: str) -> str:
    return f"{code}{next(_suffix)}"


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, asterisk: str, redis_server: RedisServer
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    settings = {"DIALOG_BUS": "redis", "DIALOG_BUS_URL": redis_server.url}
    with probing_stack(folder, asterisk, **settings) as stack:
        lab_sound.write(folder / "lab/sounds/guarded-tone.wav", lab_sound.tone(2400))
        yield stack
        log = stack.log_path.read_text()
        assert "Traceback" not in log
        assert PASSWORD not in log


def call_id(stack: Stack, task_id: str) -> str:
    return str(ask(stack, "SELECT id FROM calls WHERE task_id = %s", task_id)[0][0])


def ask(stack: Stack, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(stack.dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


def stored_steps(stack: Stack, call: str) -> list[tuple[int, str, str]]:
    """Number, kind and state of each, in order; once the call's end is stored."""

    def ended() -> bool:
        query = "SELECT 1 FROM calls WHERE id = %s AND ended_at IS NOT NULL"
        return bool(ask(stack, query, call))

    stack.wait_for("the call's records", lambda: ended() or None)
    return [
        (row[0], row[1], row[2])
        for row in ask(
            stack, "SELECT n, kind, state FROM steps WHERE call_id = %s ORDER BY n", call
        )
    ]


def until_end(listener: Listener) -> list[Event]:
    """All events up to the next call's end."""
    found: list[Event] = []
    while not found or found[-1]["kind"] != "call_ended":
        line = listener.get(60)
        assert line is not None, found[-3:]
        found.append(json.loads(line))
    return found


def bus_figures(stack: Stack) -> dict[str, float]:
    """Of the voice worker: published, queue, connected, and each reason for a drop."""
    found = {}
    for family in text_string_to_metric_families(stack.text("/metrics")):
        for sample in family.samples:
            if sample.name.startswith("dialog_bus_") and sample.labels["process"] == "voice-0":
                short = sample.name.removeprefix("dialog_bus_").removesuffix("_total")
                found[sample.labels.get("reason", short)] = sample.value
    return found


def made(figures: dict[str, float]) -> float:
    return sum(value for name, value in figures.items() if name != "connected")


def test_a_guarded_calls_events_arrive_in_order(stack: Stack, redis_server: RedisServer) -> None:
    listener = redis_server.listen("dialog_events")
    phone = number("112")
    task = stack.ended(stack.originate(phone, scenario="told")["id"])
    assert task["state"] == "done", task
    events = until_end(listener)
    listener.close()
    steps = events[1:-1]
    call = call_id(stack, task["id"])
    assert [event["kind"] for event in (events[0], events[-1])] == ["call_started", "call_ended"]
    assert [(e["n"], e["kind"], e["state"]) for e in steps] == stored_steps(stack, call)
    assert len(steps) >= STEPS
    assert {event["call"] for event in events} == {call}
    assert {event["task"] for event in events} == {task["id"]}
    channels = {json.dumps(event["channel"], sort_keys=True) for event in events}
    assert len(channels) == 1
    assert events[0]["channel"]["kind"] == "sip"
    assert events[0]["channel"]["called"] == phone
    numbers = [int(event["id"].partition("-")[2]) for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(events))), "none is missing"


def test_the_figures_are_those_of_the_steps(stack: Stack) -> None:
    """Keys pressed in a prompt of 2.4 s, from a second after its first sound on: all blocked."""
    task = stack.ended(stack.originate(number("112"), scenario="told")["id"])
    assert task["state"] == "done", task
    steps = stored_steps(stack, call_id(stack, task["id"]))
    assert [state for _, kind, state in steps if kind == "key"] == ["playing"] * 3
    query = (
        "SELECT body ->> 'verdict', count(*) FROM steps WHERE kind = 'key' AND flow IS NULL"
        " GROUP BY 1"
    )
    found = metrics(stack)
    keys = {name: value for name, value in found.items() if name.startswith("dialog_keys_total")}
    told = {name.split("verdict=")[1]: value for name, value in keys.items() if value}
    assert sorted(told.items()) == sorted(ask(stack, query))
    assert keys["dialog_keys_total verdict=blocked"] >= 3
    assert found["dialog_play_block_success_rate"] == 1
    orders = "SELECT count(*) FROM steps WHERE kind = 'state' AND body ->> 'event' = 'play'"
    assert found["dialog_prompts_blocked_total"] == ask(stack, orders)[0][0]
    assert found["dialog_guard_switch_seconds_count"] >= 1
    assert found["dialog_guard_opening_error_seconds_count"] >= 1


def test_a_flows_events_and_figures_have_its_name_and_version(
    stack: Stack, redis_server: RedisServer
) -> None:
    """The subscriber presses 1 2 3 in the prompt: blocked, and secret."""
    listener = redis_server.listen("dialog_events")
    task = stack.ended(stack.originate(number("112"), scenario="told-flow")["id"])
    assert task["state"] == "done", task
    events = until_end(listener)
    listener.close()
    inside = [event for event in events if event["flow"] == "told-flow"]
    assert (inside[0]["kind"], inside[-1]["kind"]) == ("flow", "flow_end")
    assert inside[-1]["body"]["ok"] is True
    (version,) = {event["version"] for event in inside}
    keys = [event for event in inside if event["kind"] == "key"]
    assert [key["body"]["verdict"] for key in keys] == ["blocked"] * 3
    assert {(key["flow_node"], key["body"]["key"]) for key in keys} == {("pin", "•")}
    found = metrics(stack, "told-flow", version)
    assert found["dialog_flow_calls_total"] == 1
    assert found["dialog_flow_calls_failed_total"] == 0
    assert found["dialog_prompts_blocked_total"] == 1
    assert found["dialog_keys_total verdict=blocked"] == 3
    assert found["dialog_play_block_success_rate"] == 1
    assert "dialog_dtmf_loss_rate" not in found, "no key was taken"


def metrics(stack: Stack, flow: str = "", version: str = "") -> dict[str, float]:
    """What is counted there: name (and the label that is left) → value."""
    found = {}
    for family in text_string_to_metric_families(stack.text("/metrics")):
        for sample in family.samples:
            labels = dict(sample.labels)
            if (labels.pop("flow", None), labels.pop("version", None)) == (flow, version):
                rest = "".join(f" {name}={value}" for name, value in labels.items())
                found[f"{sample.name}{rest}"] = sample.value
    return found


def test_a_frozen_bus_keeps_no_call_waiting(stack: Stack, redis_server: RedisServer) -> None:
    """Frozen is worse than dead: whoever waited for it would wait 5 s for each batch."""
    redis_server.freeze(True)
    try:
        task = stack.ended(stack.originate(number("103"), scenario="many-steps")["id"])
    finally:
        redis_server.freeze(False)
    assert task["state"] == "done", task
    assert task["result"] < LONG_S


def test_the_bus_is_killed_in_mid_call(stack: Stack, redis_server: RedisServer) -> None:
    """The call goes on; what was told, what waits and what was dropped is all that was made."""
    listener = redis_server.listen("dialog_events")
    task_id = stack.originate(number("103"), scenario="told")["id"]
    seen: list[Event] = []
    while not any(event["body"].get("number") == 20 for event in seen):
        line = listener.get(60)
        assert line is not None
        seen.append(json.loads(line))
    redis_server.kill()
    listener.close()
    task = stack.ended(task_id)
    assert (task["state"], task["result"]) == ("done", STEPS), task
    another = stack.ended(stack.originate(number("103"), scenario="many-steps")["id"])
    assert another["state"] == "done", another
    assert another["result"] < LONG_S
    stored_steps(stack, call_id(stack, another["id"]))
    steps = stored_steps(stack, call_id(stack, task_id))
    everything = "SELECT (SELECT count(*) FROM steps) + (SELECT 2 * count(*) FROM calls)"
    wanted = ask(stack, everything)[0][0]

    def dead() -> dict[str, float] | None:
        figures = bus_figures(stack)
        return figures if figures["connected"] == 0 and made(figures) == wanted else None

    figures = stack.wait_for("the count while the bus is dead", dead)
    untold = figures["queue"] + figures["timed_out"] + figures["full"]
    assert untold >= len(steps) - seen[-1]["n"], "nothing was told after the kill"
    redis_server.start()

    def back() -> dict[str, float] | None:
        figures = bus_figures(stack)
        return figures if figures["connected"] == 1 and figures["queue"] == 0 else None

    figures = stack.wait_for("the bus to be back", back)
    assert made(figures) == wanted
    log = stack.log_path.read_text()
    assert "cannot be reached: calls go on" in log
    assert "is there again after" in log


def test_a_call_of_a_browser_is_told_as_webrtc(
    stack: Stack, redis_server: RedisServer, asterisk: str
) -> None:
    """SIP over a WebSocket, as browsers have it (not their media: DTLS is no part of this)."""
    port = free_port()
    home: Path = stack.lab.pbx.home
    (home / "etc/http.conf").write_text(
        f"[general]\nenabled = yes\nbindaddr = 127.0.0.1\nbindport = {port}\n"
    )
    stack.lab.pbx.cli("module reload http")
    for module in ("res_http_websocket.so", "res_pjsip_transport_websocket.so"):
        stack.lab.pbx.cli(f"module load {module}")
    engine = make_engine(stack.dsn, name="test")
    try:
        Routes(engine).put("7495666*", "inbound", "quick")
    finally:
        engine.dispose()
    listener = redis_server.listen("dialog_events")
    with WebPhone(port) as phone:
        phone.call("74956660001")
        began, *_, ended = until_end(listener)
    listener.close()
    assert began["channel"]["kind"] == "webrtc", began
    assert began["channel"]["name"].startswith("PJSIP/")
    assert ended["channel"] == began["channel"]
