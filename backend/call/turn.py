"""One turn of a talk: how it may end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from backend.call.playback import Played
from backend.model import Word

BargeIn = Literal["voice", "words", "off"]
BARGE_IN: tuple[BargeIn, ...] = ("voice", "words", "off")


class HearStatus(StrEnum):
    """How a turn ended."""

    RECOGNIZED = "recognized"
    DIGITS = "digits"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Heard:
    """What ``hear`` returns. Times in ms of the call's audio.

    ``text`` is empty unless it was recognised, ``digits`` unless keys ended the turn (they may be
    empty then, too: the terminator alone). ``prompt``: how the prompt ended. ``reason``: what
    ``cancel_hear`` was given. ``error``: why nothing could be recognised, in a turn that took keys
    as well and so went on without.
    """

    status: HearStatus
    text: str = ""
    confidence: float | None = None
    language: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    words: tuple[Word, ...] = ()
    prompt: Played | None = None
    digits: str = ""
    reason: str | None = None
    error: str | None = None

    @property
    def recognized(self) -> bool:
        return self.status is HearStatus.RECOGNIZED
