"""What the machine of keys is told, and what it wants done. Pure.

Two clocks: ``now_ms`` is monotonic and measures limits; ``at_ms`` is the place in the call's audio,
on which keys and switches of the block are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.keying.rules import KeyGuard

Mode = Literal["block", "buffer", "pass", "off"]
Ending = Literal["played", "stopped", "failed", "lost"]
InputEnding = Literal["digits", "speech", "timeout", "cancelled", "failed"]
Verdict = Literal["taken", "blocked", "buffered", "released", "conflict", "discarded", "lost"]
Alarm = Literal["block_limit", "overrun", "no_report", "guard_refused"]


# --- Events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlayOrdered:
    """A prompt is about to be played. ``rules`` None: it is not guarded."""

    now_ms: int
    at_ms: int
    prompt: int
    rules: KeyGuard | None


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the prompt is played in one go: streamed as ``play``, or, None, from a file.
    ``length_ms``: of what is left of it, None: not known yet. ``last``: it is all that is left of
    the prompt. Told again when the length becomes known."""

    now_ms: int
    play: str | None
    length_ms: int | None = None
    last: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """So much of the stretch ``play`` has been played."""

    now_ms: int
    play: str
    played_ms: int


@dataclass(frozen=True, slots=True)
class Paused:
    """The prompt stands still, or goes on."""

    now_ms: int
    on: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer to AskOver: how much of the prompt's last stretch has been played."""

    now_ms: int
    at_ms: int
    played_ms: int


@dataclass(frozen=True, slots=True)
class PlayOver:
    """The prompt is over. ``play`` None: whichever was ordered last."""

    now_ms: int
    at_ms: int
    how: Ending = "played"
    play: str | None = None


@dataclass(frozen=True, slots=True)
class GuardSet:
    """The module has a mode in force. ``why``: asked, place, limit."""

    now_ms: int
    at_ms: int
    name: str
    mode: str
    why: str
    play: str | None = None
    played_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The module does not know how to guard, or cannot."""

    now_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class Linked:
    """A fork has connected (again), ``able`` to be told of guards; or is gone."""

    now_ms: int
    able: bool


@dataclass(frozen=True, slots=True)
class Pressed:
    """A key is told. ``begun_ms``: the place in the audio where it went down; ``verdict``: the
    module's, None: nobody has judged it."""

    now_ms: int
    begun_ms: int
    key: str
    verdict: str | None = None
    duration_ms: int | None = None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TurnBegins:
    """Keys that were typed ahead may be the answer."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class InputWanted:
    """The wait for an answer begins."""

    now_ms: int
    at_ms: int
    rules: KeyGuard | None


@dataclass(frozen=True, slots=True)
class InputOver:
    """It has ended. ``rules``: what holds from now on. ``needless``: a key that ends nothing any
    more if it is the next one and comes within ``needless_ms``."""

    now_ms: int
    at_ms: int
    how: InputEnding
    rules: KeyGuard | None
    needless: str | None = None
    needless_ms: int = 0


@dataclass(frozen=True, slots=True)
class Take:
    """The scenario reads the next key."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class Opened:
    """Something else wants the keys: a bridge, an application."""

    now_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Off:
    """Nothing is guarded any more."""

    now_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    now_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class HangUp:
    """The call is over."""

    now_ms: int
    at_ms: int


Event = (
    PlayOrdered
    | Stretch
    | Progress
    | Paused
    | Asked
    | PlayOver
    | GuardSet
    | Refused
    | Linked
    | Pressed
    | TurnBegins
    | InputWanted
    | InputOver
    | Take
    | Opened
    | Off
    | Tick
    | HangUp
)

# --- Actions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetGuard:
    """Tell the module; as protocol.fork.Guard."""

    name: str
    mode: Mode
    play: str | None = None
    place_ms: int | None = None
    limit_ms: int | None = None


@dataclass(frozen=True, slots=True)
class StopPlay:
    """The prompt goes on beyond all expectation: end it."""


@dataclass(frozen=True, slots=True)
class AskOver:
    """Its end should have been told: ask how far it is."""


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key that nobody has read yet. ``ahead``: it was kept while keys were blocked; ``guarded``:
    it came while somebody guarded, and so ends in a verdict."""

    key: str
    pressed_ms: int
    begun_ms: int
    at_ms: int | None
    duration_ms: int | None
    ahead: bool = False
    play: str | None = None
    hidden: bool = False
    guarded: bool = True


@dataclass(frozen=True, slots=True)
class Readable:
    """This key can be read now."""

    key: HeldKey


@dataclass(frozen=True, slots=True)
class Needless:
    """This key ends nothing any more: nobody reads it."""

    key: HeldKey


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to Take: it is the scenario's."""

    key: HeldKey


@dataclass(frozen=True, slots=True)
class KeyJudged:
    """What has become of a key. ``by_backend``: the module had let it pass."""

    key: HeldKey
    verdict: Verdict
    by_backend: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """A transition, or something worth a record in it."""

    before: str
    event: str
    after: str
    at_ms: int | None = None
    play: str | None = None
    took_ms: int | None = None
    error_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """A key came at the moment of an order, which wins."""

    key: HeldKey
    order: Literal["play", "processing"]
    after_ms: int


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm; ``why`` for a person."""

    alarm: Alarm
    play: str | None
    why: str


Orders = SetGuard | StopPlay | AskOver
OfKeys = Readable | Needless | Taken | KeyJudged | Conflict
Action = Orders | OfKeys | Changed | Raised
