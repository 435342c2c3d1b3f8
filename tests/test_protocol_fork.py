"""The fork's messages: docs/fork-protocol.md as vectors."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import BadRequest
from backend.protocol import fork

START = {
    "type": "start",
    "version": 2,
    "fork": "0b7c1a52-6b0e-4b0e-8f5e-2f1f7a4d9c11",
    "channel": "PJSIP/trunk-0000002a",
    "uniqueid": "1700000000.1",
    "linkedid": "1700000000.1",
    "caller_number": "100",
    "caller_name": "Иван",
    "called": "200",
    "direction": "in",
    "rate": 8000,
    "channels": 1,
    "message_ms": 20,
    "channel_rate": 16000,
    "play_buffer_ms": 4000,
    "connection": 2,
    "at_ms": 1240,
    "variables": {"TASK": "x"},
}


def text(**values: object) -> str:
    return json.dumps(values)


def test_start() -> None:
    start = fork.parse_first(json.dumps(START))
    assert isinstance(start, fork.Start)
    assert (start.fork, start.channel) == (START["fork"], START["channel"])
    assert (start.caller_name, start.channel_rate_hz) == ("Иван", 16000)
    assert (start.play_buffer_ms, start.connection, start.at_ms) == (4000, 2, 1240)
    assert start.variables == {"TASK": "x"}


def test_a_module_without_option_j_says_the_bare_name() -> None:
    assert fork.parse_first("Local/100@callee-00000000;1") == "Local/100@callee-00000000;1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"type": "digit", "digit": "5", "duration_ms": 80, "verdict": "passed", "at_ms": 1240},
            fork.Digit("5", 80, "passed", 1240),
        ),
        ({"type": "dropped", "ms": 500, "at_ms": 1000}, fork.Dropped(500, 1000)),
        ({"type": "started", "play": "p1"}, fork.Started("p1")),
        (
            {"type": "mark", "play": "p1", "name": "half", "played_ms": 700},
            fork.MarkReached("p1", "half", 700),
        ),
        (
            {"type": "guard", "name": "g1", "mode": "pass", "why": "limit", "at_ms": 900},
            fork.GuardSet("g1", "pass", "limit", 900),
        ),
        (
            {"type": "guard", "name": "g1", "mode": "buffer", "why": "place", "at_ms": 900}
            | {"play": "p1", "played_ms": 700},
            fork.GuardSet("g1", "buffer", "place", 900, "p1", 700),
        ),
        (
            {"type": "buffer", "play": "p1", "played_ms": 500, "buffered_ms": 1500},
            fork.Buffer("p1", 500, 1500),
        ),
        (
            {"type": "played", "play": "p1", "how": "clear", "played_ms": 620, "gap_ms": 40},
            fork.PlayOver("p1", "clear", 620, 40),
        ),
        ({"type": "counters", "counters": {"messages": 3}}, fork.Counters({"messages": 3})),
        ({"type": "error", "about": "play", "why": "rate"}, fork.Refused("play", "rate")),
        ({"type": "hangup", "cause": 16, "at_ms": 20}, fork.HungUp(16, 20)),
        (
            {"type": "stop", "reason": "hangup", "at_ms": 20, "counters": {}},
            fork.Stopped("hangup", 20, {}),
        ),
        ({"type": "from-the-future", "x": [1]}, fork.Unknown("from-the-future")),
        ({"type": "started", "play": "p1", "new": {"key": None}}, fork.Started("p1")),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_each_message_of_the_module(values: dict[str, object], message: fork.FromModule) -> None:
    assert fork.parse(text(**values)) == message


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "{",
        "[]",
        '{"type": 5}',
        "[" * 4000,
        '{"type":"dropped","ms":' + "9" * 4000 + "}",
        text(type="digit", digit="55", at_ms=0),
        text(type="digit", digit="5"),
        text(type="dropped", ms=-1, at_ms=0),
        text(type="dropped", ms=True, at_ms=0),
        text(type="dropped", ms=1.5, at_ms=0),
        text(type="buffer", play="a b", played_ms=0, buffered_ms=0),
        text(type="played", play="p1", played_ms=0),
        text(type="counters", counters=[1]),
        text(type="started", play="p" * 5000),
    ],
)
def test_what_is_no_message_is_refused(bad: str) -> None:
    with pytest.raises(BadRequest):
        fork.parse(bad)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x" * 300,
        "a\nb",
        text(type="started", play="p1"),
        json.dumps({**START, "channel": "a\nb"}),
        json.dumps({**START, "channel": "\ud800"}),
        json.dumps({**START, "fork": "x,p(1)"}),
        json.dumps({**START, "version": 1}),
        json.dumps({**START, "rate": 0}),
    ],
)
def test_a_first_message_that_is_none(bad: str) -> None:
    with pytest.raises(BadRequest):
        fork.parse_first(bad)


@given(st.text(max_size=200))
def test_any_text_is_a_message_or_refused(anything: str) -> None:
    for read in (fork.parse, fork.parse_first):
        with contextlib.suppress(BadRequest):
            read(anything)


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (fork.Play("p1"), '{"type":"play","play":"p1","rate":8000}'),
        (
            fork.Play("p1", 16000, whisper=True, live_ms=300),
            '{"type":"play","play":"p1","rate":16000,"whisper":true,"live_ms":300}',
        ),
        (fork.End("p1"), '{"type":"end","play":"p1"}'),
        (fork.Mark("p1", "half", 700), '{"type":"mark","play":"p1","name":"half","at_ms":700}'),
        (fork.Mark("p1", "half"), '{"type":"mark","play":"p1","name":"half"}'),
        (
            fork.Guard("g1", "buffer", "0-9", "p1", 700, 5000, "take"),
            '{"type":"guard","name":"g1","mode":"buffer","digits":"0-9","play":"p1","at_ms":700,'
            '"limit_ms":5000,"kept":"take"}',
        ),
        (
            fork.Guard("g2", "block", "1-3*#D", limit_ms=0),
            '{"type":"guard","name":"g2","mode":"block","digits":"1-3*#D","limit_ms":0}',
        ),
        (fork.Guard("g2", "pass"), '{"type":"guard","name":"g2","mode":"pass"}'),
        (fork.Clear("p1"), '{"type":"clear","play":"p1"}'),
        (fork.Clear(), '{"type":"clear"}'),
        (fork.Pause("p1"), '{"type":"pause","play":"p1"}'),
        (fork.Resume("p1"), '{"type":"resume","play":"p1"}'),
        (fork.Mute("in", on=True), '{"type":"mute","direction":"in","on":true}'),
        (fork.StreamAudio(on=False), '{"type":"stream","on":false}'),
        (fork.AskCounters(), '{"type":"counters"}'),
        (fork.Event("да"), '{"type":"text","text":"да"}'),
        (fork.StopFork(), '{"type":"stop"}'),
    ],
)
def test_each_message_to_the_module(message: fork.ToModule, wire: str) -> None:
    assert fork.serialise(message) == wire


@pytest.mark.parametrize(
    "message",
    [
        fork.Play("a b"),
        fork.Play("p1", 44100),
        fork.Mark("p1", ""),
        fork.Event("я" * 513),
        fork.Guard("g 1", "block"),
        fork.Guard("g1", "block", digits=""),
        fork.Guard("g1", "block", digits="0-"),
        fork.Guard("g1", "block", digits="9-0"),
        fork.Guard("g1", "block", digits="1" * 64),
        fork.Guard("g1", "block", at_ms=500),
        fork.Guard("g1", "block", play="p1", at_ms=-1),
        fork.Guard("g1", "block", limit_ms=3_600_001),
    ],
)
def test_what_the_module_would_refuse_is_not_sent(message: fork.ToModule) -> None:
    with pytest.raises(BadRequest):
        fork.serialise(message)
