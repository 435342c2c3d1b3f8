"""The frame sink: a WebSocket server that takes the forked audio and hands it to the calls.

One thread, "audio", one asyncio loop for all streams of this worker. A stream has a key: what
stands in its URL behind ``/stream/``, else the channel's name, which its first message says. The
key binds it to who claims it, in either order. So a channel may have several forks that end here:
one by its name, the others by keys of their own. Over the same connection the call speaks to the
module, where that understands it.

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

from backend.protocol import fork
from backend.protocol import websocket as wire
from backend.ws_connection import STALL_S, Connection

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
UNCLAIMED_S = 5.0
TICK_S = 0.1
LATE_S = 0.3
EARLY_MESSAGES = 500  # kept until the call claims its stream: 10 s of 20 ms
MAX_CONNECTIONS = 2000


class Listener(Protocol):
    """The call's end of its stream. Called in the audio loop: must not block."""

    def on_open(self, link: Connection) -> None:
        """The fork has connected (again)."""

    def on_audio(self, pcm: bytes) -> None:
        """RATE_HZ signed linear 16 bit mono, any whole number of samples."""

    def on_message(self, message: fork.FromModule) -> None:
        """The module says something, in its place between the audio."""

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
class Seat:
    """A key: its connection, its call, and what came before the call did. Loop only."""

    connection: Connection | None = None
    listener: Listener | None = None
    early: deque[bytes | fork.FromModule] = field(
        default_factory=lambda: deque(maxlen=EARLY_MESSAGES)
    )
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
        stall_s: float = STALL_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.counters = Counters()
        self.handshake_s = handshake_s
        self.unclaimed_s = unclaimed_s
        self.stall_s = stall_s
        self.port = port
        self._host = host
        self._allow = [ipaddress.ip_network(network) for network in allow]
        self._max_connections = max_connections
        self._seats: dict[str, Seat] = {}
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._tick_due = self._loop.time()
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

    def claim(self, key: str, listener: Listener) -> None:
        """Give the key's stream to ``listener``; what came before is handed over first."""
        self._loop.call_soon_threadsafe(self._claim, key, listener)

    def release(self, key: str) -> None:
        """The call is over: close its stream and forget the key. Waits until its
        listener can no longer be called."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._release, key, done)
        done.wait(10)

    def run(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the audio loop: now, when called there, else soon."""
        if threading.current_thread() is self._thread:
            action()
            return
        try:
            self._loop.call_soon_threadsafe(action)
        except RuntimeError:
            log.debug("the frame sink has stopped: nothing is sent any more")

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
            lambda: Connection(self), self._host, self.port, backlog=256
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._tick_due = self._loop.time()
        self._tick()

    def _tick(self, late: bool = False) -> None:
        # After this process has stood still what has come meanwhile is read first: whoever looks at
        # the clock must know of it.
        due = self._loop.time() + TICK_S
        if late or self._loop.time() - self._tick_due < LATE_S:
            late = False
            for key, seat in list(self._seats.items()):
                if seat.listener is not None:
                    self._guard(key, seat, seat.listener.on_tick)
        else:
            late = True
        self._tick_due = due
        self._loop.call_at(due, self._tick, late)

    @staticmethod
    def _guard(key: str, seat: Seat, call: Callable[[], None]) -> None:
        """A listener that fails ends its own stream; the others go on."""
        try:
            call()
        except Exception:
            log.exception("frame sink: %s: its listener failed", key)
            if seat.connection is not None:
                seat.connection.close(1011, "internal error")

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close(wire.CLOSE_GOING_AWAY, "the backend stops")
        await asyncio.sleep(0)  # let the close frames go out

    def _claim(self, key: str, listener: Listener) -> None:
        seat = self._seats.setdefault(key, Seat())
        seat.listener = listener
        if seat.expiry is not None:
            seat.expiry.cancel()
            seat.expiry = None
        if seat.connection is not None:
            listener.on_open(seat.connection)
        while seat.early:
            item = seat.early.popleft()
            if isinstance(item, bytes):
                listener.on_audio(item)
            else:
                listener.on_message(item)

    def _release(self, key: str, done: threading.Event) -> None:
        seat = self._seats.pop(key, None)
        if seat is not None and seat.connection is not None:
            seat.connection.close(wire.CLOSE_NORMAL, "the call has ended")
        done.set()

    def admitted(self, connection: Connection, peer: tuple[object, ...] | None) -> bool:
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

    def bind(self, connection: Connection, key: str) -> Seat:
        """The stream's first message has come."""
        seat = self._seats.setdefault(key, Seat())
        if seat.connection is not None:
            log.warning("frame sink: %s connected again: the newer stream counts", key)
            seat.connection.close(wire.CLOSE_NORMAL, "replaced by a newer connection")
        seat.connection = connection
        if seat.listener is not None:
            seat.listener.on_open(connection)
        elif seat.expiry is None:
            seat.expiry = self._loop.call_later(self.unclaimed_s, self._expire, key)
        return seat

    def keep(self, seat: Seat, item: bytes | fork.FromModule) -> None:
        """Something came before the call did."""
        if len(seat.early) == EARLY_MESSAGES:
            self.counters.early_dropped += 1
        seat.early.append(item)

    def _expire(self, key: str) -> None:
        seat = self._seats.get(key)
        if seat is None or seat.listener is not None:
            return
        del self._seats[key]
        self.counters.unclaimed += 1
        if seat.connection is not None:
            log.warning(
                "frame sink: no call came for %s in %g s: its stream is closed",
                key,
                self.unclaimed_s,
            )
            seat.connection.close(wire.CLOSE_POLICY, "no call for this channel")

    def gone(self, connection: Connection, seat: Seat | None, reason: str) -> None:
        """The connection's socket is closed."""
        self._connections.discard(connection)
        if seat is not None and seat.connection is connection:
            seat.connection = None
            if seat.listener is not None:
                seat.listener.on_close(reason)

    def later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, callback)
