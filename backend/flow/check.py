"""What a schema cannot say of a flow: where it leads, whether it ends, what its variables are.
Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from backend.errors import FlowProblem
from backend.flow.graph import circles
from backend.flow.model import (
    BUILT_IN,
    END,
    BranchNode,
    CallNode,
    Exit,
    Flow,
    FlowNode,
    GotoNode,
    HangupNode,
    HearNode,
    InputNode,
    Node,
    TransferNode,
)
from backend.flow.schema import near
from backend.flow.text import templates_in

_AFTER_FAULTS = ("on_error", "on_hangup")


def problems(flow: Flow, line_of_start: int = 1, line_of_result: int = 1) -> list[FlowProblem]:
    """All of one flow, in the order of lines."""
    check = _Check(flow)
    check.targets(line_of_start)
    check.outcomes()
    check.variables(line_of_result)
    if not check.found:  # the rest needs a graph that is whole
        check.reachable()
        check.loops()
    return sorted(check.found, key=lambda problem: problem.line)


class _Check:
    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.found: list[FlowProblem] = []

    def _say(self, line: int, node: Node | None, text: str) -> None:
        name = node.name if node is not None else None
        self.found.append(FlowProblem(self._flow.source, line, name, text))

    def targets(self, line_of_start: int) -> None:
        flow = self._flow
        if END in flow.nodes:
            self._say(flow.nodes[END].line, flow.nodes[END], "'end' is no node's name: it ends")
        if flow.start not in flow.nodes:
            hint = near(flow.start, flow.nodes)
            self._say(line_of_start, None, f"start: there is no node {flow.start!r}{hint}")
        for outcome, way in flow.exits.items():
            self._target(None, outcome, way)
        for node in flow.nodes.values():
            for outcome, way in node.exits.items():
                self._target(node, outcome, way)

    def _target(self, node: Node | None, outcome: str, way: Exit) -> None:
        flow = self._flow
        if way.target == END:
            return
        if way.target not in flow.nodes:
            hint = near(way.target, [*flow.nodes, END])
            self._say(way.line, node, f"{outcome}: there is no node {way.target!r}{hint}")
        elif outcome == "on_hangup" and flow.nodes[way.target].needs_line:
            kind = flow.nodes[way.target].type
            self._say(
                way.line, node, f"on_hangup: {way.target!r} is a {kind}: nobody is there any more"
            )

    def outcomes(self) -> None:
        """Each that can happen has an exit."""
        for node in self._flow.nodes.values():
            for outcome in needed(node):
                if self._flow.target(node, outcome) is None:
                    self._say(
                        node.line,
                        node,
                        f"lacks {outcome!r}: neither the node nor the flow's exits have it",
                    )

    def variables(self, line_of_result: int) -> None:
        flow = self._flow
        given = set(flow.variables) | {n for node in flow.nodes.values() for n in node.sets()}
        known = given | BUILT_IN
        for name in sorted(set(flow.variables) & BUILT_IN):
            self._say(1, None, f"variables: {name!r} is the flow's own, and cannot be set")
        for node in flow.nodes.values():
            for name in sorted(set(node.sets()) & BUILT_IN):
                self._say(node.line, node, f"{name!r} is the flow's own, and cannot be set")
            for name in sorted(node.uses() - known):
                self._unset(node.line, node, name, known)
        used = {name for one in templates_in(flow.result) for name in one.names}
        for name in sorted(used - known):
            self._unset(line_of_result, None, name, known)

    def _unset(self, line: int, node: Node | None, name: str, known: Collection[str]) -> None:
        where = "" if node is not None else "result: "
        hint = near(name, known) or "; name it under variables, or save it"
        self._say(line, node, f"{where}the variable {name!r} is used, and nothing sets it{hint}")

    def reachable(self) -> None:
        flow = self._flow
        seen, todo = {flow.start}, [flow.start]
        while todo:
            for target in all_ways(flow, flow.nodes[todo.pop()]):
                if target not in seen and target != END:
                    seen.add(target)
                    todo.append(target)
        for name, node in flow.nodes.items():
            if name not in seen:
                self._say(node.line, node, "cannot be reached from the start")

    def loops(self) -> None:
        """Nodes that lead only to each other, and wait for nobody."""
        flow = self._flow
        graph = {name: plain_ways(flow, node) for name, node in flow.nodes.items()}
        for group in circles(graph):
            leaves = any(target not in group for name in group for target in graph[name])
            if not leaves and not any(flow.nodes[name].waits for name in group):
                names = sorted(group, key=lambda name: flow.nodes[name].line)
                first = flow.nodes[names[0]]
                way = " → ".join([*names, names[0]])
                self._say(first.line, first, f"a loop without an exit: {way}")


def needed(node: Node) -> Iterator[str]:
    """The outcomes that must lead somewhere, besides ``next``, which the schema asks for."""
    if isinstance(node, InputNode | HearNode):
        yield "on_timeout"
    others = "next" in node.exits
    if isinstance(node, InputNode) and (node.keys.min > 1 or (node.choices and not others)):
        yield "on_invalid"
    if isinstance(node, HearNode) and not others:
        yield "on_no_match"
    if isinstance(node, TransferNode):
        yield "on_failed"


def _possible(node: Node) -> Iterator[str]:
    """Outcomes that the flow's exits may lead on."""
    yield from needed(node)
    if isinstance(node, TransferNode):
        yield from ("on_busy", "on_no_answer")
    if not isinstance(node, BranchNode | GotoNode | HangupNode) or node.expressions():
        yield "on_error"
    yield "on_hangup"


def all_ways(flow: Flow, node: Node) -> set[str]:
    """Wherever it may lead."""
    found = {way.target for way in node.exits.values()}
    return found | {way for outcome in _possible(node) if (way := flow.target(node, outcome))}


def plain_ways(flow: Flow, node: Node) -> set[str]:
    """Where it leads when nothing fails and nobody hangs up; a node that ends the call: END."""
    if isinstance(node, HangupNode):
        return {END}
    found = {way.target for name, way in node.exits.items() if name not in _AFTER_FAULTS}
    more = (flow.target(node, one) for one in _possible(node) if one not in _AFTER_FAULTS)
    return found | {target for target in more if target is not None}


# Several flows


def flow_circles(flows: Mapping[str, Flow]) -> list[FlowProblem]:
    """Flows that enter each other without end."""
    graph = {name: {node.flow for node in entering(flow)} for name, flow in flows.items()}
    found = []
    for group in circles(graph):
        for name in sorted(group):
            flow = flows[name]
            node = next(node for node in entering(flow) if node.flow in group)
            way = ", ".join(sorted(group))
            text = f"enters flow {node.flow!r}, which leads back here: {way}"
            found.append(FlowProblem(flow.source, node.line, node.name, text))
    return found


def entering(flow: Flow) -> list[FlowNode]:
    """Its nodes that enter other flows."""
    return [node for node in flow.nodes.values() if isinstance(node, FlowNode)]


def unknown(flow: Flow, flows: Collection[str], functions: Collection[str]) -> list[FlowProblem]:
    """The flows and scenario functions that it enters, and nobody has."""
    found = []
    for node in flow.nodes.values():
        if isinstance(node, FlowNode):
            kind, name, here, there = "flow", node.flow, flows, functions
        elif isinstance(node, CallNode):
            kind, name, here, there = "scenario function", node.scenario, functions, flows
        else:
            continue
        if name in here:
            continue
        other = "flow" if kind != "flow" else "call"
        hint = f": it is for a node of type {other}" if name in there else near(name, here)
        said = f"there is no {kind} {name!r}{hint}"
        found.append(FlowProblem(flow.source, node.line, node.name, said))
    return found
