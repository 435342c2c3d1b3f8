"""A picture of a flow, as text for Mermaid or for Graphviz. Pure.

Each node is drawn once, by its type's shape, with what a person wants to see of it. Ways that are
taken when something fails are dotted; the flow's own exits come from one box, "any node".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from textwrap import wrap

from backend.flow.model import (
    END,
    CallNode,
    ConferenceNode,
    Flow,
    FlowNode,
    HearNode,
    HttpNode,
    InputNode,
    Node,
    PlayNode,
    Prompt,
    RecordNode,
    SetNode,
    SpokenPart,
    TransferNode,
)

MAX_TEXT = 80
MAX_LABEL = 60
WIDTH = 34  # of a box, in characters
_FAULTS = ("on_error", "on_hangup", "on_timeout", "on_invalid", "on_no_match", "on_failed")

_MERMAID = {
    "play": ('["', '"]'),
    "input": ('[/"', '"/]'),
    "hear": ('[/"', '"/]'),
    "branch": ('{"', '"}'),
    "http": ('[["', '"]]'),
    "call": ('[["', '"]]'),
    "flow": ('[["', '"]]'),
    "hangup": ('(["', '"])'),
}  # all others: round corners
_DOT = {
    "play": "box",
    "input": "parallelogram",
    "hear": "parallelogram",
    "branch": "diamond",
    "http": "component",
    "call": "component",
    "flow": "component",
    "hangup": "oval",
}


@dataclass(frozen=True, slots=True)
class Way:
    """From a node to another. ``source``: None: from any node."""

    source: str | None
    target: str
    label: str
    fault: bool


def ways(flow: Flow) -> list[Way]:
    """All of them; those between the same two as one."""
    labels: dict[tuple[str | None, str, bool], list[str]] = {}
    for node in flow.nodes.values():
        for outcome, way in node.exits.items():
            key = node.name, way.target, outcome in _FAULTS
            labels.setdefault(key, []).append(_label(outcome, way.label))
    for outcome, way in flow.exits.items():
        labels.setdefault((None, way.target, True), []).append(_label(outcome, outcome))
    return [
        Way(source, target, _short(" · ".join(filter(None, found)), MAX_LABEL), fault)
        for (source, target, fault), found in labels.items()
    ]


def _label(outcome: str, label: str) -> str:
    if outcome == "next":
        return ""
    plain = label.removeprefix("on_").replace("_", " ") if outcome == label else label
    return _short(plain, MAX_LABEL)


def says(node: Node) -> list[str]:
    """Lines of a node's box: its name, its type and the gist of it, its note."""
    gist = _short(_gist(node), MAX_TEXT)
    lines = [node.name, *wrap(f"{node.type}: {gist}" if gist else node.type, WIDTH)]
    return [*lines, *wrap(_short(node.note, MAX_TEXT), WIDTH)]


def _gist(node: Node) -> str:
    match node:
        case PlayNode() | InputNode() | HearNode():
            return _prompt(node.saying.prompt)
        case SetNode():
            return ", ".join([*node.values, *node.compute, *node.from_channel, *node.to_channel])
        case CallNode(scenario=name) | FlowNode(flow=name):
            return name
        case HttpNode():
            return f"{node.method} {node.url.text.partition('://')[2]}"
        case RecordNode(action=action):
            return action
        case TransferNode(number=number):
            return number.text
        case ConferenceNode(room=room):
            return room.text
    return ""


def _prompt(prompt: Prompt) -> str:
    texts = (p.text.text if isinstance(p, SpokenPart) else f"[{p.name.text}]" for p in prompt)
    return " ".join(texts)


def _short(text: str, most: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"


def mermaid(flow: Flow) -> str:
    """A Mermaid flowchart."""
    return "\n".join(["flowchart TD", *_mermaid(flow)]) + "\n"


def _mermaid(flow: Flow) -> Iterator[str]:
    yield f'    begin((("{_in_mermaid(flow.name)}"))) --> {_id(flow.start)}'
    for node in flow.nodes.values():
        left, right = _MERMAID.get(node.type, ('("', '")'))
        text = "<br>".join(_in_mermaid(line) for line in says(node))
        yield f"    {_id(node.name)}{left}{text}{right}"
    found = ways(flow)
    if any(way.target == END for way in found):
        yield f'    {_id(END)}((("end")))'
    if any(way.source is None for way in found):
        yield '    any{{"any node"}}'
    for way in found:
        source = "any" if way.source is None else _id(way.source)
        arrow = "-.->" if way.fault else "-->"
        label = f'|"{_in_mermaid(way.label)}"|' if way.label else ""
        yield f"    {source} {arrow}{label} {_id(way.target)}"


def _in_mermaid(text: str) -> str:
    """Its entities for what would end a text, or be read as Markdown or HTML."""
    return re.sub(r'["#<>&`|]', lambda sign: f"#{ord(sign[0])};", text)


def _id(name: str) -> str:
    """A name that is no word of the language: "end" is one. Each its own."""
    return "n_" + name.replace("_", "__").replace("-", "_h")


def dot(flow: Flow) -> str:
    """A graph for Graphviz."""
    lines = [f"digraph {_in_dot(flow.name)} {{", *(f"  {line}" for line in _dot(flow)), "}"]
    return "\n".join(lines) + "\n"


def _dot(flow: Flow) -> Iterator[str]:
    yield 'node [fontname="sans-serif", fontsize=11]; edge [fontname="sans-serif", fontsize=9];'
    yield f"begin [shape=circle, label={_in_dot(flow.name)}];"
    yield f"begin -> {_in_dot('n ' + flow.start)};"
    for node in flow.nodes.values():
        shape = _DOT.get(node.type, 'box, style="rounded"')
        label = _in_dot("\n".join(says(node)))
        yield f"{_in_dot('n ' + node.name)} [shape={shape}, label={label}];"
    found = ways(flow)
    if any(way.target == END for way in found):
        yield f"{_in_dot('n ' + END)} [shape=doublecircle, label=end];"
    if any(way.source is None for way in found):
        yield 'any [shape=hexagon, label="any node"];'
    for way in found:
        source = "any" if way.source is None else _in_dot("n " + way.source)
        style = ", style=dotted" if way.fault else ""
        target = _in_dot("n " + way.target)
        yield f"{source} -> {target} [label={_in_dot(way.label)}{style}];"


def _in_dot(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"'


FORMATS: dict[str, Callable[[Flow], str]] = {"mermaid": mermaid, "dot": dot}
