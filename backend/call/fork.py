"""The call's end of its fork: what comes goes to the ear, to the prompt under way, to the keys."""

from __future__ import annotations

import logging

from backend.call.ear import CallEar
from backend.call.gate import KeyGate
from backend.call.streaming import Link, StreamPlayback
from backend.protocol import fork

log = logging.getLogger(__name__)


class CallFork:
    """Implements ``ws_frames.Listener`` for one call. Audio loop only."""

    def __init__(self, channel: str, ear: CallEar, stream: StreamPlayback, gate: KeyGate) -> None:
        self._channel = channel
        self._gate = gate
        self._ear = ear
        self._stream = stream
        self._introduced = False

    def on_open(self, link: Link) -> None:
        self._introduce(link)
        self._ear.on_open()
        self._gate.on_open(link)
        self._stream.on_open(link)

    def on_audio(self, pcm: bytes) -> None:
        self._ear.on_audio(pcm)
        self._gate.on_audio(len(pcm))

    def on_message(self, message: fork.FromModule) -> None:
        if isinstance(message, fork.Digit):
            self._gate.on_message(message)
        elif isinstance(message, fork.Dropped):
            log.warning("%s: the fork lost %d ms of audio", self._channel, message.ms)
            self._ear.on_dropped(message.ms)
            self._gate.on_dropped(message.ms)
        elif isinstance(message, fork.Refused):
            log.warning("%s: the fork refused %s: %s", self._channel, message.about, message.why)
            self._gate.on_message(message)
        else:
            self._gate.on_message(message)
            self._stream.on_message(message)

    def on_tick(self) -> None:
        self._ear.on_tick()
        self._stream.on_tick()
        self._gate.on_tick()

    def on_close(self, reason: str) -> None:
        self._ear.on_close(reason)
        self._stream.on_close()
        self._gate.on_close()

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
