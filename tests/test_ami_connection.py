"""The AMI connection against a scripted Asterisk; one section per defect of panoramisk."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import monotonic, sleep
from typing import Any, Literal

import pytest
from panoramisk.ami_protocol import AMIProtocol
from panoramisk.manager import Manager

from backend.ami_listener import Account, AmiConnection, Listener, Timing
from backend.errors import AsteriskError, AsteriskUnavailable, BadRequest, CommandTimeout
from backend.ports import Ami, AmiReply
from backend.protocol.ami import Message
from tests.fakes.asterisk_ami import FakeAsterisk, Peer, block

FAST = Timing(
    connect_s=1,
    login_s=1,
    boot_log_s=0.2,
    ping_s=0.2,
    ping_answer_s=0.2,
    retry_first_s=0.02,
    retry_most_s=0.1,
)
GOOD = "s3cret"
CALM = Timing(retry_first_s=0.02, retry_most_s=0.1)


@dataclass
class Told(Listener):
    """Keeps what the connection tells."""

    events: list[Message] = field(default_factory=list)
    signs: list[str] = field(default_factory=list)
    raises: bool = False

    def opened(self) -> None:
        self.signs.append("opened")

    def received(self, events: Sequence[Message]) -> None:
        if self.raises:
            raise ValueError("a listener's mistake")
        self.events += events

    def ready(self) -> None:
        self.signs.append("ready")

    def lost(self, error: AsteriskError) -> None:
        self.signs.append(f"lost: {error}")

    def names(self) -> list[str | None]:
        return [event.event for event in self.events]


def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    deadline = monotonic() + timeout_s
    while not condition():
        assert monotonic() < deadline, "did not come true in time"
        sleep(0.005)


@pytest.fixture
def asterisk() -> Iterator[FakeAsterisk]:
    with FakeAsterisk() as fake:
        yield fake


Connect = Callable[..., tuple[AmiConnection, Told]]


@pytest.fixture
def connect(asterisk: FakeAsterisk) -> Iterator[Connect]:
    open_: list[AmiConnection] = []

    def make(
        *,
        timing: Timing = CALM,
        events: Literal["on", "calls", "off"] = "on",
        secret: str = GOOD,
        wait: bool = True,
    ) -> tuple[AmiConnection, Told]:
        told = Told()
        account = Account("127.0.0.1", asterisk.port, "dialog", secret, events)
        connection = AmiConnection(account, listeners=[told], timing=timing)
        open_.append(connection)
        connection.start()
        if wait:
            until(lambda: connection.connected)
        return connection, told

    yield make
    for connection in open_:
        connection.stop()
        assert not any(t.name == "ami" and t.is_alive() for t in threading.enumerate())


# --- what it is for -----------------------------------------------------------------------------


def test_it_is_the_port(connect: Connect) -> None:
    connection, _ = connect()
    port: Ami = connection
    assert port.connected


def test_an_action_and_its_answer(connect: Connect, asterisk: FakeAsterisk) -> None:
    connection, _ = connect()
    reply = connection.action("Ping", {})
    assert reply == AmiReply(True, "", reply.headers)
    assert reply.headers["Ping"] == "Pong"


def test_a_list_is_one_answer_and_no_event(connect: Connect, asterisk: FakeAsterisk) -> None:
    connection, told = connect()
    asterisk.channels = ["dialog-1", "dialog-2"]
    reply = connection.action("CoreShowChannels", {})
    assert [event["Uniqueid"] for event in reply.events] == ["dialog-1", "dialog-2"]
    assert "CoreShowChannel" not in told.names()


def test_an_error_is_returned_not_raised(connect: Connect) -> None:
    connection, _ = connect()
    reply = connection.action("NoSuch", {})
    assert not reply.success
    assert "Invalid/unknown command" in reply.message


def test_events_in_order(connect: Connect, asterisk: FakeAsterisk) -> None:
    _, told = connect()
    for n in range(200):
        asterisk.event("VarSet", N=str(n))
    until(lambda: len(told.events) == 201)
    assert [event.get("N") for event in told.events[1:]] == [str(n) for n in range(200)]


def test_without_events_it_hears_of_the_boot_and_switches_them_off(
    connect: Connect, asterisk: FakeAsterisk
) -> None:
    connect(events="off")
    assert asterisk.wait_for("Login").get("Events") == "system"
    assert asterisk.wait_for("Events").get("EventMask") == "off"


def test_a_voice_worker_takes_the_events_of_calls_alone(
    connect: Connect, asterisk: FakeAsterisk
) -> None:
    """A list of an action's is its answer all the same."""
    connection, told = connect(events="calls")
    assert asterisk.wait_for("Login").get("Events") == "system,call"
    asterisk.event("BridgeCreate", Uniqueid="1")
    asterisk.event("Hangup", Uniqueid="1")
    until(lambda: told.names() == ["FullyBooted", "Hangup"])
    asterisk.channels = ["dialog-1"]
    assert len(connection.action("CoreShowChannels", {}).events) == 1
    assert asterisk.count("Events") == 0, "they stay on"


def test_it_must_not_wait_on_its_own_thread(connect: Connect) -> None:
    connection, _ = connect()
    seen: list[BaseException] = []

    def from_callback(reply: AmiReply | AsteriskError) -> None:
        try:
            connection.action("Ping", {})
        except RuntimeError as error:
            seen.append(error)

    connection.send("Ping", {}, from_callback)
    until(lambda: seen)


def test_stop_fails_what_waits_and_ends_the_thread(
    connect: Connect, asterisk: FakeAsterisk
) -> None:
    connection, told = connect()
    asterisk.script("Originate", None)
    replies: list[AmiReply | AsteriskError] = []
    connection.send("Originate", {}, replies.append)
    asterisk.wait_for("Originate")
    connection.stop()
    assert isinstance(replies[0], AsteriskUnavailable)
    assert told.signs[-1].startswith("lost")
    assert not connection.connected
    connection.send("Ping", {}, replies.append)
    assert isinstance(replies[1], AsteriskUnavailable)
    connection.stop()


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(Account("h", 1, "u", "s3cret"))


def test_a_secret_that_cannot_be_sent_is_told_at_once() -> None:
    with pytest.raises(BadRequest) as refused:
        AmiConnection(Account("127.0.0.1", 1, "u", "a\nb"))
    assert refused.value.parameter == "Secret"


def test_a_host_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    connection = AmiConnection(Account("x" * 70 + ".example", 5038, "u", "s"), timing=FAST)
    connection.start()
    until(lambda: "cannot connect" in caplog.text)
    connection.stop()


# --- a refused login is silent ------------------------------------------------------------------


def test_a_refused_login_is_logged_and_tried_again(
    connect: Connect, asterisk: FakeAsterisk, caplog: pytest.LogCaptureFixture
) -> None:
    connection, told = connect(secret="wrong", wait=False)
    asterisk.wait_for("Login", 12)
    lines = [r.getMessage() for r in caplog.records if "login refused" in r.getMessage()]
    assert 1 <= len(lines) <= 3, "said at the first try and at each tenth"
    assert "Authentication failed" in lines[0]
    assert "wrong" not in caplog.text
    assert connection.last_error == "login refused: Authentication failed"
    assert told.signs == []
    asterisk.secret = "wrong"
    until(lambda: connection.connected)
    assert connection.last_error is None


# --- actions in flight are sent again -----------------------------------------------------------


def test_an_originate_is_never_sent_twice(connect: Connect, asterisk: FakeAsterisk) -> None:
    connection, _ = connect()
    asterisk.script("Originate", None)
    replies: list[AmiReply | AsteriskError] = []
    connection.send("Originate", {"ActionID": "dialog-1"}, replies.append)
    assert asterisk.wait_for("Originate").get("ActionID") == "dialog-1"
    asterisk.drop()
    until(lambda: replies)
    assert isinstance(replies[0], AsteriskUnavailable)
    asterisk.wait_for("Login", 2)
    until(lambda: connection.connected)
    connection.action("Ping", {})
    assert asterisk.count("Originate") == 1
    assert len(replies) == 1


def test_panoramisk_sends_it_twice() -> None:
    """Why: the day this fails, panoramisk is mended and the override can go."""

    async def run() -> list[Any]:
        manager = Manager(loop=asyncio.get_running_loop())
        protocol = AMIProtocol()
        protocol.connection_made(_Wire())
        protocol.factory = manager
        protocol.send({"Action": "Originate"})
        protocol.close()
        return list(manager.awaiting_actions)

    assert len(asyncio.run(run())) == 1


# --- actions sent while down are queued ---------------------------------------------------------


def test_while_down_an_action_fails_at_once(connect: Connect, asterisk: FakeAsterisk) -> None:
    asterisk.script("Login", None)
    connection, _ = connect(wait=False)
    asterisk.wait_for("Login")
    began = monotonic()
    with pytest.raises(AsteriskUnavailable):
        connection.action("Originate", {})
    assert monotonic() - began < 0.5
    sleep(0.05)
    assert asterisk.count("Originate") == 0


def test_before_start_an_action_fails() -> None:
    connection = AmiConnection(Account("127.0.0.1", 9, "u", "s"))
    with pytest.raises(AsteriskUnavailable):
        connection.action("Ping", {})
    connection.stop()


# --- ready is FullyBooted, not the login --------------------------------------------------------


def test_ready_waits_for_fully_booted(
    connect: Connect, asterisk: FakeAsterisk, caplog: pytest.LogCaptureFixture
) -> None:
    asterisk.booted = False
    connection, told = connect(timing=FAST, wait=False)
    until(lambda: told.signs == ["opened"])
    until(lambda: "no FullyBooted" in caplog.text)
    assert not connection.connected
    asterisk.event("FullyBooted", Uptime="0")
    until(lambda: connection.connected)
    assert told.signs == ["opened", "ready"]


# --- OriginateResponse counts as the answer -----------------------------------------------------


def test_originate_response_is_an_event(connect: Connect, asterisk: FakeAsterisk) -> None:
    connection, told = connect()
    reply = connection.action("Originate", {"ActionID": "dialog-1", "Async": "true"})
    assert reply.message == "Originate queued"
    asterisk.event("OriginateResponse", ActionID="dialog-1", Response="Failure", Reason="0")
    until(lambda: "OriginateResponse" in told.names())


def test_originate_response_before_the_response(connect: Connect, asterisk: FakeAsterisk) -> None:
    def answer(peer: Peer, action: Message) -> None:
        asterisk.event("OriginateResponse", ActionID=action.get("ActionID") or "", Reason="0")
        peer.reply(action, Message="Originate queued")

    asterisk.script("Originate", answer)
    connection, told = connect()
    assert connection.action("Originate", {}).success
    assert "OriginateResponse" in told.names()


# --- UTF-8 split over two segments is lost ------------------------------------------------------


def test_text_split_in_the_middle_of_a_letter(connect: Connect, asterisk: FakeAsterisk) -> None:
    _, told = connect()
    wire = block(Event="Newchannel", CallerIDName="Пётр Ильич")
    for at in range(len(wire)):
        asterisk.raw(wire[at : at + 1])
    until(lambda: "Newchannel" in told.names())
    assert told.events[-1].get("CallerIDName") == "Пётр Ильич"


def test_panoramisk_loses_it() -> None:
    seen: list[Any] = []

    async def run() -> None:
        manager = Manager(loop=asyncio.get_running_loop())
        manager.register_event("Newchannel", lambda _, event: seen.append(event))
        protocol = AMIProtocol()
        protocol.connection_made(_Wire())
        protocol.factory, protocol.encoding = manager, "utf8"
        wire = block(Event="Newchannel", CallerIDName="Я")
        cut = wire.index("Я".encode()) + 1
        protocol.data_received(wire[:cut])
        protocol.data_received(wire[cut:])

    asyncio.run(run())
    assert seen[0].get("CallerIDName") != "Я"


# --- a raising callback drops the connection ----------------------------------------------------


def test_a_raising_listener_is_logged(
    connect: Connect, asterisk: FakeAsterisk, caplog: pytest.LogCaptureFixture
) -> None:
    connection, told = connect()
    told.raises = True
    asterisk.event("Hangup")
    until(lambda: "a listener failed at received" in caplog.text)
    told.raises = False
    asterisk.event("Newchannel")
    until(lambda: "Newchannel" in told.names())
    assert connection.connected
    assert asterisk.connections == 1


def test_a_raising_reply_callback_is_logged(
    connect: Connect, asterisk: FakeAsterisk, caplog: pytest.LogCaptureFixture
) -> None:
    connection, _ = connect()

    def fails(reply: AmiReply | AsteriskError) -> None:
        raise ValueError("a caller's mistake")

    connection.send("Ping", {}, fails)
    until(lambda: "the callback of Ping failed" in caplog.text)
    assert connection.action("Ping", {}).success


# --- no deadline for an answer ------------------------------------------------------------------


def test_every_action_has_a_deadline(connect: Connect, asterisk: FakeAsterisk) -> None:
    connection, told = connect()
    asterisk.script("CoreShowChannels", None)
    began = monotonic()
    with pytest.raises(CommandTimeout, match=r"CoreShowChannels: no answer in 0\.1 s"):
        connection.action("CoreShowChannels", {}, timeout_s=0.1)
    assert monotonic() - began < 1
    # The answer comes late, and is still no event.
    action_id = asterisk.wait_for("CoreShowChannels").get("ActionID") or ""
    asterisk.raw(block(Response="Success", ActionID=action_id, EventList="start"))
    asterisk.raw(block(Event="CoreShowChannel", ActionID=action_id, Uniqueid="1"))
    asterisk.raw(block(Event="CoreShowChannelsComplete", ActionID=action_id, EventList="Complete"))
    asterisk.event("Last")
    until(lambda: "Last" in told.names())
    assert told.names() == ["FullyBooted", "Last"]


# --- header values are written as they are ------------------------------------------------------


def test_an_unsafe_header_is_refused_before_anything_is_sent(
    connect: Connect, asterisk: FakeAsterisk
) -> None:
    connection, _ = connect()
    with pytest.raises(BadRequest) as refused:
        connection.action("Originate", {"CallerID": "1\r\nAction: Command"})
    assert refused.value.parameter == "CallerID"
    with pytest.raises(BadRequest):
        connection.send("Originate", {"Application": "System"}, lambda _: None)
    connection.action("Ping", {})
    assert asterisk.count("Originate") == 0


# --- the ping's answer is not awaited -----------------------------------------------------------


def test_a_frozen_asterisk_is_noticed(connect: Connect, asterisk: FakeAsterisk) -> None:
    connection, told = connect(timing=FAST)
    asterisk.frozen.set()
    began = monotonic()
    until(lambda: not connection.connected)
    assert monotonic() - began < FAST.ping_s + FAST.ping_answer_s + 0.5
    assert "no answer to a ping" in told.signs[-1]
    asterisk.frozen.clear()
    until(lambda: connection.connected)
    assert told.signs[-2:] == ["opened", "ready"]


def test_an_asterisk_that_freezes_while_it_starts_is_noticed(
    connect: Connect, asterisk: FakeAsterisk
) -> None:
    asterisk.booted = False
    _, told = connect(timing=FAST, wait=False)
    until(lambda: told.signs == ["opened"])
    asterisk.frozen.set()
    until(lambda: len(told.signs) == 2)
    assert "no answer to a ping" in told.signs[1]


def test_by_default_within_fifteen_seconds() -> None:
    assert Timing().ping_s + Timing().ping_answer_s <= 15


def test_the_ping_tells_the_clocks_apart(connect: Connect, asterisk: FakeAsterisk) -> None:
    connection, _ = connect(timing=FAST)
    until(lambda: connection.clock_skew_s is not None)
    assert connection.clock_skew_s is not None
    assert connection.clock_skew_s < -1_000_000, "the fake says 1970"


# --- reconnects every 2 s, all clients in step --------------------------------------------------


def test_back_off_grows_with_jitter_and_ends(
    connect: Connect, asterisk: FakeAsterisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    jitters: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        jitters.append((low, high))
        return 1.0

    monkeypatch.setattr("backend.ami_manager.random.uniform", uniform)
    times: list[float] = []

    def refuse(peer: Peer, action: Message) -> None:
        times.append(monotonic())
        peer.close()

    asterisk.script("Login", refuse)
    connect(timing=Timing(retry_first_s=0.02, retry_most_s=0.08), wait=False)
    until(lambda: len(times) >= 6)
    pauses = [b - a for a, b in pairwise(times)][:5]
    for pause, wanted in zip(pauses, [0.02, 0.04, 0.08, 0.08, 0.08], strict=True):
        assert wanted <= pause < wanted + 0.3
    assert jitters[0] == (0.5, 1)


def test_no_server_at_all(caplog: pytest.LogCaptureFixture) -> None:
    connection = AmiConnection(Account("127.0.0.1", 1, "u", "s"), timing=FAST)
    connection.start()
    until(lambda: "cannot connect" in caplog.text)
    assert not connection.connected
    assert "cannot connect" in (connection.last_error or "")
    connection.stop()


def test_another_server(caplog: pytest.LogCaptureFixture, asterisk: FakeAsterisk) -> None:
    """SSH on the port, say: told in words, retried, no message lost in a buffer for ever."""
    import socketserver

    class Ssh(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            self.request.recv(1)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Ssh) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        account = Account("127.0.0.1", server.server_address[1], "u", "s")
        connection = AmiConnection(account, timing=FAST)
        connection.start()
        until(lambda: "no AMI server" in caplog.text)
        connection.stop()
        server.shutdown()
        thread.join()


def test_the_connection_comes_back(
    connect: Connect, asterisk: FakeAsterisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    connection, told = connect()
    for n in range(2, 5):
        asterisk.drop()
        asterisk.wait_for("Login", n)
        until(lambda: connection.connected and connection.last_error is None)
    assert told.signs.count("ready") == 4
    assert sum(sign.startswith("lost") for sign in told.signs) == 3


class _Wire:
    """A transport that panoramisk can write to."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...
