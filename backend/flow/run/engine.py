"""The interpreter: from node to node until the flow is over."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backend.call.entering import mark_flow
from backend.call.scenario import ScenarioFunction
from backend.errors import (
    AsteriskError,
    BadRequest,
    CommandTimeout,
    DialogError,
    FlowValueError,
    Hangup,
    HttpFailed,
    LegHangup,
    RecognitionUnavailable,
    ScenarioError,
    StorageUnavailable,
    SynthesisUnavailable,
)
from backend.flow.model import END, CallNode, Flow, FlowNode, Node
from backend.flow.run.actions import ACTIONS
from backend.flow.run.ahead import Ahead
from backend.flow.text import MISSING, fill_data, look_up

if TYPE_CHECKING:
    from backend.call.call import Call

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 20  # of all variables, as JSON: they are a talk's, not a database's
MAX_ERROR = 300

FindFlow = Callable[[str], Flow | None]
FindScenarios = Callable[[], Mapping[str, ScenarioFunction]]


def flow_scenario(
    flow: Flow,
    *,
    version: str | None = None,
    cohort: str = "stable",
    flows: FindFlow | None = None,
    scenarios: FindScenarios | None = None,
) -> ScenarioFunction:
    """The flow as a scenario: what it returns is the flow's ``result``.

    ``version``, ``cohort``: as steps and figures have them. ``flows``: asked first for a flow that
    is entered; ``scenarios``: what else may be entered. Both are asked once in a call, for what the
    call does not know already (runner: all that was on the shelf when it began).
    """
    ahead = Ahead(flow)

    def run(call: Call) -> Any:
        return Run(flow, version or flow.version, cohort, call, ahead, flows, scenarios).run()

    run.__doc__ = flow.title or f"Flow {flow.name}."
    return mark_flow(run, flow.name)


class Run:
    """One flow on one call."""

    def __init__(
        self,
        flow: Flow,
        version: str,
        cohort: str,
        call: Call,
        ahead: Ahead,
        flows: FindFlow | None = None,
        scenarios: FindScenarios | None = None,
    ) -> None:
        self.flow = flow
        self.call = call
        self.variables: dict[str, Any] = self._begin_with(call.entering.take_given())
        self.visits: dict[str, int] = {}  # of goto nodes with a max
        self.recording: Any = None
        self.gone: Hangup | None = None  # the caller has hung up; what follows needs no line
        self._version = version
        self._cohort = cohort
        self._ahead = ahead
        self._flows = flows
        self._scenarios = scenarios
        self._passed = 0

    def _begin_with(self, given: Mapping[str, Any]) -> dict[str, Any]:
        flow, info = self.flow, self.call.info
        for name in given:
            if name not in flow.variables:
                known = ", ".join(flow.variables) or "none"
                raise BadRequest(name, f"flow {flow.name!r} begins with no such variable: {known}")
        return {
            **{name: _copied(name, value) for name, value in {**flow.variables, **given}.items()},
            "caller": info.caller,
            "called": info.called,
            "direction": info.direction,
            "language": info.language,
            "file": info.file,
            "call_id": str(info.id),
            "config": self.call.config,
            "error": None,
        }

    def run(self) -> Any:
        """To its end. Raises Hangup when the caller has hung up, or a flow that was entered from
        elsewhere has; FlowValueError and whatever a node raises that has no exit for it."""
        log.info("call %s: flow %s %s begins", self.call.id, self.flow.name, self._version)
        with self._told():
            if self._scenarios is not None:
                self.call.entering.know(self._scenarios())
            try:
                with self.call.entering.counting(self.flow.max_steps):
                    if self.flow.answer:
                        self.call.answer()
                    self._walk()
            except Hangup:
                if not self.call.hung_up or self.call.entering.inside_another:
                    raise
            if self.gone is not None:
                raise self.gone
            return self._result()

    def _walk(self) -> None:
        name = self.flow.start
        while name != END:
            node = self.flow.nodes[name]
            self._count(node)
            self.call.step_log.at_node(name)
            self.call.step_log.add("node", {"type": node.type})
            log.debug("%s: %s", self._where(node), node.type)
            if self.gone is None:
                self._ahead.prepare(self.call, node, self.variables)
            name = self._step(node)

    def _count(self, node: Node) -> None:
        self._passed += 1
        if self._passed > self.flow.max_steps or self.call.entering.too_many_nodes():
            raise ScenarioError(
                f"flow {self.flow.name!r}: more than max_steps {self.flow.max_steps} nodes, at "
                f"node {node.name!r}: it seems to go round in circles"
            )

    def _step(self, node: Node) -> str:
        """The node's work; where it goes on."""
        try:
            outcome = ACTIONS[node.type](self, node)
        except LegHangup as error:
            return self._failed(node, error)
        except Hangup as error:
            return self._hung_up(node, error)
        except DialogError as error:
            return self._failed(node, error)
        except Exception as error:
            if not isinstance(node, CallNode | FlowNode):
                raise
            log.exception("%s: a function raised", self._where(node))
            return self._failed(node, error)
        target = self.flow.target(node, outcome)
        if target is None:
            raise ScenarioError(f"{self._where(node)}: {outcome} leads nowhere")
        return target

    def _hung_up(self, node: Node, error: Hangup) -> str:
        target = None if self.gone or self.call.hung_up else self.flow.target(node, "on_hangup")
        if target is None:
            raise error
        log.info("%s: the caller hung up: %s", self._where(node), target)
        self.gone = error
        return target

    def _failed(self, node: Node, error: Exception) -> str:
        """An error is an exit. One that leads to the very node is none."""
        target = self.flow.target(node, "on_error")
        if isinstance(error, HttpFailed) and error.timeout and "on_timeout" in node.exits:
            target = node.exits["on_timeout"].target  # the flow's own is for silent callers
        said = f"{type(error).__name__}: {error}"[:MAX_ERROR]
        if target is None or target == node.name:
            log.error("%s: %s; the flow ends: there is no on_error for it", self._where(node), said)
            raise error
        log.warning("%s: %s; on to %s", self._where(node), said, target)
        self.variables["error"] = {"node": node.name, "kind": kind_of(error), "text": said}
        return target

    def _where(self, node: Node) -> str:
        return f"call {self.call.id}: flow {self.flow.name} {self._version}: node {node.name}"

    def _result(self) -> Any:
        """What has no value is null: the talk came to its end all the same."""
        return fill_data(self.flow.result, self.variables, lenient=True)

    # For the nodes

    def save(self, values: Mapping[str, Any]) -> None:
        """Set variables. Raises FlowValueError when they become too many."""
        own = {**self.variables, **values}
        own.pop("config")
        try:
            text = json.dumps(own, ensure_ascii=False, allow_nan=False)
            size = len(text.encode())
        except (TypeError, ValueError, RecursionError):
            raise FlowValueError(f"{', '.join(values)}: the value is not JSON") from None
        if "\\u0000" in text.replace("\\\\", ""):
            raise FlowValueError(f"{', '.join(values)}: a text with a NUL")  # PostgreSQL has none
        if size > MAX_BYTES:
            raise FlowValueError(f"the flow's variables take more than {MAX_BYTES} bytes")
        self.variables |= values

    def value(self, name: str) -> Any:
        found = look_up((name,), self.variables)
        return None if found is MISSING else found

    def enter(self, name: str, variables: Mapping[str, Any]) -> Any:
        """Run another flow."""
        entering = self.call.entering
        if self._flows is not None and not entering.knows(name):
            found = self._flows(name)
            if found is not None:
                function = flow_scenario(found, flows=self._flows, scenarios=self._scenarios)
                entering.know({name: function})
        return entering.flow(self.call, name, variables)

    # Steps

    @contextmanager
    def _told(self) -> Iterator[None]:
        steps, info = self.call.step_log, self.call.info
        key = info.caller if info.direction == "inbound" else info.called
        with steps.in_flow(self.flow.name, self._version):
            steps.add("flow", {"cohort": self._cohort, "caller_key": key})
            try:
                yield
            except Hangup:
                steps.at_node(None)
                reason = "hangup" if self.call.hung_up else "caller_hangup"
                steps.add("flow_end", {"ok": True, "reason": reason})
                raise
            except BaseException as error:
                body = {"ok": False, "reason": kind_of(error)}
                steps.add(
                    "flow_end", {**body, "error": f"{type(error).__name__}: {error}"[:MAX_ERROR]}
                )
                raise
            steps.at_node(None)
            steps.add("flow_end", {"ok": True, "reason": "completed"})


def _copied(name: str, value: Any) -> Any:
    """A flow's variables are its own: what it does to them reaches nobody else's."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise BadRequest(name, "expected what JSON can say") from None


_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (RecognitionUnavailable, "recognition"),
    (SynthesisUnavailable, "synthesis"),
    (HttpFailed, "http"),
    (CommandTimeout, "asterisk_timeout"),
    (AsteriskError, "asterisk"),
    (LegHangup, "asterisk"),
    (StorageUnavailable, "storage"),
    (FlowValueError, "value"),
    (BadRequest, "value"),
    (ScenarioError, "scenario"),
)


def kind_of(error: BaseException) -> str:
    """One word: variable ``error.kind``, and a step's ``reason``."""
    return next((kind for known, kind in _KINDS if isinstance(error, known)), "exception")
