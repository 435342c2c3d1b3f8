"""One fork's WebSocket connection: HTTP upgrade, first message, audio and messages both ways.

Lives in the audio loop of ws_frames.FrameSink. What it sends is bounded: ``ready`` turns false
while WRITE_HIGH bytes wait, and a peer that takes nothing for STALL_S is cut off.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from backend.errors import BadRequest
from backend.ports import RATE_HZ
from backend.protocol import fork
from backend.protocol import websocket as wire

if TYPE_CHECKING:
    from backend.ws_frames import FrameSink, Seat

log = logging.getLogger(__name__)

HANDSHAKE_BYTES = 8 * 1024
WRITE_HIGH = 64 * 1024
STALL_S = 5.0
KEYED_PATH = re.compile(r"/stream/([A-Za-z0-9._-]{1,64})")


class Connection(asyncio.Protocol):
    """One TCP connection. ``start``: what the module said of itself; None until it did, and for
    ever with a module (or a dialplan) that has no option ``j``: nothing is sent to that."""

    def __init__(self, sink: FrameSink) -> None:
        self.start: fork.Start | None = None
        self._sink = sink
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._open = False
        self._frames = wire.FrameParser()
        self._seat: Seat | None = None
        self._key: str | None = None  # by its URL; else it is known by its channel
        self._channel = "(channel not named yet)"
        self._peer = "?"
        self._reason = "closed without a close frame"
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._complained = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(WRITE_HIGH)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else "?"
        if not self._sink.admitted(self, peer):
            transport.abort()
            return
        self._deadline = self._sink.later(self._sink.handshake_s, self._too_slow)

    def data_received(self, data: bytes) -> None:
        try:
            if self._open:
                self._receive(data)
            else:
                self._shake_hands(data)
        except wire.Violation as violation:
            self._refuse(violation.code, violation.why)
        except Exception:  # a call's end of it failed: its own stream ends, the others go on
            log.exception("frame sink: %s: its listener failed", self._channel)
            self.close(1011, "internal error")

    def eof_received(self) -> bool:
        return False  # asyncio closes the transport

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        reason = f"connection lost: {exc}" if exc else self._reason
        self._sink.gone(self, self._seat, reason)

    def pause_writing(self) -> None:
        self._stall = self._sink.later(self._sink.stall_s, self._stalled)

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # Steps

    def _shake_hands(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) > HANDSHAKE_BYTES:
            self._refuse(None, f"HTTP request over {HANDSHAKE_BYTES} bytes")
        if end < 0:
            return
        head, rest = self._head[: end + 4], self._head[end + 4 :]
        self._head = b""
        # extensions=None: no compression; a fork's audio is not worth it.
        protocol = ServerProtocol(
            subprotocols=[Subprotocol("echo")],
            select_subprotocol=lambda _, offered: offered[0] if "echo" in offered else None,
            logger=_QUIET,
        )
        protocol.receive_data(head)
        events = protocol.events_received()
        if events and isinstance(events[0], Request):
            response = protocol.accept(events[0])
            if keyed := KEYED_PATH.fullmatch(events[0].path):
                self._key = keyed[1]
            protocol.send_response(response)
            self._open = response.status_code == 101
        for chunk in protocol.data_to_send():
            self._write(chunk)
        if not self._open:
            self._refuse(None, f"not a WebSocket handshake: {protocol.handshake_exc}")
        elif rest:
            self._receive(rest)

    def _receive(self, data: bytes) -> None:
        for event in self._frames.feed(data):
            if isinstance(event, bytes):
                self._audio(event)
            elif isinstance(event, wire.Text):
                self._text(event.text)
            elif isinstance(event, wire.Ping):
                self._write(wire.pong_frame(event.payload))
            else:
                self._reason = f"closed by the fork: {event.code} {event.reason}".rstrip()
                self.close(event.code, "")

    def _audio(self, pcm: bytes) -> None:
        seat = self._seat
        if seat is None:
            raise wire.Violation(wire.CLOSE_POLICY, "audio came before the channel's name")
        if len(pcm) & 1:
            raise wire.Violation(wire.CLOSE_INVALID_DATA, f"{len(pcm)} bytes: no 16-bit samples")
        self._sink.counters.messages += 1
        if seat.listener is not None:
            seat.listener.on_audio(pcm)
        else:
            self._sink.keep(seat, pcm)

    def _text(self, text: str) -> None:
        if self._seat is None:
            self._first(text)
            return
        if self.start is None:
            log.debug("frame sink: %s: text message ignored: %.80r", self._channel, text)
            return
        try:
            message = fork.parse(text)
        except BadRequest as error:
            # Once a connection: whatever sends this may send it fifty times a second.
            if not self._complained:
                log.warning("frame sink: %s: message passed over: %s", self._channel, error)
            self._complained = True
            return
        if self._seat.listener is not None:
            self._seat.listener.on_message(message)
        else:
            self._sink.keep(self._seat, message)

    def _first(self, text: str) -> None:
        """The stream says whose it is."""
        try:
            first = fork.parse_first(text)
        except BadRequest as error:
            raise wire.Violation(wire.CLOSE_POLICY, f"the first message: {error}") from None
        if isinstance(first, fork.Start):
            if (first.rate_hz, first.channels) != (RATE_HZ, 1):
                raise wire.Violation(
                    wire.CLOSE_UNSUPPORTED,
                    f"{first.rate_hz} Hz, {first.channels} channels: this backend hears {RATE_HZ}"
                    " Hz mono; leave f() and D(stereo) out of AudioFork's options",
                )
            self.start = first
        if self._deadline is not None:
            self._deadline.cancel()
        self._channel = first.channel if isinstance(first, fork.Start) else first
        self._seat = self._sink.bind(self, self._key or self._channel)

    def _too_slow(self) -> None:
        what = "channel name" if self._open else "WebSocket handshake"
        self._refuse(wire.CLOSE_POLICY, f"no {what} within {self._sink.handshake_s:g} s")

    def _refuse(self, code: int | None, why: str) -> None:
        self._sink.counters.refused += 1
        log.warning("frame sink: %s from %s closed: %s", self._channel, self._peer, why)
        self._reason = why
        self.close(code if self._open else None, why)

    def _stalled(self) -> None:
        self._stall = None
        self._reason = f"it took nothing for {self._sink.stall_s:g} s"
        log.warning("frame sink: %s: cut off: %s", self._channel, self._reason)
        if self._transport is not None:
            self._transport.abort()

    # Out

    def run(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the audio loop: now, when called there, else soon. Any thread."""
        self._sink.run(action)

    @property
    def ready(self) -> bool:
        """Whether more should be sent now. Audio loop only, as is all that follows."""
        open_ = self._transport is not None and not self._transport.is_closing()
        return open_ and self._stall is None

    def send(self, *items: fork.ToModule | bytes) -> None:
        """Send messages and audio, in one write. To a connection that is gone: nothing."""
        self._write(
            b"".join(
                wire.binary_frame(item)
                if isinstance(item, bytes)
                else wire.text_frame(fork.serialise(item))
                for item in items
            )
        )

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self, code: int | None, reason: str) -> None:
        """End the connection, with a close frame unless ``code`` is None. A peer that does not
        take it is cut: nothing of a stream's end is worth waiting for."""
        if self._transport is None or self._transport.is_closing():
            return
        if code is not None and self._open:
            self._write(wire.close_frame(code, reason))
        self._reason = reason or self._reason
        self._transport.close()
        transport = self._transport
        self._sink.later(1.0, transport.abort)


_QUIET = logging.getLogger("backend.ws_frames.handshake")
_QUIET.setLevel(logging.CRITICAL)
