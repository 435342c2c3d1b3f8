"""What a scenario says: a text, a sound file, or several of them played as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backend.errors import BadRequest

Interruptible = Literal["off", "voice", "keys", "any"]
INTERRUPTIBLE: tuple[Interruptible, ...] = ("off", "voice", "keys", "any")
MAX_PARTS = 100  # of one prompt, and of its repetitions: more is a mistake in a scenario


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound file by its name, no extension: the backend's own, in ``sounds_dir``, or else
    Asterisk's, relative to its sounds folder."""

    name: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text in a language of its own (BCP 47 tag); a plain string is in the call's."""

    text: str
    language: str


Prompt = str | Text | Sound  # a plain string is text to synthesise
Prompts = Prompt | Sequence[Prompt]


def parts_of(prompt: Prompts, *, name: str = "prompt") -> tuple[Prompt, ...]:
    """The prompt as a list. Raises BadRequest for what is no prompt, an empty list, one that is
    too long."""
    parts = (prompt,) if isinstance(prompt, str | Text | Sound) else prompt
    if not isinstance(parts, Sequence) or not parts or len(parts) > MAX_PARTS:
        raise BadRequest(
            name, f"expected a text, a Sound, or a list of 1 to {MAX_PARTS} of them: {prompt!r:.80}"
        )
    if bad := [p for p in parts if not isinstance(p, str | Text | Sound)]:
        raise BadRequest(name, f"{bad[0]!r:.80} is neither a text nor a Sound")
    return tuple(parts)


def transcript_of(parts: Sequence[Prompt]) -> str:
    """The prompt as the transcript has it; a sound is its name in brackets."""
    texts = [
        f"[{p.name}]" if isinstance(p, Sound) else p if isinstance(p, str) else p.text
        for p in parts
    ]
    return " ".join(texts)
