"""Whether a prompt goes on while the caller speaks or presses keys. A pure machine.

Told what is heard, it says what to do with the prompt. All times are ms of one clock that only
goes forward; an event at the prompt's end or after it changes nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from backend.call.backchannel import Said
from backend.model import Utterance

# Said so shortly before the prompt's end it is an answer, whatever it is: speech ends with silence
# of its own, and who knows the question does not wait for its last syllable.
ANSWER_TAIL_MS = 700

StoppedBy = Literal["voice", "words", "keys", "cancel"]


class Act(StrEnum):
    """What to do with the prompt, now."""

    PAUSE = "pause"
    RESUME = "resume"  # from the exact place
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class BargeRules:
    """``voice``: what the caller's voice does: nothing; stops at once; pauses, and words stop.
    ``keys``: a key stops. ``decide_ms``: a pause without words is no longer than this."""

    voice: Literal["off", "voice", "words"] = "off"
    keys: bool = False
    decide_ms: int = 1000


class Barge:
    """One prompt. ``judge(text, final)`` knows the back-channel words."""

    def __init__(self, rules: BargeRules, judge: Callable[[str, bool], Said]) -> None:
        self._rules = rules
        self._judge = judge
        self._speaking = False
        self._paused_at: int | None = None
        self._said = Said.NOTHING  # since it was paused
        self._ignored: list[tuple[Utterance, int]] = []
        self._over = False
        self.stopped_by: StoppedBy | None = None

    @property
    def state(self) -> Literal["plays", "paused", "stopped"]:
        if self.stopped_by is not None:
            return "stopped"
        return "plays" if self._paused_at is None else "paused"

    def voice(self, speaking: bool, now_ms: int) -> Act | None:
        """The caller begins to speak, or has been silent for long enough."""
        began, self._speaking = speaking and not self._speaking, speaking
        if not began or self._done:
            return None
        if self._rules.voice == "voice":
            return self._stop("voice")
        if self._rules.voice == "words" and self._paused_at is None:
            self._paused_at, self._said = now_ms, Said.NOTHING
            return Act.PAUSE
        return None

    def words(self, text: str, now_ms: int) -> Act | None:
        """What the caller seems to be saying."""
        if self._rules.voice != "words" or self._done:
            return None
        self._said = self._judge(text, False)
        if self._said is Said.SPEECH:
            return self._stop("words")
        return self.time(now_ms)

    def utterance(self, utterance: Utterance | None, now_ms: int) -> Act | None:
        """The caller has said something; None: it was a noise."""
        if self._rules.voice != "words" or self._done:
            return None
        if utterance is not None:
            if self._judge(utterance.text, True) is not Said.BACKCHANNEL:
                return self._stop("words")
            self._ignored.append((utterance, now_ms))
        self._said = Said.NOTHING
        # While he speaks again the pause goes on, as long as it may.
        return self.time(now_ms) if self._speaking else self._resume()

    def key(self) -> Act | None:
        """A key was pressed."""
        return self._stop("keys") if self._rules.keys and not self._done else None

    def cancel(self) -> Act | None:
        """The turn is not wanted any more."""
        return None if self._done else self._stop("cancel")

    def time(self, now_ms: int) -> Act | None:
        """Time has passed; several times in ``decide_ms``."""
        if self._done or self._paused_at is None:
            return None
        if now_ms - self._paused_at < self._rules.decide_ms:
            return None
        return self._stop("words") if self._said is Said.OPEN else self._resume()

    def over(self, now_ms: int) -> tuple[Utterance, ...]:
        """The prompt has ended. What was said during it that is no answer."""
        self._over = True
        if self.stopped_by is not None:
            return tuple(utterance for utterance, _ in self._ignored)
        return tuple(u for u, at_ms in self._ignored if now_ms - at_ms > ANSWER_TAIL_MS)

    @property
    def _done(self) -> bool:
        return self._over or self.stopped_by is not None

    def _stop(self, by: StoppedBy) -> Act:
        self.stopped_by, self._paused_at = by, None
        return Act.STOP

    def _resume(self) -> Act | None:
        if self._paused_at is None:
            return None
        self._paused_at = None
        return Act.RESUME
