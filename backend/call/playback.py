"""How a prompt ends; and the way of Asterisk's own sounds, and of every prompt where the fork
takes no audio: one file at a time, played by Asterisk, stopped through AMI.

The race this module is about (measured on Asterisk 16.28): ControlPlayback only queues a
control frame on the channel. Sent while the prompt runs it ends it within a millisecond; sent
just before the prompt begins it may be swallowed; sent just after its end it stays queued and
kills the next prompt. So a stop is sent only between command and result, repeated while the
prompt goes on, and after the result every queued frame that stopped nothing is read off the
channel.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Literal, Protocol

from backend.errors import AsteriskError, CommandRefused
from backend.ports import Ami, AmiReply
from backend.protocol.agi import Reply

log = logging.getLogger(__name__)

REPEAT_STOP_S = 0.1
STOP_REPLY_S = 1.0
DRAIN_MS = 60
ALL_KEYS = "0123456789*#ABCD"
NO_KEY = "x"  # never pressed: "" would mean '#' (forward) and '*' (rewind)


class PlayEnd(StrEnum):
    """How a prompt ended. LOST: the way to Asterisk broke and the rest could not be played."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Played:
    """``end_ms``: how much of the prompt was played. ``by``: what interrupted it. ``error``: why
    the prompt of ``on_error`` was played instead."""

    end: PlayEnd
    end_ms: int
    by: Literal["voice", "words", "keys", "cancel"] | None = None
    error: str | None = None


class Commands(Protocol):
    """The AGI session as playback needs it."""

    def command(self, command: str, *args: object, timeout_s: float) -> Reply: ...


class FilePlayback:
    """``play`` blocks in the call's thread; ``stop`` may come from any thread, never blocks."""

    def __init__(self, agi: Commands, ami: Ami, channel: str) -> None:
        self._agi = agi
        self._ami = ami
        self._channel = channel
        self._cond = threading.Condition()  # guards all below; held for a few instructions
        self._running = False
        self._last_stop = 0.0
        self._unanswered = 0  # stops sent, no reply yet
        self._queued = 0  # stops that Asterisk has put on the channel during this prompt

    def play(
        self,
        sound: str,
        *,
        timeout_s: float,
        from_ms: int = 0,
        on_key: Callable[[str], object] | None = None,
    ) -> Played:
        """Play ``sound`` (Asterisk's name for it, no extension) from ``from_ms`` on, to its end or
        to ``stop``. ``end_ms`` of the result counts from the sound's beginning. ``on_key``: a key
        ends it, too, and is told; for forks that tell of none.

        Raises Hangup, CommandTimeout, CommandRefused (no such sound).
        """
        began = monotonic()
        with self._cond:
            self._running, self._last_stop, self._queued = True, 0.0, 0
        try:
            skip = ("", str(from_ms)) if from_ms else ()
            reply = self._agi.command(
                "CONTROL STREAM FILE",
                sound,
                ALL_KEYS if on_key else "",
                "3000",
                NO_KEY,
                NO_KEY,
                *skip,
                timeout_s=timeout_s,
            )
        finally:
            took_ms = round((monotonic() - began) * 1000)
            with self._cond:
                self._running = False
        queued = self._settle_stops()
        status = self._agi.command("GET VARIABLE", "CPLAYBACKSTATUS", timeout_s=STOP_REPLY_S * 5)
        stopped = status.data == "REMOTESTOPPED"
        if strays := queued - stopped:
            self._drain(strays)
        if reply.result == "-1" or status.data == "ERROR":
            raise CommandRefused(f"Asterisk cannot play the sound {sound!r}: is the file there?")
        end_ms = int(reply.extra.get("endpos", "-1"))
        if end_ms < 0:  # Asterisk's word for "the file's end"
            end_ms = from_ms + took_ms
        if on_key is not None and reply.result not in ("0", "-1"):
            on_key(chr(int(reply.result)))
            return Played(PlayEnd.INTERRUPTED, end_ms, "keys")
        return Played(PlayEnd.INTERRUPTED if stopped else PlayEnd.COMPLETED, end_ms)

    def stop(self) -> bool:
        """End the prompt under way, if one is; call again while it should be ended.
        Returns whether a stop was sent now."""
        now = monotonic()
        with self._cond:
            if not self._running or now - self._last_stop < REPEAT_STOP_S:
                return False
            self._last_stop = now
            self._unanswered += 1
        self._ami.send(
            "ControlPlayback", {"Channel": self._channel, "Control": "stop"}, self._stop_answered
        )
        return True

    def _stop_answered(self, reply: AmiReply | AsteriskError) -> None:
        accepted = isinstance(reply, AmiReply) and reply.success
        if not accepted:
            why = reply.message if isinstance(reply, AmiReply) else str(reply)
            log.warning("%s: the prompt could not be stopped: %s", self._channel, why)
        with self._cond:
            self._unanswered -= 1
            self._queued += accepted
            self._cond.notify_all()

    def _settle_stops(self) -> int:
        """Stops that were queued, once every reply is in."""
        with self._cond:
            if not self._cond.wait_for(lambda: self._unanswered == 0, STOP_REPLY_S):
                log.warning("%s: no reply to a ControlPlayback: draining", self._channel)
                return self._queued + self._unanswered
            return self._queued

    def _drain(self, strays: int) -> None:
        """Read control frames off the channel: WAIT FOR DIGIT returns 1000 for one."""
        for _ in range(strays):
            reply = self._agi.command("WAIT FOR DIGIT", str(DRAIN_MS), timeout_s=STOP_REPLY_S * 5)
            if reply.result == "0":
                return
