"""What a simulated caller does: steps, one after the other. Pure.

The same steps as text, one a line, for the command line and for the lab (docs/scenarios.md):

    say yes
    over 1.5 say wait a moment
    press 1
    silence
    hangup
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from backend.call import check
from backend.errors import BadRequest

if TYPE_CHECKING:
    from backend.testing import FakeCall

When = Literal["after", "over", "then"]

# The usual moment of a step, seconds: after the robot's last sound, after the first sound of its
# prompt, after the end of the step before.
USUAL_S: dict[When, float] = {"after": 0.7, "over": 1.0, "then": 1.0}
_WHEN: dict[str, When] = {"after": "after", "over": "over", "then": "then"}
MAX_AFTER_S = 3600.0
MAX_KEYS = 64
MAX_TEXT = 1000
MAX_STEPS = 1000

_KEYS = re.compile(rf"[0-9A-D*#]{{1,{MAX_KEYS}}}")
_LINE = re.compile(
    r"(?:(?P<when>after|over|then)(?:\s+(?P<after_s>\d+(?:\.\d+)?))?\s+)?"
    r"(?P<verb>[a-z]+)(?:\s+(?P<rest>\S.*))?"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a step is done. "after": once the robot has been silent for ``after_s``; "over": so long
    after the first sound of its prompt, which may still play; "then": so long after the step
    before. None: the usual time, USUAL_S."""

    when: When = "after"
    after_s: float | None = None

    @property
    def delay_s(self) -> float:
        return USUAL_S[self.when] if self.after_s is None else self.after_s


@dataclass(frozen=True, slots=True)
class Say:
    """Says something. ``language``: BCP 47 tag, None: the first that is listened for."""

    text: str
    moment: Moment = Moment()
    language: str | None = None
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Press:
    """Presses keys, 100 ms each, with 100 ms between them."""

    keys: str
    moment: Moment = Moment()


@dataclass(frozen=True, slots=True)
class Silence:
    """Says nothing until the robot speaks again; with ``for_s``: for so long, then the next step
    follows."""

    for_s: float | None = None
    moment: Moment = Moment()


@dataclass(frozen=True, slots=True)
class Cough:
    """A noise of 0.3 s without words."""

    moment: Moment = Moment()


@dataclass(frozen=True, slots=True)
class HangUp:
    """``cause``: Q.850."""

    cause: int = 16
    moment: Moment = Moment()


@dataclass(frozen=True, slots=True)
class Do:
    """Runs ``function(call)``: what another thread would do in a real call."""

    function: Callable[[FakeCall], object]
    moment: Moment = Moment()


Step = Say | Press | Silence | Cough | HangUp | Do
Script = str | Sequence[Step]


# The author's words


def say(
    text: str,
    *,
    over_prompt: bool = False,
    then: bool = False,
    after_s: float | None = None,
    language: str | None = None,
    confidence: float = 0.95,
) -> Say:
    """Say something: when the robot has ended its prompt; over it; or after the step before."""
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
        raise BadRequest("text", f"{text!r:.80}: expected 1 to {MAX_TEXT} characters")
    return Say(" ".join(text.split()), _moment(over_prompt, then, after_s), language, confidence)


def press(
    keys: str, *, over_prompt: bool = False, then: bool = False, after_s: float | None = None
) -> Press:
    """Press keys: 0-9 A-D * #."""
    if not isinstance(keys, str) or not _KEYS.fullmatch(keys):
        raise BadRequest("keys", f"{keys!r:.80}: expected 1 to {MAX_KEYS} of 0-9 A-D * #")
    return Press(keys, _moment(over_prompt, then, after_s))


def silence(for_s: float | None = None) -> Silence:
    """Say nothing until the robot speaks again; or for so many seconds."""
    return Silence(None if for_s is None else _seconds("for_s", for_s))


def cough(*, over_prompt: bool = False, then: bool = False, after_s: float | None = None) -> Cough:
    """Make a noise without words."""
    return Cough(_moment(over_prompt, then, after_s))


def hangup(
    *,
    cause: int = 16,
    over_prompt: bool = False,
    then: bool = False,
    after_s: float | None = None,
) -> HangUp:
    """Hang up. ``cause``: Q.850."""
    return HangUp(check.cause(cause), _moment(over_prompt, then, after_s))


def do(
    function: Callable[[FakeCall], object],
    *,
    over_prompt: bool = False,
    then: bool = False,
    after_s: float | None = None,
) -> Do:
    """Run ``function(call)`` at that moment, as if in another thread, e.g.
    ``lambda call: call.cancel_hear("enough")``. What it raises, the scenario's command raises."""
    if not callable(function):
        raise BadRequest("function", f"{function!r:.80} cannot be called")
    return Do(function, _moment(over_prompt, then, after_s))


def _moment(over_prompt: bool, then: bool, after_s: float | None) -> Moment:
    if over_prompt and then:
        raise BadRequest("then", "goes with no over_prompt: choose one")
    if after_s is not None:
        _seconds("after_s", after_s)
    return Moment("over" if over_prompt else "then" if then else "after", after_s)


def _seconds(name: str, value: float) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= MAX_AFTER_S:
        raise BadRequest(name, f"{value!r:.80}: expected 0 to {MAX_AFTER_S:g} seconds")
    return float(value)


# Text


def parse(text: str) -> tuple[Step, ...]:
    """The steps of a text, one a line; empty lines and those that begin with # say nothing.

    Raises BadRequest that names the line.
    """
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            steps.append(parse_step(line))
        except BadRequest as error:
            raise BadRequest("script", f"line {number}: {error.why}") from None
    return tuple(steps)


def parse_step(line: str) -> Step:
    """``[after|over|then [SECONDS]] say TEXT | press KEYS | silence [SECONDS] | cough | hangup
    [CAUSE]``. Raises BadRequest."""
    found = _LINE.fullmatch(line.strip())
    verb, rest = (found["verb"], found["rest"] or "") if found else ("", "")
    if found is None or verb not in _VERBS:
        raise BadRequest("script", f"{line.strip()[:80]!r}: expected {', '.join(_VERBS)}")
    after_s = None if found["after_s"] is None else _seconds("script", float(found["after_s"]))
    try:
        step = _VERBS[verb](rest)
    except BadRequest as error:
        raise BadRequest("script", f"{line.strip()[:80]!r}: {error}") from None
    return replace(step, moment=Moment(_WHEN[found["when"] or "after"], after_s))


def _parsed_silence(rest: str) -> Step:
    if rest and not re.fullmatch(r"\d+(\.\d+)?", rest):
        raise BadRequest("silence", f"{rest[:80]!r}: expected seconds")
    return silence(float(rest) if rest else None)


def _parsed_cough(rest: str) -> Step:
    if rest:
        raise BadRequest("cough", "takes nothing")
    return cough()


def _parsed_hangup(rest: str) -> Step:
    if rest and not rest.isdecimal():
        raise BadRequest("hangup", f"{rest[:80]!r}: expected a Q.850 cause")
    return hangup(cause=int(rest or 16))


_VERBS: dict[str, Callable[[str], Step]] = {
    "say": say,
    "press": press,
    "silence": _parsed_silence,
    "cough": _parsed_cough,
    "hangup": _parsed_hangup,
}


def text_of(step: Step) -> str:
    """A step as ``parse_step`` reads it; a Do has no such text."""
    moment = step.moment
    words: list[str] = [] if moment == Moment() else [moment.when]
    if moment.after_s is not None:
        words.append(f"{moment.after_s:g}")
    if isinstance(step, Say):
        words += ["say", step.text]
    elif isinstance(step, Press):
        words += ["press", step.keys]
    elif isinstance(step, Silence):
        words += ["silence"] if step.for_s is None else ["silence", f"{step.for_s:g}"]
    elif isinstance(step, Cough):
        words.append("cough")
    elif isinstance(step, HangUp):
        words += ["hangup"] if step.cause == 16 else ["hangup", str(step.cause)]
    else:
        words.append(f"do {step.function!r}")
    return " ".join(words)


def steps_of(script: Script, *, name: str = "script") -> tuple[Step, ...]:
    """A script as steps. Raises BadRequest for what is none."""
    if isinstance(script, str):
        steps = parse(script)
    else:
        steps = tuple(script)
        if bad := next((step for step in steps if not isinstance(step, Step)), None):
            raise BadRequest(name, f"{bad!r:.80}: expected say(…), press(…), silence(), …")
    if len(steps) > MAX_STEPS:
        raise BadRequest(name, f"over {MAX_STEPS} steps")
    return steps
