"""A scripted AMI server: Asterisk's side of a connection, with its faults at will.

    with FakeAsterisk() as asterisk:
        … connect to 127.0.0.1:asterisk.port as dialog / s3cret …
        asterisk.event("Hangup", Uniqueid="1")

Unknown actions are refused as Asterisk does. ``script(action, answer)`` replaces what an action
gets: a function of the peer and the action's headers, or None for silence.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType

from backend.protocol.ami import Message, parse

Answer = Callable[["Peer", Message], None]


def block(**headers: str | list[str]) -> bytes:
    lines = [
        f"{name.replace('_', '-')}: {item}"
        for name, value in headers.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Peer:
    """One client that is connected."""

    def __init__(self, asterisk: FakeAsterisk, sock: socket.socket) -> None:
        self.asterisk = asterisk
        self.sock = sock

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self, action: Message, response: str = "Success", **headers: str) -> None:
        """A response that bears the action's id."""
        given = {"Response": response, "ActionID": action.get("ActionID") or "", **headers}
        self.raw(block(**given))

    def close(self) -> None:
        with suppress(OSError):  # it is gone already
            self.sock.shutdown(socket.SHUT_RDWR)


class FakeAsterisk:
    """Listens on a free port of the loopback until the ``with`` ends."""

    def __init__(self, *, booted: bool = True) -> None:
        self.secret = "s3cret"
        self.booted = booted
        self.channels: list[str] = []  # unique ids that CoreShowChannels tells
        self.actions: list[Message] = []
        self.connections = 0
        self.frozen = threading.Event()  # set: reads and never answers
        self._scripts: dict[str, Answer | None] = {
            "login": _login,
            "ping": lambda peer, action: peer.reply(action, Ping="Pong", Timestamp="1000.5"),
            "events": lambda peer, action: peer.reply(action, Events="Off"),
            "logoff": lambda peer, action: peer.reply(action, "Goodbye"),
            "coreshowchannels": _channels,
            "originate": lambda peer, action: peer.reply(action, Message="Originate queued"),
        }
        self._peers: list[Peer] = []
        self._seen = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, name="fake-ami", daemon=True)]

    def __enter__(self) -> FakeAsterisk:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # ends accept(); close() would not
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(5)

    def script(self, action: str, answer: Answer | None) -> None:
        self._scripts[action.lower()] = answer

    def event(self, name: str, **headers: str | list[str]) -> None:
        self.raw(block(Event=name, Privilege="call,all", **headers))

    def raw(self, data: bytes) -> None:
        """To every client that is connected."""
        for peer in list(self._peers):
            peer.raw(data)

    def drop(self) -> None:
        """Close every connection."""
        for peer in list(self._peers):
            peer.close()

    def count(self, action: str) -> int:
        return sum(
            1 for seen in self.actions if (seen.get("Action") or "").lower() == action.lower()
        )

    def wait_for(self, action: str, count: int = 1, timeout_s: float = 5.0) -> Message:
        """The last such action, when ``count`` of them came."""
        deadline = monotonic() + timeout_s
        with self._seen:
            while self.count(action) < count:
                left = deadline - monotonic()
                assert left > 0, f"{self.count(action)} of {count} × {action} in {timeout_s} s"
                self._seen.wait(left)
        return [m for m in self.actions if (m.get("Action") or "").lower() == action.lower()][-1]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(
                target=self._serve, args=(sock,), name="fake-ami", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        peer = Peer(self, sock)
        self._peers.append(peer)
        rest = b""
        try:
            peer.raw(b"Asterisk Call Manager/5.0.4\r\n")
            while data := sock.recv(65536):
                *blocks, rest = (rest + data).split(b"\r\n\r\n")
                for text in blocks:
                    self._take(peer, parse(text.decode()))
        except OSError:
            pass  # the client left, or drop()
        finally:
            self._peers.remove(peer)
            sock.close()

    def _take(self, peer: Peer, action: Message) -> None:
        with self._seen:
            self.actions.append(action)
            self._seen.notify_all()
        if self.frozen.is_set():
            return
        name = (action.get("Action") or "").lower()
        if name not in self._scripts:
            peer.reply(action, "Error", Message=f"Invalid/unknown command: {name}")
        elif (answer := self._scripts[name]) is not None:
            answer(peer, action)


def _login(peer: Peer, action: Message) -> None:
    if action.get("Secret") != peer.asterisk.secret:
        peer.reply(action, "Error", Message="Authentication failed")
        peer.close()
        return
    peer.reply(action, Message="Authentication accepted")
    if peer.asterisk.booted:
        peer.raw(
            block(Event="FullyBooted", Privilege="system,all", Uptime="100", Status="Fully Booted")
        )


def _channels(peer: Peer, action: Message) -> None:
    action_id = action.get("ActionID") or ""
    peer.reply(action, EventList="start", Message="Channels will follow")
    for uniqueid in peer.asterisk.channels:
        peer.raw(block(Event="CoreShowChannel", ActionID=action_id, Uniqueid=uniqueid))
    peer.raw(block(Event="CoreShowChannelsComplete", ActionID=action_id, EventList="Complete"))
