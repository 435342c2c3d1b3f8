"""One turn of a talk: it waits for speech, keys, or the end of its time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from backend.call.keys import DigitCollector, Digits, DigitsStatus
from backend.call.playback import Played
from backend.errors import RecognitionUnavailable
from backend.model import Utterance, Word

STREAM_S = 3.0  # the fork connects within this, or there is nothing to recognise
MAX_UTTERANCE_S = 60.0

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


@dataclass(frozen=True, slots=True)
class TurnRules:
    """``timeout_s``: for speech or a key to begin, from the prompt's end. ``speech``: whether it
    is an answer. ``digits``: which keys are; None: none. ``recognition_s``: longest wait for the
    text of what was said; ``owes``: we ended the utterance, so there will be one."""

    timeout_s: float
    speech: bool = True
    digits: Digits | None = None
    recognition_s: float = 5.0
    owes: bool = True


@dataclass(frozen=True, slots=True)
class Sight:
    """What the ear knows at a moment: whether the caller speaks, since when an ended utterance's
    text is awaited (None: none is), why recognition has ended for good, whether audio comes."""

    speaking: bool = False
    owed_s: float | None = None
    failure: str | None = None
    connected: bool = True


class Turn:
    """A turn, as it waits for its end. A pure machine; all times are seconds of one clock.

    ``said`` and ``key`` come in the order in which they happened; ``look`` then tells whether the
    turn is over.
    """

    def __init__(self, rules: TurnRules, now_s: float) -> None:
        self._rules = rules
        self._began_s = now_s
        self._quiet_until: float | None = None  # known when the prompt is over
        self._spoken_since: float | None = None
        self._keys = DigitCollector(rules.digits) if rules.digits is not None else None
        self._utterance: Utterance | None = None
        self._cancelled: str | None = None
        self._error: str | None = None
        self.played: Played | None = None

    @property
    def begun(self) -> bool:
        """A key has come: no prompt is needed."""
        return self._collecting

    @property
    def wants_speech(self) -> bool:
        """Speech may still be the answer."""
        return self._rules.speech and not self._collecting and self._error is None

    @property
    def wants_keys(self) -> bool:
        """Another key is wanted."""
        return self._keys is not None and self._keys.status is None and self._utterance is None

    def keys_over(self, at_s: float) -> bool:
        """Whether a key of that moment comes too late: too long after the one before."""
        return self._keys is not None and self._keys.look(at_s) is not None

    def prompt_over(self, played: Played | None, now_s: float) -> None:
        """The prompt has been played, or there was none: the wait begins."""
        self.played = played
        self._quiet_until = now_s + self._rules.timeout_s

    def said(self, utterance: Utterance) -> None:
        """The caller has said something that may be the answer."""
        if self.wants_speech and self._utterance is None:
            self._utterance = utterance

    def key(self, key: str, pressed_s: float) -> None:
        """The caller has pressed a key."""
        if self._keys is not None and self._utterance is None:
            self._keys.press(key, pressed_s)

    def cancel(self, reason: str) -> None:
        """Nobody waits for the answer any more. The first reason counts."""
        self._cancelled = self._cancelled or reason

    def cut_due(self, sight: Sight, now_s: float) -> bool:
        """Whether the caller has spoken for so long that his words so far are to be taken."""
        if not sight.speaking:
            self._spoken_since = None
            return False
        if self._spoken_since is None:
            self._spoken_since = now_s
        if now_s - self._spoken_since <= MAX_UTTERANCE_S:
            return False
        self._spoken_since = now_s
        return True

    def look(self, sight: Sight, now_s: float) -> Heard | None:
        """How the turn ended; None: it goes on. Raises RecognitionUnavailable where only speech
        can be the answer."""
        if self._utterance is not None:
            return self._recognised(self._utterance)
        if self._keys is not None and self._keys.look(now_s) is not None:
            return self._end(HearStatus.DIGITS, digits=self._keys.text)
        if self._cancelled is not None:
            return self._end(HearStatus.CANCELLED, reason=self._cancelled)
        if self.wants_speech and (error := self._deaf(sight, now_s)) is not None:
            if self._keys is None:
                raise RecognitionUnavailable(error)
            self._error = error
        if self._collecting or self._quiet_until is None or now_s < self._quiet_until:
            return None
        if self.wants_speech and (sight.speaking or sight.owed_s is not None):
            return None
        return self._end(HearStatus.TIMEOUT)

    def wait_s(self, now_s: float, most_s: float) -> float:
        """When to look again though nothing has happened; ``most_s`` at most."""
        until = self._quiet_until
        if self._keys is not None and self._keys.until_s is not None:
            until = self._keys.until_s
        left = most_s if until is None or until <= now_s else until - now_s
        return min(left, most_s)

    @property
    def digits_status(self) -> DigitsStatus | None:
        """How reading keys ended; None: it did not end by keys."""
        return self._keys.status if self._keys is not None else None

    @property
    def _collecting(self) -> bool:
        return self._keys is not None and self._keys.begun

    def _deaf(self, sight: Sight, now_s: float) -> str | None:
        """Why nothing can be recognised."""
        if sight.failure is not None:
            return sight.failure
        rules = self._rules
        if rules.owes and sight.owed_s is not None and sight.owed_s > rules.recognition_s:
            return f"no result within {rules.recognition_s:g} s of the utterance's end"
        if not sight.connected and now_s - self._began_s > STREAM_S:
            return (
                f"no audio stream from Asterisk within {STREAM_S:g} s: is app_audiofork loaded, "
                "and can Asterisk reach the frame sink (asterisk-dialog doctor)?"
            )
        return None

    def _recognised(self, utterance: Utterance) -> Heard:
        return Heard(
            HearStatus.RECOGNIZED,
            utterance.text,
            utterance.confidence,
            utterance.language,
            utterance.start_ms,
            utterance.end_ms,
            utterance.words,
            self.played,
        )

    def _end(self, status: HearStatus, *, digits: str = "", reason: str | None = None) -> Heard:
        return Heard(status, prompt=self.played, digits=digits, reason=reason, error=self._error)
