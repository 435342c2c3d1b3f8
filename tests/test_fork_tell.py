"""asterisk/fork_tell.c and fork_send.c: what the module tells in JSON, and where between the audio.

`told` (fakes/fork_server.py) counts the place in the stream as a server does, and compares.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from typing import Any

import pytest

from tests.fakes.fork_server import messages_of, shake_hands, take, told
from tests.fixtures_fork import Driver, MakeRaw, Message, Sink, eventually


def opened(driver: Driver, sink: Sink, options: str = "", number: int = 1) -> None:
    """Link 1, up, with JSON messages."""
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/ json=1 {options}")
    assert eventually(lambda: len(sink.texts) == number and driver.state(1) == "up"), driver.logs


def closed(driver: Driver, sink: Sink, how: str = "close 1 x") -> dict[str, Any]:
    """End link 1; how it ended."""
    driver.do(how)
    ended = driver.wait_ended(1)
    assert eventually(lambda: sink.codes[-1] is not None)
    driver.do("free 1")
    return ended


def short(messages: list[Message]) -> list[str]:
    """Runs of audio as their number, the JSON messages as their types, a digit as itself."""
    rows: list[str] = []
    for message in messages:
        if isinstance(message, bytes):
            count = int(rows.pop()) if rows and rows[-1].isdigit() else 0
            rows.append(str(count + 1))
        else:
            row = json.loads(message)
            rows.append(f"key {row['digit']}" if row["type"] == "digit" else row["type"])
    return rows


def test_start_says_what_comes_and_stop_what_came(driver: Driver, sink: Sink) -> None:
    opened(driver, sink, "name=PJSIP/a-1 dir=stereo out=16000 message_ms=60 rate=48000")
    for _ in range(4):
        driver.do("push 1 out 1 16000 2")
        driver.do("push 1 in 1 16000 1")
    ended = closed(driver, sink)
    start, stop = told(sink.messages[0], 60)
    assert start == {
        "type": "start", "version": 2, "fork": "id-1", "channel": "PJSIP/a-1",
        "uniqueid": "1700000000.1", "linkedid": "1700000000.0", "caller_number": "+70001",
        "caller_name": 'O"Hara \ufffd', "called": "100", "direction": "stereo", "rate": 16000,
        "channels": 2, "message_ms": 60, "channel_rate": 48000, "play_buffer_ms": 4000,
        "connection": 1, "at_ms": 0, "variables": {"TASK": "42", "NOTE": "\x01"},
    }  # fmt: skip
    assert stop == {
        "type": "stop", "reason": "x", "at_ms": 120, "counters": {
            "captured_ms": {"in": 80, "out": 80}, "dropped_ms": {"in": 0, "out": 0},
            "messages": 2, "connections": 1, "digits": 0, "digits_lost": 0, "played_ms": 0,
            "bad_messages": 0,
        },
    }  # fmt: skip
    assert [len(frame) for frame in sink.frames[0]] == [60 * 64, 60 * 64]
    # The very first frame does not wait for a direction that may never come.
    frames = [struct.pack("<hh", *pair) * 320 for pair in ((0, 2), (1, 2), (1, 2), (1, 2), (1, 0))]
    assert b"".join(sink.frames[0]) == b"".join(frames) + bytes(20 * 64)
    assert (ended["sent"], ended["messages"], ended["sent_us"]) == (5, 2, [80_000, 80_000])
    assert sink.codes == [1000]


def test_variables_that_do_not_fit_are_left_out_and_it_is_said(driver: Driver, sink: Sink) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/ json=long")
    assert eventually(lambda: bool(sink.texts and sink.texts[0]))
    assert 3500 < len(sink.texts[0][0]) <= 4096
    assert len(told(sink.messages[0])[0]["variables"]) == 14
    assert any("last 2 of the variables" in text for _, text in driver.logs)
    closed(driver, sink)


@pytest.mark.parametrize("length", [20, 40, 100, 200])
def test_messages_of_any_length_hold_all_audio(driver: Driver, sink: Sink, length: int) -> None:
    opened(driver, sink, f"message_ms={length}")
    for value in range(1, 24):
        driver.do(f"push 1 in 1 8000 {value}")
    ended = closed(driver, sink)
    audio = b"".join(sink.frames[0])
    assert {len(frame) for frame in sink.frames[0]} == {16 * length}
    wanted = b"".join(struct.pack("<h", value) * 160 for value in range(1, 24))
    assert audio == wanted + bytes(len(audio) - len(wanted))
    assert len(audio) - len(wanted) < 16 * length
    assert (ended["sent"], ended["messages"]) == (23, len(sink.frames[0]))
    assert ended["sent_us"] == ended["captured_us"]


# ---- keys ----


def test_a_key_stands_in_its_place_between_the_audio(driver: Driver, sink: Sink) -> None:
    opened(driver, sink)
    driver.do("push 1 in 5 8000 1")
    driver.do("digit 1 5")
    driver.do("push 1 in 3 8000 1")
    driver.do("digit 1 #")
    driver.do("digit 1 *")
    driver.do("push 1 in 2 8000 1")
    closed(driver, sink)
    assert short(sink.messages[0]) == ["start", "5", "key 5", "3", "key #", "key *", "2", "stop"]
    keys = [row for row in told(sink.messages[0]) if row["type"] == "digit"]
    assert [row["at_ms"] for row in keys] == [100, 160, 160]
    assert keys[0] == {
        "type": "digit", "digit": "5", "duration_ms": 100, "verdict": "passed", "at_ms": 100,
    }  # fmt: skip


def test_a_key_comes_at_once_though_no_audio_flows(driver: Driver, sink: Sink) -> None:
    opened(driver, sink, "message_ms=200")
    driver.do("push 1 in 3 8000 1")
    driver.do("digit 1 7")
    assert eventually(lambda: len(sink.texts[0]) == 2)
    driver.do("push 1 in 7 8000 1")
    closed(driver, sink)
    assert short(sink.messages[0]) == ["start", "key 7", "1", "stop"], "in the midst of a message"
    told(sink.messages[0], 200)


def test_a_key_does_not_overtake_what_the_mix_holds_back(driver: Driver, sink: Sink) -> None:
    opened(driver, sink, "dir=both")
    driver.do("push 1 out 1 8000 1")
    driver.do("push 1 in 1 8000 1")
    driver.do("push 1 in 3 8000 1")  # waits for the other direction
    driver.do("digit 1 1")
    assert eventually(lambda: len(sink.texts[0]) == 2)
    assert short(sink.messages[0]) == ["start", str(len(sink.frames[0])), "key 1"]
    assert len(sink.frames[0]) >= 4
    closed(driver, sink)
    told(sink.messages[0])


def test_keys_before_the_connection_and_more_than_can_wait(driver: Driver, raw: MakeRaw) -> None:
    over = threading.Event()
    got = bytearray()

    def behave(connection: socket.socket) -> None:
        over.wait(10)
        shake_hands(connection)
        take(connection, got)

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/ json=1")
    for _ in range(70):
        driver.do("digit 1 1")
    assert driver.stats(1)["digits"] == [64, 6]
    over.set()
    driver.do("close 1 x")
    assert driver.wait_ended(1)["digits"] == [64, 6]
    driver.do("free 1")
    assert eventually(lambda: short(messages_of(got)) == ["start", *["key 1"] * 64, "stop"])


def test_without_json_nothing_is_told(driver: Driver, sink: Sink) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/ name=abc")
    driver.do("digit 1 5")
    driver.do("push 1 in 3 8000 1")
    closed(driver, sink, "hangup 1 16")
    assert sink.messages[0][0] == "abc"
    assert len(sink.messages[0]) == 4
    assert sink.codes == [1000]


# ---- the end, the pause ----


def test_a_hangup_is_told_before_the_rest(driver: Driver, raw: MakeRaw, sink: Sink) -> None:
    opened(driver, sink)
    driver.send("push 1 in 50 8000 1")
    ended = closed(driver, sink, "hangup 1 17")
    hangup = next(row for row in told(sink.messages[0]) if row["type"] == "hangup")
    assert hangup["cause"] == 17
    assert short(sink.messages[0])[-1] == "stop"
    assert len(sink.frames[0]) == 50
    assert ended["reason"] == "hangup"


def test_a_paused_stream_stands_still_and_keys_go_on(driver: Driver, sink: Sink) -> None:
    opened(driver, sink)
    driver.do("push 1 in 5 8000 1")
    driver.do("stream 1 0")
    driver.do("push 1 in 50 8000 2")
    driver.do("digit 1 3")
    driver.do("stream 1 1")
    driver.do("push 1 in 5 8000 3")
    ended = closed(driver, sink)
    assert short(sink.messages[0]) == ["start", "5", "key 3", "5", "stop"]
    assert ended["captured_us"] == [200_000, 0]
    assert told(sink.messages[0])[-1]["at_ms"] == 200
    assert b"\2\0" not in b"".join(sink.frames[0])


# ---- what was lost ----


class Frozen:
    """A server that takes nothing until `thaw`, then all."""

    def __init__(self, raw: MakeRaw) -> None:
        self.thaw = threading.Event()
        self.got = bytearray()
        self.port = raw(self.behave).port

    def behave(self, connection: socket.socket) -> None:
        shake_hands(connection)
        self.thaw.wait(20)
        take(connection, self.got)


@pytest.mark.parametrize(("direction", "length"), [("in", 20), ("in", 60), ("stereo", 20)])
def test_what_a_frozen_server_missed_is_told_to_the_frame(
    driver: Driver, raw: MakeRaw, direction: str, length: int
) -> None:
    server = Frozen(raw)
    driver.do(
        f"open 1 ws://127.0.0.1:{server.port}/ json=1 ring_ms=1000 stall_ms=0 "
        f"dir={direction} message_ms={length}"
    )
    assert eventually(lambda: driver.state(1) == "up")
    for _ in range(60):
        driver.do("push 1 in 25 8000 1")
        if direction == "stereo":
            driver.do("push 1 out 25 8000 1")
        time.sleep(0.005)
    driver.do("digit 1 9")
    server.thaw.set()
    assert eventually(lambda: driver.stats(1)["waiting"] == 0)
    driver.do("push 1 in 10 8000 1")
    if direction == "stereo":
        driver.do("push 1 out 10 8000 1")
    driver.do("close 1 x")
    ended = driver.wait_ended(1)
    driver.do("free 1")
    assert eventually(lambda: short(messages_of(server.got))[-1] == "stop")
    messages = messages_of(server.got)
    rows = told(messages, length)
    lost_ms = sum(row["ms"] for row in rows if row["type"] == "dropped")
    assert lost_ms > 5000
    assert abs(lost_ms * 1000 - max(ended["dropped_us"])) <= (
        500_000 if direction == "stereo" else 0
    )
    for d in (0, 1):
        assert ended["captured_us"][d] == ended["sent_us"][d] + ended["dropped_us"][d]
    assert rows[-1]["type"] == "stop"
    assert rows[-1]["counters"]["dropped_ms"]["in"] == ended["dropped_us"][0] // 1000
    assert [row["digit"] for row in rows if row["type"] == "digit"] == ["9"]
    kinds = short(messages)
    assert int(kinds[kinds.index("key 9") - 1]) <= 2000 // length, "the ring, then the key"


def test_a_new_connection_is_told_what_the_outage_cost(driver: Driver) -> None:
    first = Sink()
    opened(driver, first, "r=0 delay=100 max_delay=200 ring_ms=400 name=old")
    driver.do("push 1 in 10 8000 1")
    assert eventually(lambda: len(first.frames[0]) == 10)
    first.close()
    assert eventually(lambda: driver.state(1) != "up")
    driver.do("rename 1 new")
    driver.do("push 1 in 20 8000 2")
    driver.do("digit 1 1")
    driver.do("push 1 in 30 8000 3")
    second = Sink(first.port)
    assert eventually(lambda: bool(second.frames) and len(second.frames[0]) == 20)
    ended = closed(driver, second)
    start, dropped, key, stop = told(second.messages[0])
    assert (start["connection"], start["at_ms"], start["channel"]) == (2, 200, "new")
    assert (dropped["type"], dropped["ms"], dropped["at_ms"]) == ("dropped", 600, 200)
    assert (key["digit"], key["at_ms"]) == ("1", 800), "its place was lost: it comes after the gap"
    assert short(second.messages[0]) == ["start", "dropped", "key 1", "20", "stop"]
    assert stop["at_ms"] == 1200
    assert stop["counters"]["connections"] == 2
    assert ended["captured_us"] == [1_200_000, 0]
    assert ended["dropped_us"] == [600_000, 0]
    second.close()


def test_half_a_message_survives_the_outage(driver: Driver) -> None:
    first = Sink()
    opened(driver, first, "r=0 delay=100 max_delay=200 message_ms=100")
    driver.do("push 1 in 7 8000 1")
    assert eventually(lambda: len(first.frames[0]) == 1)
    first.close()
    assert eventually(lambda: driver.state(1) != "up")
    driver.do("push 1 in 3 8000 2")
    second = Sink(first.port)
    assert eventually(lambda: bool(second.frames) and len(second.frames[0]) == 1)
    assert second.frames[0][0] == b"\1\0" * 320 + b"\2\0" * 480
    ended = closed(driver, second)
    assert (ended["sent"], ended["messages"], ended["dropped_us"]) == (10, 2, [0, 0])
    told(second.messages[0], 100)
    second.close()


def test_half_a_message_that_is_never_sent_counts_as_lost(driver: Driver, sink: Sink) -> None:
    opened(driver, sink, "message_ms=200 dir=stereo")
    for _ in range(13):
        driver.do("push 1 out 1 8000 1")
        driver.do("push 1 in 1 8000 1")
    assert eventually(lambda: len(sink.frames[0]) == 1)
    sink.connections[0].close(1000)
    ended = driver.wait_ended(1)
    assert ended["sent_us"] == [180_000, 200_000]
    assert ended["dropped_us"] == [80_000, 60_000]
    assert ended["captured_us"] == [260_000, 260_000]
    driver.do("free 1")


# ---- the request ----


def test_headers_go_with_the_request_and_into_no_log(driver: Driver, sink: Sink) -> None:
    secret = "s3cr3t" + "x" * 400
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/ header=Authorization:{secret}")
    assert eventually(lambda: len(sink.texts) == 1 and driver.state(1) == "up")
    request = sink.connections[0].request
    assert request is not None
    assert request.headers["Authorization"] == secret
    closed(driver, sink)
    assert not any("s3cr3t" in text for _, text in driver.logs)
