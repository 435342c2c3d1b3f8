"""A driver process for the WebSocket's side of app_audiofork, and servers for it.

The driver (tests/native/socket_driver.c) plays Asterisk's part and is built with the address
and undefined-behaviour sanitizers: a leak or a wild access makes its exit code non-zero.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests import native

Message = str | bytes


class Driver:
    """The driver process: commands, replies, and the events between them."""

    def __init__(self, binary: Path) -> None:
        self.process = subprocess.Popen(
            [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.replies: queue.Queue[str] = queue.Queue()
        self.ended: dict[int, dict[str, Any]] = {}
        self.logs: list[tuple[int, str]] = []
        self.reader = threading.Thread(target=self._read, name="driver-reader")
        self.reader.start()
        assert self.replies.get(timeout=10) == "ready"

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            kind, _, rest = line.rstrip("\n").partition(" ")
            number, _, text = rest.partition(" ")
            if kind == "log":
                self.logs.append((int(number), text))
            elif kind == "ended":
                self.ended[int(number)] = json.loads(text)
            else:
                self.replies.put(line.rstrip("\n"))

    def send(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(command + "\n")

    def do(self, command: str) -> str:
        self.send(command)
        return self.replies.get(timeout=30)

    def stats(self, link: int) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self.do(f"stats {link}").split(" ", 2)[2])
        return stats

    def state(self, link: int) -> str:
        return str(self.stats(link)["state"])

    def wait_ended(self, link: int, timeout_s: float = 10) -> dict[str, Any]:
        assert eventually(lambda: link in self.ended, timeout_s), self.logs
        return self.ended[link]

    def end(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        code = self.process.wait(30)
        self.reader.join(10)
        assert self.process.stdout
        self.process.stdout.close()
        return code


def eventually(condition: Callable[[], bool], timeout_s: float = 10) -> bool:
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return native.build(
        tmp_path_factory.mktemp("socket") / "driver", "socket_driver.c", native.SOCKET_SOURCES,
        ["websockets", "ssl", "crypto", "m"],
        ["-fsanitize=address,undefined", "-fno-sanitize-recover"],
    )  # fmt: skip


@pytest.fixture
def driver(binary: Path) -> Iterator[Driver]:
    one = Driver(binary)
    yield one
    one.do("stop 5000")
    assert one.end() == 0


class Sink:
    """A real WebSocket server on a thread; keeps what it receives."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None, linger: bool = True):
        self.messages: list[list[Message]] = []
        """Of each connection all that has come, in its order."""
        self.texts: list[list[str]] = []
        self.frames: list[list[bytes]] = []
        self.times: list[list[float]] = []
        self.codes: list[int | None] = []
        self.paths: list[str] = []
        self.subprotocols: list[str | None] = []
        self.connections: list[ServerConnection] = []
        self.server = serve(
            self._handle, "127.0.0.1", port, ssl=tls, compression=None, ping_interval=None,
            subprotocols=["echo"],  # type: ignore[list-item]
        )  # fmt: skip
        self.port: int = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever, name="sink")
        self.thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        number = len(self.texts)
        self.messages.append([])
        self.texts.append([])
        self.frames.append([])
        self.times.append([])
        self.codes.append(None)
        self.paths.append(connection.request.path if connection.request else "")
        self.subprotocols.append(connection.subprotocol)
        self.connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                self.messages[number].append(message)
                if isinstance(message, str):
                    self.texts[number].append(message)
                else:
                    self.frames[number].append(message)
                    self.times[number].append(time.monotonic())
        self.codes[number] = connection.close_code

    def close(self) -> None:
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        self.server.shutdown()
        self.thread.join(10)


@pytest.fixture
def sink() -> Iterator[Sink]:
    one = Sink()
    yield one
    one.close()


class RawServer:
    """A TCP server whose one function misbehaves as it likes, one thread a connection."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self.behave = behave
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port: int = self.listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.acceptor = threading.Thread(target=self._accept, name="raw-acceptor")
        self.acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            self.threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self.threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.behave(connection)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.acceptor.join(10)
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self.threads:
            thread.join(10)


MakeRaw = Callable[[Callable[[socket.socket], None]], RawServer]


@pytest.fixture
def raw() -> Iterator[MakeRaw]:
    made: list[RawServer] = []

    def make(behave: Callable[[socket.socket], None]) -> RawServer:
        made.append(RawServer(behave))
        return made[-1]

    yield make
    for one in made:
        one.close()
