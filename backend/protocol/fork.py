"""Messages between the fork and its server: docs/fork-protocol.md, version 2. Pure.

What comes is bounded and checked where something depends on it; types and keys that are not known
are passed over, so that a later module can speak to this backend. Names here carry units, names
on the wire are the protocol's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from backend.errors import BadRequest

VERSION = 2
MAX_TEXT_BYTES = 4096
MAX_CHANNEL_BYTES = 256  # the module says 127
MAX_PLACE_MS = 1_000_000_000
MAX_LIMIT_MS = 3_600_000
PLAY_RATES_HZ = (8000, 16000, 24000, 48000)

_KEYS = re.compile(r"([0-9]-[0-9]|[0-9*#A-Da-d])+")
_RANGE = re.compile(r"([0-9])-([0-9])")
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_MAX_INT = 2**53

# --- From the module ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """First on each connection. ``at_ms``: the place in the stream of what comes next."""

    fork: str
    channel: str
    uniqueid: str = ""
    linkedid: str = ""
    caller_number: str = ""
    caller_name: str = ""
    called: str = ""
    rate_hz: int = 8000
    channels: int = 1
    message_ms: int = 20
    channel_rate_hz: int = 8000
    play_buffer_ms: int = 0
    connection: int = 1
    at_ms: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Digit:
    """A key was pressed, in its place between the audio."""

    digit: str
    duration_ms: int
    verdict: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """Audio was lost: the next is at ``at_ms`` + ``ms``."""

    ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Started:
    """The first sample of the prompt has been played."""

    play: str


@dataclass(frozen=True, slots=True)
class MarkReached:
    play: str
    name: str
    played_ms: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """How far the prompt is."""

    play: str
    played_ms: int
    buffered_ms: int


@dataclass(frozen=True, slots=True)
class GuardSet:
    """DTMF_GUARD's mode is in force, for the next key that goes down. ``name``: of the ``Guard``
    that asked for it. ``why``: asked, place (of the prompt ``play``), limit."""

    name: str
    mode: str
    why: str
    at_ms: int
    play: str | None = None
    played_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PlayOver:
    """The prompt is over. ``how``: end, clear, digit, timeout, hangup, lost."""

    play: str
    how: str
    played_ms: int
    gap_ms: int = 0
    skipped_ms: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    counters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """The module could not obey a message, ``about`` its type."""

    about: str
    why: str


@dataclass(frozen=True, slots=True)
class HungUp:
    """The channel is gone; what is still in the ring follows. ``cause``: Q.850, 0: not known."""

    cause: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """Last, before the close frame."""

    reason: str
    at_ms: int
    counters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A type that a later version may have."""

    type: str


FromModule = (
    Start
    | Digit
    | Dropped
    | Started
    | MarkReached
    | Buffer
    | GuardSet
    | PlayOver
    | Counters
    | Refused
    | HungUp
    | Stopped
    | Unknown
)


def parse_first(text: str) -> Start | str:
    """A connection's first message: ``start``, or the bare channel name of a module without it.

    Raises BadRequest for anything else.
    """
    if not text.startswith("{"):
        return _channel(text)
    message = parse(text)
    if not isinstance(message, Start):
        raise BadRequest("first message", f"expected start, got {type(message).__name__}")
    return message


def parse(text: str) -> FromModule:
    """A later message. Raises BadRequest for what is no message, or lacks what its type needs."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise BadRequest("message", f"over {MAX_TEXT_BYTES} bytes")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest("message", f"no JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise BadRequest("message", "no JSON object with a type")
    read = _READERS.get(found["type"])
    return read(_Fields(found)) if read else Unknown(found["type"][:64])


class _Fields:
    """A message's fields, each checked as it is taken."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found = found

    def has(self, name: str) -> bool:
        return name in self._found

    def text(self, name: str, default: str | None = None) -> str:
        value = self._found.get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def id(self, name: str) -> str:
        value = self.text(name)
        if not _ID.fullmatch(value):
            raise self._wrong(name, value, "1 to 64 of A-Z a-z 0-9 . _ : -")
        return value

    def number(self, name: str, default: int | None = None, *, low: int = 0) -> int:
        value = self._found.get(name, default)
        if type(value) is not int or not low <= value <= _MAX_INT:
            raise self._wrong(name, value, f"a whole number from {low}")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self._found.get(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return value

    def _wrong(self, name: str, value: object, expected: str) -> BadRequest:
        return BadRequest(f"{self._found['type']}.{name}", f"expected {expected}: {value!r:.80}")


def _channel(name: str) -> str:
    """A channel's name as it comes from outside. Raises BadRequest."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if not name or size > MAX_CHANNEL_BYTES or not name.isprintable():
        raise BadRequest("first message", "it is no channel name")
    return name


def _start(found: _Fields) -> Start:
    found.number("version", low=VERSION)
    variables = found.mapping("variables")
    return Start(
        fork=found.id("fork"),
        channel=_channel(found.text("channel")),
        uniqueid=found.text("uniqueid", ""),
        linkedid=found.text("linkedid", ""),
        caller_number=found.text("caller_number", ""),
        caller_name=found.text("caller_name", ""),
        called=found.text("called", ""),
        rate_hz=found.number("rate", 8000, low=1),
        channels=found.number("channels", 1, low=1),
        message_ms=found.number("message_ms", 20, low=1),
        channel_rate_hz=found.number("channel_rate", 8000),
        play_buffer_ms=found.number("play_buffer_ms", 0),
        connection=found.number("connection", 1),
        at_ms=found.number("at_ms", 0),
        variables={name: text for name, text in variables.items() if isinstance(text, str)},
    )


def _digit(found: _Fields) -> Digit:
    digit = found.text("digit")
    if not re.fullmatch(r"[0-9*#A-Da-d]", digit):
        raise BadRequest("digit.digit", f"expected one key, got {digit[:80]!r}")
    return Digit(
        digit.upper(),
        found.number("duration_ms", 0),
        found.text("verdict", "passed"),
        found.number("at_ms"),
    )


def _guard(found: _Fields) -> GuardSet:
    placed = found.has("play")
    return GuardSet(
        found.id("name"),
        found.text("mode"),
        found.text("why", "asked"),
        found.number("at_ms"),
        found.id("play") if placed else None,
        found.number("played_ms", 0) if placed else None,
    )


def _play_over(found: _Fields) -> PlayOver:
    return PlayOver(
        found.id("play"),
        found.text("how"),
        found.number("played_ms"),
        found.number("gap_ms", 0),
        found.number("skipped_ms", 0),
    )


_READERS: Mapping[str, Callable[[_Fields], FromModule]] = {
    "start": _start,
    "digit": _digit,
    "dropped": lambda found: Dropped(found.number("ms"), found.number("at_ms")),
    "started": lambda found: Started(found.id("play")),
    "mark": lambda found: MarkReached(
        found.id("play"), found.id("name"), found.number("played_ms")
    ),
    "buffer": lambda found: Buffer(
        found.id("play"), found.number("played_ms"), found.number("buffered_ms")
    ),
    "guard": _guard,
    "played": _play_over,
    "counters": lambda found: Counters(found.mapping("counters")),
    "error": lambda found: Refused(found.text("about", ""), found.text("why", "")),
    "hangup": lambda found: HungUp(found.number("cause", 0), found.number("at_ms", 0)),
    "stop": lambda found: Stopped(
        found.text("reason", ""), found.number("at_ms", 0), found.mapping("counters")
    ),
}

# --- To the module --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Play:
    """Open a prompt: the audio that follows is its own."""

    play: str
    rate_hz: int = 8000
    whisper: bool | None = None
    live_ms: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The prompt has no more audio."""

    play: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Tell when playback is there. ``at_ms`` None: after the audio sent so far."""

    play: str
    name: str
    at_ms: int | None = None


GuardMode = Literal["block", "buffer", "pass", "off"]


@dataclass(frozen=True, slots=True)
class Guard:
    """Set DTMF_GUARD's mode: now, or when playback of ``play`` is at ``at_ms``; GuardSet tells.
    ``digits``: those that block and buffer stop, as in ``block(0-9)``; None: all. ``limit_ms``: it
    is in force no longer, then keys pass. ``kept``: what becomes of keys that were buffered:
    ``take``: they were told, and are ours; ``release``: into Asterisk."""

    name: str
    mode: GuardMode
    digits: str | None = None
    play: str | None = None
    at_ms: int | None = None
    limit_ms: int | None = None
    kept: Literal["take", "release", "stay"] | None = None


@dataclass(frozen=True, slots=True)
class Clear:
    """End the prompt at once, be it playing, waiting or yet to come; None: all."""

    play: str | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    play: str


@dataclass(frozen=True, slots=True)
class Resume:
    play: str


@dataclass(frozen=True, slots=True)
class Mute:
    """The direction goes on as silence."""

    direction: Literal["in", "out", "both"]
    on: bool


@dataclass(frozen=True, slots=True)
class StreamAudio:
    """Whether audio is captured and sent."""

    on: bool


@dataclass(frozen=True, slots=True)
class AskCounters:
    """Answered by Counters."""


@dataclass(frozen=True, slots=True)
class Event:
    """Raise the AMI event AudioForkText; ``text`` at most 1024 bytes."""

    text: str


@dataclass(frozen=True, slots=True)
class StopFork:
    """End the fork; the call goes on."""


ToModule = (
    Play
    | End
    | Mark
    | Guard
    | Clear
    | Pause
    | Resume
    | Mute
    | StreamAudio
    | AskCounters
    | Event
    | StopFork
)

_TYPES: Mapping[type[ToModule], str] = {
    Play: "play",
    End: "end",
    Mark: "mark",
    Guard: "guard",
    Clear: "clear",
    Pause: "pause",
    Resume: "resume",
    Mute: "mute",
    StreamAudio: "stream",
    AskCounters: "counters",
    Event: "text",
    StopFork: "stop",
}
_WIRE_NAMES = {"rate_hz": "rate"}


def serialise(message: ToModule) -> str:
    """The message as it goes on the wire. Raises BadRequest for what the module would refuse."""
    values: dict[str, Any] = {"type": _TYPES[type(message)]}
    for item in fields(message):
        value = getattr(message, item.name)
        if value is None:
            continue
        if item.name in ("play", "name") and not _ID.fullmatch(value):
            raise BadRequest(item.name, f"expected 1 to 64 of A-Z a-z 0-9 . _ : -: {value!r:.80}")
        values[_WIRE_NAMES.get(item.name, item.name)] = value
    if values.get("rate", 8000) not in PLAY_RATES_HZ:
        raise BadRequest("rate", f"{values['rate']} Hz; the module plays {PLAY_RATES_HZ}")
    if len(values.get("text", "").encode("utf-8")) > 1024:
        raise BadRequest("text", "over 1024 bytes")
    if isinstance(message, Guard):
        _check_guard(message)
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _keys(text: str) -> bool:
    """Whether it names keys as the module wants them: single ones, and ranges upwards."""
    upwards = all(low <= high for low, high in _RANGE.findall(text))
    return len(text) < 64 and upwards and bool(_KEYS.fullmatch(text))


def _check_guard(guard: Guard) -> None:
    """Raises BadRequest."""
    if guard.digits is not None and not _keys(guard.digits):
        raise BadRequest("digits", f"expected keys as in 0-9*#: {guard.digits!r:.80}")
    if guard.at_ms is not None and guard.play is None:
        raise BadRequest("at_ms", "a place wants its prompt: play is missing")
    if not 0 <= (guard.at_ms or 0) <= MAX_PLACE_MS:
        raise BadRequest("at_ms", f"expected 0 to {MAX_PLACE_MS}: {guard.at_ms}")
    if not 0 <= (guard.limit_ms or 0) <= MAX_LIMIT_MS:
        raise BadRequest("limit_ms", f"expected 0 to {MAX_LIMIT_MS}: {guard.limit_ms}")
