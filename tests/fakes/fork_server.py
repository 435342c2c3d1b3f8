"""WebSocket servers for AudioFork: one that keeps what it receives, and some that misbehave.

A connection is found by the path of its URL, so that many calls can share one server.
"""

from __future__ import annotations

import array
import base64
import contextlib
import hashlib
import json
import math
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

FRAME_BYTES = 320
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LOUD = 1500


@dataclass
class Received:
    """One connection and all that came by it."""

    connection: ServerConnection
    path: str
    texts: list[str] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    messages: list[str | bytes] = field(default_factory=list)
    """Texts and frames in the order of their coming."""
    times: list[float] = field(default_factory=list)
    code: int | None = None
    """The close code; None while it is open, 1006 when it broke."""

    def __str__(self) -> str:
        return f"{self.path}: {self.texts} {len(self.frames)} frames, code {self.code}"


class ForkServer:
    """A real WebSocket server in threads of this process; always reads, never speaks by itself."""

    def __init__(
        self, *, port: int = 0, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.received: list[Received] = []
        self._scheme, self._host = ("wss" if tls else "ws"), host
        self._news = threading.Condition()
        self._server: Server = serve(
            self._handle,
            "127.0.0.1",
            port,
            ssl=tls,
            compression=None,
            ping_interval=None,
            subprotocols=["echo"],  # type: ignore[list-item]
        )
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="fork-server")
        self._thread.start()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def url(self, path: str = "") -> str:
        """Its URL with this path (and query)."""
        return f"{self._scheme}://{self._host}:{self.port}/{path}"

    def find(self, path: str, number: int = 1, timeout_s: float = 10) -> Received:
        """The connection to /PATH, the NUMBERth of them, past or to come."""

        def found() -> list[Received]:
            return [one for one in self.received if one.path.partition("?")[0] == f"/{path}"]

        self.wait(f"connection {number} to /{path}", lambda: len(found()) >= number, timeout_s)
        return found()[number - 1]

    def frames(self, path: str, count: int, timeout_s: float = 10) -> Received:
        """The first connection to /PATH, once COUNT frames have come by it."""
        one = self.find(path)
        self.wait(f"{count} frames of /{path}", lambda: len(one.frames) >= count, timeout_s)
        return one

    def more(self, one: Received, count: int, timeout_s: float = 10) -> list[bytes]:
        """The next COUNT frames of the connection, from now on."""
        first = len(one.frames)
        what = f"{count} more frames of {one.path}"
        self.wait(what, lambda: len(one.frames) >= first + count, timeout_s)
        return one.frames[first : first + count]

    def closed(self, one: Received, timeout_s: float = 10) -> int:
        """The close code of the connection, once it is over."""
        self.wait(f"the end of {one.path}", lambda: one.code is not None, timeout_s)
        assert one.code is not None
        return one.code

    def wait(self, what: str, ready: Callable[[], bool], timeout_s: float = 10) -> None:
        """Wait until READY, asked at each event. Raises AssertionError with what was seen."""
        with self._news:
            assert self._news.wait_for(ready, timeout_s), f"{what} did not come; saw\n{self}"

    def close(self) -> None:
        """Break all connections, as a process that dies, and end all threads."""
        self._server.shutdown()
        for one in self.received:
            with contextlib.suppress(OSError):
                one.connection.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self.wait("the end of all", lambda: all(one.code is not None for one in self.received))

    def __str__(self) -> str:
        return "\n".join(map(str, self.received)) or "no connection"

    def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        one = Received(connection, connection.request.path)
        self._tell(lambda: self.received.append(one))
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                self._tell(lambda message=message: keep(one, message))  # type: ignore[misc]
        code = connection.close_code
        self._tell(lambda: setattr(one, "code", 1006 if code is None else code))

    def _tell(self, change: Callable[[], None]) -> None:
        with self._news:
            change()
            self._news.notify_all()


def keep(one: Received, message: str | bytes) -> None:
    """Put a message where it belongs."""
    one.messages.append(message)
    if isinstance(message, str):
        one.texts.append(message)
    else:
        one.frames.append(message)
        one.times.append(time.monotonic())


# -- what is told in JSON


def told(messages: Sequence[str | bytes], message_ms: int = 20) -> list[dict[str, Any]]:
    """The JSON messages of one connection; each `at_ms` must be what a receiver counts."""
    place: int | None = None
    found = []
    for message in messages:
        if isinstance(message, bytes):
            assert place is not None, "audio before start"
            place += message_ms
            continue
        row: dict[str, Any] = json.loads(message)
        if row["type"] == "start":
            assert place is None
            place = row["at_ms"]
        assert row.get("at_ms", place) == place, row
        if row["type"] == "dropped":
            assert place is not None
            place += row["ms"]
        found.append(row)
    return found


# -- what is in the audio


def level(frames: list[bytes], hz: int, rate_hz: int = 8000) -> float:
    """The amplitude of the tone of HZ in these frames, as `lab_sound.tone` counts it."""
    samples = array.array("h", b"".join(frames))
    turn = 2 * math.pi * hz / rate_hz
    real = sum(sample * math.cos(turn * index) for index, sample in enumerate(samples))
    imaginary = sum(sample * math.sin(turn * index) for index, sample in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / max(1, len(samples))


def bursts(frames: list[bytes]) -> int:
    """How many stretches of loud frames there are: beeps in silence."""
    loud = [max(map(abs, array.array("h", frame))) > LOUD for frame in frames]
    return sum(now and not before for before, now in zip([False, *loud], loud, strict=False))


# -- servers that misbehave


class RawServer:
    """A TCP server whose one function misbehaves as it likes, a thread for each connection."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="raw-acceptor")
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Break all connections and end all threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(10)
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._behave(connection)


def read_request(connection: socket.socket) -> bytes:
    """The client's HTTP request. Raises OSError when it ends too soon."""
    request = b""
    while b"\r\n\r\n" not in request:
        part = connection.recv(4096)
        if not part:
            raise OSError("no request")
        request += part
    return request


def shake_hands(connection: socket.socket) -> bytes:
    """Accept the WebSocket (RFC 6455, 4.2.2); the request."""
    request = read_request(connection)
    headers = dict(row.split(b": ", 1) for row in request.split(b"\r\n") if b": " in row)
    key = next(headers[name] for name in headers if name.lower() == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: echo\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    return request


def until_closed(connection: socket.socket) -> None:
    """Take nothing, say nothing, until the client has gone."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll(60_000)


def drain(connection: socket.socket) -> int:
    """Take all until the client has gone; how many bytes it was."""
    total = 0
    while part := connection.recv(65536):
        total += len(part)
    return total


def messages_of(wire: bytes | bytearray) -> list[str | bytes]:
    """The whole messages in what a client has sent after its request (RFC 6455, 5.2)."""
    found: list[str | bytes] = []
    at = 0
    while at + 2 <= len(wire):
        kind, size = wire[at] & 15, wire[at + 1] & 127
        at += 2
        if size == 126:
            size, at = int.from_bytes(wire[at : at + 2], "big"), at + 2
        mask, at = wire[at : at + 4], at + 4 + size
        if at > len(wire):
            break
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        clear = (int.from_bytes(wire[at - size : at], "big") ^ key).to_bytes(size, "big")
        if kind < 8:
            found.append(clear.decode() if kind == 1 else clear)
    return found


def take(connection: socket.socket, into: bytearray) -> None:
    """Take all until the client has gone."""
    while part := connection.recv(65536):
        into.extend(part)


def never_answers(connection: socket.socket) -> None:
    """Accepts the connection and not the WebSocket."""
    until_closed(connection)


def not_found(connection: socket.socket) -> None:
    """Has no WebSocket at this path."""
    read_request(connection)
    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    until_closed(connection)


def redirects(connection: socket.socket) -> None:
    """Sends the client elsewhere."""
    read_request(connection)
    connection.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    )
    until_closed(connection)


def speaks_garbage(connection: socket.socket) -> None:
    """Is no HTTP server at all."""
    connection.sendall(os.urandom(4000))
    until_closed(connection)


def dribbles(connection: socket.socket, pause_s: float = 0.02) -> None:
    """Answers byte by byte, and never comes to an end."""
    read_request(connection)
    answer = b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-More: of this\r\n" * 1000
    for byte in answer:
        connection.sendall(bytes([byte]))
        time.sleep(pause_s)


def resets(connection: socket.socket, after_s: float = 0.5) -> None:
    """Accepts, takes some audio, then breaks off as a crashed machine does: RST."""
    shake_hands(connection)
    until = time.monotonic() + after_s
    while time.monotonic() < until and connection.recv(65536):
        pass
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def says(connection: socket.socket, kind: int, payload: bytes, *, final: bool = True) -> None:
    """Send a frame, unmasked as a server's are. kind: 1 text, 2 binary, 9 ping, 0 more of it."""
    size = len(payload)
    head = bytes([kind | (128 if final else 0)])
    if size < 126:
        head += bytes([size])
    elif size < 65536:
        head += bytes([126]) + size.to_bytes(2, "big")
    else:
        head += bytes([127]) + size.to_bytes(8, "big")
    connection.sendall(head + payload)


def sends_bad_frames(connection: socket.socket) -> None:
    """Accepts, then breaks the protocol: reserved bits and opcodes."""
    shake_hands(connection)
    connection.sendall(b"\xff" * 200)
    drain(connection)


def hangs_up(connection: socket.socket) -> None:
    """Accepts, then is gone without a close frame."""
    shake_hands(connection)


def freezes(connection: socket.socket) -> None:
    """Accepts, then takes nothing more."""
    shake_hands(connection)
    until_closed(connection)
