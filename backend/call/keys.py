"""Keys: what the caller pressed, and reading them."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from backend.call.playback import Played
from backend.errors import BadRequest
from backend.protocol import fork

MAX_DIGITS = 64  # in one reading
MAX_KEPT = 64


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
    """``pressed_s``: the monotonic clock when we were told of it. ``at_ms``: its place in the
    call's audio; None: the fork did not tell of it."""

    key: str
    pressed_s: float
    at_ms: int | None = None


Watcher = Callable[[Key], None]


class Keys:
    """The keys that the caller pressed and nobody has read, in order, MAX_KEPT at most: then the
    oldest goes (all are in the event log). Thread-safe."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: deque[Key] = deque(maxlen=MAX_KEPT)
        self._watchers: tuple[Watcher, ...] = ()
        self._every: Watcher | None = None
        self._needless: tuple[str, float] | None = None  # a key that ends nothing any more; until

    def watch(self, callback: Watcher) -> None:
        """``callback`` runs with each key that can be read, in the thread that tells of it (the
        audio loop), until it is taken away. It must not block."""
        with self._lock:
            self._watchers += (callback,)

    def unwatch(self, callback: Watcher) -> None:
        with self._lock:
            self._watchers = tuple(w for w in self._watchers if w != callback)

    def on_every(self, callback: Watcher | None) -> None:
        """The one that is told of each key without exception."""
        with self._lock:
            self._every = callback

    def take(self) -> Key | None:
        """The next key that nobody has taken."""
        with self._lock:
            return self._kept.popleft() if self._kept else None

    @property
    def next(self) -> Key | None:
        """The same, left where it is."""
        with self._lock:
            return self._kept[0] if self._kept else None

    def needless(self, digits: Digits) -> None:
        """As many keys as were asked for have come: the terminator that a caller presses all the
        same is not the beginning of his next input."""
        key = digits.terminator
        if key is None:
            return
        with self._lock:
            if not self._kept:
                self._needless = (key, self._clock() + digits.between_s)
            elif self._kept[0].key == key:
                self._kept.popleft()

    def tell(self, digit: fork.Digit) -> None:
        """The fork tells of a key. One that DTMF_GUARD kept is told twice: kept, released."""
        if digit.verdict != "released":
            self.press(digit.digit, digit.at_ms)

    def press(self, key: str, at_ms: int | None = None) -> None:
        """A key has been pressed."""
        pressed = Key(key, self._clock(), at_ms)
        with self._lock:
            needless, self._needless = self._needless, None
            counts = needless is None or needless[0] != key or needless[1] < pressed.pressed_s
            if counts:
                self._kept.append(pressed)
            told = [*(self._watchers if counts else ()), *([self._every] if self._every else ())]
        for watcher in told:
            watcher(pressed)
