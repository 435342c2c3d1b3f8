"""What is heard of a leg before its answer, judged while it is heard, so that no answer is paid for
that is not needed; and, after the answer, who it is that has answered.

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
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from backend.call.line import open_gate
from backend.call.streaming import Link
from backend.call.streams import StreamListener, keyed_url
from backend.errors import AsteriskError
from backend.media.gate import Audio, EndOfUtterance, Silence
from backend.media.screening import Stage
from backend.model import Reason
from backend.ports import (
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


class Verdict(Protocol):
    """``result``, ``reason``: words of closed lists. ``answered``: the call had been answered.
    ``hang_up``: nothing more is to be had of it."""

    @property
    def result(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def answered(self) -> bool: ...
    @property
    def hang_up(self) -> bool: ...


class Judge(Protocol):
    """Judges one leg. Used under one lock, must not block; ``at_ms`` counts from dialling. What
    brings the verdict returns it, once."""

    def feed(self, pcm: bytes, at_ms: int) -> Verdict | None:
        """Audio of the called side, RATE_HZ slin16 mono, any length, that ended at ``at_ms``."""

    def signalled(self, stage: Stage, at_ms: int) -> Verdict | None:
        """What the network says."""

    def ended(self, reason: Reason, at_ms: int, cause: int | None = None) -> Verdict | None:
        """The call is over, without us."""

    def recognised(self, text: str, at_ms: int, *, final: bool) -> Verdict | None:
        """The recogniser's text of the utterance that goes on, or has ended."""

    def tick(self, at_ms: int) -> Verdict | None:
        """Time goes by, several times a second."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a judge is made for. ``who_answered``: after the answer tell a person from a machine."""

    language: str  # BCP 47
    timeout_ms: int
    who_answered: bool


class Screener:
    """One leg's screening. Implements streams.StreamListener; after the answer behind a Tee."""

    def __init__(self, judge: Judge) -> None:
        self.forked = False  # its fork was started, and is the leg's after the answer
        self._judge = judge
        self._began = monotonic()
        self._lock = threading.Lock()  # guards all below; held while the judge thinks
        self._verdict: Verdict | None = None
        self._over = False
        self._heard = False  # early media has come
        self._stream: RecognitionStream | None = None
        self._recognise: Callable[[], RecognitionStream] | None = None
        self._on_verdict: Callable[[Verdict], None] = lambda _: None
        self._leg_id = "leg"

    @property
    def verdict(self) -> Verdict | None:
        """What it was; None: not known yet, or nothing that is in the lists."""
        return self._verdict

    @property
    def wants_hangup(self) -> bool:
        """Whether no answer is needed."""
        return self._verdict is not None and self._verdict.hang_up and not self._verdict.answered

    @property
    def judging(self) -> bool:
        """Whether a verdict may still come."""
        return self._verdict is None and not self._over

    # The scenario's thread

    def begin(self, leg: Leg, services: Services, language: str) -> None:
        """Asterisk was asked to dial: fork the channel as soon as it is there. Never raises for
        what Asterisk does: a leg that cannot be heard is dialled all the same."""
        self._gate = open_gate(services)
        options = RecognitionOptions(languages=(language,))
        self._recognise = lambda: services.recognizer.open(options, self._recognised)
        self._on_verdict = leg.judged
        self._leg_id = leg.id
        if not leg.await_channel():
            return
        services.streams.claim(leg.id, self)
        headers: dict[str, str | list[str]] = {
            "Channel": leg.id,
            "WsServer": keyed_url(services.fork_url, leg.id),
            "Options": "D(read)j",
        }
        try:
            reply = services.ami.action("AudioFork", headers)
            self.forked, why = reply.success, reply.message
        except AsteriskError as error:
            why = str(error)
        if not self.forked and not leg.is_ending:
            log.warning("%s: not heard before its answer: %s", leg.id, why)

    def signalled(self, stage: Stage) -> None:
        """How far the call is. Any thread."""
        with self._lock:
            self._heard = self._heard or stage is Stage.ANSWERED  # what comes now is no early media
            if not self._over:
                self._judged(self._judge.signalled(stage, self._now_ms()))

    def ended(self, reason: Reason, cause: int | None) -> None:
        """The leg is over."""
        with self._lock:
            if not self._over:
                self._judged(self._judge.ended(reason, self._now_ms(), cause))
        self.close()

    def close(self) -> None:
        """Nothing more is judged."""
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

    def on_message(self, message: fork.FromModule) -> None:
        """Nothing: keys before an answer mean nothing."""

    def on_audio(self, pcm: bytes) -> None:
        with self._lock:
            if not self.judging:
                return
            if not self._heard:
                self._heard = True
                self._judged(self._judge.signalled(Stage.EARLY_MEDIA, self._now_ms()))
            self._judged(self._judge.feed(pcm, self._now_ms()))
            if self._stream is None and self._recognise is not None:
                self._stream = self._recognise()
            stream = self._stream
        if stream is not None:
            self._feed(stream, pcm)

    def on_tick(self) -> None:
        with self._lock:
            if self.judging:
                self._judged(self._judge.tick(self._now_ms()))

    def _feed(self, stream: RecognitionStream, pcm: bytes) -> None:
        for action in self._gate.push(pcm):
            if isinstance(action, Audio):
                stream.feed(action.pcm)
            elif isinstance(action, Silence):
                stream.silence(action.duration_ms)
            elif isinstance(action, EndOfUtterance):
                stream.end_utterance()

    # The recogniser's thread

    def _recognised(self, event: RecognitionEvent) -> None:
        if isinstance(event, RecognitionFailed):
            log.warning("%s: its words are not recognised: %s", self._leg_id, event.message)
        if not isinstance(event, Hypothesis):
            return
        with self._lock:
            if self.judging:
                now_ms = self._now_ms()
                self._judged(self._judge.recognised(event.text, now_ms, final=event.final))

    # With the lock

    def _now_ms(self) -> int:
        return round((monotonic() - self._began) * 1000)

    def _judged(self, verdict: Verdict | None) -> None:
        if verdict is None or self._verdict is not None:
            return
        self._verdict = verdict
        log.info("%s: %s, by %s", self._leg_id, verdict.result, verdict.reason)
        self._on_verdict(verdict)


class Tee:
    """A stream for two: the screener, while it judges who has answered, and the leg's fork."""

    def __init__(self, screener: Screener, own: StreamListener) -> None:
        self._screener = screener
        self._own = own

    def on_open(self, link: Link) -> None:
        self._own.on_open(link)

    def on_audio(self, pcm: bytes) -> None:
        self._screener.on_audio(pcm)
        self._own.on_audio(pcm)

    def on_message(self, message: fork.FromModule) -> None:
        self._own.on_message(message)

    def on_tick(self) -> None:
        self._screener.on_tick()
        self._own.on_tick()

    def on_close(self, reason: str) -> None:
        self._own.on_close(reason)
