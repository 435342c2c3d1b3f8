"""A scenario's arguments, checked: what is wrong is a BadRequest that names it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backend.errors import BadRequest

MAX_REPEAT = 100
MAX_LANGUAGES = 10
MAX_HINTS = 100
MAX_HINT_CHARS = 100

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise BadRequest(name, f"{value!r}: expected {', '.join(map(repr, known))}")


def seconds(name: str, value: float) -> None:
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise BadRequest(name, f"{value!r}: expected seconds, more than 0")


def cause(value: int) -> int:
    if type(value) is not int or not 1 <= value <= 127:
        raise BadRequest("cause", f"{value!r}: expected a Q.850 cause, 1 to 127")
    return value


def repeat(value: int) -> int:
    if type(value) is not int or not 1 <= value <= MAX_REPEAT:
        raise BadRequest("repeat", f"{value!r}: expected a whole number from 1 to {MAX_REPEAT}")
    return value


def end_silence(value: float) -> None:
    if not isinstance(value, int | float) or not 0.1 <= value <= 5:
        raise BadRequest("end_silence_s", f"{value!r}: expected seconds, 0.1 to 5")


def language(value: str | None, default: str) -> str:
    """One BCP 47 tag."""
    if value is None:
        return default
    if not isinstance(value, str) or not _TAG.fullmatch(value):
        raise BadRequest("language", f"{value!r}: expected a tag such as 'ru-RU'")
    return value


def languages(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Several, or one; none: empty. "auto" is whatever the service finds."""
    if value is None:
        return ()
    tags = (value,) if isinstance(value, str) else tuple(value)
    if not 1 <= len(tags) <= MAX_LANGUAGES:
        raise BadRequest("language", f"{value!r}: expected 1 to {MAX_LANGUAGES} tags")
    return tuple(tag if tag == "auto" else language(tag, "") for tag in tags)


def hints(value: Sequence[str]) -> tuple[str, ...]:
    """Words and phrases."""
    if isinstance(value, str) or len(value) > MAX_HINTS:
        raise BadRequest("hints", f"expected a list of at most {MAX_HINTS} phrases: {value!r:.80}")
    for hint in value:
        if not isinstance(hint, str) or not hint.strip() or len(hint) > MAX_HINT_CHARS:
            raise BadRequest("hints", f"{hint!r:.80}: expected 1 to {MAX_HINT_CHARS} characters")
    return tuple(value)
