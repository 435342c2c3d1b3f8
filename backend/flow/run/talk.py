"""Nodes that speak and listen: play, input, hear."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from backend.call.keys import Digits, DigitsRead
from backend.call.playback import PlayEnd
from backend.call.prompt import Prompt as Part
from backend.call.prompt import Sound, Text
from backend.call.turn import Heard, HearStatus
from backend.errors import SynthesisUnavailable
from backend.flow.model import (
    HearNode,
    InputNode,
    KeyRules,
    PlayNode,
    Prompt,
    Saying,
    SoundPart,
)
from backend.flow.text import fill
from backend.flow.words import words_of

if TYPE_CHECKING:
    from backend.flow.run.engine import Run

T = TypeVar("T")


def play(run: Run, node: PlayNode) -> str:
    saying = node.saying
    prompt = _parts(run, saying.prompt)
    if not prompt:
        return "next"
    played = run.call.speak(
        prompt,
        repeat=saying.repeat,
        interruptible=saying.interruptible,  # type: ignore[arg-type]  # the schema's choice
        language=_spoken_language(saying),
        on_error=_parts(run, saying.instead) or None,
        guard=saying.guard,
    )
    interrupted = played.end is PlayEnd.INTERRUPTED and "on_interrupted" in node.exits
    return "on_interrupted" if interrupted else "next"


def input_(run: Run, node: InputNode) -> str:
    """Asked until the keys fit, or the attempts are used up."""
    saying, outcome = node.saying, "on_timeout"
    lead: Prompt = ()
    for _ in range(node.retries + 1):
        prompt = _asked(run, saying, lead)
        read = _with_instead(run, saying, prompt, lambda said: _read(run, node, said))
        if node.save is not None:
            run.save({node.save: read.digits})
        if not read.read:
            lead, outcome = node.timeout_prompt, "on_timeout"
        elif (found := _choice(node, node.keys, read.digits)) is not None:
            return found
        else:
            lead, outcome = node.invalid_prompt, "on_invalid"
    return _or(run, node, outcome, "on_timeout")


def _read(run: Run, node: InputNode, prompt: list[Part]) -> DigitsRead:
    keys, saying = node.keys, node.saying
    if saying.interruptible == "off" and prompt:
        run.call.speak(prompt, language=_spoken_language(saying), guard=saying.guard)
        prompt = []
    return run.call.read_digits(
        keys.max,
        terminator=keys.terminator,
        timeout_s=node.timeout_s,
        between_s=keys.between_s,
        prompt=_in_language(prompt, saying) or None,
        guard=saying.guard,
    )


def hear(run: Run, node: HearNode) -> str:
    """Asked until what is said fits, or the attempts are used up."""
    saying, outcome = node.saying, "on_timeout"
    lead: Prompt = ()
    for _ in range(node.retries + 1):
        prompt = _asked(run, saying, lead)
        heard = _with_instead(run, saying, prompt, lambda said: _listen(run, node, said))
        run.save(_saved(node, heard))
        found = _meant(node, heard)
        if found is not None:
            return found
        timeout = heard.status not in (HearStatus.RECOGNIZED, HearStatus.DIGITS)
        lead = node.timeout_prompt if timeout else node.no_match_prompt
        outcome = "on_timeout" if timeout else "on_no_match"
    return _or(run, node, outcome, "on_timeout")


def _listen(run: Run, node: HearNode, prompt: list[Part]) -> Heard:
    keys, saying = node.keys, node.saying
    phrases = [phrase.text for branch in node.branches for phrase in branch]
    plain = [text for text in phrases if "*" not in text and len(text) <= 100]
    return run.call.hear(
        prompt or None,
        timeout_s=node.timeout_s,
        barge_in=saying.interruptible,  # type: ignore[arg-type]  # the schema's choice
        language=saying.language or None,
        hints=node.hints or plain[:100],
        end_silence_s=node.end_silence_s,
        digits=None if keys is None else Digits(keys.max, keys.terminator, keys.between_s),
        guard=saying.guard,
    )


def _saved(node: HearNode, heard: Heard) -> dict[str, Any]:
    values = {
        node.save: heard.text,
        node.save_digits: heard.digits,
        node.save_confidence: heard.confidence,
    }
    return {name: value for name, value in values.items() if name is not None}


def _meant(node: HearNode, heard: Heard) -> str | None:
    """The exit that the answer leads to; None: it is no answer."""
    if heard.status is HearStatus.DIGITS:
        assert node.keys is not None
        return _choice(node, node.keys, heard.digits)
    if heard.status is not HearStatus.RECOGNIZED:
        return None
    said = words_of(heard.text)
    for number, phrases in enumerate(node.branches):
        if any(phrase.within(said) for phrase in phrases):
            return f"branch {number}"
    return "next" if "next" in node.exits else None


def _choice(node: InputNode | HearNode, keys: KeyRules, digits: str) -> str | None:
    """The exit that these keys lead to; None: they are not allowed here."""
    if digits in node.choices:
        return f"choice {digits}"
    fits = keys.min <= len(digits) <= keys.max
    return "next" if fits and "next" in node.exits else None


def _or(run: Run, node: InputNode | HearNode, outcome: str, other: str) -> str:
    """An outcome that can hardly happen, such as the terminator alone, has no exit of its own."""
    return outcome if run.flow.target(node, outcome) is not None else other


# Prompts


def _asked(run: Run, saying: Saying, lead: Prompt) -> list[Part]:
    """What is said in a turn; ``lead``: before it, once."""
    return [*_parts(run, lead), *_parts(run, saying.prompt) * saying.repeat]


def _with_instead(
    run: Run, saying: Saying, prompt: list[Part], take: Callable[[list[Part]], T]
) -> T:
    """Where the prompt cannot be synthesised the turn is taken with the other one."""
    try:
        return take(prompt)
    except SynthesisUnavailable:
        if not saying.instead:
            raise
        return take(_parts(run, saying.instead))


def _parts(run: Run, prompt: Prompt) -> list[Part]:
    """As the call takes them; a text that is empty once filled is left out."""
    found: list[Part] = []
    for part in prompt:
        if isinstance(part, SoundPart):
            found.append(Sound(fill(part.name, run.variables)))
            continue
        text = fill(part.text, run.variables)
        if text.strip():
            found.append(Text(text, part.language) if part.language else text)
    return found


def _spoken_language(saying: Saying) -> str | None:
    return next((tag for tag in saying.language if tag != "auto"), None)


def _in_language(parts: list[Part], saying: Saying) -> list[Part]:
    """``read_digits`` has no language of its own."""
    tag = _spoken_language(saying)
    if tag is None:
        return parts
    return [Text(part, tag) if isinstance(part, str) else part for part in parts]
