"""What a carrier's announcement says, while it is still being said. A pure machine.

It reads a recogniser's partial and final texts and gives a verdict as soon as it is certain: when
no longer pattern of another class can come true any more, and a partial text, which the
recogniser may take back, has been confirmed by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.media.phrases import Match, Phrases, Said, normal_words

SETTLE_MS = 1500  # silence of the recogniser after which a longer pattern is not awaited any more
_KEPT_WORDS = 60  # of the utterances before


@dataclass(frozen=True, slots=True)
class Announced:
    """``said`` is certain at ``at_ms``. ``words``: those it was known by; ``pattern`` as written
    in the file, of ``size`` words."""

    said: Said
    at_ms: int
    words: str
    pattern: str
    size: int
    language: str


class AnnouncementReader:
    """``heard`` each text of one stream, ``tick`` now and then; both give Announced or None.
    What is said again is given once.

    ``languages``: BCP 47 tags of the patterns that count; none: all. Times are the caller's own,
    in ms, rising.
    """

    def __init__(
        self, phrases: Phrases, languages: Sequence[str] = (), settle_ms: int = SETTLE_MS
    ) -> None:
        self._phrases = phrases
        self._languages = tuple(languages)
        self._settle_ms = settle_ms
        self._before: list[str] = []  # words of finals
        self._words: list[str] = []  # those, and the last text's
        self._since = 0  # what came before is judged
        self._pending: Match | None = None
        self._given: set[Said] = set()
        self._last_ms = 0  # of the last text

    @property
    def text(self) -> str:
        """The words of late, as compared with the patterns."""
        return " ".join(self._words)

    def heard(self, text: str, *, final: bool, at_ms: int) -> Announced | None:
        """A recogniser's text of the utterance that goes on, or has ended (``final``)."""
        self._words = self._before + normal_words(text)
        self._last_ms = at_ms
        match = self._phrases.best(self._words, self._languages, self._since)
        confirmed = match is not None and (
            final
            or match.last < len(self._words) - 1
            or (self._pending is not None and self._pending.pattern.said is match.pattern.said)
        )
        self._pending = match
        verdict = None
        if match is not None and confirmed and not self._may_grow(match):
            verdict = self._give(match, at_ms)
        if final:
            self._before = list(self._words)
            self._forget()
        return verdict

    def tick(self, at_ms: int) -> Announced | None:
        """Time goes by: what is pending is certain after ``settle_ms`` without a new text."""
        if self._pending is None or at_ms - self._last_ms < self._settle_ms:
            return None
        return self._give(self._pending, at_ms)

    def close(self, at_ms: int) -> Announced | None:
        """No text will come any more: what is pending is the verdict."""
        return self._give(self._pending, at_ms) if self._pending is not None else None

    def _may_grow(self, match: Match) -> bool:
        """A longer pattern of another class may still come true around this one."""
        following = len(self._words) - match.first
        return any(following <= rival.reach for rival in self._phrases.rivals(match.pattern))

    def _give(self, match: Match, at_ms: int) -> Announced | None:
        self._pending = None
        self._since = match.last + 1
        pattern = match.pattern
        if pattern.said in self._given:
            return None
        self._given.add(pattern.said)
        words = " ".join(self._words[match.first : match.last + 1])
        return Announced(
            pattern.said, at_ms, words, pattern.text, pattern.weight[0], pattern.language
        )

    def _forget(self) -> None:
        over = len(self._before) - _KEPT_WORDS
        if over > 0:
            del self._before[:over]
            self._since = max(0, self._since - over)
            if self._pending is not None:
                match = self._pending
                moved = Match(match.pattern, match.first - over, match.last - over)
                self._pending = moved if moved.first >= 0 else None
            self._words = list(self._before)
