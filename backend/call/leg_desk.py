"""Whose leg an AGI session is that comes to a worker, and which one a leg has at present."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from backend.errors import Hangup
from backend.protocol.agi import Reply

log = logging.getLogger(__name__)


class LegSession(Protocol):
    """agi_server.ThreadedAgi."""

    env: dict[str, str]

    def command(self, command: str, *args: object, timeout_s: float) -> Reply: ...
    def poll_hangup(self) -> None: ...
    def wait_over(self) -> None: ...
    def abort(self, why: str) -> None: ...


class Expected(Protocol):
    """legs.Leg."""

    id: str

    def serve(self, session: LegSession) -> None: ...


class LegDesk:
    """A worker's legs: whose is the AGI session that comes. Thread-safe.

    ``address``: host:port of the worker's FastAGI server for legs, as Asterisk reaches it.
    """

    def __init__(self, address: str = "") -> None:
        self.address = address
        self._lock = threading.Lock()
        self._legs: dict[str, Expected] = {}

    def expect(self, leg: Expected) -> None:
        with self._lock:
            self._legs[leg.id] = leg

    def forget(self, leg: Expected) -> None:
        with self._lock:
            self._legs.pop(leg.id, None)

    @property
    def legs(self) -> int:
        """Legs that are dialled, parked or bridged."""
        with self._lock:
            return len(self._legs)

    def serve(self, session: LegSession) -> None:
        """In the session's own thread: until it is over."""
        uniqueid = session.env.get("agi_uniqueid", "")
        with self._lock:
            leg = self._legs.get(uniqueid)
        if leg is None:
            log.warning("FastAGI for legs: nobody waits for %.60r: it is hung up", uniqueid)
        else:
            leg.serve(session)


class LegAgi:
    """The session that a leg has at present: none before its answer, while it is bridged, after
    its end. Implements call.Agi."""

    def __init__(self) -> None:
        self.session: LegSession | None = None

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        return self._here().command(command, *args, timeout_s=timeout_s)

    def poll_hangup(self) -> None:
        self._here().poll_hangup()

    def _here(self) -> LegSession:
        session = self.session
        if session is None:
            raise Hangup("the leg has hung up")
        return session
