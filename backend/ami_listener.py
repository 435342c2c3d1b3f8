"""AMI: the connection to Asterisk, on a thread of its own.

``ami_manager.py`` holds what runs on that thread, ``ami_events.py`` the log of events, which is a
listener of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from uuid import uuid4

from backend.ami_manager import (
    SEND_TIMEOUT_S,
    Account,
    Listener,
    MendedManager,
    OnReply,
    Pending,
    Timing,
)
from backend.errors import AsteriskError, AsteriskUnavailable, CommandTimeout
from backend.ports import AmiReply
from backend.protocol.ami import serialize

__all__ = ["Account", "AmiConnection", "Listener", "Timing"]

log = logging.getLogger(__name__)


class AmiConnection:
    """A connection to Asterisk that mends itself. Implements ``ports.Ami``; thread-safe.

    Owns the thread ``name``: ``start`` it, ``stop`` it. Raises BadRequest for a user name or a
    secret that AMI cannot carry.
    """

    def __init__(
        self,
        account: Account,
        *,
        listeners: Sequence[Listener] = (),
        name: str = "ami",
        timing: Timing | None = None,
    ) -> None:
        serialize("Login", {"Username": account.user, "Secret": account.secret}, "1")
        self.where = f"{account.host}:{account.port}"
        self._account = account
        self._timing = timing or Timing()
        self._listeners = tuple(listeners)
        self._id_prefix = uuid4().hex[:12]
        self._ids = itertools.count(1)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._manager: MendedManager | None = None
        self._stop: asyncio.Event | None = None

    @property
    def connected(self) -> bool:
        """Logged in and FullyBooted seen."""
        return self._manager is not None and self._manager.connected

    @property
    def last_error(self) -> str | None:
        """Why the last connection was lost or not made; None while connected."""
        return self._manager.last_error if self._manager else "not started"

    @property
    def clock_skew_s(self) -> float | None:
        """Asterisk's clock minus ours, from the last ping; None before the first."""
        return self._manager.clock_skew_s if self._manager else None

    # --- for its owner -----------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; returns at once, whether Asterisk is there or not."""
        self._thread.start()
        if not self._started.wait(self._timing.stop_s):
            raise AsteriskUnavailable("the AMI thread did not start")

    def stop(self) -> None:
        """Log off, fail what is pending, join the thread."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has just closed
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(self._timing.stop_s)
            if self._thread.is_alive():
                log.error("AMI %s: the thread did not end in %g s", self.where, self._timing.stop_s)

    # --- ports.Ami ---------------------------------------------------------------------------

    def action(
        self, name: str, headers: Mapping[str, str | list[str]], *, timeout_s: float = 5.0
    ) -> AmiReply:
        """Send one action and wait for its whole answer; see ``ports.Ami``."""
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError("action() would block the AMI thread: use send()")
        waiting: Future[AmiReply | AsteriskError] = Future()
        self._send(name, headers, waiting.set_result, timeout_s)
        try:
            reply = waiting.result(timeout_s + 1)
        except TimeoutError:
            raise CommandTimeout(f"{name}: the AMI thread hangs") from None
        if isinstance(reply, AsteriskError):
            raise reply
        return reply

    def send(self, name: str, headers: Mapping[str, str | list[str]], on_reply: OnReply) -> None:
        """The same without waiting; see ``ports.Ami``. An ActionID in ``headers`` is used."""
        self._send(name, headers, on_reply, SEND_TIMEOUT_S)

    def _send(
        self,
        name: str,
        headers: Mapping[str, str | list[str]],
        on_reply: OnReply,
        timeout_s: float,
    ) -> None:
        rest = dict(headers)
        given = rest.pop("ActionID", None)
        action_id = given if isinstance(given, str) else self._next_id()
        data = serialize(name, rest, action_id)
        action = Pending(name, on_reply)
        try:
            if self._loop is None:
                raise RuntimeError
            self._loop.call_soon_threadsafe(self._write, action_id, data, action, timeout_s)
        except RuntimeError:  # not started, or stopped: there is no thread to answer on
            on_reply(AsteriskUnavailable(f"{name}: the AMI connection is not running"))

    def _write(self, action_id: str, data: bytes, action: Pending, timeout_s: float) -> None:
        assert self._manager is not None
        if self._manager.connected:
            self._manager.write(action_id, data, action, timeout_s)
        else:
            why = self.last_error or "not connected yet"
            self._manager.finish(action, AsteriskUnavailable(f"{action.name}: {why}"))

    # --- on the AMI thread -------------------------------------------------------------------

    def _next_id(self) -> str:
        return f"{self._id_prefix}-{next(self._ids)}"

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:
            log.exception("AMI %s: the thread died", self.where)
        finally:
            self._loop = None
            if self._manager is not None:
                self._manager.connected = False

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._manager = MendedManager(
            self._account, self._loop, self._listeners, self._timing, self._next_id
        )
        self._started.set()
        self._manager.connect()
        await self._stop.wait()
        await self._manager.shutdown()
