"""A WebSocket server whose connections are cut at random points, cleanly or by a reset."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable

from tests.fakes.fork_server import RawServer, read_request, shake_hands

LINGER_OFF = struct.pack("ii", 1, 0)  # close() sends a reset
PROMPT = b"\x00\x10" * 4000


class CuttingServer(RawServer):
    """Each connection ends at a point drawn from ``chance``; ``cuts`` counts them by place."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.cuts: Counter[str] = Counter()
        super().__init__(self._cut)

    def _cut(self, connection: socket.socket) -> None:
        places: list[Callable[[socket.socket], None]] = [
            self._unheard,
            self._half_answered,
            self._after_audio,
            self._in_a_frame,
            self._in_a_prompt,
        ]
        place = self._chance.choices(places, (1, 2, 5, 2, 5))[0]
        reset = self._chance.random() < 0.5
        self.cuts[place.__name__.strip("_") + (" reset" if reset else "")] += 1
        place(connection)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)

    def _unheard(self, connection: socket.socket) -> None:
        """Before the request was read."""

    def _half_answered(self, connection: socket.socket) -> None:
        read_request(connection)
        answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        connection.sendall(answer[: self._chance.randrange(len(answer))])

    def _after_audio(self, connection: socket.socket) -> None:
        shake_hands(connection)
        self._take(connection)

    def _in_a_frame(self, connection: socket.socket) -> None:
        """In the midst of a frame to the module, control frames included."""
        shake_hands(connection)
        frame = self._chance.choice([text(b'{"type":"counters"}'), b"\x89\x04ping", binary(PROMPT)])
        connection.sendall(frame[: self._chance.randrange(1, len(frame))])
        self._take(connection)

    def _in_a_prompt(self, connection: socket.socket) -> None:
        shake_hands(connection)
        whisper = self._chance.random() < 0.5
        connection.sendall(
            text(json.dumps({"type": "play", "play": "soak", "whisper": whisper}).encode())
            + binary(PROMPT)
        )
        self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        left = self._chance.randrange(20_000)
        while left > 0 and (part := connection.recv(min(left, 4096))):
            left -= len(part)


def text(payload: bytes) -> bytes:
    return b"\x81" + _length(payload) + payload


def binary(payload: bytes) -> bytes:
    return b"\x82" + _length(payload) + payload


def _length(payload: bytes) -> bytes:
    size = len(payload)
    return bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
