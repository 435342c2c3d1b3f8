"""Keys: what the caller pressed, and reading them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from backend.call.playback import Played
from backend.errors import BadRequest

MAX_DIGITS = 64


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
