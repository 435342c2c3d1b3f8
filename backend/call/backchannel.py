"""Back-channel words: what a listener says without wanting to speak. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from backend import tables
from backend.errors import ConfigError

BUILT_IN = Path(__file__).with_name("backchannel.toml")
_NOT_A_WORD = re.compile(r"[^\w']+")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
MAX_PHRASES = 1000


class Said(StrEnum):
    """What words are while a prompt plays."""

    NOTHING = "nothing"  # none
    BACKCHANNEL = "backchannel"
    OPEN = "open"  # it may become a back-channel phrase, or speech
    SPEECH = "speech"


class Backchannel:
    """The phrases of some languages; ``judge`` a text by them."""

    def __init__(self, phrases: Iterable[str] = ()) -> None:
        self._phrases = frozenset(words for phrase in phrases if (words := words_of(phrase)))
        self._beginnings = frozenset(p[:n] for p in self._phrases for n in range(1, len(p)))

    def judge(self, text: str, *, final: bool) -> Said:
        """``final``: no word will follow."""
        words = words_of(text)
        if not words:
            return Said.NOTHING
        ends = {0}  # places up to which the words are whole phrases
        for end in range(1, len(words) + 1):
            if any(start in ends and words[start:end] in self._phrases for start in range(end)):
                ends.add(end)
        if len(words) in ends:
            return Said.BACKCHANNEL
        if not final and any(words[start:] in self._beginnings for start in ends):
            return Said.OPEN
        return Said.SPEECH


class BackchannelBook:
    """Lists by language."""

    def __init__(self, lists: Mapping[str, Iterable[str]]) -> None:
        self._lists = {language: tuple(phrases) for language, phrases in lists.items()}

    def of(self, languages: Iterable[str]) -> Backchannel:
        """Those of all these languages (BCP 47 tags); one without a list has none."""
        wanted = {tag.split("-")[0].lower() for tag in languages}
        return Backchannel(p for name in sorted(wanted) for p in self._lists.get(name, ()))


def words_of(text: str) -> tuple[str, ...]:
    """Lower case, no punctuation; a hyphen parts words, ё is е."""
    plain = text.lower().replace("ё", "е").replace("’", "'")
    return tuple(word for part in _NOT_A_WORD.split(plain) if (word := part.strip("'_")))


def load(path: Path | None = None) -> BackchannelBook:
    """The lists in ``path``; None: those that came with this package. Raises ConfigError."""
    return tables.load(path or BUILT_IN, parse, setting="backchannel_file")


def parse(text: str, name: str) -> BackchannelBook:
    """The lists in ``text``, TOML; ``name`` for errors. Raises ConfigError."""
    found = tables.entries(text, name)
    for language, phrases in found.items():
        where = f"{name}: {language}"
        if not _LANGUAGE.fullmatch(language):
            raise ConfigError(f"{name}: {language!r}: expected a language such as ru")
        if not isinstance(phrases, list) or not all(isinstance(p, str) for p in phrases):
            raise ConfigError(f"{where}: expected a list of phrases")
        if bad := next((p for p in phrases if not words_of(p)), None):
            raise ConfigError(f"{where}: {bad!r} holds no word")
        if len(phrases) > MAX_PHRASES:
            raise ConfigError(f"{where}: over {MAX_PHRASES} phrases")
    return BackchannelBook(found)
