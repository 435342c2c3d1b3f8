"""A prompt whispered into one channel over a fork of it: heard by that channel's user alone, in a
bridge, a conference or during another prompt (docs/fork-protocol.md, "Playing").

No AGI: the audio loop pumps, and the module tells how far it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import count
from time import monotonic

from backend.call.playback import Played, PlayEnd
from backend.call.pump import Pump
from backend.call.streaming import Link
from backend.errors import BadRequest
from backend.media.rate import AtRate
from backend.ports import PromptAudio
from backend.protocol import fork

log = logging.getLogger(__name__)

# A whisper stands still while the channel is sent nothing; in a conference that is never long.
STALL_S = 10.0
POLL_S = 0.2
_ENDS = {"end": PlayEnd.COMPLETED, "clear": PlayEnd.INTERRUPTED}
_numbers = count(1)


class Whisper:
    """One prompt on its way. ``start`` it; ``wait`` for its end, in any thread."""

    def __init__(self, link: Link, audio: PromptAudio) -> None:
        start = link.start
        if start is None:
            raise BadRequest("participant", "its fork takes no audio: an older module")
        if start.channel_rate_hz not in fork.PLAY_RATES_HZ:
            raise BadRequest("participant", f"its channel is at {start.channel_rate_hz} Hz")
        if audio.rate_hz != start.channel_rate_hz:
            audio = AtRate(audio, start.channel_rate_hz)
        self._link = link
        self._audio = audio
        # Several whispers of a fork are heard one after the other, each by an id of its own.
        self._pump = Pump(f"w{next(_numbers)}", audio, start.play_buffer_ms, whisper=True)
        self._cond = threading.Condition()
        self._heard_at = monotonic()  # the module has told of progress
        self._played_ms = 0
        self._how: str | None = None

    def start(self) -> None:
        self._heard_at = monotonic()
        self._audio.subscribe(lambda: self._link.run(self._push))
        self._link.run(self._push)

    def wait(self, timeout_s: float, look: Callable[[], None]) -> Played:
        """Until it was heard, is stopped, or does not go on. ``look`` is called several times a
        second; what it raises stops the whisper. Raises SynthesisUnavailable."""
        deadline = monotonic() + timeout_s
        try:
            while self._how is None and monotonic() < min(deadline, self._heard_at + STALL_S):
                look()
                with self._cond:
                    if self._how is None:
                        self._cond.wait(POLL_S)
        finally:
            with self._cond:
                how, played_ms = self._how, self._played_ms
            if how is None:
                self.stop()
        self._link.run(self._pump.close)
        if self._pump.failure is not None:
            raise self._pump.failure
        return Played(_ENDS.get(how or "", PlayEnd.LOST), played_ms)

    def stop(self) -> None:
        """End it now. Any thread."""
        self._link.run(self._clear)

    # The audio loop

    def on_message(self, message: fork.FromModule) -> None:
        if not isinstance(message, fork.Started | fork.Buffer | fork.PlayOver):
            return
        if message.play != self._pump.play:
            return
        with self._cond:
            self._heard_at = monotonic()
            if not isinstance(message, fork.Started):
                self._played_ms = message.played_ms
            if isinstance(message, fork.PlayOver):
                self._how = message.how
            self._cond.notify_all()
        if isinstance(message, fork.Buffer):
            self._pump.played(message.played_ms)
        self._push()

    def on_tick(self) -> None:
        """What could not be sent when it was time to."""
        self._push()

    def on_close(self) -> None:
        """The connection is gone."""
        with self._cond:
            self._how = self._how or "lost"
            self._cond.notify_all()

    def _push(self) -> None:
        if self._link.ready and (items := self._pump.take()):
            self._link.send(*items)

    def _clear(self) -> None:
        if items := self._pump.clear():
            self._link.send(*items)
