"""What a call may soon speak is synthesised before it is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from backend.call.prompt import Text
from backend.errors import FlowValueError
from backend.flow.check import all_ways
from backend.flow.model import END, Flow, Node, spoken_parts
from backend.flow.text import fill

if TYPE_CHECKING:
    from backend.call.call import Call

STEPS = 3  # nodes ahead
AT_A_TIME = 8  # of the flow's other texts: a first call must not flood the synthesiser


class Ahead:
    """One flow's, for all its calls. The texts that never change are synthesised by the first
    calls, little by little, and kept by the prompts' cache. Thread-safe."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._ways = {name: sorted(all_ways(flow, node)) for name, node in flow.nodes.items()}
        self._lock = threading.Lock()
        self._rest = flow.constant_texts()  # (text, language): nobody has asked for them yet

    def prepare(self, call: Call, node: Node, variables: Mapping[str, Any]) -> None:
        """The texts of this node and of those that may come next, as far as they are known."""
        if not node.needs_line and not node.waits:
            return  # it takes no time
        wanted: dict[tuple[str, str | None], None] = {}
        for other in self._near(node):
            for part, language in spoken_parts(other):
                try:
                    wanted[fill(part.text, variables), language] = None
                except FlowValueError:  # a variable gets its value later
                    continue
        with self._lock:
            more, self._rest = self._rest[:AT_A_TIME], self._rest[AT_A_TIME:]
        for text, language in [*wanted, *more]:
            if text.strip():
                call.prepare(text if language is None else Text(text, language))

    def _near(self, node: Node) -> Iterator[Node]:
        seen, ring = {node.name}, [node.name]
        yield node
        for _ in range(STEPS):
            found = [way for name in ring for way in self._ways[name]]
            ring = [way for way in dict.fromkeys(found) if way != END and way not in seen]
            seen.update(ring)
            for name in ring:
                yield self._flow.nodes[name]
