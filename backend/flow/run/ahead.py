"""What a call may soon play is synthesised, or loaded, before it is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from backend.call.prompt import Prompt, Sound, Text
from backend.errors import FlowValueError
from backend.flow.check import all_ways
from backend.flow.model import END, Flow, Node, SoundPart, SpokenPart, prompt_parts
from backend.flow.text import fill

if TYPE_CHECKING:
    from backend.call.call import Call

STEPS = 3  # nodes ahead
AT_A_TIME = 8  # of the flow's other prompts: a first call must not flood the synthesiser


class Ahead:
    """One flow's, for all its calls. The prompts that never change are prepared by the first
    calls, little by little, and kept by the prompts' cache. Thread-safe."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._ways = {name: sorted(all_ways(flow, node)) for name, node in flow.nodes.items()}
        self._lock = threading.Lock()
        every = (part for node in flow.nodes.values() for part in _parts(node, {}))
        self._rest = list(dict.fromkeys(every))  # nobody has asked for them yet

    def prepare(self, call: Call, node: Node, variables: Mapping[str, Any]) -> None:
        """The prompts of this node and of those that may come next, as far as they are known."""
        if not node.needs_line and not node.waits:
            return  # it takes no time
        wanted = dict.fromkeys(
            part for near in self._near(node) for part in _parts(near, variables)
        )
        with self._lock:
            more, self._rest = self._rest[:AT_A_TIME], self._rest[AT_A_TIME:]
        for part in dict.fromkeys([*wanted, *more]):
            call.prepare(part)

    def _near(self, node: Node) -> Iterator[Node]:
        seen, ring = {node.name}, [node.name]
        yield node
        for _ in range(STEPS):
            found = [way for name in ring for way in self._ways[name]]
            ring = [way for way in dict.fromkeys(found) if way != END and way not in seen]
            seen.update(ring)
            for name in ring:
                yield self._flow.nodes[name]


def _parts(node: Node, variables: Mapping[str, Any]) -> Iterator[Prompt]:
    """What is known of its prompts: some variables get their values later."""
    for part, language in prompt_parts(node):
        try:
            filled = _filled(part, language, variables)
        except FlowValueError:
            continue
        if filled is not None:
            yield filled


def _filled(
    part: SpokenPart | SoundPart, language: str | None, variables: Mapping[str, Any]
) -> Prompt | None:
    if isinstance(part, SoundPart):
        return Sound(fill(part.name, variables))
    text = fill(part.text, variables)
    if not text.strip():
        return None
    return text if language is None else Text(text, language)
