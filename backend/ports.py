"""The seams: what the call needs from the world, each a small Protocol.

Adapters implement them, tests fake them in a few lines, ``app`` joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from backend.errors import AsteriskError
from backend.model import ChannelKind, Record, StepKind, Task, TaskRequest, Word

RATE_HZ = 8000
FRAME_MS = 20
FRAME_BYTES = RATE_HZ // 1000 * FRAME_MS * 2  # signed linear, 16 bit, mono
SEND_S = 5.0  # for a batch to the bus, and for a connection to it


@dataclass(frozen=True, slots=True)
class RecognitionOptions:
    """What a recogniser is asked for. ``languages``: BCP 47 tags, the first preferred. ``hints``:
    phrases that are likely. ``max_pause_ms``: where the service ends utterances, the pause between
    words that it is told to tolerate; None: as it is set."""

    languages: tuple[str, ...] = ("ru-RU",)
    model: str = "general"
    partials: bool = True
    hints: tuple[str, ...] = ()
    max_pause_ms: int | None = None


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


class CallStream(RecognitionStream, Protocol):
    """Recognition of a whole call, session after session."""

    def change(self, options: RecognitionOptions) -> None:
        """Recognise with these from now on, and what is being said now, from its beginning. What
        was said before is recognised as it was begun; no word is lost. The same: nothing."""


class CallRecognizer(Protocol):
    def open(
        self, options: RecognitionOptions, on_event: Callable[[RecognitionEvent], None]
    ) -> CallStream:
        """As Recognizer.open."""


class Synthesizer(Protocol):
    def stream(self, text: str, *, language: str, timeout_s: float) -> Iterator[bytes]:
        """Speech for ``text`` as it is made: RATE_HZ signed linear 16 bit mono, no header, whole
        samples in each piece. Blank text: nothing.

        Raises SynthesisUnavailable, at any piece. Thread-safe. Texts longer than the service's
        limit are split at sentence or word borders; ``timeout_s`` is for each part.
        """


class PromptAudio(Protocol):
    """A prompt's audio, there or still being made: slin16 mono. Thread-safe, never waits."""

    @property
    def rate_hz(self) -> int: ...

    def read(self, at: int, size: int) -> bytes | None:
        """At most ``size`` bytes from byte ``at`` on, whole samples; empty: not made yet (or
        ``size`` 0); None: that was all. Raises SpeechError when the rest will never come."""

    def size(self) -> int | None:
        """Its bytes in all; None: that is not known yet, or never will be."""

    def subscribe(self, on_more: Callable[[], None]) -> None:
        """``on_more`` runs, on any thread, when there is more, or the end, or a failure."""


class PromptSound(Protocol):
    """What a prompt sounds like, to be had in two ways."""

    def audio(self) -> PromptAudio | None:
        """Its audio, to be streamed; None: Asterisk alone has it. Raises BadRequest for a file
        that cannot be streamed, SynthesisUnavailable."""

    def file(self, timeout_s: float | None = None) -> str:
        """Asterisk's name of a file with the whole of it, no extension. Waits until it is made,
        at most ``timeout_s`` (None: as long as synthesis may take). Raises
        SynthesisUnavailable."""


class Prompts(Protocol):
    """What can be played. Thread-safe."""

    def text(self, text: str, language: str) -> PromptSound:
        """Speech for ``text``; synthesis begins with the first use of it."""

    def sound(self, name: str) -> PromptSound:
        """The backend's own file of that name, else Asterisk's."""


class RecordSink(Protocol):
    def append(self, *records: Record) -> None:
        """Keep the records for ever: when it returns they survive the death of this process.
        Thread-safe, a few microseconds, never waits for PostgreSQL. Raises OSError when the
        disk refuses."""


EventKind = StepKind | Literal["call_started", "call_ended", "rollout", "test"]


@dataclass(frozen=True, slots=True)
class BusChannel:
    """The channel of the call that an event is about. ``name``: Asterisk's."""

    kind: ChannelKind
    name: str
    caller: str
    called: str


@dataclass(frozen=True, slots=True)
class BusEvent:
    """What other systems are told, the same form over every bus and for every kind of channel
    (docs/bus.md, bus/event.schema.json).

    ``id`` is unique for ever. ``n``, ``state``, ``at_ms``: a step's, see CallStep; ``flow_node``
    is its node, ``node`` the machine.
    """

    id: str
    at: datetime
    node: str
    process: str
    kind: EventKind
    call: UUID | None = None
    task: UUID | None = None
    n: int | None = None
    flow: str | None = None
    version: str | None = None
    flow_node: str | None = None
    channel: BusChannel | None = None
    state: str | None = None
    at_ms: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)


class Bus(Protocol):
    def publish(self, event: BusEvent) -> None:
        """Tell other systems, soon. Never waits and never raises: what cannot be delivered is
        counted. Thread-safe; events of one thread stay in order."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An event ready for the bus. Letters of one ``key`` (a call's id) must stay in order."""

    key: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a batch. ``left``: not delivered, the bus is away; they may be sent again.
    ``refused``: how many it will never take, for what is in them. ``why``: in its own words."""

    left: Sequence[Letter] = ()
    refused: int = 0
    why: str = ""


class BusCarrier(Protocol):
    """One connection to a bus. The publisher's thread alone uses it; every method ends within
    about SEND_S. No text that it returns or raises holds a secret."""

    @property
    def where(self) -> str:
        """What it is and where, for the log."""

    @property
    def limit_bytes(self) -> int:
        """Of one letter's payload."""

    def connect(self) -> None:
        """Be connected, or see whether it still is. Raises BusUnavailable."""

    def send(self, letters: Sequence[Letter]) -> Sent:
        """Deliver them in order. Returns when the bus has confirmed them, or not in time. One
        that was confirmed by nobody may have been delivered for all that."""

    def close(self) -> None: ...


class TaskDesk(Protocol):
    """The tasks, for a call: every method raises StorageUnavailable within a few seconds."""

    def submit(self, request: TaskRequest) -> tuple[Task, bool]:
        """Queue a call; the task, and whether it is new (else its external_id was known)."""

    def get(self, task_id: UUID) -> Task | None: ...


class KeyValues(Protocol):
    """The store behind ``call.store``: JSON values by key, in spaces. Thread-safe; every method
    raises StorageUnavailable within a few seconds, and then nobody knows whether it was done.

    ``value`` and ``expected`` are JSON texts, checked already; what is read is decoded. A key
    whose time is over is not there.
    """

    def get(self, space: str, key: str) -> object:
        """None: it is not there."""

    def set(self, space: str, key: str, value: str, expires_s: float | None) -> None: ...

    def add(self, space: str, key: str, n: int, expires_s: float | None) -> int:
        """The sum. ``expires_s`` counts only for a key that is made by this. Raises BadRequest
        for a value that is no whole number, or a sum beyond 64 bits."""

    def compare_and_set(
        self, space: str, key: str, expected: str | None, value: str | None, expires_s: float | None
    ) -> bool:
        """Whether the value was ``expected`` (None: not there) and is ``value`` (None: not
        there) now."""

    def delete(self, space: str, key: str) -> bool:
        """Whether it was there."""

    def keys(self, space: str, prefix: str, limit: int) -> list[str]: ...


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


OnChannelEvent = Callable[[Mapping[str, str]], None]


def conference_key(name: str) -> str:
    """Under which ``ChannelEvents`` tells the events of a conference."""
    return f"conference:{name}"


class ChannelEvents(Protocol):
    def watch(self, key: str, on_event: OnChannelEvent) -> Callable[[], None]:
        """``on_event`` runs on the AMI's own thread with each event of the channel with the
        unique id ``key``, or of the conference (``conference_key``), until the function that is
        returned is called. It must not block. Thread-safe.

        While the connection is lost events are lost: nobody may wait for one without a deadline.
        """


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to another system. ``url``: http or https, percent-encoded. ``secret_headers``:
    header → name of a secret in the settings; values are known to the adapter alone.
    ``timeout_s``: for all of it; ``max_bytes``: of the answer's body."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    timeout_s: float = 5.0
    max_bytes: int = 65536


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Whatever the status was."""

    status: int
    body: bytes = field(default=b"", repr=False)


class HttpDoor(Protocol):
    """The way out to other systems. Thread-safe."""

    def send(self, request: HttpRequest) -> HttpAnswer:
        """Blocks for ``timeout_s`` at most. Raises HttpFailed for no answer, or one that is too
        long, BadRequest for a host or a secret that the settings do not have."""
