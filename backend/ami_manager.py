"""panoramisk's AMI manager, mended. All of it runs on the AMI thread (ami_listener.py).

These defects of panoramisk 1.4 have a test each in tests/test_ami_connection.py:

==============================================  =================================================
panoramisk                                      here
==============================================  =================================================
a refused login is silent                       logged, again every tenth try; retried
actions in flight are sent again after a        they fail with AsteriskUnavailable, once; an
reconnection: an Originate dials twice          Originate is never repeated
actions sent while down are queued              they fail at once
"ready" is the login                            ready is FullyBooted: before it Asterisk answers
                                                "Extension does not exist" to a good Originate
OriginateResponse counts as the answer          it is an event like others
UTF-8 split over two segments is lost           messages are cut from bytes, then decoded
a raising callback drops the connection         it is logged
no deadline for an answer                       every action has one
header values are written as they are           protocol.ami.serialize refuses what is unsafe
the ping's answer is not awaited                an Asterisk that is frozen is noticed in 10 s
reconnects every 2 s, all clients in step       exponential back-off with jitter
==============================================  =================================================

Asterisk drops a client that does not read for ``writetimeout`` (100 ms by default), so the thread
only reads, hands over and writes a few short actions: no callback may block it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from panoramisk.ami_protocol import AMIProtocol
from panoramisk.manager import Manager

from backend.errors import AsteriskError, AsteriskUnavailable, CommandTimeout
from backend.ports import AmiReply
from backend.protocol.ami import Answer, Headers, Message, MessageReader, serialize

log = logging.getLogger(__name__)

MAX_PENDING = 1000  # actions without an answer; one more fails with AsteriskUnavailable
SEND_TIMEOUT_S = 5.0
LOG_EVERY = 10  # of the tries in a row that fail

# What legs, bridges, transfers and conferences are followed by (call/leg_dialling.py, bridge.py,
# conference.py). A voice worker takes no other event: the rest of a busy PBX is not even parsed.
CALL_EVENTS = frozenset(
    {
        "FullyBooted",
        "Newchannel",
        "Newstate",
        "OriginateResponse",
        "Hangup",
        "DialEnd",
        "BridgeEnter",
        "ConfbridgeJoin",
        "ConfbridgeLeave",
    }
)
EVENT_MASKS = {"on": "on", "calls": "system,call", "off": "system"}

OnReply = Callable[[AmiReply | AsteriskError], None]


@dataclass(frozen=True, slots=True)
class Account:
    """Where Asterisk is and who logs in. ``events``: "on" — all that the manager user may read;
    "calls" — CALL_EVENTS alone (voice workers); "off" — none."""

    host: str
    port: int
    user: str
    secret: str = field(repr=False)
    events: Literal["on", "calls", "off"] = "on"


@dataclass(frozen=True, slots=True)
class Timing:
    """Deadlines, all in seconds. A frozen Asterisk is noticed after ping_s + ping_answer_s."""

    connect_s: float = 5.0
    login_s: float = 5.0
    boot_log_s: float = 10.0  # how often to say that FullyBooted has not come yet
    ping_s: float = 5.0
    ping_answer_s: float = 5.0
    retry_first_s: float = 0.25
    retry_most_s: float = 5.0
    stop_s: float = 5.0


class Listener(Protocol):
    """What a connection tells. All methods run on the AMI thread and must not block. A subclass
    overrides what it wants to hear."""

    def opened(self) -> None:
        """Logged in: events flow from now on."""

    def received(self, events: Sequence[Message]) -> None:
        """Events, in Asterisk's order; those that answer an action of ours are not among them."""

    def ready(self) -> None:
        """FullyBooted was seen: actions are possible."""

    def lost(self, error: AsteriskError) -> None:
        """The connection that was ``opened`` is gone."""


class MendedProtocol(AMIProtocol):  # type: ignore[misc]  # panoramisk has no types
    """panoramisk's protocol; reading, answering and closing are the manager's."""

    def __init__(self, manager: MendedManager) -> None:
        self._manager = manager
        wanted = CALL_EVENTS if manager.account.events == "calls" else None
        self._reader = MessageReader(wanted)

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.factory = self._manager
        self._manager.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except AsteriskError as error:
            self._manager.drop(self, error)
            return
        self.version = self._reader.version
        if messages:
            self._manager.received(self, messages)

    def connection_lost(self, exc: Exception | None) -> None:
        why = f": {exc}" if exc else ""
        self._manager.drop(self, AsteriskUnavailable(f"Asterisk closed the AMI connection{why}"))

    def close(self) -> None:
        self.closed = True
        self.transport.abort()


class Pending:
    """An action that waits for its answer. ``expired``: nobody waits any more, but what comes of
    it is still an answer, and no event."""

    __slots__ = ("answer", "expired", "name", "on_reply", "timer")

    def __init__(self, name: str, on_reply: OnReply) -> None:
        self.name = name
        self.on_reply = on_reply
        self.answer = Answer()
        self.expired = False
        self.timer: asyncio.TimerHandle | None = None


class MendedManager(Manager):  # type: ignore[misc]  # panoramisk has no types
    """panoramisk's manager; everything here runs on the AMI thread."""

    protocol: Any  # MendedProtocol, None while there is no connection

    def __init__(
        self,
        account: Account,
        loop: asyncio.AbstractEventLoop,
        listeners: Sequence[Listener],
        timing: Timing,
        next_id: Callable[[], str],
    ) -> None:
        super().__init__(
            loop=loop,
            host=account.host,
            port=account.port,
            protocol_factory=functools.partial(MendedProtocol, self),
            forgetable_actions=(),
        )
        self.account = account
        self.where = f"{account.host}:{account.port}"
        self.connected = False
        self.last_error: str | None = None
        self.clock_skew_s: float | None = None
        self.timing = timing
        self._listeners = tuple(listeners)
        self._next_id = next_id
        self._pending: dict[str, Pending] = {}
        self._tries = 0  # since the connection was last ready
        self._logged_in = False
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None  # the next try or the next ping
        self._boot_timer: asyncio.TimerHandle | None = None  # while FullyBooted is awaited
        self._connecting: asyncio.Task[None] | None = None

    # --- the connection's life ---------------------------------------------------------------

    def connect(self, *_: Any, **__: Any) -> None:
        self._connecting = self.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self.timing.connect_s):
                await self.loop.create_connection(
                    self.config["protocol_factory"], self.config["host"], self.config["port"]
                )
        except (OSError, UnicodeError) as error:  # UnicodeError: the host is no host name
            self._retry(AsteriskUnavailable(f"cannot connect: {error or 'no answer'}"))

    def opened(self, protocol: MendedProtocol) -> None:
        self.drop(self.protocol, AsteriskUnavailable("another connection took its place"))
        self._cancel_timers()
        self.protocol = protocol
        # Without events no FullyBooted comes, and it is of class system.
        mask = EVENT_MASKS[self.account.events]
        login = {"Username": self.account.user, "Secret": self.account.secret, "Events": mask}
        self.submit("Login", login, self._login_answered, timeout_s=self.timing.login_s)

    def _login_answered(self, reply: AmiReply | AsteriskError) -> None:
        if isinstance(reply, AsteriskError):
            self.drop(self.protocol, reply)
        elif not reply.success:
            self.drop(self.protocol, AsteriskUnavailable(f"login refused: {reply.message}"))
        else:
            self._logged_in = True
            self._tell("opened")
            self._boot_timer = self.loop.call_later(self.timing.boot_log_s, self._not_booted)
            self._later(self.timing.ping_s, self.ping)

    def _not_booted(self) -> None:
        log.warning(
            "AMI %s: logged in, but no FullyBooted: Asterisk is still starting, or manager user %s"
            " has no read=system",
            self.where,
            self.account.user,
        )
        self._boot_timer = self.loop.call_later(self.timing.boot_log_s, self._not_booted)

    def _booted(self) -> None:
        if self.connected or not self._logged_in:
            return
        if self.account.events == "off":
            self.submit("Events", {"EventMask": "off"}, lambda _: self._ready())
        else:
            self._ready()

    def _ready(self) -> None:
        if not self._logged_in:
            return
        if self._boot_timer is not None:
            self._boot_timer.cancel()
        self._tries = 0
        self.connected = True
        self.last_error = None
        version = self.protocol.version
        log.info("AMI %s: ready as %s, protocol %s", self.where, self.account.user, version)
        self._tell("ready")

    def ping(self) -> None:
        sent_at = time.time()

        def answered(reply: AmiReply | AsteriskError) -> None:
            if isinstance(reply, AsteriskError):
                self.drop(self.protocol, AsteriskUnavailable(f"no answer to a ping: {reply}"))
                return
            with contextlib.suppress(KeyError, ValueError):
                middle = (sent_at + time.time()) / 2
                self.clock_skew_s = float(reply.headers["Timestamp"]) - middle
            self._later(self.timing.ping_s, self.ping)

        self.submit("Ping", {}, answered, timeout_s=self.timing.ping_answer_s)

    def drop(self, protocol: MendedProtocol | None, error: AsteriskError) -> None:
        """Give the connection up and try again; does nothing for one that is given up already."""
        if protocol is None or protocol is not self.protocol:
            return
        self.protocol = None
        protocol.close()
        self._cancel_timers()
        was_open, self._logged_in = self._logged_in, False
        pending, self._pending = self._pending, {}
        self.connected = False
        for action in pending.values():
            self.finish(action, AsteriskUnavailable(f"{action.name}: {error}"))
        if was_open:
            self._tell("lost", error)
        self._retry(error)

    def _retry(self, error: AsteriskError) -> None:
        self.last_error = str(error)
        if self._stopping:
            return
        longest = self.timing.retry_first_s * 2 ** min(self._tries, 16)
        pause = min(self.timing.retry_most_s, longest) * random.uniform(0.5, 1)  # noqa: S311
        if self._tries % LOG_EVERY == 0:
            log.error(
                "AMI %s: %s (try %d; next in %.1f s; logged every %d tries)",
                self.where,
                error,
                self._tries + 1,
                pause,
                LOG_EVERY,
            )
        self._tries += 1
        self._later(pause, self.connect)

    async def shutdown(self) -> None:
        """Log off and close. What is pending fails."""
        self._stopping = True
        self._cancel_timers()
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
        if self.protocol is not None:
            self.protocol.transport.write(serialize("Logoff", {}, "logoff"))
            self.drop(self.protocol, AsteriskUnavailable("the AMI connection was stopped"))
        await asyncio.sleep(0)  # lets the transport call connection_lost

    def _later(self, delay_s: float, what: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._stopping:
            self._timer = self.loop.call_later(delay_s, what)

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._boot_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._boot_timer = None

    def _tell(self, what: str, *args: Any) -> None:
        for listener in self._listeners:
            try:
                getattr(listener, what)(*args)
            except Exception:
                log.exception("AMI %s: a listener failed at %s", self.where, what)

    # --- actions and messages ----------------------------------------------------------------

    def submit(
        self, name: str, headers: Headers, on_reply: OnReply, timeout_s: float = SEND_TIMEOUT_S
    ) -> None:
        """One of the connection's own actions."""
        action_id = self._next_id()
        data = serialize(name, headers, action_id)
        self.write(action_id, data, Pending(name, on_reply), timeout_s)

    def write(self, action_id: str, data: bytes, action: Pending, timeout_s: float) -> None:
        if action_id in self._pending or len(self._pending) >= MAX_PENDING:
            why = f"{len(self._pending)} actions wait for an answer, or ActionID is in use"
            self.finish(action, AsteriskUnavailable(f"{action.name}: {why}"))
            return
        self._pending[action_id] = action
        action.timer = self.loop.call_later(timeout_s, self._expire, action, timeout_s)
        self.protocol.transport.write(data)

    def _expire(self, action: Pending, timeout_s: float) -> None:
        action.timer = None
        self.finish(action, CommandTimeout(f"{action.name}: no answer in {timeout_s:g} s"))

    def finish(self, action: Pending, reply: AmiReply | AsteriskError) -> None:
        if action.timer is not None:
            action.timer.cancel()
        if action.expired:
            return
        action.expired = True
        try:
            action.on_reply(reply)
        except Exception:
            log.exception("AMI %s: the callback of %s failed", self.where, action.name)

    def received(self, protocol: MendedProtocol, messages: Sequence[Message]) -> None:
        if protocol is not self.protocol:
            return  # given up already
        events: list[Message] = []
        booted = False
        for message in messages:
            action_id = message.headers.get("ActionID")
            action = self._pending.get(action_id) if isinstance(action_id, str) else None
            if action is not None and action.answer.takes(message):
                self._add(str(action_id), action, message)
            elif message.event is not None:
                events.append(message)
                booted = booted or message.event == "FullyBooted"
        if events:
            self._tell("received", events)
        if booted and self.protocol is protocol:
            self._booted()

    def _add(self, action_id: str, action: Pending, message: Message) -> None:
        try:
            if not action.answer.add(message):
                return
        except AsteriskError as error:
            self.drop(self.protocol, error)
            return
        del self._pending[action_id]
        response = action.answer.response
        assert response is not None
        reply = AmiReply(
            success=response.get("Response") in ("Success", "Follows", "Goodbye"),
            message=response.get("Message") or "",
            headers=response.flat(),
            events=tuple(event.flat() for event in action.answer.events),
        )
        self.finish(action, reply)
