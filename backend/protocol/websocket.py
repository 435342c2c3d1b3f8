"""WebSocket frames towards the fork, RFC 6455 section 5. Pure: bytes in, events out.

The handshake is left to the websockets package. Frames are parsed here because Asterisk before
16.12 sends them unmasked, which every strict server refuses (RFC 6455 5.1), and because this is
the hot path: 50 messages a second and call.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from websockets.frames import Frame, Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the C extension
    from websockets.utils import apply_mask

MAX_MESSAGE_BYTES = 64 * 1024
MAX_FRAGMENTS = 1024

CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_PROTOCOL_ERROR = 1002
CLOSE_UNSUPPORTED = 1003
CLOSE_INVALID_DATA = 1007
CLOSE_POLICY = 1008
CLOSE_TOO_BIG = 1009

_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class Violation(Exception):
    """The peer broke the protocol; ``code`` is the close code to answer with."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Ping:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """``code`` 1005: the peer's close frame had none."""

    code: int
    reason: str


# A binary message is the bytes themselves: it comes 50 times a second and call.
Event = bytes | Text | Ping | Close


class FrameParser:
    """Splits a byte stream into messages; ``feed`` returns those that are complete.

    Fragments are joined, control frames may come between them, pongs are swallowed. Nothing is
    returned after a close frame. Bounded: a frame or message over ``max_bytes`` is refused
    before it is read.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = b""
        self._opcode: int | None = None  # of the fragmented message under way
        self._parts: list[bytes] = []
        self._size = 0  # of the parts
        self._closed = False

    def feed(self, data: bytes) -> list[Event]:
        """Raises Violation; the stream is dead then, events before it are lost with it."""
        buffer = self._buffer + data if self._buffer else data
        events: list[Event] = []
        at = 0
        while not self._closed:
            frame = self._frame(buffer, at)
            if frame is None:
                break
            at, first, payload = frame
            event = self._message(first, payload)
            if event is not None:
                events.append(event)
        self._buffer = b"" if self._closed else bytes(buffer[at:])
        return events

    def _frame(self, buffer: bytes, at: int) -> tuple[int, int, bytes] | None:
        """The frame at ``at``: (where the next begins, first byte, unmasked payload)."""
        available = len(buffer) - at
        if available < 2:
            return None
        first, second = buffer[at], buffer[at + 1]
        length, head = second & 0x7F, 2
        if length == 126:
            head = 4
            if available < head:
                return None
            length = struct.unpack_from("!H", buffer, at + 2)[0]
        elif length == 127:
            head = 10
            if available < head:
                return None
            length = struct.unpack_from("!Q", buffer, at + 2)[0]
        self._check_head(first, length)
        masked = second & 0x80
        start = at + head + (4 if masked else 0)
        end = start + length
        if len(buffer) < end:
            return None
        payload = buffer[start:end]
        if masked:
            payload = apply_mask(payload, buffer[start - 4 : start])
        return end, first, payload

    def _check_head(self, first: int, length: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise Violation(CLOSE_PROTOCOL_ERROR, "reserved bits are set: no extension was agreed")
        if opcode not in (_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG):
            raise Violation(CLOSE_PROTOCOL_ERROR, f"unknown opcode {opcode:#x}")
        if opcode & 0x8 and (length > 125 or not first & 0x80):
            raise Violation(CLOSE_PROTOCOL_ERROR, "control frame over 125 bytes or fragmented")
        if length + self._size > self._max_bytes or len(self._parts) > MAX_FRAGMENTS:
            raise Violation(
                CLOSE_TOO_BIG, f"message over {self._max_bytes} bytes or {MAX_FRAGMENTS} parts"
            )

    def _message(self, first: int, payload: bytes) -> Event | None:
        opcode, final = first & 0x0F, first & 0x80
        if opcode & 0x8:
            return self._control(opcode, payload)
        if (opcode == _CONT) != (self._opcode is not None):
            raise Violation(CLOSE_PROTOCOL_ERROR, "continuation frame out of place")
        if opcode != _CONT and final:
            return self._whole(opcode, payload)
        if opcode != _CONT:
            self._opcode = opcode
        self._parts.append(payload)
        self._size += len(payload)
        if not final or self._opcode is None:
            return None
        opcode, payload = self._opcode, b"".join(self._parts)
        self._opcode, self._parts, self._size = None, [], 0
        return self._whole(opcode, payload)

    def _whole(self, opcode: int, payload: bytes) -> Event:
        if opcode == _BINARY:
            return payload
        try:
            return Text(payload.decode("utf-8"))
        except UnicodeDecodeError:
            raise Violation(CLOSE_INVALID_DATA, "text message is not UTF-8") from None

    def _control(self, opcode: int, payload: bytes) -> Event | None:
        if opcode == _PING:
            return Ping(payload)
        if opcode == _PONG:
            return None
        self._closed = True
        if len(payload) < 2:
            return Close(1005, "")
        return Close(struct.unpack("!H", payload[:2])[0], payload[2:].decode("utf-8", "replace"))


def close_frame(code: int, reason: str = "") -> bytes:
    """A server's close frame (never masked); the reason is cut to what fits."""
    text = reason.encode("utf-8")[:123].decode("utf-8", "ignore").encode("utf-8")
    payload = b"" if code == 1005 else struct.pack("!H", code) + text
    return Frame(Opcode.CLOSE, payload).serialize(mask=False)


def text_frame(text: str) -> bytes:
    """A server's text message."""
    return Frame(Opcode.TEXT, text.encode("utf-8")).serialize(mask=False)


def binary_frame(payload: bytes) -> bytes:
    """A server's binary message."""
    return Frame(Opcode.BINARY, payload).serialize(mask=False)


def pong_frame(payload: bytes) -> bytes:
    """A server's answer to a ping."""
    return Frame(Opcode.PONG, payload).serialize(mask=False)
