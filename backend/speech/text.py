"""Texts: for a synthesiser, and of a recogniser. Pure."""

from __future__ import annotations

import re

# Where to split, best first: after a sentence, after a clause, between words.
_BORDERS = (re.compile(r"(?<=[.!?…])\s+"), re.compile(r"(?<=[,;:—–])\s+"), re.compile(r"\s+"))

# A recognition model of the local server, "hints:balance|uh-huh": what it recognises as "general",
# and these phrases. SpeechKit's API has no room for hints.
HINTS_MODEL = "hints:"


def folded(text: str) -> str:
    """Lower case words with one space before, between and after them, for looking one text up in
    another."""
    words = re.findall(r"[^\W_]+", text.lower().replace("ё", "е"))
    return f" {' '.join(words)} "


def split_text(text: str, limit: int) -> list[str]:
    """``text`` in as few pieces of at most ``limit`` characters as keep sentences, then clauses,
    then words whole; a longer word is cut. Blank text: no piece."""
    text = " ".join(text.split())
    if not text:
        return []
    return _split(text, limit, 0)


def _split(text: str, limit: int, level: int) -> list[str]:
    if len(text) <= limit:
        return [text]
    if level == len(_BORDERS):
        return [text[i : i + limit] for i in range(0, len(text), limit)]
    pieces: list[str] = []
    for part in _BORDERS[level].split(text):
        if pieces and len(pieces[-1]) + 1 + len(part) <= limit:
            pieces[-1] = f"{pieces[-1]} {part}"
        else:
            pieces += _split(part, limit, level + 1)
    return pieces
