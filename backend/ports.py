"""The seams: what the call needs from the world, each a small Protocol.

Adapters implement them, tests fake them in a few lines, ``app`` joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from backend.errors import AsteriskError
from backend.model import Record, Word

RATE_HZ = 8000
FRAME_MS = 20
FRAME_BYTES = RATE_HZ // 1000 * FRAME_MS * 2  # signed linear, 16 bit, mono


@dataclass(frozen=True, slots=True)
class RecognitionOptions:
    """What a recogniser is asked for. ``languages``: BCP 47 tags, the first preferred."""

    languages: tuple[str, ...] = ("ru-RU",)
    model: str = "general"
    partials: bool = True


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A partial or final recognition; times in ms since the stream was opened
    (silence that was only announced counts as time)."""

    text: str
    final: bool
    start_ms: int
    end_ms: int
    confidence: float | None = None
    language: str | None = None
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    """The recogniser's own end of utterance; every final before ``at_ms`` has been delivered."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class StreamEnded(UtteranceEnded):
    """The last event of a stream that was closed: every final has been delivered. Every stream
    ends with this or with RecognitionFailed, exactly once."""


@dataclass(frozen=True, slots=True)
class RecognitionFailed:
    """The stream is dead: no event follows. ``retryable``: a new stream may succeed."""

    message: str
    retryable: bool


RecognitionEvent = Hypothesis | UtteranceEnded | RecognitionFailed


class RecognitionStream(Protocol):
    """One recognition session. No method blocks; all may be called from the audio loop."""

    def feed(self, pcm: bytes) -> None:
        """Audio, RATE_HZ signed linear 16 bit little-endian mono, any length."""

    def silence(self, duration_ms: int) -> None:
        """Tell of silence without sending it; keeps the session alive."""

    def end_utterance(self) -> None:
        """The caller has ended an utterance: deliver its final now, then UtteranceEnded."""

    def close(self) -> None:
        """No more audio. Finals still owed are delivered; resources are freed."""


class Recognizer(Protocol):
    def open(
        self, options: RecognitionOptions, on_event: Callable[[RecognitionEvent], None]
    ) -> RecognitionStream:
        """Start a session at once (no blocking connect). ``on_event`` runs on the recogniser's
        own thread, one event at a time, in order; it must not block."""


class Synthesizer(Protocol):
    def synthesize(self, text: str, *, language: str, timeout_s: float) -> bytes:
        """Speech for ``text`` as RATE_HZ signed linear 16 bit mono, no header.

        Raises SynthesisUnavailable. Thread-safe. Texts longer than the service's limit are
        split at sentence or word borders and joined.
        """


class RecordSink(Protocol):
    def append(self, *records: Record) -> None:
        """Keep the records for ever: when it returns they survive the death of this process.
        Thread-safe, a few microseconds, never waits for PostgreSQL. Raises OSError when the
        disk refuses."""


@dataclass(frozen=True, slots=True)
class AmiReply:
    """A response to an AMI action. ``events``: the list of an action that answers with one."""

    success: bool
    message: str
    headers: Mapping[str, str]
    events: tuple[Mapping[str, str], ...] = field(default=())


class Ami(Protocol):
    """Actions to Asterisk. Thread-safe; must not be called from the AMI's own loop."""

    @property
    def connected(self) -> bool:
        """Logged in and FullyBooted seen."""

    def action(
        self, name: str, headers: Mapping[str, str | list[str]], *, timeout_s: float = 5.0
    ) -> AmiReply:
        """Send one action, wait for its whole answer.

        Raises AsteriskUnavailable (not connected, or lost before the answer: the action may have
        been carried out; it is never sent again), CommandTimeout, BadRequest for a header that
        cannot be serialised safely. An ``Error`` response is returned, not raised.
        """

    def send(
        self,
        name: str,
        headers: Mapping[str, str | list[str]],
        on_reply: Callable[[AmiReply | AsteriskError], None],
    ) -> None:
        """The same without waiting. ``on_reply`` runs once, on the AMI's own thread, with the
        reply or the error (unavailable, or 5 s without an answer)."""
