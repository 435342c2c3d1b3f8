"""A valid document to a flow: texts, conditions and phrases are read here. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Literal, TypeVar

from backend.errors import FlowProblem, FlowValueError
from backend.flow import expression, text, words
from backend.flow.document import Document, Place
from backend.flow.expression import Expression
from backend.flow.model import (
    BranchNode,
    CallNode,
    ConferenceNode,
    Exit,
    Flow,
    FlowNode,
    GotoNode,
    HangupNode,
    HearNode,
    HttpNode,
    InputNode,
    KeyRules,
    Node,
    PlayNode,
    Prompt,
    RecordNode,
    Saying,
    SetNode,
    SoundPart,
    SpokenPart,
    TransferNode,
)
from backend.flow.text import Template
from backend.flow.words import Phrase
from backend.keying.rules import KeyGuard

T = TypeVar("T")
Fields = Mapping[str, Any]

MAX_PARTS = 100  # call.prompt.MAX_PARTS
EXITS = (
    "next", "on_error", "on_hangup", "on_timeout", "on_invalid", "on_no_match", "on_failed",
    "on_busy", "on_no_answer", "on_interrupted", "on_max",
)  # fmt: skip
_GUARD = ("block_input", "policy", "open_before_end", "max_block", "secret")


class Builder:
    """One document; ``problems`` has what could not be read."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.problems: list[FlowProblem] = []
        self._defaults: Fields = document.value.get("defaults", {})
        self._place: Place = ()
        self._node: str | None = None
        self._name = ""
        self._line = 1
        self._note = ""
        self._exits: dict[str, Exit] = {}

    def flow(self, content: str) -> Flow:
        """``content``: of the file, for the version."""
        fields = self._document.value
        nodes = {name: self._build(name, node) for name, node in fields["nodes"].items()}
        self._place, self._node = (), None
        return Flow(
            name=fields["flow"],
            version=sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:12],
            title=fields.get("title", ""),
            source=self._document.source,
            start=fields["start"],
            nodes=nodes,
            priority=fields.get("priority", "normal"),
            answer=fields.get("answer", True),
            max_steps=fields.get("max_steps", 1000),
            variables=fields.get("variables", {}),
            result=self._data("result", fields.get("result")),
            exits={
                outcome: Exit(target, outcome, self._document.line(("exits", outcome)))
                for outcome, target in fields.get("exits", {}).items()
            },
        )

    def _build(self, name: str, fields: Fields) -> Node:
        self._place, self._node = ("nodes", name), name
        self._name, self._line = name, self._document.line(self._place)
        self._note = fields.get("note", "")
        self._exits = {}
        for outcome in EXITS:
            if outcome in fields:
                self._exit(outcome, fields[outcome], outcome, outcome)
        return _BUILDERS[fields["type"]](self, fields)

    def _exit(self, outcome: str, target: str, label: str, *place: str | int) -> None:
        line = self._document.line((*self._place, *place))
        self._exits[outcome] = Exit(target, label, line)

    @property
    def _base(self) -> tuple[str, int, str, Mapping[str, Exit]]:
        return self._name, self._line, self._note, self._exits

    # What can be wrong beyond the schema

    def _read(self, place: Place, read: Callable[[str], T], value: str, instead: T) -> T:
        try:
            return read(value)
        except FlowValueError as error:
            self._wrong(place, str(error))
            return instead

    def _wrong(self, place: Place, said: str) -> None:
        line = self._document.line((*self._place, *place))
        self.problems.append(FlowProblem(self._document.source, line, self._node, said))

    def _template(self, place: Place, value: str) -> Template:
        return self._read(place, text.parse, value, Template(value, ()))

    def _maybe(self, fields: Fields, name: str) -> Template | None:
        return self._template((name,), fields[name]) if name in fields else None

    def _templates(self, fields: Fields, name: str) -> dict[str, Template]:
        found = fields.get(name, {}).items()
        return {key: self._template((name, key), value) for key, value in found}

    def _data(self, name: str, value: Any) -> Any:
        try:
            return text.parse_data(value)
        except FlowValueError as error:
            self._wrong((name,), str(error))
            return None

    def _values(self, fields: Fields, name: str) -> dict[str, Any]:
        found = fields.get(name, {}).items()
        return {key: self._inner(name, key, value) for key, value in found}

    def _inner(self, name: str, key: str, value: Any) -> Any:
        try:
            return text.parse_data(value)
        except FlowValueError as error:
            self._wrong((name, key), str(error))
            return None

    def _expression(self, place: Place, value: str) -> Expression:
        nothing = Expression(value, expression.Value(None))
        return self._read(place, expression.parse, value, nothing)

    # Prompts

    def _prompt(self, fields: Fields, name: str) -> Prompt:
        value = fields.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            return (self._part((name,), value),)
        return tuple(self._part((name, n), part) for n, part in enumerate(value))

    def _part(self, place: Place, value: Any) -> SpokenPart | SoundPart:
        if isinstance(value, str):
            return SpokenPart(self._template(place, value))
        if "sound" in value:
            return SoundPart(self._template((*place, "sound"), value["sound"]))
        return SpokenPart(self._template((*place, "text"), value["text"]), value.get("language"))

    def _check_length(self, saying: Saying, *leads: Prompt) -> Saying:
        """As the call has it: a prompt, its repetitions and what comes before, as one."""
        most = len(saying.prompt) * saying.repeat + max(map(len, leads), default=0)
        if most > MAX_PARTS:
            self._wrong(("prompt",), f"{most} parts with its repetitions: at most {MAX_PARTS}")
        return saying

    def _saying(self, fields: Fields, interruptible: str) -> Saying:
        rules = {name: self._defaults[name] for name in _GUARD if name in self._defaults}
        rules |= {name: fields[name] for name in _GUARD if name in fields}
        language = fields.get("language", self._defaults.get("language", []))
        return Saying(
            prompt=self._prompt(fields, "prompt"),
            repeat=fields.get("repeat", 1),
            interruptible=fields.get("interruptible", interruptible),
            language=(language,) if isinstance(language, str) else tuple(language),
            guard=self._guard(fields, rules),
            instead=self._prompt(fields, "instead"),
        )

    def _guard(self, fields: Fields, rules: Fields) -> KeyGuard | Literal["call"] | None:
        if "block_input" not in rules:
            for name in ("policy", "open_before_end", "max_block", "secret"):
                if name in fields:
                    self._wrong((name,), f"{name} means nothing without block_input: true")
            return "call"
        if not rules["block_input"]:
            return None
        return KeyGuard(
            rules.get("policy", "drop"),
            float(rules.get("open_before_end", 0.5)),
            float(rules.get("max_block", 5)),
            rules.get("secret", False),
        )

    def _keys(self, fields: Fields, place: Place = ()) -> KeyRules:
        """``count``, or ``min`` and ``max``; with choices alone as many as they need."""
        if "count" in fields and ("min" in fields or "max" in fields):
            self._wrong((*place, "count"), "count goes with no min and max: choose one")
        longest = max((len(keys) for keys in fields.get("choices", ())), default=1)
        count = fields.get("count")
        least = count or fields.get("min", 1)
        most = count or max(fields.get("max", longest), least if "max" not in fields else 1)
        if least > most:
            self._wrong((*place, "min"), f"min {least} is more than max {most}")
        if longest > most:
            self._wrong(("choices",), f"a choice of {longest} keys, and max is {most}")
        terminator = fields.get("terminator", "#")
        return KeyRules(
            least, most, None if terminator == "none" else terminator, fields.get("between", 3.0)
        )

    def _choices(self, fields: Fields) -> tuple[str, ...]:
        for keys, target in fields.get("choices", {}).items():
            self._exit(f"choice {keys}", target, keys, "choices", keys)
        return tuple(fields.get("choices", ()))

    # Nodes

    def play(self, fields: Fields) -> Node:
        return PlayNode(*self._base, self._check_length(self._saying(fields, "off")))

    def input(self, fields: Fields) -> Node:
        timeout_prompt = self._prompt(fields, "timeout_prompt")
        invalid_prompt = self._prompt(fields, "invalid_prompt")
        return InputNode(
            *self._base,
            self._check_length(self._saying(fields, "keys"), timeout_prompt, invalid_prompt),
            self._keys(fields),
            fields.get("timeout", 10.0),
            fields.get("retries", 0),
            self._choices(fields),
            timeout_prompt,
            invalid_prompt,
            fields.get("save"),
        )

    def hear(self, fields: Fields) -> Node:
        digits = fields.get("digits", {} if "choices" in fields else None)
        keys = None
        if digits is not None:
            choices = {"choices": fields["choices"]} if "choices" in fields else {}
            keys = self._keys({**digits, **choices}, ("digits",))
        timeout_prompt = self._prompt(fields, "timeout_prompt")
        no_match_prompt = self._prompt(fields, "no_match_prompt")
        branches = []
        for number, branch in enumerate(fields.get("branches", ())):
            branches.append(self._phrases(number, branch["words"]))
            label = ", ".join(phrase.text for phrase in branches[-1])
            self._exit(f"branch {number}", branch["next"], label, "branches", number, "next")
        return HearNode(
            *self._base,
            self._check_length(self._saying(fields, "voice"), timeout_prompt, no_match_prompt),
            fields.get("timeout", 10.0),
            tuple(fields.get("hints", ())),
            fields.get("end_silence"),
            tuple(branches),
            keys,
            self._choices(fields),
            fields.get("retries", 0),
            timeout_prompt,
            no_match_prompt,
            fields.get("save"),
            fields.get("save_digits"),
            fields.get("save_confidence"),
        )

    def _phrases(self, number: int, value: str | list[str]) -> tuple[Phrase, ...]:
        every = [value] if isinstance(value, str) else value
        place = ("branches", number, "words")
        return tuple(self._read(place, words.phrase, one, Phrase(one, ())) for one in every)

    def branch(self, fields: Fields) -> Node:
        cases = []
        for number, case in enumerate(fields["cases"]):
            cases.append(self._expression(("cases", number, "when"), case["when"]))
            self._exit(f"case {number}", case["next"], case["when"], "cases", number, "next")
        return BranchNode(*self._base, tuple(cases))

    def set(self, fields: Fields) -> Node:
        compute = fields.get("compute", {}).items()
        return SetNode(
            *self._base,
            self._values(fields, "values"),
            {name: self._expression(("compute", name), value) for name, value in compute},
            fields.get("from_channel", {}),
            self._templates(fields, "to_channel"),
        )

    def call(self, fields: Fields) -> Node:
        arguments = self._values(fields, "with")
        return CallNode(*self._base, arguments, fields.get("save"), fields["scenario"])

    def http(self, fields: Fields) -> Node:
        for status, target in fields.get("on_status", {}).items():
            self._exit(f"status {status}", target, status, "on_status", status)
        if "json" in fields and fields.get("method", "GET") == "GET":
            self._wrong(("json",), "GET has no json: use method POST or PUT")
        save = fields.get("save", {})
        places: dict[str, text.Path] = {save: ()} if isinstance(save, str) else {}
        places |= {} if isinstance(save, str) else {n: _place(where) for n, where in save.items()}
        return HttpNode(
            *self._base,
            fields.get("method", "GET"),
            self._template(("url",), fields["url"]),
            self._templates(fields, "query"),
            self._templates(fields, "headers"),
            fields.get("secret_headers", {}),
            self._data("json", fields.get("json")),
            "json" in fields,
            fields.get("timeout", 5.0),
            fields.get("retries", 0),
            fields.get("max_bytes", 65536),
            places,
            fields.get("save_status"),
        )

    def record(self, fields: Fields) -> Node:
        action = fields.get("action", "start")
        for name in ("name", "directory", "save", "save_url"):
            if name in fields and action != "start":
                self._wrong((name,), f"{name} goes with action: start alone")
        return RecordNode(
            *self._base,
            action,
            self._maybe(fields, "name"),
            self._maybe(fields, "directory"),
            fields.get("save"),
            fields.get("save_url"),
        )

    def transfer(self, fields: Fields) -> Node:
        return TransferNode(
            *self._base,
            self._template(("number",), fields["number"]),
            fields.get("timeout", 30.0),
            self._maybe(fields, "caller_id"),
            fields.get("trunk", "default"),
            fields.get("save"),
        )

    def conference(self, fields: Fields) -> Node:
        room = self._template(("id",), fields["id"])
        return ConferenceNode(*self._base, room, fields.get("muted", False), fields.get("timeout"))

    def goto(self, fields: Fields) -> Node:
        self._exit("next", fields["to"], "", "to")
        return GotoNode(*self._base, fields.get("max"))

    def flow_node(self, fields: Fields) -> Node:
        arguments = self._values(fields, "with")
        return FlowNode(*self._base, arguments, fields.get("save"), fields["flow"])

    def hangup(self, fields: Fields) -> Node:
        return HangupNode(*self._base, fields.get("cause", 16))


def _place(where: str) -> text.Path:
    """A place in an answer; it may begin with an index."""
    return tuple(int(part) if part.isdecimal() else part for part in where.split("."))


_BUILDERS: dict[str, Callable[[Builder, Fields], Node]] = {
    "play": Builder.play,
    "input": Builder.input,
    "hear": Builder.hear,
    "branch": Builder.branch,
    "set": Builder.set,
    "call": Builder.call,
    "http": Builder.http,
    "record": Builder.record,
    "transfer": Builder.transfer,
    "conference": Builder.conference,
    "goto": Builder.goto,
    "flow": Builder.flow_node,
    "hangup": Builder.hangup,
}
