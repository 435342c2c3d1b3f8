"""app_audiofork: every shape of the audio, and the JSON messages between it.

All shapes are forks of one channel. The far side plays FAR_HZ, the near side NEAR_HZ (fork_lab.py);
`told` counts the place in the stream as a server does, and compares.
"""

from __future__ import annotations

import array
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.fork_lab import FAR_HZ, LEVEL, NEAR_HZ, Call, ForkLab
from tests.fakes.fork_server import Received, bursts, level, told

JUDGED_MS = 1200
SKIPPED_MS = 200


@pytest.fixture(scope="module")
def fork(fork: ForkLab) -> ForkLab:
    fork.load_what_option_b_wants()
    return fork


pytestmark = pytest.mark.usefixtures("story")


@dataclass(frozen=True)
class Shape:
    options: str
    rate_hz: int = 8000
    message_ms: int = 20
    channels: int = 1
    hears: tuple[tuple[float, float], ...] = ((1, 1),)
    """Of each channel: how loud what the caller hears (NEAR_HZ), and his voice (FAR_HZ)."""

    @property
    def size(self) -> int:
        return self.rate_hz * self.message_ms // 1000 * self.channels * 2

    def count(self, length_ms: int) -> int:
        return length_ms // self.message_ms

    def channel(self, frames: list[bytes], which: int) -> list[bytes]:
        return [array.array("h", b"".join(frames))[which :: self.channels].tobytes()]


SHAPES = {
    "in": Shape("jD(in)", hears=((0, 1),)),
    "in-16k-60": Shape("jD(in)f(16000)m(60)", 16000, 60, hears=((0, 1),)),
    "out-16k": Shape("jD(out)f(16000)", 16000, hears=((1, 0),)),
    "out-200": Shape("jD(out)m(200)", 8000, 200, hears=((1, 0),)),
    "both-60": Shape("jD(both)m(60)", 8000, 60),
    "both-16k-200": Shape("jD(both)f(16000)m(200)", 16000, 200),
    "stereo": Shape("jD(stereo)", channels=2, hears=((0, 1), (1, 0))),
    "stereo-16k-200": Shape("jD(stereo)f(16000)m(200)", 16000, 200, 2, ((0, 1), (1, 0))),
    "stereo-louder": Shape("jD(stereo)v(1)V(-1)m(40)", 8000, 40, 2, ((0, 2), (0.5, 0))),
    "plain-60": Shape("D(in)m(60)", 8000, 60, hears=((0, 1),)),
}


@pytest.fixture(scope="module")
def shapes(fork: ForkLab) -> Iterator[tuple[Call, dict[str, str]]]:
    """One call and the ids of its forks, once each has enough to be judged by."""
    call = fork.call()
    names = {
        name: fork.start(call.channel, fork.server.url(name), shape.options)
        for name, shape in SHAPES.items()
    }
    for name, shape in SHAPES.items():
        fork.server.frames(name, shape.count(JUDGED_MS) + 1)
    yield call, names


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_holds_what_it_should(
    fork: ForkLab, shapes: tuple[Call, dict[str, str]], name: str
) -> None:
    one, shape = fork.server.find(name), SHAPES[name]
    judged = one.frames[shape.count(SKIPPED_MS) : shape.count(JUDGED_MS)]
    assert {len(frame) for frame in judged} == {shape.size}
    for which, (near, far) in enumerate(shape.hears):
        channel = shape.channel(judged, which)
        found = [level(channel, hz, shape.rate_hz) for hz in (NEAR_HZ, FAR_HZ)]
        assert found == pytest.approx((near * LEVEL, far * LEVEL), abs=0.03 * LEVEL)


@pytest.mark.parametrize("direction", ["in", "out"])
def test_the_server_mutes_a_direction_of_its_own_fork(
    fork: ForkLab, shapes: tuple[Call, dict[str, str]], direction: str
) -> None:
    one, other = fork.server.find("stereo"), fork.server.find("stereo-16k-200")
    muted = ("in", "out").index(direction)
    one.connection.send(json.dumps({"type": "mute", "direction": direction, "on": True}))
    frames = fork.server.more(one, 60)[20:]
    assert not any(SHAPES["stereo"].channel(frames, muted)[0])
    assert any(SHAPES["stereo"].channel(frames, 1 - muted)[0])
    one.connection.send(json.dumps({"type": "mute", "direction": direction, "on": False}))
    frames = fork.server.more(one, 60)[20:]
    assert any(SHAPES["stereo"].channel(frames, muted)[0])
    frames = fork.server.more(other, 2)
    assert any(SHAPES["stereo-16k-200"].channel(frames, muted)[0]), "another fork is not"


def test_a_paused_stream_stands_still(fork: ForkLab, shapes: tuple[Call, dict[str, str]]) -> None:
    """Meanwhile another fork counts the time; the place is the counted one (`told`)."""
    one, clock = fork.server.find("in"), fork.server.find("out-16k")
    one.connection.send('{"type": "stream", "on": false}')
    fork.server.more(clock, 10)
    before = len(one.frames)
    fork.server.more(clock, 40)
    assert len(one.frames) == before
    one.connection.send('{"type": "stream", "on": true}')
    assert fork.server.more(one, 10)
    told(one.messages)


def asked(fork: ForkLab, one: Received, request: dict[str, Any], answer: str) -> dict[str, Any]:
    """What the module answers to this request."""
    before = len(one.texts)
    one.connection.send(json.dumps(request))

    def found() -> list[dict[str, Any]]:
        rows = [json.loads(text) for text in one.texts[before:]]
        return [row for row in rows if row["type"] == answer]

    fork.server.wait(f"{answer} on {one.path}", lambda: bool(found()))
    return found()[0]


def test_counters_when_asked_for(fork: ForkLab, shapes: tuple[Call, dict[str, str]]) -> None:
    one = fork.server.find("stereo")
    counters = asked(fork, one, {"type": "counters"}, "counters")["counters"]
    assert counters["dropped_ms"] == {"in": 0, "out": 0}
    assert counters["messages"] == pytest.approx(len(one.frames), abs=5)
    assert counters["captured_ms"]["in"] == pytest.approx(20 * len(one.frames), abs=200)
    assert (counters["connections"], counters["bad_messages"]) == (1, 0)


def test_nonsense_is_answered_and_counted(
    fork: ForkLab, shapes: tuple[Call, dict[str, str]]
) -> None:
    one = fork.server.find("out-200")
    assert asked(fork, one, {"type": "nonsense"}, "error")["about"] == "message"
    assert asked(fork, one, {"type": "counters"}, "counters")["counters"]["bad_messages"] == 1


def test_keys_stand_between_the_audio(fork: ForkLab, shapes: tuple[Call, dict[str, str]]) -> None:
    """All forks with JSON are told of each key, at the place that their own audio has come to."""
    call, _ = shapes
    far = fork.ami.event("Newchannel", Uniqueid=f"{call.id}-far")["Channel"]
    for digit in "5#":
        answer = fork.ami.action("PlayDTMF", Channel=far, Digit=digit, Duration="120")
        assert answer["Response"] == "Success", answer
        fork.server.more(fork.server.find("out-16k"), 10)
    for name, shape in SHAPES.items():
        one = fork.server.find(name)
        if shape.options[0] != "j":
            assert len(one.texts) == 1
            continue

        def keys(one: Received = one) -> list[dict[str, Any]]:
            rows = [json.loads(text) for text in one.texts]
            return [row for row in rows if row["type"] == "digit"]

        fork.server.wait(f"two keys on {name}", lambda keys=keys: len(keys()) == 2)  # type: ignore[misc]
        assert [row["digit"] for row in keys()] == ["5", "#"]
        assert {row["verdict"] for row in keys()} == {"passed"}
        assert all(80 <= row["duration_ms"] <= 200 for row in keys())
        told(one.messages, shape.message_ms)


def test_the_end_is_told_and_all_is_counted(
    fork: ForkLab, shapes: tuple[Call, dict[str, str]]
) -> None:
    """One fork is stopped by its server, the others by the end of the call."""
    call, names = shapes
    fork.server.find("both-60").connection.send('{"type": "stop"}')
    assert fork.server.closed(fork.server.find("both-60")) == 1000
    assert call.is_up
    fork.ami.action("Hangup", Channel=call.channel, Cause="17")
    for name, shape in SHAPES.items():
        one, end = fork.server.find(name), fork.ended(names[name])
        assert fork.server.closed(one) == 1000
        assert {len(frame) for frame in one.frames} == {shape.size}
        assert (end.lost_s, end.connections) == (0, 1)
        assert (len(one.frames) - 1) * shape.message_ms < 20 * end.sent
        assert 20 * end.sent <= len(one.frames) * shape.message_ms
        if shape.hears[0] != (1, 1) and shape.channels == 1:
            assert end.captured == end.sent
        if shape.options[0] == "j":
            stopped(one, shape, name)


def stopped(one: Received, shape: Shape, name: str) -> None:
    rows = told(one.messages, shape.message_ms)
    stop = rows[-1]
    assert stop["type"] == "stop"
    assert stop["at_ms"] == len(one.frames) * shape.message_ms
    assert stop["counters"]["messages"] == len(one.frames)
    assert stop["counters"]["digits"] == 2
    hangups = [row["cause"] for row in rows if row["type"] == "hangup"]
    if name == "both-60":
        assert (hangups, stop["reason"]) == ([], "stopped by the server")
    else:
        assert (hangups, stop["reason"]) == ([17], "hangup")


# -- what start says


def test_start_tells_of_the_call(fork: ForkLab) -> None:
    call = fork.call(
        fork.server.url("start"),
        "jD(stereo)f(16000)m(40)x(LAB_NOTE&LAB_NONE)",
        LAB_NOTE='he said \\"hi\\" ' + "y" * 300,
        **{"CALLERID(num)": "+74951234567", "CALLERID(name)": "Иван"},
    )
    one = fork.server.frames("start", 3)
    start = json.loads(one.texts[0])
    made = fork.ami.event("Newchannel", Uniqueid=call.id)
    note = start["variables"].pop("LAB_NOTE")
    assert note.startswith("he said ")
    assert len(note) == 256
    assert start == {
        "type": "start", "version": 2, "fork": call.fork(), "channel": call.channel,
        "uniqueid": call.id, "linkedid": made["Linkedid"], "caller_number": "+74951234567",
        "caller_name": "Иван", "called": "s", "direction": "stereo", "rate": 16000,
        "channels": 2, "message_ms": 40, "channel_rate": 8000, "play_buffer_ms": 4000,
        "connection": 1, "at_ms": 0, "variables": {"LAB_NONE": ""},
    }  # fmt: skip
    call.hangup()


def test_a_beep_is_heard_in_the_stereo_s_right_channel(fork: ForkLab) -> None:
    """It is mixed into what the channel is played."""
    call = fork.call(near="silence", far="quiet")
    fork.start(call.channel, fork.server.url("beep"), "D(stereo)B(1)")
    one = fork.server.find("beep")
    shape = SHAPES["stereo"]

    def beeps(which: int) -> int:
        return bursts([shape.channel([frame], which)[0] for frame in one.frames])

    fork.server.wait("two beeps", lambda: beeps(1) >= 2)
    assert beeps(0) == 0
    call.hangup()


def test_a_wideband_call_keeps_what_8_khz_cannot_carry(fork: ForkLab) -> None:
    """A channel at 16 kHz hears a tone of 6 kHz."""
    hz, rate = 6000, 16000
    file = fork.lab.sounds / "wide.sln16"
    turn = 2 * math.pi * hz / rate
    wave = array.array("h", (round(LEVEL * math.sin(turn * n)) for n in range(10 * rate)))
    file.write_bytes(wave.tobytes())
    answer = fork.ami.action(
        "Originate",
        Channel="Local/tone@lab_far/n",
        Context="lab-fork",
        Exten="plain",
        Priority="1",
        Codecs="slin16",
        Async="true",
        ChannelId="wide",
        OtherChannelId="wide-far",
        Variable=f"__LAB_FAR_TONE={file.with_suffix('')}",
    )
    assert answer["Response"] == "Success", answer
    call = Call(fork, "wide")
    fork.ami.event("Newexten", Uniqueid="wide", Extension="plain")
    fork.start(call.channel, fork.server.url("wide"), "jD(in)f(16000)")
    fork.start(call.channel, fork.server.url("narrow"), "D(in)")
    wide = fork.server.frames("wide", 60)
    assert json.loads(wide.texts[0])["channel_rate"] == rate
    assert level(wide.frames[10:60], hz, rate) == pytest.approx(LEVEL, rel=0.03)
    narrow = fork.server.frames("narrow", 60)
    assert max(map(abs, array.array("h", b"".join(narrow.frames[10:60])))) < 0.02 * LEVEL
    call.hangup()
