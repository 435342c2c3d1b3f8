"""What is heard of a leg before its answer, judged while it is heard, so that no answer is paid for
that is not needed.

A fork is started by AMI on the channel that is being dialled: it hears early media from its first
frame (tried on 16.28 and 22.10), and is the leg's own fork after the answer. What it hears goes to
a judge, a pure machine, and through a voice gate to a recogniser, whose words go to the judge, too.
A verdict that wants so hangs the leg up at once, from the audio loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from backend.call.line import open_gate
from backend.call.streaming import Link
from backend.call.streams import keyed_url
from backend.errors import AsteriskError
from backend.media.gate import Audio, EndOfUtterance, Silence
from backend.ports import (
    RATE_HZ,
    Hypothesis,
    RecognitionEvent,
    RecognitionFailed,
    RecognitionOptions,
    RecognitionStream,
)
from backend.protocol import fork

if TYPE_CHECKING:
    from backend.call.legs import Leg
    from backend.call.runner import Services

log = logging.getLogger(__name__)

BYTES_PER_MS = RATE_HZ // 1000 * 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What it is that was heard: a word from the judge's closed list. ``hang_up``: the answer is
    not needed. ``text``: the words it was known by, if by words. ``at_ms`` of the early media."""

    what: str
    hang_up: bool
    at_ms: int
    text: str = ""


class Judge(Protocol):
    """Judges one leg. Called under one lock, by one thread at a time; must not block. Each method
    returns a verdict as soon as one is certain; of several the last counts."""

    def feed(self, pcm: bytes) -> Verdict | None:
        """Audio, RATE_HZ slin16 mono, any length."""

    def heard(self, text: str, *, final: bool, at_ms: int) -> Verdict | None:
        """The recogniser's text of the utterance that goes on, or has ended."""

    def tick(self, at_ms: int) -> Verdict | None:
        """Time goes by, several times a second."""


class Screening:
    """One leg's screening. Implements streams.StreamListener until the answer."""

    def __init__(self, judge: Judge) -> None:
        self.forked = False  # its fork was started, and is the leg's after the answer
        self._judge = judge
        self._lock = threading.Lock()  # guards all below; held while the judge thinks
        self._verdict: Verdict | None = None
        self._texts: list[str] = []
        self._bytes = 0
        self._over = False
        self._stream: RecognitionStream | None = None
        self._recognise: Callable[[], RecognitionStream] | None = None
        self._hang_up: Callable[[], None] | None = None

    # For the author

    @property
    def verdict(self) -> Verdict | None:
        """What it was; None: nothing that is in the lists."""
        return self._verdict

    @property
    def text(self) -> str:
        """All that was said before the answer, as recognised."""
        with self._lock:
            return " ".join(self._texts)

    @property
    def heard_ms(self) -> int:
        """So much early media came."""
        return self._bytes // BYTES_PER_MS

    # For the call: the scenario's thread

    def begin(self, leg: Leg, services: Services, language: str) -> None:
        """Asterisk was asked to dial: fork the channel as soon as it is there. Never raises for
        what Asterisk does: a leg that cannot be heard is dialled all the same."""
        self._gate = open_gate(services)
        options = RecognitionOptions(languages=(language,))
        self._recognise = lambda: services.recognizer.open(options, self._recognised)
        self._hang_up = leg.send_hangup
        self._leg_id = leg.id
        if not leg.await_channel():
            return
        services.streams.claim(leg.id, self)
        url = keyed_url(services.fork_url, leg.id)
        request: dict[str, str | list[str]] = {
            "Channel": leg.id,
            "WsServer": url,
            "Options": "D(read)j",
        }
        try:
            reply = services.ami.action("AudioFork", request)
        except AsteriskError as error:
            log.warning("%s: not heard before its answer: %s", leg.id, error)
        else:
            self.forked = reply.success
            if not reply.success:
                log.log(
                    logging.DEBUG if leg.is_ending else logging.WARNING,
                    "%s: not heard before its answer: %s",
                    leg.id,
                    reply.message,
                )

    @property
    def wants_hangup(self) -> bool:
        """Whether the verdict is that no answer is needed."""
        return self._verdict is not None and self._verdict.hang_up

    def end(self) -> None:
        """It was answered, or is over: nothing more is judged."""
        with self._lock:
            self._over = True
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    # The audio loop

    def on_open(self, link: Link) -> None:
        """The fork is there; audio comes with the early media."""

    def on_close(self, reason: str) -> None:
        """It has gone with its channel, or with its connection."""

    def on_audio(self, pcm: bytes) -> None:
        with self._lock:
            if self._over:
                return
            self._bytes += len(pcm)
            self._judged(self._judge.feed(pcm))
            if self._stream is None and self._recognise is not None:
                self._stream = self._recognise()
            stream = self._stream
        if stream is not None:
            self._feed(stream, pcm)

    def on_message(self, message: fork.FromModule) -> None:
        """Nothing: keys before an answer mean nothing."""

    def on_tick(self) -> None:
        with self._lock:
            if not self._over and self._bytes:
                self._judged(self._judge.tick(self.heard_ms))

    def _feed(self, stream: RecognitionStream, pcm: bytes) -> None:
        for action in self._gate.push(pcm):
            if isinstance(action, Audio):
                stream.feed(action.pcm)
            elif isinstance(action, Silence):
                stream.silence(action.duration_ms)
            elif isinstance(action, EndOfUtterance):
                stream.end_utterance()

    def _judged(self, verdict: Verdict | None) -> None:
        """With the lock."""
        if verdict is None:
            return
        self._verdict = verdict
        log.info("%s: before the answer: %s %s", self._leg_id, verdict.what, verdict.text)
        if verdict.hang_up and self._hang_up is not None:
            self._hang_up()
            self._hang_up = None

    # The recogniser's thread

    def _recognised(self, event: RecognitionEvent) -> None:
        if isinstance(event, RecognitionFailed):
            log.warning("%s: its words are not recognised: %s", self._leg_id, event.message)
        if not isinstance(event, Hypothesis):
            return
        with self._lock:
            if event.final and event.text.strip():
                self._texts.append(event.text.strip())
            if not self._over:
                at_ms = self.heard_ms
                self._judged(self._judge.heard(event.text, final=event.final, at_ms=at_ms))
