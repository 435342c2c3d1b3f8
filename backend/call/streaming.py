"""One prompt at a time, streamed over the fork's WebSocket into AudioForkPlay.

The call's thread blocks in AGI EXEC; the prompt's audio is pumped by the audio loop, woken by
what the module reports and by what is synthesised. To stop is to write ``clear`` to the socket:
at once where voice was found in the audio loop itself. Every prompt has an id of its own, so
that a clear that crosses its end stops nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from time import monotonic
from typing import Literal, Protocol

from backend.call.playback import Commands
from backend.call.pump import Item, Pump
from backend.errors import SynthesisUnavailable
from backend.ports import PromptAudio
from backend.protocol import fork

log = logging.getLogger(__name__)

FORK_S = 1.0  # a fork that was started, or lost, is there (again) within this, or not waited for
REPLY_S = 5.0
# AudioForkPlay ends when no audio comes for so long: later than the synthesiser's own deadline,
# which knows better what was wrong.
WAIT_MS = 15_000
RESULT = "${AUDIOFORK_PLAY_STATUS}|${AUDIOFORK_PLAY_MS}"


OnStretch = Callable[[str, int | None], None]  # the prompt's id; its length, when it is known
Wanted = Literal["play", "pause", "stop"]


class Link(Protocol):
    """A fork's connection: ws_connection.Connection."""

    @property
    def start(self) -> fork.Start | None: ...
    @property
    def ready(self) -> bool: ...
    def run(self, action: Callable[[], None]) -> None: ...
    def send(self, *items: Item) -> None: ...


class StreamEnd(StrEnum):
    """How AudioForkPlay ended, by AUDIOFORK_PLAY_STATUS; LOST also for any other failure."""

    END = "END"
    CLEAR = "CLEAR"
    DIGIT = "DIGIT"
    TIMEOUT = "TIMEOUT"
    HANGUP = "HANGUP"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Streamed:
    """``played_ms``: exactly so much was handed to the channel."""

    end: StreamEnd
    played_ms: int


@dataclass(slots=True)
class _Running:
    """The prompt under way."""

    link: Link
    pump: Pump
    on_stretch: OnStretch | None = None
    stopped: bool = False
    paused: bool = False
    told: bool = False

    def push(self) -> None:
        """Audio loop: send what may be sent."""
        if self.link.ready and (items := self.pump.take()):
            self.link.send(*items)
        self.measure()

    def measure(self) -> None:
        """Audio loop: tell that it is streamed, and how long it is as soon as that is known."""
        if self.on_stretch is None:
            return
        length_ms = self.pump.length_ms
        if length_ms is not None or not self.told:
            self.told = True
            self.on_stretch(self.pump.play, length_ms)
        if length_ms is not None:
            self.on_stretch = None

    def clear(self) -> None:
        """Audio loop: end it."""
        if items := self.pump.clear():
            self.link.send(*items)

    def close(self) -> None:
        """Audio loop: it is over. Its audio may be made for longer: nobody here is told."""
        self.pump.close()
        self.on_stretch = None

    def hold(self) -> None:
        """Audio loop: let it stand still, or go on, as it should by now."""
        if items := self.pump.hold(self.paused):
            self.link.send(*items)


class StreamPlayback:
    """``play`` blocks in the call's thread; ``stop`` may come from any thread, never blocks."""

    def __init__(self, agi: Commands, channel: str, clock: Callable[[], float] = monotonic) -> None:
        self._agi = agi
        self._channel = channel
        self._clock = clock
        self._numbers = count(1)
        self._cond = threading.Condition()  # guards what follows; never held for long
        self._link: Link | None = None
        self._expected_at: float | None = clock()  # since then it may be on its way (again)
        self._told = False
        self._running: _Running | None = None

    # The call's thread

    def link(self, *, other_than: Link | None = None) -> Link | None:
        """The connection to stream over, waited for while it may be on its way; None: there is
        none, or the module (or the dialplan's line for it) takes no audio."""

        def there() -> bool:
            return self._link is not None and self._link is not other_than

        with self._cond:
            if self._expected_at is not None:
                self._cond.wait_for(there, max(self._expected_at + FORK_S - self._clock(), 0))
            link = self._link if there() else None
        if link is None and not self._told:
            log.warning("%s: no fork: Asterisk plays prompts from files", self._channel)
        self._told = True
        return link if link is not None and link.start is not None else None

    def expect_none(self) -> None:
        """There is no fork: nothing to wait for."""
        with self._cond:
            self._expected_at = None

    def play(
        self,
        link: Link,
        audio: PromptAudio,
        *,
        timeout_s: float,
        from_ms: int = 0,
        wanted: Callable[[], Wanted] = lambda: "play",
        on_stretch: OnStretch | None = None,
    ) -> Streamed:
        """Play ``audio`` from ``from_ms`` on, to its end or to ``stop``. ``wanted``: what was
        asked for, perhaps a moment before there was a prompt to do it to. ``on_stretch`` runs in
        the audio loop, after the prompt was opened: once, and again when its length is known.

        Raises Hangup, CommandTimeout, SynthesisUnavailable.
        """
        assert link.start is not None
        name = f"p{next(self._numbers)}"
        pump = Pump(name, audio, link.start.play_buffer_ms, from_ms)
        running = _Running(link, pump, on_stretch)
        with self._cond:
            self._running = running
        self._catch_up(wanted)
        audio.subscribe(lambda: link.run(running.push))
        link.run(running.push)
        try:
            where = f"{link.start.fork},p({name})t({WAIT_MS})g({WAIT_MS})"
            self._agi.command("EXEC", "AudioForkPlay", where, timeout_s=timeout_s)
        finally:
            with self._cond:
                self._running = None
            link.run(running.close)
        streamed = self._result()
        if pump.failure is not None:
            raise pump.failure
        if streamed.end is StreamEnd.TIMEOUT:
            raise SynthesisUnavailable("a prompt stopped in its midst: no more audio came")
        if streamed.end is StreamEnd.LOST and running.stopped:
            return Streamed(StreamEnd.CLEAR, streamed.played_ms)
        if streamed.end is StreamEnd.LOST:
            with self._cond:
                self._expected_at = self._clock()
        return streamed

    def _catch_up(self, wanted: Callable[[], Wanted]) -> None:
        """Other threads change their minds meanwhile: until nothing has changed."""
        want: Wanted = "play"
        while want != (want := wanted()):
            if want == "stop":
                self.stop()
            else:
                self.pause(want == "pause")

    def _result(self) -> Streamed:
        reply = self._agi.command("GET FULL VARIABLE", RESULT, timeout_s=REPLY_S)
        status, _, played = (reply.data or "").partition("|")
        played_ms = int(played) if played.isascii() and played.isdigit() else 0
        try:
            return Streamed(StreamEnd(status), played_ms)
        except ValueError:
            log.warning("%s: AudioForkPlay failed: status %.40r", self._channel, status)
            return Streamed(StreamEnd.LOST, played_ms)

    # Any thread

    def stop(self) -> bool:
        """End the prompt under way, if one is. Returns whether that was done now."""
        with self._cond:
            running = self._running
            if running is None or running.stopped:
                return False
            running.stopped = True
        running.link.run(running.clear)
        return True

    def pause(self, on: bool = True) -> bool:
        """Let the prompt under way stand still, or go on at the very sample. Returns whether
        that was done now."""
        with self._cond:
            running = self._running
            if running is None or running.stopped or running.paused is on:
                return False
            running.paused = on
        running.link.run(running.hold)
        return True

    # The audio loop

    def on_open(self, link: Link) -> None:
        with self._cond:
            self._link = link
            self._cond.notify_all()

    def on_close(self) -> None:
        with self._cond:
            self._link = None
            self._expected_at = self._clock()

    def on_message(self, message: fork.FromModule) -> None:
        running = self._running
        if running is None or not isinstance(message, fork.Buffer | fork.Started):
            return
        if message.play == running.pump.play:
            if isinstance(message, fork.Buffer):
                running.pump.played(message.played_ms)
            running.push()

    def on_tick(self) -> None:
        """What could not be sent when it was time to."""
        if (running := self._running) is not None:
            running.push()
