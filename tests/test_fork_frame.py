"""asterisk/fork_frame.c, and fork_wire.c where it sends those frames past libwebsockets."""

from __future__ import annotations

import ctypes
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import native
from tests.fakes.fork_server import shake_hands
from tests.fixtures_fork import Driver, MakeRaw, Sink, eventually

TEXT, BINARY, CLOSE, PONG = 1, 2, 8, 10
MANY = 12
"""Links enough for the service thread to go by its clock."""


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target = tmp_path_factory.mktemp("frame") / "pure.so"
    parts = ["fork_audio", "fork_frame", "fork_options", "fork_url"]
    return ctypes.CDLL(str(native.build(target, "pure.c", parts, ["m"], ["-shared", "-fPIC"])))


def frame(lib: ctypes.CDLL, payload: bytes, text: bool, key: bytes) -> bytes:
    out = ctypes.create_string_buffer(len(payload) + 8)
    lib.fork_frame.restype = ctypes.c_size_t
    length = lib.fork_frame(out, payload, ctypes.c_size_t(len(payload)), ctypes.c_bool(text), key)
    return out.raw[:length]


def parse(stream: bytes) -> list[tuple[int, bytes, bytes]]:
    """Opcode, masking key and payload of each whole frame; a cut or mixed one fails."""
    found, at = [], 0
    while at < len(stream):
        first, second = stream[at], stream[at + 1]
        assert first & 0x80, "not final"
        assert second & 0x80, "not masked"
        length, head = second & 0x7F, 2
        if length == 126:
            (length,) = struct.unpack_from(">H", stream, at + 2)
            head = 4
        key = stream[at + head : at + head + 4]
        payload = stream[at + head + 4 : at + head + 4 + length]
        assert len(payload) == length, "cut off"
        found.append((first & 15, key, bytes(b ^ key[i & 3] for i, b in enumerate(payload))))
        at += head + 4 + length
    return found


def test_rfc_6455_masked_hello(lib: ctypes.CDLL) -> None:
    """The example of section 5.7."""
    expected = bytes.fromhex("81 85 37 fa 21 3d 7f 9f 4d 51 58")
    assert frame(lib, b"Hello", True, bytes.fromhex("37fa213d")) == expected


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 125, 126, 320, 321, 4096, 65535])
def test_any_length(lib: ctypes.CDLL, length: int) -> None:
    payload = bytes(i * 7 & 255 for i in range(length))
    built = frame(lib, payload, False, b"\x01\x80\xff\x10")
    assert len(built) == length + (6 if length < 126 else 8)
    assert parse(built) == [(BINARY, b"\x01\x80\xff\x10", payload)]


class Reader:
    """A server that takes nothing until it is told to, then all; pings before and meanwhile."""

    def __init__(self, pings: int = 0) -> None:
        self.thaw = threading.Event()
        self.got = bytearray()
        self._pings = pings

    def __call__(self, connection: socket.socket) -> None:
        shake_hands(connection)
        for number in range(self._pings):
            payload = f"ping {number}".encode()
            connection.sendall(bytes([0x89, len(payload)]) + payload)
            time.sleep(0.005)
        self.thaw.wait(20)
        while part := connection.recv(65536):
            self.got.extend(part)


def test_a_full_socket_and_pings_cut_no_frame(driver: Driver, raw: MakeRaw) -> None:
    """libwebsockets' pongs, what it keeps of a frame, and frames sent past it: never mixed."""
    reader = Reader(pings=200)
    server = raw(reader)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/ ring_ms=1000 stall_ms=0 name=n")
    assert eventually(lambda: driver.state(1) == "up")
    for _ in range(100):
        driver.do("push 1 in 7 8000 -3")
        time.sleep(0.012)
    assert driver.stats(1)["dropped_us"][0] > 0
    reader.thaw.set()
    assert eventually(lambda: driver.stats(1)["waiting"] == 0)
    driver.do("push 1 in 10 8000 -3")
    driver.do("close 1 x")
    ended = driver.wait_ended(1)
    assert eventually(lambda: parse(bytes(reader.got))[-1][0] == CLOSE)
    frames = parse(bytes(reader.got))
    assert [payload for opcode, _, payload in frames if opcode == TEXT] == [b"n"]
    audio = [payload for opcode, _, payload in frames if opcode == BINARY]
    assert audio == [b"\xfd\xff" * 160] * ended["sent"]
    assert ended["sent"] + ended["dropped_us"][0] // 20_000 == 710
    pongs = [payload for opcode, _, payload in frames if opcode == PONG]
    assert pongs
    assert all(payload.startswith(b"ping ") for payload in pongs)
    driver.do("free 1")


def test_every_frame_has_a_key_of_its_own(driver: Driver, raw: MakeRaw) -> None:
    reader = Reader()
    reader.thaw.set()
    server = raw(reader)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/ name=n ring_ms=20000")
    assert eventually(lambda: driver.state(1) == "up")
    for _ in range(30):
        driver.do("push 1 in 50 8000 0")
        time.sleep(0.01)
    driver.do("close 1 x")
    assert driver.wait_ended(1)["sent"] == 1500
    assert eventually(lambda: parse(bytes(reader.got))[-1][0] == CLOSE)
    keys = [key for opcode, key, _ in parse(bytes(reader.got)) if opcode == BINARY]
    assert len(set(keys)) > 1495
    assert {key[i] for key in keys for i in range(4)} == set(range(256))
    driver.do("free 1")


@pytest.fixture
def short_driver(tmp_path: Path) -> Iterator[Driver]:
    """A driver whose kernel once takes half a frame."""
    binary = native.build(
        tmp_path / "driver", "socket_driver.c", native.SOCKET_SOURCES,
        ["websockets", "ssl", "crypto", "m"],
        ["-Wl,--wrap=send", str(native.HERE / "short_send.c")],
    )  # fmt: skip
    one = Driver(binary)
    yield one
    one.do("stop 5000")
    assert one.end() == 0


def test_a_piece_of_a_frame_is_the_connection_s_end(short_driver: Driver, raw: MakeRaw) -> None:
    """And the stream goes on in the next connection, the frame that was cut first."""
    driver = short_driver
    streams: list[bytearray] = []

    def behave(connection: socket.socket) -> None:
        shake_hands(connection)
        streams.append(bytearray())
        mine = streams[-1]
        while part := connection.recv(65536):
            mine.extend(part)

    server = raw(behave)
    driver.do(f"open 1 ws://127.0.0.1:{server.port}/ name=n r=0 delay=50")
    assert eventually(lambda: driver.state(1) == "up")
    for value in range(20):
        driver.do(f"push 1 in 1 8000 {value}")
        time.sleep(0.005)
    assert eventually(lambda: driver.stats(1)["sent"] == 20)
    assert driver.stats(1)["connects"] == 2
    driver.do("close 1 x")
    driver.wait_ended(1)
    whole = len(streams[0]) // 328 * 328 + 7
    assert len(streams[0]) == whole + 164
    first, second = parse(bytes(streams[0][:whole])), parse(bytes(streams[1]))
    audio = [payload for opcode, _, payload in first + second if opcode == BINARY]
    assert [struct.unpack_from("<h", payload)[0] for payload in audio] == list(range(20))
    driver.do("free 1")


# ---- by the clock ----


@pytest.fixture
def many(driver: Driver, sink: Sink) -> Iterator[Driver]:
    """So many links that the service thread looks for their news by its clock."""
    for link in range(MANY):
        driver.do(f"open {link} ws://127.0.0.1:{sink.port}/{link} name={link}")
    assert eventually(lambda: all(driver.state(link) == "up" for link in range(MANY)))
    yield driver
    for link in range(MANY):
        driver.do(f"close {link} x")
        driver.do(f"free {link}")


def test_with_many_links_a_frame_leaves_by_the_clock(many: Driver, sink: Sink) -> None:
    """The clock strikes every 5 ms; the rest is the way to the server and its thread."""
    many.do("pace 3 in 100")
    mine = sink.texts.index(["3"])
    assert eventually(lambda: len(sink.frames[mine]) == 100)
    late = [
        seen * 1e6 - struct.unpack("<q", frame[:8])[0]
        for frame, seen in zip(sink.frames[mine], sink.times[mine], strict=True)
    ]
    assert statistics.median(late) < 8000


def test_with_many_links_a_held_frame_leaves_when_the_other_side_stalls(
    many: Driver, sink: Sink
) -> None:
    many.do(f"open {MANY} ws://127.0.0.1:{sink.port}/both name=both dir=both")
    assert eventually(lambda: many.state(MANY) == "up")
    many.do(f"push {MANY} out 1 8000 1")  # the other side has not been heard yet: it goes alone
    many.do(f"push {MANY} in 2 8000 1")
    begun = time.monotonic()
    many.do("pace 3 in 10")  # keeps the clock going
    mine = sink.texts.index(["both"])
    assert eventually(lambda: len(sink.frames[mine]) == 3)
    assert time.monotonic() - begun < 1
    many.do(f"close {MANY} x")
    many.do(f"free {MANY}")


def test_many_quiet_links_are_heard_again(many: Driver, sink: Sink) -> None:
    """The clock stops after a while without news; the next frame wakes the service thread."""
    mine = sink.texts.index(["5"])
    for count in range(1, 6):
        time.sleep(0.2)
        many.do("push 5 in 1 8000 1")
        assert eventually(lambda count=count: len(sink.frames[mine]) == count, 2)  # type: ignore[misc]


def test_the_last_links_of_many_need_no_clock(many: Driver, sink: Sink) -> None:
    for link in range(1, MANY):
        many.do(f"close {link} x")
    assert eventually(lambda: len(many.ended) == MANY - 1)
    mine = sink.texts.index(["0"])
    many.do("push 0 in 5 8000 1")
    assert eventually(lambda: len(sink.frames[mine]) == 5)
