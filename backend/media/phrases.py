"""Patterns of words, and where a recognised text holds them. Pure.

The syntax and the file are described in ``announcements.toml``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path

from backend import tables
from backend.errors import ConfigError

BUILT_IN = Path(__file__).with_name("announcements.toml")
SLACK_WORDS = 5  # other words between those of a pattern, besides as many as it has
_FORGIVING = 6  # letters of a word in which one may be wrong
_MAX_WORDS = 12  # of a pattern
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")  # don't is one


class Said(StrEnum):
    """What an announcement says; see ``announcements.toml``."""

    UNAVAILABLE = "unavailable"
    SWITCHED_OFF = "switched_off"
    OUT_OF_COVERAGE = "out_of_coverage"
    NO_SUCH_NUMBER = "no_such_number"
    NUMBER_CHANGED = "number_changed"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    BLOCKED = "blocked"
    INCOMING_BARRED = "incoming_barred"
    OUTGOING_BARRED = "outgoing_barred"
    CONGESTION = "congestion"
    VOICEMAIL = "voicemail"
    ASSISTANT = "assistant"
    RECORDING_NOTICE = "recording_notice"
    FORWARDING = "forwarding"
    PLEASE_WAIT = "please_wait"

    @property
    def goes_on(self) -> bool:
        """The call goes on after it."""
        return self in (Said.RECORDING_NOTICE, Said.FORWARDING, Said.PLEASE_WAIT)


Alternative = tuple[str, ...]  # words side by side; one that ends in * is a beginning


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """``slots``: each is heard in one of its alternatives. ``rivals``: longer patterns of other
    classes that hold all of it. ``weight``: words, then letters."""

    said: Said
    language: str
    text: str
    slots: tuple[tuple[Alternative, ...], ...]
    weight: tuple[int, int]

    @property
    def reach(self) -> int:
        """In how many words all of it must be."""
        return 2 * self.weight[0] + SLACK_WORDS


@dataclass(frozen=True, slots=True)
class Match:
    """``pattern`` was found in the words ``first`` … ``last``."""

    pattern: Pattern
    first: int
    last: int


class Phrases:
    """A file's patterns."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.patterns = tuple(sorted(patterns, key=lambda p: p.weight, reverse=True))
        self._rivals = {id(p): tuple(r for r in patterns if _is_rival(r, p)) for p in patterns}

    def rivals(self, pattern: Pattern) -> tuple[Pattern, ...]:
        """Longer patterns of other classes that hold all words of this one."""
        return self._rivals[id(pattern)]

    def best(
        self, words: Sequence[str], languages: Sequence[str] = (), since: int = 0
    ) -> Match | None:
        """The longest pattern found in ``words[since:]``, the first place of it.

        ``languages``: BCP 47 tags; none: all of the file.
        """
        allowed = {tag.split("-")[0].lower() for tag in languages}
        places = _Places(words, since)
        for pattern in self.patterns:
            if allowed and pattern.language not in allowed:
                continue
            if (found := _find(pattern, places)) is not None:
                return found
        return None


def normal_words(text: str) -> list[str]:
    """The words of a text: small letters, е for ё, no punctuation; a hyphen parts words. A word
    said twice running is one."""
    plain = unicodedata.normalize("NFC", text).casefold().replace("ё", "е").replace("’", "'")
    return [word for word, _ in groupby(_WORD.findall(plain))]


def load(path: Path | None = None) -> Phrases:
    """The patterns in ``path``; None: those that came with this package. Raises ConfigError."""
    return tables.load(path or BUILT_IN, parse)


def parse(text: str, name: str) -> Phrases:
    """The patterns in ``text``; ``name`` for errors. Raises ConfigError."""
    data = tables.entries(text, name)
    patterns = []
    for language, classes in data.items():
        if not isinstance(classes, Mapping):
            raise ConfigError(f"{name}: {language}: expected a table of classes, [{language}]")
        for said, texts in classes.items():
            where = f"{name}: {language}.{said}"
            if said not in list(Said):
                raise ConfigError(f"{where}: no such class; known: {', '.join(Said)}")
            if not isinstance(texts, list):
                raise ConfigError(f"{where}: expected a list of patterns")
            patterns += [
                _pattern(Said(said), language.lower(), one, f"{where}[{n}]")
                for n, one in enumerate(texts)
            ]
    if not patterns:
        raise ConfigError(f"{name}: there is no pattern in it")
    return Phrases(patterns)


def _pattern(said: Said, language: str, text: object, where: str) -> Pattern:
    if not isinstance(text, str) or not text.split():
        raise ConfigError(f"{where}: {text!r}; expected words")
    slots = tuple(
        tuple(_alternative(one, f"{where}: {text!r}") for one in slot.split("|"))
        for slot in text.split()
    )
    shortest = [min(slot, key=lambda words: (len(words), sum(map(len, words)))) for slot in slots]
    weight = (sum(map(len, shortest)), sum(len(word) for words in shortest for word in words))
    if weight[0] > _MAX_WORDS:
        raise ConfigError(f"{where}: {weight[0]} words; expected {_MAX_WORDS} at most")
    return Pattern(said, language, text, slots, weight)


def _alternative(text: str, where: str) -> Alternative:
    words = []
    for part in text.split("+"):
        stem = part.removesuffix("*")
        if normal_words(stem) not in ([stem], [stem.casefold().replace("ё", "е")]):
            raise ConfigError(f"{where}: {part!r} is no word (letters, digits, * at its end)")
        words.append(normal_words(stem)[0] + "*" * part.endswith("*"))
    return tuple(words)


def _is_rival(longer: Pattern, pattern: Pattern) -> bool:
    return (
        longer.said is not pattern.said
        and longer.language == pattern.language
        and longer.weight > pattern.weight
        and all(any(set(slot) & set(other) for other in longer.slots) for slot in pattern.slots)
    )


class _Places:
    """Where in ``words[since:]`` alternatives are, each looked for once."""

    def __init__(self, words: Sequence[str], since: int) -> None:
        self._words = words
        self._by_letter: dict[str, list[int]] = {}
        for place in range(since, len(words)):
            self._by_letter.setdefault(words[place][0], []).append(place)
        self._known: dict[Alternative, list[tuple[int, int]]] = {}

    def of(self, alternative: Alternative) -> list[tuple[int, int]]:
        """First word, and the one after the last."""
        found = self._known.get(alternative)
        if found is None:
            size = len(alternative)
            found = self._known[alternative] = [
                (place, place + size)
                for place in self._by_letter.get(alternative[0][0], ())
                if self._is_here(alternative, place)
            ]
        return found

    def _is_here(self, alternative: Alternative, place: int) -> bool:
        words = self._words[place : place + len(alternative)]
        return len(words) == len(alternative) and all(map(_is_word, alternative, words))


def _find(pattern: Pattern, places: _Places) -> Match | None:
    found: list[list[tuple[int, int]]] = []
    for slot in pattern.slots:
        here = [place for alternative in slot for place in places.of(alternative)]
        if not here:
            return None
        found.append(sorted(here))
    for first in sorted({place[0] for slot in found for place in slot}):
        last = _fit(found, first, first + pattern.reach)
        if last is not None:
            return Match(pattern, first, last)
    return None


def _fit(found: list[list[tuple[int, int]]], first: int, end: int) -> int | None:
    """Whether every slot has a place of its own from ``first`` to before ``end``: the last word."""
    taken: set[int] = set()
    last = first
    for slot in sorted(found, key=len):
        for start, stop in slot:
            place = range(start, stop)
            if first <= start and stop <= end and taken.isdisjoint(place):
                taken.update(place)
                last = max(last, stop - 1)
                break
        else:
            return None
    return last


def _is_word(want: str, word: str) -> bool:
    if not want.endswith("*"):
        return word == want or (len(want) >= _FORGIVING and _near(want, word))
    stem = want[:-1]
    if word.startswith(stem):
        return True
    size = len(stem)
    return size >= _FORGIVING and any(_near(stem, word[:n]) for n in (size, size + 1, size - 1))


def _near(one: str, other: str) -> bool:
    """One letter changed, left out or put in; not the first."""
    if abs(len(one) - len(other)) > 1 or one[:1] != other[:1]:
        return False
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if same is None:
        return True
    rest, other_rest = one[same:], other[same:]
    if len(one) == len(other):
        return rest[1:] == other_rest[1:]
    return rest[1:] == other_rest or rest == other_rest[1:]
