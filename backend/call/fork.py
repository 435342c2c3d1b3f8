"""The call's end of its fork: what comes goes to the ear, to the prompt under way, to the keys."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from backend.call.ear import CallEar
from backend.call.streaming import Link, StreamPlayback
from backend.protocol import fork

log = logging.getLogger(__name__)

KEPT_DIGITS = 100  # what nobody takes drops the oldest; all are in the event log


class Keys:
    """The keys that the caller pressed, in order, with their places in the stream. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[fork.Digit] = deque(maxlen=KEPT_DIGITS)
        self._on_digit: Callable[[fork.Digit], None] | None = None

    def on_digit(self, callback: Callable[[fork.Digit], None] | None) -> None:
        """``callback`` runs in the audio loop with each key, until it is taken away. It must not
        block."""
        with self._lock:
            self._on_digit = callback

    def take(self) -> fork.Digit | None:
        """The next key that nobody has taken."""
        with self._lock:
            return self._kept.popleft() if self._kept else None

    def press(self, digit: fork.Digit) -> None:
        """Audio loop: a key has come."""
        with self._lock:
            self._kept.append(digit)
            callback = self._on_digit
        if callback is not None:
            callback(digit)


class CallFork:
    """Implements ``ws_frames.Listener`` for one call. Audio loop only."""

    def __init__(self, channel: str, ear: CallEar, stream: StreamPlayback) -> None:
        self.keys = Keys()
        self._channel = channel
        self._ear = ear
        self._stream = stream
        self._introduced = False

    def on_open(self, link: Link) -> None:
        self._introduce(link)
        self._ear.on_open()
        self._stream.on_open(link)

    def on_audio(self, pcm: bytes) -> None:
        self._ear.on_audio(pcm)

    def on_message(self, message: fork.FromModule) -> None:
        if isinstance(message, fork.Digit):
            self.keys.press(message)
        elif isinstance(message, fork.Dropped):
            log.warning("%s: the fork lost %d ms of audio", self._channel, message.ms)
            self._ear.on_dropped(message.ms)
        elif isinstance(message, fork.Refused):
            log.warning("%s: the fork refused %s: %s", self._channel, message.about, message.why)
        else:
            self._stream.on_message(message)

    def on_tick(self) -> None:
        self._ear.on_tick()
        self._stream.on_tick()

    def on_close(self, reason: str) -> None:
        self._ear.on_close(reason)
        self._stream.on_close()

    def _introduce(self, link: Link) -> None:
        """Once a call, say in the log what this fork can do."""
        if self._introduced:
            return
        self._introduced = True
        if link.start is not None:
            log.info("%s: prompts are streamed to fork %s", self._channel, link.start.fork)
        else:
            log.info(
                "%s: the fork takes no audio (a module without option j, or a dialplan line"
                " without it): Asterisk plays prompts from files",
                self._channel,
            )
