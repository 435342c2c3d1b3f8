"""The frame sink: a WebSocket server that takes the forked audio and hands it to the calls.

One thread, "audio", one asyncio loop for all streams of this worker. A stream's first message is
its channel's name; it binds the stream to the call that claims that channel, in either order.

It never sends pings (the original module does not answer them) and always drains: Asterisk closes
a fork whose peer does not read for 100 ms.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from backend.protocol import websocket as wire

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
HANDSHAKE_BYTES = 8 * 1024
UNCLAIMED_S = 5.0
TICK_S = 0.1
EARLY_MESSAGES = 500  # kept until the call claims its stream: 10 s of 20 ms
MAX_CHANNEL_BYTES = 256
MAX_CONNECTIONS = 2000


class Ear(Protocol):
    """What listens to one call's stream. Called in the audio loop: must not block."""

    def on_open(self) -> None:
        """The fork has connected (again)."""

    def on_audio(self, pcm: bytes) -> None:
        """RATE_HZ signed linear 16 bit mono, any whole number of samples."""

    def on_tick(self) -> None:
        """Every TICK_S, whether audio comes or not."""

    def on_close(self, reason: str) -> None:
        """The fork has gone; it may connect again."""


@dataclass
class Counters:
    """Since the start of this worker."""

    connections: int = 0
    messages: int = 0
    refused: int = 0  # handshakes, first messages and frames that broke the protocol
    unclaimed: int = 0  # streams that no call came for
    early_dropped: int = 0  # messages dropped because the call came too late


@dataclass
class _Seat:
    """A channel: its connection, its ear, and what came before the ear did. Loop only."""

    connection: _Connection | None = None
    ear: Ear | None = None
    early: deque[bytes] = field(default_factory=lambda: deque(maxlen=EARLY_MESSAGES))
    expiry: asyncio.TimerHandle | None = None


class FrameSink:
    """The server. ``start`` before anything else; every method is thread-safe."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        allow: Sequence[str] = ("127.0.0.0/8", "::1/128"),
        handshake_s: float = HANDSHAKE_S,
        unclaimed_s: float = UNCLAIMED_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.counters = Counters()
        self.handshake_s = handshake_s
        self.unclaimed_s = unclaimed_s
        self.port = port
        self._host = host
        self._allow = [ipaddress.ip_network(network) for network in allow]
        self._max_connections = max_connections
        self._seats: dict[str, _Seat] = {}
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="audio")

    # From any thread

    def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        except BaseException:
            self._end_loop()
            raise

    def stop(self) -> None:
        """Close every stream and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._end_loop()

    def claim(self, channel: str, ear: Ear) -> None:
        """Give the channel's stream to ``ear``; what came before is handed over first."""
        self._loop.call_soon_threadsafe(self._claim, channel, ear)

    def release(self, channel: str) -> None:
        """The call is over: close its stream and forget the channel. Waits until ``ear`` can no
        longer be called."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._release, channel, done)
        done.wait(10)

    @property
    def streams(self) -> int:
        """Connections open now."""
        return len(self._connections)

    # The loop's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            lambda: _Connection(self), self._host, self.port, backlog=256
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._tick()

    def _tick(self) -> None:
        for channel, seat in list(self._seats.items()):
            if seat.ear is not None:
                self._guard(channel, seat, seat.ear.on_tick)
        self._loop.call_later(TICK_S, self._tick)

    @staticmethod
    def _guard(channel: str, seat: _Seat, call: Callable[[], None]) -> None:
        """A call's ear that fails ends its own stream; the others go on."""
        try:
            call()
        except Exception:
            log.exception("frame sink: %s: its listener failed", channel)
            if seat.connection is not None:
                seat.connection.close(1011, "internal error")

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close(wire.CLOSE_GOING_AWAY, "the backend stops")
        await asyncio.sleep(0)  # let the close frames go out

    def _claim(self, channel: str, ear: Ear) -> None:
        seat = self._seats.setdefault(channel, _Seat())
        seat.ear = ear
        if seat.expiry is not None:
            seat.expiry.cancel()
            seat.expiry = None
        if seat.connection is not None:
            ear.on_open()
        while seat.early:
            ear.on_audio(seat.early.popleft())

    def _release(self, channel: str, done: threading.Event) -> None:
        seat = self._seats.pop(channel, None)
        if seat is not None and seat.connection is not None:
            seat.connection.close(wire.CLOSE_NORMAL, "the call has ended")
        done.set()

    def admitted(self, connection: _Connection, peer: tuple[object, ...] | None) -> bool:
        """Whether this peer may connect now."""
        address = ipaddress.ip_address(str(peer[0])) if peer else None
        if address is None or not any(address in network for network in self._allow):
            log.warning("frame sink: %s refused: not in agi_allow", address)
            return False
        if len(self._connections) >= self._max_connections:
            log.error("frame sink: %s refused: %d connections", address, len(self._connections))
            return False
        self._connections.add(connection)
        self.counters.connections += 1
        return True

    def bind(self, connection: _Connection, channel: str) -> _Seat:
        """The stream's first message has come."""
        seat = self._seats.setdefault(channel, _Seat())
        if seat.connection is not None:
            log.warning("frame sink: %s connected again: the newer stream counts", channel)
            seat.connection.close(wire.CLOSE_NORMAL, "replaced by a newer connection")
        seat.connection = connection
        if seat.ear is not None:
            seat.ear.on_open()
        elif seat.expiry is None:
            seat.expiry = self._loop.call_later(self.unclaimed_s, self._expire, channel)
        return seat

    def _expire(self, channel: str) -> None:
        seat = self._seats.get(channel)
        if seat is None or seat.ear is not None:
            return
        del self._seats[channel]
        self.counters.unclaimed += 1
        if seat.connection is not None:
            log.warning(
                "frame sink: no call came for %s in %g s: its stream is closed",
                channel,
                self.unclaimed_s,
            )
            seat.connection.close(wire.CLOSE_POLICY, "no call for this channel")

    def gone(self, connection: _Connection, seat: _Seat | None, reason: str) -> None:
        """The connection's socket is closed."""
        self._connections.discard(connection)
        if seat is not None and seat.connection is connection:
            seat.connection = None
            if seat.ear is not None:
                seat.ear.on_close(reason)

    def later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, callback)


class _Connection(asyncio.Protocol):
    """One TCP connection: HTTP upgrade, channel name, audio. Lives in the audio loop."""

    def __init__(self, sink: FrameSink) -> None:
        self._sink = sink
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._open = False
        self._frames = wire.FrameParser()
        self._seat: _Seat | None = None
        self._channel = "(channel not named yet)"
        self._peer = "?"
        self._reason = "closed without a close frame"
        self._deadline: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
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
        except Exception:  # a call's ear failed: its own stream ends, the others go on
            log.exception("frame sink: %s: its listener failed", self._channel)
            self.close(1011, "internal error")

    def eof_received(self) -> bool:
        return False  # asyncio closes the transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        reason = f"connection lost: {exc}" if exc else self._reason
        self._sink.gone(self, self._seat, reason)

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
        if seat.ear is not None:
            seat.ear.on_audio(pcm)
            return
        if len(seat.early) == EARLY_MESSAGES:
            self._sink.counters.early_dropped += 1
        seat.early.append(pcm)

    def _text(self, text: str) -> None:
        if self._seat is not None:
            log.debug("frame sink: %s: text message ignored: %.80r", self._channel, text)
            return
        if not text or len(text.encode()) > MAX_CHANNEL_BYTES or not text.isprintable():
            raise wire.Violation(wire.CLOSE_POLICY, "the first message is no channel name")
        if self._deadline is not None:
            self._deadline.cancel()
        self._channel = text
        self._seat = self._sink.bind(self, text)

    def _too_slow(self) -> None:
        what = "channel name" if self._open else "WebSocket handshake"
        self._refuse(wire.CLOSE_POLICY, f"no {what} within {self._sink.handshake_s:g} s")

    def _refuse(self, code: int | None, why: str) -> None:
        self._sink.counters.refused += 1
        log.warning("frame sink: %s from %s closed: %s", self._channel, self._peer, why)
        self._reason = why
        self.close(code if self._open else None, why)

    # Out

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
