"""FastAGI server: a thread per call, on pyst2's AGI with its defects mended.

What pyst2 0.5.1 does wrong and ``ThreadedAgi`` does right, each held by a test:
signal handlers outside the main thread, binary streams, EOF and ``HANGUP`` lines, ``511`` and
``100 Trying``, values of several lines, quoting, and the log of every line on stderr.
"""

from __future__ import annotations

import ipaddress
import logging
import select
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from urllib.parse import unquote, urlsplit

from asterisk.agi import AGI

from backend.errors import (
    AsteriskUnavailable,
    BadRequest,
    CommandRefused,
    CommandTimeout,
    Hangup,
)
from backend.protocol import agi as wire

log = logging.getLogger(__name__)

DEFAULT_COMMAND_S = 30.0
ENVIRONMENT_S = 5.0
LOOK_MS = 60_000


class LineSocket:
    """Lines over a socket with deadlines. One thread uses it; ``abort`` may come from any."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()

    def read_line(self, deadline: float) -> str:
        """The next line without its end. Raises CommandTimeout at ``deadline`` (monotonic),
        EOFError when the peer has closed, BadRequest for an endless line."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > wire.MAX_REPLY_BYTES:
                raise BadRequest("AGI line", f"over {wire.MAX_REPLY_BYTES} bytes without an end")
            self._receive(deadline)
        line = self._buffer[:end].rstrip(b"\r").decode("utf-8", "replace")
        del self._buffer[: end + 1]
        return line

    def _receive(self, deadline: float) -> None:
        remaining = deadline - monotonic()
        if remaining <= 0:
            raise CommandTimeout("no answer from Asterisk within the deadline")
        self._socket.settimeout(remaining)
        try:
            data = self._socket.recv(4096)
        except TimeoutError:
            raise CommandTimeout("no answer from Asterisk within the deadline") from None
        except OSError as error:
            raise EOFError(str(error)) from None
        if not data:
            raise EOFError("Asterisk closed the AGI connection")
        self._buffer += data

    def write(self, data: bytes, deadline: float) -> None:
        """Raises EOFError when the peer is gone, CommandTimeout when it does not take it."""
        self._socket.settimeout(max(deadline - monotonic(), 0.001))
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise CommandTimeout("Asterisk does not take the command") from None
        except OSError as error:
            raise EOFError(str(error)) from None

    def pending_lines(self) -> list[str]:
        """Whole lines that have already arrived; never waits. Raises EOFError when the peer has
        closed, but not before its last lines were returned."""
        lines: list[str] = []
        while self._buffer or select.select([self._socket], [], [], 0)[0]:
            try:
                lines.append(self.read_line(monotonic() + 0.05))
            except CommandTimeout:
                break
            except EOFError:
                if lines:
                    break
                raise
        return lines

    def wait_over(self) -> None:
        """Until the peer has closed, or ``abort``; reads nothing, so another thread may."""
        watched = select.poll()
        watched.register(self._socket, select.POLLRDHUP)
        while not watched.poll(LOOK_MS):
            pass

    def abort(self) -> None:
        """End every wait at once; the next read or write raises EOFError."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("AGI connection was already closed")

    def close(self) -> None:
        self._socket.close()


class ThreadedAgi(AGI):  # type: ignore[misc]  # pyst2 has no types
    """One AGI session. ``env`` holds the environment, as untrusted as the caller's name.

    Used by its own thread only; ``abort`` may be called from any. After a hangup every
    command raises Hangup. All of pyst2's command methods work through ``execute``.
    """

    def __init__(self, connection: socket.socket) -> None:
        # pyst2's own __init__ installs a signal handler and reads from stdin: not called.
        self._lines = LineSocket(connection)
        self._hung_up: str | None = None
        self.asterisk_lost = False
        self.aborted: str | None = None  # why we ended it ourselves
        self.began = monotonic()
        self.env: dict[str, str] = {}
        self._get_agi_env()

    def _get_agi_env(self) -> None:
        deadline = monotonic() + ENVIRONMENT_S
        for _ in range(wire.MAX_ENV_LINES):
            try:
                line = self._lines.read_line(deadline)
            except EOFError:
                raise AsteriskUnavailable("closed before the AGI environment ended") from None
            if not line.strip():
                return
            key, value = wire.parse_environment_line(line)
            self.env[key] = value
        raise BadRequest("AGI environment", f"more than {wire.MAX_ENV_LINES} lines")

    def _quote(self, string: object) -> str:
        return str(string)  # ``execute`` quotes every argument itself

    def execute(
        self, command: str, *args: object, timeout_s: float = DEFAULT_COMMAND_S
    ) -> dict[str, tuple[str, str]]:
        """Send one command and wait for its result, in pyst2's form: ``{"result": (value, data),
        "endpos": (value, "")}``.

        Raises Hangup, CommandTimeout, CommandRefused (510, 520, unknown codes, result -1).
        """
        reply = self.command(command, *args, timeout_s=timeout_s)
        values = {"result": (reply.result, reply.data or "")}
        values.update({key: (value, "") for key, value in reply.extra.items()})
        if reply.result == "-1":
            raise CommandRefused(f"{command}: Asterisk answered {reply.text!r}")
        return values

    def command(self, command: str, *args: object, timeout_s: float) -> wire.Reply:
        """As ``execute``, but the reply as parsed; a result of -1 is returned."""
        self.test_hangup()
        line = wire.command_line(command, *args)
        deadline = monotonic() + timeout_s
        try:
            for leftover in self._lines.pending_lines():
                self._note(leftover)
            self.test_hangup()
            self._lines.write(line, deadline)
            reply = self._read_reply(deadline)
        except EOFError as error:
            self._lost(str(error))
        except CommandTimeout as timeout:
            raise CommandTimeout(f"{command}: {timeout} ({timeout_s:g} s)") from None
        return self._judge(command, reply)

    def _judge(self, command: str, reply: wire.Reply) -> wire.Reply:
        if reply.code == wire.DEAD_CHANNEL_CODE or reply.data == "hangup":
            self._hung_up = "the channel is gone"
        self.test_hangup()
        if reply.code != wire.OK_CODE:
            raise CommandRefused(f"{command}: Asterisk answered {reply.code} {reply.text[:200]!r}")
        return reply

    def _read_reply(self, deadline: float) -> wire.Reply:
        while True:
            lines = [self._lines.read_line(deadline)]
            if not lines[0].strip() or self._note(lines[0]):
                continue
            while wire.continues(lines):
                lines.append(self._lines.read_line(deadline))
            reply = wire.parse_reply(lines)
            if reply.code != wire.TRYING_CODE:
                return reply

    def _note(self, line: str) -> bool:
        """Whether the line was the note of a hangup, which may come at any time."""
        if line != wire.HANGUP_LINE:
            return False
        self._hung_up = "the other side hung up"
        return True

    def _lost(self, why: str) -> None:
        if self._hung_up is None:
            self.asterisk_lost = self.aborted is None
            self._hung_up = f"AGI connection lost: {why}"
        raise Hangup(self._hung_up)

    def test_hangup(self) -> None:
        """Raises Hangup once the channel is known to be gone."""
        if self._hung_up is not None:
            raise Hangup(self._hung_up)

    def poll_hangup(self) -> None:
        """Look, without waiting, whether a hangup has been told meanwhile. Raises Hangup."""
        try:
            for line in self._lines.pending_lines():
                self._note(line)
        except EOFError as error:
            self._lost(str(error))
        self.test_hangup()

    def wait_over(self) -> None:
        """Until Asterisk has closed it, or ``abort``. For a thread that does not use it."""
        self._lines.wait_over()

    def abort(self, why: str) -> None:
        """End the session from outside: every command raises Hangup from now on."""
        self.aborted = why
        self._lines.abort()

    def close(self) -> None:
        self._lines.close()


def request_of(env: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Scenario name and parameters of ``agi://host:port/survey?key=value`` (agi_request)."""
    parts = urlsplit(env.get("agi_request", ""))
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    return unquote(parts.path.strip("/")), {unquote(k): unquote(v) for k, _, v in pairs}


def listen(host: str, port: int) -> socket.socket:
    """The listening socket. Several workers share a port: the kernel spreads the calls.

    Raises OSError with the address in its text.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
    listener.listen(256)
    return listener


class AgiServer:
    """Accepts FastAGI connections and runs ``on_call(agi)`` in a thread of its own for each.

    At most ``max_calls`` at once: one more is closed, so the dialplan's fall-back speaks. The
    threads are called ``<name>-1``, ``<name>-2``, …, and ``agi-accept``.
    ``on_call`` must not raise; what it raises is logged.
    """

    def __init__(
        self,
        listener: socket.socket,
        on_call: Callable[[ThreadedAgi], None],
        *,
        max_calls: int,
        allow: Sequence[str] = ("127.0.0.0/8", "::1/128"),
        name: str = "call",
    ) -> None:
        self._name = name
        self._listener = listener
        self._on_call = on_call
        self._max_calls = max_calls
        self._allow = [ipaddress.ip_network(network) for network in allow]
        self._lock = threading.Lock()
        self._calls: dict[threading.Thread, ThreadedAgi | None] = {}
        self._stopping = threading.Event()
        self._number = 0
        self._acceptor = threading.Thread(target=self._accept, name="agi-accept")

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def calls(self) -> int:
        """Calls in progress."""
        with self._lock:
            return len(self._calls)

    def start(self) -> None:
        self._acceptor.start()

    def drain(self, timeout_s: float) -> None:
        """Take no new call, let those in progress end, cut those that have not by then."""
        self._stopping.set()
        # shutdown() wakes a blocked accept(); close() alone does not.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("the AGI listener was already down")
        self._acceptor.join()
        self._listener.close()
        deadline = monotonic() + timeout_s
        with self._lock:
            running = dict(self._calls)
        for thread in running:
            thread.join(max(deadline - monotonic(), 0))
        for thread, agi in running.items():
            if thread.is_alive() and agi is not None:
                log.warning("%s did not end in time: its AGI connection is cut", thread.name)
                agi.abort("the backend was stopped")
            thread.join(5)

    def cut_older(self, age_s: float) -> None:
        """End the calls that have lasted longer; the dialplan's fall-back takes the caller."""
        limit = monotonic() - age_s
        with self._lock:
            running = dict(self._calls)
        for thread, agi in running.items():
            if agi is not None and agi.began < limit and agi.aborted is None:
                log.error("%s has lasted longer than %g s: it is ended", thread.name, age_s)
                agi.abort(f"ended after max_call_s={age_s:g} s")

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, peer = self._listener.accept()
            except OSError as error:
                if not self._stopping.is_set():
                    log.error("FastAGI: accept failed: %s", error)
                    self._stopping.wait(0.1)  # out of descriptors: not a busy loop
                continue
            if self._admitted(peer):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._start_call(connection)
            else:
                connection.close()

    def _admitted(self, peer: tuple[object, ...]) -> bool:
        address = ipaddress.ip_address(str(peer[0]))
        if not any(address in network for network in self._allow):
            log.warning("FastAGI: %s refused: not in agi_allow", address)
            return False
        if self.calls >= self._max_calls:
            log.error("FastAGI: a call refused: max_calls=%d are in progress", self._max_calls)
            return False
        return True

    def _start_call(self, connection: socket.socket) -> None:
        self._number += 1
        thread = threading.Thread(
            target=self._run, args=(connection,), name=f"{self._name}-{self._number}", daemon=True
        )
        with self._lock:
            self._calls[thread] = None
        try:
            thread.start()
        except RuntimeError as error:
            log.error("FastAGI: no thread for a call: %s", error)
            connection.close()
            with self._lock:
                del self._calls[thread]

    def _run(self, connection: socket.socket) -> None:
        me = threading.current_thread()
        try:
            agi = ThreadedAgi(connection)
            with self._lock:
                self._calls[me] = agi
            self._on_call(agi)
        except (BadRequest, AsteriskUnavailable, CommandTimeout) as error:
            log.warning("FastAGI: not an AGI session: %s", error)
        except Exception:
            log.exception("FastAGI: a call ended with an error that nobody handled")
        finally:
            connection.close()
            with self._lock:
                self._calls.pop(me, None)
