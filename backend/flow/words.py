"""What the caller said, and which branch of a ``hear`` node it means. Pure, and linear: no regular
expression of an author's meets what a stranger says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from backend.errors import FlowValueError

MAX_WORDS = 200  # of what was said: more is no answer
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_PHRASE_WORD = re.compile(r"\*|[^\W_]+(?:['’-][^\W_]+)*\*?")


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words side by side: ``operat*`` is a beginning, a ``*`` alone is any words, or none."""

    text: str
    words: tuple[str, ...]

    def within(self, said: tuple[str, ...]) -> bool:
        """Whether these words hold it, wherever."""
        groups = self._groups()
        at = 0
        for group in groups:
            found = _find(group, said, at)
            if found < 0:
                return False
            at = found + len(group)
        return True

    def _groups(self) -> list[tuple[str, ...]]:
        groups: list[list[str]] = [[]]
        for word in self.words:
            if word == "*":
                groups.append([])
            else:
                groups[-1].append(word)
        return [tuple(group) for group in groups if group]


def phrase(text: str) -> Phrase:
    """Raises FlowValueError."""
    plain = _plain(text)
    words = tuple(plain.split())
    bad = next((word for word in words if not _PHRASE_WORD.fullmatch(word)), None)
    if bad is not None:
        raise FlowValueError(
            f"{text[:60]!r}: {bad!r} is no word: expected letters or digits, '*' behind the"
            " beginning of one, or alone for any words"
        )
    if not any(word != "*" for word in words):
        raise FlowValueError(f"{text[:60]!r}: has no word in it")
    return Phrase(text, words)


def words_of(said: str) -> tuple[str, ...]:
    """Small letters, no punctuation, ё as е."""
    return tuple(_WORD.findall(_plain(said)))[:MAX_WORDS]


def _plain(text: str) -> str:
    return text.lower().replace("ё", "е").replace("’", "'")


def _find(group: tuple[str, ...], said: tuple[str, ...], start: int) -> int:
    for at in range(start, len(said) - len(group) + 1):
        if all(_same(word, said[at + n]) for n, word in enumerate(group)):
            return at
    return -1


def _same(pattern: str, word: str) -> bool:
    return word.startswith(pattern[:-1]) if pattern.endswith("*") else word == pattern
