"""A flow and its nodes, checked and ready to run. Frozen; docs/flows.md says what each means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from backend.flow.expression import Expression
from backend.flow.text import Path, Template, templates_in
from backend.flow.words import Phrase
from backend.keying.rules import KeyGuard

END = "end"  # a target: the flow is over, the caller is still there
BUILT_IN = frozenset(
    {"caller", "called", "direction", "language", "file", "call_id", "config", "error"}
)
"""Variables that every flow has, and cannot set."""


@dataclass(frozen=True, slots=True)
class SpokenPart:
    """A text to be spoken. ``language``: BCP 47 tag; None: the node's."""

    text: Template
    language: str | None = None


@dataclass(frozen=True, slots=True)
class SoundPart:
    """A sound by its name."""

    name: Template


Prompt = tuple[SpokenPart | SoundPart, ...]


@dataclass(frozen=True, slots=True)
class Saying:
    """A prompt and how it is played. ``guard``: None: keys are not blocked; "call": as the call
    has it. ``instead``: when synthesis fails."""

    prompt: Prompt = ()
    repeat: int = 1
    interruptible: str = "off"
    language: tuple[str, ...] = ()
    guard: KeyGuard | Literal["call"] | None = "call"
    instead: Prompt = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """Where a node leads by an outcome. ``label``: for a picture."""

    target: str
    label: str
    line: int


@dataclass(frozen=True, slots=True)
class KeyRules:
    """Which keys are an input: ``min`` to ``max`` of them."""

    min: int
    max: int
    terminator: str | None
    between_s: float


@dataclass(frozen=True, slots=True)
class Node:
    """``exits``: by outcome: ``next``, ``on_timeout``, …, ``choice 1`` (keys), ``branch 0``
    (words), ``case 0`` (conditions), ``status 404`` (HTTP)."""

    name: str
    line: int
    note: str
    exits: Mapping[str, Exit]

    type: ClassVar[str] = ""
    waits: ClassVar[bool] = False
    """For somebody: the caller, another number, another flow. A loop of others never ends."""
    needs_line: ClassVar[bool] = True
    """It makes no sense once the caller has hung up."""

    def templates(self) -> Iterator[Template]:
        """Every text in it."""
        return iter(())

    def expressions(self) -> Sequence[Expression]:
        return ()

    def sets(self) -> Sequence[str]:
        """The variables that it gives a value."""
        return ()

    def uses(self) -> frozenset[str]:
        """The variables that it needs."""
        found: set[str] = set()
        for template in self.templates():
            found |= template.names
        for expression in self.expressions():
            found |= expression.names
        return frozenset(found)


def _saved(*names: str | None) -> tuple[str, ...]:
    return tuple(name for name in names if name)


def _spoken(*prompts: Prompt) -> Iterator[Template]:
    for prompt in prompts:
        for part in prompt:
            yield part.text if isinstance(part, SpokenPart) else part.name


@dataclass(frozen=True, slots=True)
class PlayNode(Node):
    saying: Saying

    type: ClassVar[str] = "play"

    def templates(self) -> Iterator[Template]:
        return _spoken(self.saying.prompt, self.saying.instead)


@dataclass(frozen=True, slots=True)
class InputNode(Node):
    """``choices``: which digits are allowed, if only some are; each has an exit."""

    saying: Saying
    keys: KeyRules
    timeout_s: float
    retries: int
    choices: tuple[str, ...]
    timeout_prompt: Prompt
    invalid_prompt: Prompt
    save: str | None

    type: ClassVar[str] = "input"
    waits: ClassVar[bool] = True

    def templates(self) -> Iterator[Template]:
        saying = self.saying
        return _spoken(saying.prompt, saying.instead, self.timeout_prompt, self.invalid_prompt)

    def sets(self) -> Sequence[str]:
        return _saved(self.save)


@dataclass(frozen=True, slots=True)
class HearNode(Node):
    """``branches``: the first whose phrases are in what was said. ``keys``: None: speech alone."""

    saying: Saying
    timeout_s: float
    hints: tuple[str, ...]
    end_silence_s: float | None
    branches: tuple[tuple[Phrase, ...], ...]
    keys: KeyRules | None
    choices: tuple[str, ...]
    retries: int
    timeout_prompt: Prompt
    no_match_prompt: Prompt
    save: str | None
    save_digits: str | None
    save_confidence: str | None

    type: ClassVar[str] = "hear"
    waits: ClassVar[bool] = True

    def templates(self) -> Iterator[Template]:
        saying = self.saying
        return _spoken(saying.prompt, saying.instead, self.timeout_prompt, self.no_match_prompt)

    def sets(self) -> Sequence[str]:
        return _saved(self.save, self.save_digits, self.save_confidence)


@dataclass(frozen=True, slots=True)
class BranchNode(Node):
    cases: tuple[Expression, ...]

    type: ClassVar[str] = "branch"
    needs_line: ClassVar[bool] = False

    def expressions(self) -> Sequence[Expression]:
        return self.cases


@dataclass(frozen=True, slots=True)
class SetNode(Node):
    """``values``: data; ``compute``: expressions; then ``from_channel``: Asterisk's variables, into
    ours; ``to_channel``: texts, into Asterisk's."""

    values: Mapping[str, Any]
    compute: Mapping[str, Expression]
    from_channel: Mapping[str, str]
    to_channel: Mapping[str, Template]

    type: ClassVar[str] = "set"
    needs_line: ClassVar[bool] = False

    def templates(self) -> Iterator[Template]:
        yield from templates_in(self.values)
        yield from self.to_channel.values()

    def expressions(self) -> Sequence[Expression]:
        return tuple(self.compute.values())

    def sets(self) -> Sequence[str]:
        return (*self.values, *self.compute, *self.from_channel)


@dataclass(frozen=True, slots=True)
class Entering(Node):
    """Runs something else with arguments, and keeps what that returns."""

    arguments: Mapping[str, Any]
    save: str | None

    waits: ClassVar[bool] = True
    needs_line: ClassVar[bool] = False

    def templates(self) -> Iterator[Template]:
        return templates_in(self.arguments)

    def sets(self) -> Sequence[str]:
        return _saved(self.save)


@dataclass(frozen=True, slots=True)
class CallNode(Entering):
    scenario: str

    type: ClassVar[str] = "call"


@dataclass(frozen=True, slots=True)
class HttpNode(Node):
    """``secret_headers``: header → name of a setting's secret. ``save``: variable → place in the
    answer, () for all of it."""

    method: str
    url: Template
    query: Mapping[str, Template]
    headers: Mapping[str, Template]
    secret_headers: Mapping[str, str]
    body: Any
    has_body: bool
    timeout_s: float
    retries: int
    max_bytes: int
    save: Mapping[str, Path]
    save_status: str | None

    type: ClassVar[str] = "http"
    needs_line: ClassVar[bool] = False

    def templates(self) -> Iterator[Template]:
        yield self.url
        yield from self.query.values()
        yield from self.headers.values()
        yield from templates_in(self.body)

    def sets(self) -> Sequence[str]:
        return (*self.save, *_saved(self.save_status))


@dataclass(frozen=True, slots=True)
class RecordNode(Node):
    action: Literal["start", "stop", "pause", "resume"]
    file: Template | None
    directory: Template | None
    save: str | None
    save_url: str | None

    type: ClassVar[str] = "record"

    def templates(self) -> Iterator[Template]:
        return (one for one in (self.file, self.directory) if one is not None)

    def sets(self) -> Sequence[str]:
        return _saved(self.save, self.save_url)


@dataclass(frozen=True, slots=True)
class TransferNode(Node):
    number: Template
    timeout_s: float
    caller_id: Template | None
    trunk: str
    save: str | None

    type: ClassVar[str] = "transfer"
    waits: ClassVar[bool] = True

    def templates(self) -> Iterator[Template]:
        return (one for one in (self.number, self.caller_id) if one is not None)

    def sets(self) -> Sequence[str]:
        return _saved(self.save)


@dataclass(frozen=True, slots=True)
class ConferenceNode(Node):
    room: Template
    muted: bool
    timeout_s: float | None

    type: ClassVar[str] = "conference"
    waits: ClassVar[bool] = True

    def templates(self) -> Iterator[Template]:
        yield self.room


@dataclass(frozen=True, slots=True)
class GotoNode(Node):
    """``max``: how often at most; then by ``on_max``."""

    max: int | None

    type: ClassVar[str] = "goto"
    needs_line: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class FlowNode(Entering):
    flow: str

    type: ClassVar[str] = "flow"


@dataclass(frozen=True, slots=True)
class HangupNode(Node):
    cause: int

    type: ClassVar[str] = "hangup"
    needs_line: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow file. ``version``: of its text, 12 hexadecimal digits. ``variables``: those it begins
    with, which a caller of the flow may give. ``exits``: for outcomes that a node says nothing
    about."""

    name: str
    version: str
    title: str
    source: str
    start: str
    nodes: Mapping[str, Node]
    priority: Literal["normal", "high"] = "normal"
    answer: bool = True
    max_steps: int = 1000
    variables: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None
    exits: Mapping[str, Exit] = field(default_factory=dict)

    def target(self, node: Node, outcome: str) -> str | None:
        """Where it goes on; None: nobody said. A transfer's outcomes fall back to ``on_failed``."""
        for name in (outcome, *_FALL_BACK.get(outcome, ())):
            found = node.exits.get(name) or self.exits.get(name)
            if found is not None:
                return found.target
        return None


def prompt_parts(node: Node) -> Iterator[tuple[SpokenPart | SoundPart, str | None]]:
    """All that a node may play; of a text its language, too; None: the call's."""
    if not isinstance(node, PlayNode | InputNode | HearNode):
        return
    saying = node.saying
    prompts = [saying.prompt, saying.instead]
    if isinstance(node, InputNode):
        prompts += [node.timeout_prompt, node.invalid_prompt]
    elif isinstance(node, HearNode):
        prompts += [node.timeout_prompt, node.no_match_prompt]
    own = next((tag for tag in saying.language if tag != "auto"), None)
    for prompt in prompts:
        for part in prompt:
            yield part, part.language or own if isinstance(part, SpokenPart) else None


_FALL_BACK = {"on_busy": ("on_failed",), "on_no_answer": ("on_failed",)}
