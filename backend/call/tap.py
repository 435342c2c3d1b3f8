"""A further fork of any channel, started by AMI, by which this worker hears that channel's user and
whispers to him: a participant of a conference, be it a call of ours or not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

from backend.call.ear import CallEar
from backend.call.line import open_ear
from backend.call.streaming import Link
from backend.call.streams import keyed_url
from backend.call.whisper import Whisper
from backend.errors import AsteriskError
from backend.model import Utterance
from backend.ports import PromptAudio
from backend.protocol import fork

if TYPE_CHECKING:
    from backend.call.runner import Services

log = logging.getLogger(__name__)

CONNECT_S = 3.0


class Tap:
    """Implements streams.StreamListener. ``on_said`` runs on the recogniser's thread."""

    def __init__(
        self, channel: str, services: Services, language: str, on_said: Callable[[Utterance], None]
    ) -> None:
        self.channel = channel
        self.ear: CallEar = open_ear(channel, services, language, on_said)
        self._services = services
        self._key = f"tap-{uuid4()}"
        self._fork_id: str | None = None
        self._cond = threading.Condition()
        self._link: Link | None = None
        self._whispers: list[Whisper] = []
        self._over = False  # the fork was there, and is gone

    # Any thread

    def start(self) -> bool:
        """Whether the fork was started; not, when the channel is gone already. Raises
        AsteriskUnavailable, CommandTimeout."""
        self._services.streams.claim(self._key, self)
        headers: dict[str, str | list[str]] = {
            "Channel": self.channel,
            "WsServer": keyed_url(self._services.fork_url, self._key),
            "Options": "D(read)j",
        }
        try:
            reply = self._services.ami.action("AudioFork", headers)
        except AsteriskError:
            self._services.streams.release(self._key)
            raise
        if not reply.success:
            log.warning("%s: no fork: %s", self.channel, reply.message)
            self._services.streams.release(self._key)
            return False
        self._fork_id = reply.headers.get("AudioForkID")
        return True

    @property
    def over(self) -> bool:
        return self._over

    def whisper(self, audio: PromptAudio) -> Whisper | None:
        """A prompt begins; None: the fork does not come, or has gone."""
        with self._cond:
            self._cond.wait_for(lambda: self._link is not None or self._over, CONNECT_S)
            if self._link is None:
                return None
            whisper = Whisper(self._link, audio)
            self._whispers = [*self._whispers, whisper]
        whisper.start()
        return whisper

    def done(self, whisper: Whisper) -> None:
        with self._cond:
            self._whispers = [one for one in self._whispers if one is not whisper]

    def stop(self) -> None:
        """End the fork and the recognition. Never raises, never waits for Asterisk."""
        if self._fork_id is not None and not self._over:
            self._services.ami.send("StopAudioFork", {"AudioForkID": self._fork_id}, _ignore)
        self._services.streams.release(self._key)
        self.ear.close(0)

    # The audio loop

    def on_open(self, link: Link) -> None:
        self.ear.on_open()
        with self._cond:
            self._link, self._over = link, False
            self._cond.notify_all()

    def on_audio(self, pcm: bytes) -> None:
        self.ear.on_audio(pcm)

    def on_message(self, message: fork.FromModule) -> None:
        if isinstance(message, fork.Dropped):
            self.ear.on_dropped(message.ms)
        elif isinstance(message, fork.Refused):
            log.warning("%s: the fork refused %s: %s", self.channel, message.about, message.why)
        else:
            for whisper in self._whispers:
                whisper.on_message(message)

    def on_tick(self) -> None:
        self.ear.on_tick()
        for whisper in self._whispers:
            whisper.on_tick()

    def on_close(self, reason: str) -> None:
        self.ear.on_close(reason)
        with self._cond:
            self._link, self._over = None, True
            self._cond.notify_all()
        for whisper in self._whispers:
            whisper.on_close()


def _ignore(reply: object) -> None:
    """The fork has ended with its channel, or ends now."""
