"""Keys: what the caller pressed, and reading them. What becomes of each is keying.machine's."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Protocol

from backend.call.playback import Played
from backend.errors import BadRequest
from backend.keying import events as ev
from backend.keying.machine import step
from backend.keying.state import MAX_KEPT, State
from backend.protocol import fork

MAX_DIGITS = 64  # in one reading


@dataclass(frozen=True, slots=True)
class Digits:
    """What keys a turn takes: ``max`` of them, or fewer ended by ``terminator`` (one key, or None:
    none), or by ``between_s`` without a further key. The terminator does not count."""

    max: int = 1
    terminator: str | None = "#"
    between_s: float = 3.0

    def __post_init__(self) -> None:
        if type(self.max) is not int or not 1 <= self.max <= MAX_DIGITS:
            raise BadRequest("max", f"{self.max!r}: expected a whole number from 1 to {MAX_DIGITS}")
        if self.terminator is not None and not re.fullmatch("[0-9A-D*#]", self.terminator):
            raise BadRequest("terminator", f"{self.terminator!r}: expected one of 0-9 A-D * #")
        if not 0 < self.between_s <= 3600:
            raise BadRequest("between_s", f"{self.between_s!r}: expected seconds, more than 0")


class DigitsStatus(StrEnum):
    """How reading ended."""

    COMPLETE = "complete"  # as many as were asked for
    TERMINATOR = "terminator"  # the caller pressed it; digits may be empty
    BETWEEN = "between"  # some came, then none for between_s
    TIMEOUT = "timeout"  # none came within timeout_s
    CANCELLED = "cancelled"  # cancel_hear


@dataclass(frozen=True, slots=True)
class DigitsRead:
    """What ``read_digits`` returns. ``digits``: without the terminator. ``prompt``: how the prompt
    ended; None: there was none, or what had been typed ahead made it needless. ``reason``: what
    ``cancel_hear`` was given."""

    status: DigitsStatus
    digits: str = ""
    prompt: Played | None = None
    reason: str | None = None

    @property
    def read(self) -> bool:
        """The caller has ended his input: complete, terminator or between."""
        return self.status not in (DigitsStatus.TIMEOUT, DigitsStatus.CANCELLED)


class DigitCollector:
    """Keys on their way to a DigitsRead. A pure machine; times in seconds of one clock."""

    def __init__(self, digits: Digits) -> None:
        self._digits = digits
        self.text = ""
        self.begun = False  # a key has come
        self.status: DigitsStatus | None = None
        self.until_s: float | None = None  # the next key, or it is over

    def press(self, key: str, pressed_s: float) -> None:
        """A key; after the end it changes nothing."""
        if self.look(pressed_s) is not None:
            return
        self.begun = True
        if key == self._digits.terminator:
            self._end(DigitsStatus.TERMINATOR)
            return
        self.text += key
        self.until_s = pressed_s + self._digits.between_s
        if len(self.text) == self._digits.max:
            self._end(DigitsStatus.COMPLETE)

    def look(self, now_s: float) -> DigitsStatus | None:
        """How it has ended by now; None: another key is wanted."""
        if self.status is None and self.until_s is not None and now_s >= self.until_s:
            self._end(DigitsStatus.BETWEEN)
        return self.status

    def _end(self, status: DigitsStatus) -> None:
        self.status, self.until_s = status, None


@dataclass(frozen=True, slots=True)
class Key:
    """``pressed_s``: the monotonic clock when we were told of it, or when it was released.
    ``at_ms``: its place in the call's audio; None: the fork did not tell of it. ``ahead``: it was
    kept while keys were blocked, and stops no prompt."""

    key: str
    pressed_s: float
    at_ms: int | None = None
    ahead: bool = False


Watcher = Callable[[Key], None]


class Hands(Protocol):
    """Who does what the machine wants: call.gate."""

    def record(self, action: ev.Action) -> None:
        """In the order of the actions, under a lock: must not block, nor call the keys."""

    def act(self, action: ev.Action) -> None:
        """Afterwards, without one."""


class Keys:
    """The keys that the caller pressed and nobody has read, in order, MAX_KEPT at most: then the
    oldest goes (all are in the event log). Whether a key counts at all the machine of keys
    decides. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards all below; held for one step of the machine
        self._state = State()
        self._hands: Hands | None = None
        self._watchers: tuple[Watcher, ...] = ()
        self._every: Watcher | None = None

    # The machine

    def join(self, hands: Hands) -> None:
        """Who does what is to be done."""
        self._hands = hands

    @property
    def state(self) -> State:
        """As it was a moment ago."""
        return self._state

    @property
    def now_ms(self) -> int:
        """The machine's clock."""
        return round(self._clock() * 1000)

    def apply(self, event: ev.Event) -> tuple[ev.Action, ...]:
        """Something has happened. What is to be done has been done when it returns."""
        with self._lock:
            self._state, actions = step(self._state, event)
            watchers, every = self._watchers, self._every
            if self._hands is not None:
                for action in actions:
                    self._hands.record(action)
        for action in actions:
            if isinstance(action, ev.Readable | ev.Needless):
                counts = isinstance(action, ev.Readable)
                for watcher in (*(watchers if counts else ()), *([every] if every else ())):
                    watcher(_key(action.key))
            elif self._hands is not None:
                self._hands.act(action)
        return actions

    # Who wants keys

    def watch(self, callback: Watcher) -> None:
        """``callback`` runs with each key that can be read, in the thread that tells of it (the
        audio loop), until it is taken away. It must not block."""
        with self._lock:
            self._watchers += (callback,)

    def unwatch(self, callback: Watcher) -> None:
        with self._lock:
            self._watchers = tuple(w for w in self._watchers if w != callback)

    def on_every(self, callback: Watcher | None) -> None:
        """The one that is told of each key that is not blocked, without exception."""
        with self._lock:
            self._every = callback

    def take(self) -> Key | None:
        """The next key that nobody has taken."""
        if not self._state.readable:
            return None
        taken = [a.key for a in self.apply(ev.Take(self.now_ms)) if isinstance(a, ev.Taken)]
        return _key(taken[0]) if taken else None

    @property
    def next(self) -> Key | None:
        """The same, left where it is."""
        readable = self._state.readable
        return _key(readable[0]) if readable else None

    # Who tells

    def tell(self, digit: fork.Digit, begun_ms: int | None = None) -> None:
        """The fork tells of a key, which went down at ``begun_ms``. One that DTMF_GUARD kept is
        told twice: kept, released."""
        if digit.verdict == "released":
            return
        begun_ms = max(digit.at_ms - digit.duration_ms, 0) if begun_ms is None else begun_ms
        self.apply(
            ev.Pressed(
                self.now_ms,
                begun_ms,
                digit.digit,
                digit.verdict,
                digit.duration_ms,
                digit.at_ms,
            )
        )

    def press(self, key: str, at_ms: int | None = None, *, begun_ms: int = 0) -> None:
        """A key has been pressed; Asterisk itself has read it."""
        self.apply(ev.Pressed(self.now_ms, begun_ms, key, at_ms=at_ms))


def _key(held: ev.HeldKey) -> Key:
    return Key(held.key, held.pressed_ms / 1000, held.at_ms, held.ahead)


__all__ = [
    "MAX_DIGITS",
    "MAX_KEPT",
    "DigitCollector",
    "Digits",
    "DigitsRead",
    "DigitsStatus",
    "Hands",
    "Key",
    "Keys",
]
