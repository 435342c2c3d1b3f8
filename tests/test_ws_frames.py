"""The frame sink over real sockets."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import pytest
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect as websocket_connect
from websockets.typing import Subprotocol

from backend.protocol import fork
from backend.protocol import websocket as wire
from backend.ws_connection import Connection
from backend.ws_frames import LATE_S, TICK_S, FrameSink

CHANNEL = "Local/100@callee-00000000;1"
AUDIO = b"\x01\x00" * 160

# What the original module's client (Asterisk 16.28, res_http_websocket) sends, byte for byte.
ORIGINAL_HANDSHAKE = (
    b"GET / HTTP/1.1\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Host: 127.0.0.1:8081\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: echo\r\n"
    b"\r\n"
)


@dataclass
class Recorder:
    """Everything that came, as ("open",), ("audio", bytes), ("message", …), ("close", reason)."""

    came: queue.Queue[tuple[object, ...]] = field(default_factory=queue.Queue)
    ticks: int = 0

    def on_open(self, link: Connection) -> None:
        self.link = link
        self.came.put(("open",))

    def on_message(self, message: fork.FromModule) -> None:
        self.came.put(("message", message))

    def on_audio(self, pcm: bytes) -> None:
        self.came.put(("audio", pcm))

    def on_tick(self) -> None:
        self.ticks += 1

    def on_close(self, reason: str) -> None:
        self.came.put(("close", reason))

    def next(self) -> tuple[object, ...]:
        return self.came.get(timeout=5)


@pytest.fixture
def sink() -> Iterator[FrameSink]:
    sink = FrameSink("127.0.0.1", 0, handshake_s=0.3, unclaimed_s=0.3)
    sink.start()
    yield sink
    sink.stop()


class OldModule:
    """The original module's side of the wire: handshake, then frames masked or not."""

    def __init__(self, sink: FrameSink, *, mask: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", sink.port), 5)
        self.socket.settimeout(5)
        self._mask = mask
        self.socket.sendall(ORIGINAL_HANDSHAKE)
        self.answer = b""
        while not self.answer.endswith(b"\r\n\r\n"):
            self.answer += self.socket.recv(4096)

    def frame(self, opcode: Opcode, data: bytes) -> bytes:
        return Frame(opcode, data).serialize(mask=self._mask)

    def send(self, *messages: str | bytes) -> None:
        for message in messages:
            text = isinstance(message, str)
            data = message.encode() if isinstance(message, str) else message
            self.socket.sendall(self.frame(Opcode.TEXT if text else Opcode.BINARY, data))

    def receive(self, count: int) -> list[wire.Event]:
        """The next so many messages."""
        parser, found = wire.FrameParser(), list[wire.Event]()
        while len(found) < count:
            found += parser.feed(self.socket.recv(4096))
        return found

    def close_code(self) -> int | None:
        """Read to the end; the close frame's code, None if there was none."""
        parser, data = wire.FrameParser(), b"x"
        with contextlib.suppress(ConnectionResetError):
            while data:
                data = self.socket.recv(4096)
                for event in parser.feed(data):
                    if isinstance(event, wire.Close):
                        return event.code
        return None


class Connect(Protocol):
    def __call__(self, *, mask: bool = True) -> OldModule: ...


@pytest.fixture
def connect(sink: FrameSink) -> Iterator[Connect]:
    modules: list[OldModule] = []

    def make(*, mask: bool = True) -> OldModule:
        modules.append(OldModule(sink, mask=mask))
        return modules[-1]

    yield make
    for module in modules:
        module.socket.close()


@pytest.mark.parametrize("mask", [True, False], ids=["masked", "unmasked"])
def test_the_original_modules_wire_form(sink: FrameSink, connect: Connect, mask: bool) -> None:
    ear = Recorder()
    sink.claim(CHANNEL, ear)
    module = connect(mask=mask)
    assert module.answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in module.answer
    assert b"Sec-WebSocket-Protocol: echo" in module.answer
    module.send(CHANNEL, AUDIO, AUDIO)
    assert [ear.next() for _ in range(3)] == [("open",), ("audio", AUDIO), ("audio", AUDIO)]
    module.socket.close()  # the original ends without a close frame
    assert ear.next() == ("close", "closed without a close frame")


def test_any_split_and_merge(sink: FrameSink) -> None:
    ear = Recorder()
    sink.claim(CHANNEL, ear)
    connection = socket.create_connection(("127.0.0.1", sink.port), 5)
    old = Frame(Opcode.TEXT, CHANNEL.encode()).serialize(mask=True)
    data = ORIGINAL_HANDSHAKE + old + Frame(Opcode.BINARY, AUDIO).serialize(mask=False) * 3
    connection.sendall(data[:100])
    connection.sendall(data[100:-700])
    for at in range(len(data) - 700, len(data)):
        connection.sendall(data[at : at + 1])
    assert [ear.next()[0] for _ in range(4)] == ["open", "audio", "audio", "audio"]
    connection.close()


def test_a_standard_client(sink: FrameSink, connect: Connect) -> None:
    ear = Recorder()
    sink.claim("PJSIP/x-1", ear)
    url = f"ws://127.0.0.1:{sink.port}/"
    with websocket_connect(url, subprotocols=[Subprotocol("echo")]) as client:
        client.send("PJSIP/x-1")
        client.send(AUDIO)
        assert client.ping(b"are you there").wait(5)
        assert [ear.next()[0] for _ in range(2)] == ["open", "audio"]
        sink.release("PJSIP/x-1")
        with pytest.raises(Exception, match="the call has ended"):
            client.recv(5)


def test_a_channel_has_streams_with_keys_of_their_own(sink: FrameSink, connect: Connect) -> None:
    """Three forks of one channel: by its name, and by two keys, of which one is not claimed yet."""
    by_name, by_key, late = Recorder(), Recorder(), Recorder()
    sink.claim(CHANNEL, by_name)
    sink.claim("leg-1", by_key)
    url = f"ws://127.0.0.1:{sink.port}"
    paths = ("/stream/leg-1", "/", "/stream/tap.2", "/stream/no/key")
    with contextlib.ExitStack() as open_:
        clients = [
            open_.enter_context(websocket_connect(url + path, subprotocols=[Subprotocol("echo")]))
            for path in paths[:3]
        ]
        for n, client in enumerate(clients):
            client.send(CHANNEL)
            client.send(bytes([n, 0]) * 160)
        assert [by_key.next(), by_key.next()] == [("open",), ("audio", b"\0\0" * 160)]
        assert [by_name.next(), by_name.next()] == [("open",), ("audio", b"\1\0" * 160)]
        sink.claim("tap.2", late)
        assert [late.next(), late.next()] == [("open",), ("audio", b"\2\0" * 160)]
        other = open_.enter_context(
            websocket_connect(url + paths[3], subprotocols=[Subprotocol("echo")])
        )
        other.send(CHANNEL)
        assert by_name.next() == ("open",), (
            "no key: it is known by its name, and replaces the other"
        )
        sink.release("leg-1")
        with pytest.raises(Exception, match="the call has ended"):
            clients[0].recv(5)


def test_frames_before_the_call_are_kept_in_order(sink: FrameSink, connect: Connect) -> None:
    module = connect()
    sent = [n.to_bytes(2, "little") * 160 for n in range(20)]
    module.send(CHANNEL, *sent)
    while sink.counters.messages < 20:
        module.socket.sendall(module.frame(Opcode.PING, b""))
        module.socket.recv(2)
    ear = Recorder()
    sink.claim(CHANNEL, ear)
    assert ear.next() == ("open",)
    assert [ear.next()[1] for _ in range(20)] == sent


def test_a_stream_that_no_call_claims_is_closed_with_a_reason(
    sink: FrameSink, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    module = connect()
    module.send(CHANNEL, AUDIO)
    assert module.close_code() == 1008
    assert sink.counters.unclaimed == 1
    assert f"no call came for {CHANNEL}" in caplog.text


def test_a_reconnecting_fork_goes_on_in_the_same_call(sink: FrameSink, connect: Connect) -> None:
    ear = Recorder()
    sink.claim(CHANNEL, ear)
    first = connect()
    first.send(CHANNEL)
    assert ear.next() == ("open",)
    second = connect()
    second.send(CHANNEL, AUDIO)
    assert [ear.next()[0], ear.next()[0]] == ["open", "audio"]
    assert first.close_code() == 1000


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([AUDIO], 1008),
        ([""], 1008),
        (["x" * 300], 1008),
        (["a\nb"], 1008),
        ([CHANNEL, b"\x00" * 321], 1007),
        ([CHANNEL, b"\x00" * 70_000], 1009),
    ],
    ids=["audio first", "empty name", "long name", "line break", "odd bytes", "oversized"],
)
def test_bad_messages_get_a_clean_close(
    sink: FrameSink,
    connect: Connect,
    messages: list[str | bytes],
    code: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = connect()
    with contextlib.suppress(OSError):
        module.send(*messages)
    assert module.close_code() == code
    assert "closed: " in caplog.text
    assert sink.counters.refused == 1


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"A" * 10_000,
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"",
    ],
    ids=["plain http", "tls hello", "endless line", "post", "silence"],
)
def test_garbage_instead_of_a_handshake(sink: FrameSink, connect: Connect, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", sink.port), 5) as connection:
        connection.settimeout(5)
        connection.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass
    assert sink.counters.refused == 1
    still_serves(sink, connect)


def test_no_channel_name_in_time(sink: FrameSink, connect: Connect) -> None:
    assert connect().close_code() == 1008


def test_a_failing_ear_ends_its_own_stream_only(sink: FrameSink, connect: Connect) -> None:
    class Broken(Recorder):
        def on_audio(self, pcm: bytes) -> None:
            raise ValueError("a defect")

    sink.claim(CHANNEL, Broken())
    module = connect()
    module.send(CHANNEL, AUDIO)
    assert module.close_code() == 1011
    still_serves(sink, connect)


def test_peers_outside_the_allow_list_are_refused() -> None:
    sink = FrameSink("127.0.0.1", 0, allow=["10.0.0.0/8"])
    sink.start()
    try:
        with socket.create_connection(("127.0.0.1", sink.port), 5) as connection:
            connection.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    finally:
        sink.stop()


def test_a_taken_port_is_an_error_and_leaves_no_thread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        sink = FrameSink("127.0.0.1", other.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            sink.start()


def still_serves(sink: FrameSink, connect: Connect) -> None:
    ear = Recorder()
    sink.claim("PJSIP/next-1", ear)
    module = connect(mask=False)
    module.send("PJSIP/next-1", AUDIO)
    assert [ear.next()[0], ear.next()[0]] == ["open", "audio"]
    module.socket.close()


# Version 2: messages both ways

START = {
    "type": "start",
    "version": 2,
    "fork": "0b7c1a52-6b0e-4b0e-8f5e-2f1f7a4d9c11",
    "channel": CHANNEL,
    "play_buffer_ms": 4000,
}


def test_a_fork_that_takes_messages(sink: FrameSink, connect: Connect) -> None:
    recorder = Recorder()
    sink.claim(CHANNEL, recorder)
    module = connect()
    digit = {"type": "digit", "digit": "5", "duration_ms": 80, "verdict": "passed", "at_ms": 20}
    module.send(json.dumps(START), AUDIO, json.dumps(digit), AUDIO)
    assert recorder.next() == ("open",)
    assert recorder.link.start is not None
    assert recorder.link.start.play_buffer_ms == 4000
    came = [recorder.next() for _ in range(3)]
    assert came == [
        ("audio", AUDIO),
        ("message", fork.Digit("5", 80, "passed", 20)),
        ("audio", AUDIO),
    ]
    link = recorder.link
    link.run(lambda: link.send(fork.Play("p1"), AUDIO, fork.End("p1")))
    assert module.receive(3) == [
        wire.Text('{"type":"play","play":"p1","rate":8000}'),
        AUDIO,
        wire.Text('{"type":"end","play":"p1"}'),
    ]


def test_messages_before_the_call_keep_their_place(sink: FrameSink, connect: Connect) -> None:
    module = connect()
    module.send(json.dumps(START), AUDIO, '{"type":"dropped","ms":20,"at_ms":20}', AUDIO)
    while sink.counters.messages < 2:
        module.socket.sendall(module.frame(Opcode.PING, b""))
        module.socket.recv(2)
    recorder = Recorder()
    sink.claim(CHANNEL, recorder)
    assert [recorder.next()[0] for _ in range(4)] == ["open", "audio", "message", "audio"]


def test_messages_that_are_none_are_passed_over(
    sink: FrameSink, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    sink.claim(CHANNEL, recorder)
    module = connect()
    module.send(json.dumps(START), "{", '{"type":"digit"}', '{"type":"of-version-3"}', AUDIO)
    came = [recorder.next() for _ in range(3)]
    assert came == [("open",), ("message", fork.Unknown("of-version-3")), ("audio", AUDIO)]
    assert caplog.text.count("message passed over") == 1


@pytest.mark.parametrize("shape", [{"rate": 16000}, {"channels": 2}], ids=["rate", "stereo"])
def test_audio_that_this_backend_does_not_hear_is_refused(
    sink: FrameSink, connect: Connect, shape: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    module = connect()
    module.send(json.dumps({**START, **shape}))
    assert module.close_code() == 1003
    assert "this backend hears 8000 Hz mono" in caplog.text


def test_longer_messages_reach_the_call(sink: FrameSink, connect: Connect) -> None:
    recorder = Recorder()
    sink.claim(CHANNEL, recorder)
    connect().send(json.dumps({**START, "message_ms": 60}), AUDIO * 3)
    assert [recorder.next(), recorder.next()] == [("open",), ("audio", AUDIO * 3)]


def test_a_fork_that_takes_nothing_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    sink = FrameSink("127.0.0.1", 0, stall_s=0.2)
    sink.start()
    recorder = Recorder()
    sink.claim(CHANNEL, recorder)
    module = OldModule(sink, mask=True)
    try:
        module.send(json.dumps(START))
        assert recorder.next() == ("open",)
        link, ready = recorder.link, queue.Queue[bool]()

        def flood() -> None:
            for _ in range(200):
                link.send(fork.Play("p1"), bytes(60_000))
            ready.put(link.ready)

        link.run(flood)
        assert ready.get(timeout=5) is False
        assert recorder.next()[0] == "close"
        assert "it took nothing for 0.2 s" in caplog.text
        link.run(lambda: link.send(fork.Clear()))  # to what is gone: nothing, and no error
    finally:
        module.socket.close()
        sink.stop()
    link.run(lambda: None)  # nor when the sink has stopped


def test_after_a_stall_what_has_come_is_read_before_the_clock_is_looked_at(
    sink: FrameSink, connect: Connect
) -> None:
    """Else a key of that time would be judged by what the clock has made of the call."""

    class Looking(Recorder):
        def on_tick(self) -> None:
            self.came.put(("tick",))

    ear = Looking()
    sink.claim("PJSIP/x-1", ear)
    module = connect()
    module.send("PJSIP/x-1")
    while ear.next() != ("open",):
        pass
    standing, frozen = threading.Event(), threading.Event()

    def stand_still() -> None:
        standing.set()
        frozen.wait(5)
        time.sleep(LATE_S + 2 * TICK_S)

    sink.run(stand_still)
    assert standing.wait(5)
    while not ear.came.empty():
        ear.came.get()
    module.send(AUDIO)
    frozen.set()
    assert ear.next()[0] == "audio"
    assert ear.next() == ("tick",)
