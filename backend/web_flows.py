"""The HTTP door's /flows: versions handed in, rolled out, taken back, and what became of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from flask import Flask, Response, g, request

from backend.dialing.policy import Rules
from backend.errors import BadRequest, FlowError, FlowProblem
from backend.flow.load import load_flow
from backend.flow.model import CallNode, Flow, FlowNode
from backend.flow.published import FlowReport, FlowVersion, StoredRollout
from backend.flow.rollout import Action, Figures, Order, Priority
from backend.http_api import problem
from backend.http_flows import (
    ACTIONS,
    MAX_FLOW_BODY_BYTES,
    ORDER_FIELDS,
    PUT_FIELDS,
    RolloutAnswers,
    flow_answer,
    flow_refused,
    rollout_answer,
    text_answer,
)
from backend.web_wire import json_answer, json_body, query, refuse_others

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_VERSION = re.compile(r"[0-9a-f]{1,64}")
_MAX_REASON = 500
_LIMITS = ("min_calls", "error_percent", "loss_percent")


class FlowDesk(Protocol):
    """storage.flows.Flows. All raise StorageUnavailable; ``put`` and ``change`` BadRequest."""

    def put(self, new: FlowVersion, *, priority: Priority, by: str) -> StoredRollout: ...
    def change(self, flow: str, order: Order, *, by: str) -> StoredRollout | None: ...
    def prune(self, flow: str, *, by: str) -> Sequence[str] | None: ...
    def summaries(self) -> Sequence[tuple[StoredRollout, Figures]]: ...
    def report(self, flow: str) -> FlowReport | None: ...
    def texts(self, wanted: Collection[tuple[str, str]]) -> Sequence[FlowVersion]: ...


def add_flows(app: Flask, flows: FlowDesk, rules: Rules, admins: Collection[str]) -> None:
    """Add /flows. ``rules.scenarios``: what flows may call; ``admins``: who may change flows, none
    named: all."""
    app.register_error_handler(FlowError, lambda error: json_answer(flow_refused(error), 400))
    _add_looks(app, flows)
    _add_changes(app, flows, rules, admins)


def _add_looks(app: Flask, flows: FlowDesk) -> None:
    @app.get("/flows")
    def list_flows() -> Response:
        query(known=())
        found = [rollout_answer(stored, figures) for stored, figures in flows.summaries()]
        return json_answer(RolloutAnswers(flows=found).model_dump(mode="json"))

    @app.get("/flows/<name>")
    def one_flow(name: str) -> Response:
        query(known=())
        return _report(flows, _name(name))

    @app.get("/flows/<name>/versions/<version>")
    def flow_text(name: str, version: str) -> Response:
        query(known=())
        if not _VERSION.fullmatch(version):
            raise BadRequest("version", "is no version: twelve hexadecimal digits")
        found = flows.texts([(_name(name), version)])
        if not found:
            return json_answer(problem("not_found", "there is no such version", "version"), 404)
        return json_answer(text_answer(found[0]))


def _add_changes(app: Flask, flows: FlowDesk, rules: Rules, admins: Collection[str]) -> None:
    @app.put("/flows")
    def put_flow() -> Response:
        query(known=())
        refuse_others(admins, "flows")
        request.max_content_length = MAX_FLOW_BODY_BYTES
        flow, new = checked(json_body(PUT_FIELDS), rules)
        flows.put(new, priority=flow.priority, by=g.client)
        return _report(flows, flow.name)

    @app.post("/flows/<name>")
    def order_flow(name: str) -> Response:
        query(known=())
        refuse_others(admins, "flows")
        _carry_out(flows, _name(name), json_body(ORDER_FIELDS))
        return _report(flows, name)


def _carry_out(flows: FlowDesk, name: str, given: Mapping[str, object]) -> None:
    """A flow that is not there is told by the report that follows."""
    if given.get("action") == "prune":
        _only(given, "action")
        flows.prune(name, by=g.client)
    else:
        flows.change(name, _order(given), by=g.client)


def _report(flows: FlowDesk, name: str) -> Response:
    report = flows.report(name)
    if report is not None:
        return json_answer(flow_answer(report))
    why = f"no flow of the name {name[:64]} was published"
    return json_answer(problem("not_found", why, "name"), 404)


def checked(given: Mapping[str, object], rules: Rules) -> tuple[Flow, FlowVersion]:
    """A flow that may be published. Raises BadRequest; FlowError with all that is wrong."""
    content, note = _text(given, "text"), _text(given, "note", "")
    if "\0" in content or any("\ud800" <= character <= "\udfff" for character in content):
        raise BadRequest("text", "holds what no text has: NUL, or half a character")
    form = _text(given, "format", "yaml")
    if form not in ("yaml", "json"):
        raise BadRequest("format", f"{form[:40]!a}: expected 'yaml' or 'json'")
    source = f"text.{form}"  # the ending decides how it is read
    flow = load_flow(content, source=source)
    unknown = list(_unknown(flow, source, rules.scenarios))
    if unknown:
        raise FlowError(unknown)
    return flow, FlowVersion(flow.name, flow.version, content, form, note)


def _unknown(flow: Flow, source: str, known: Collection[str] | None) -> Iterator[FlowProblem]:
    """What it calls and nobody has: found now, not when a caller comes to that node."""
    if known is None:
        return
    for node in flow.nodes.values():
        if isinstance(node, CallNode) and node.scenario not in known:
            words = f"there is no scenario {node.scenario!r} here"
            yield FlowProblem(source, node.line, node.name, words)
        if isinstance(node, FlowNode) and node.flow != flow.name and node.flow not in known:
            words = f"there is no flow {node.flow!r} that calls get: publish it first"
            yield FlowProblem(source, node.line, node.name, words)


def _order(given: Mapping[str, object]) -> Order:
    action = _action(given)
    allowed = {
        "test": ("numbers", *_LIMITS),
        "share": ("percent", *_LIMITS),
        "all": _LIMITS,
        "pin": ("nodes",),
    }
    _only(given, "action", "version", "reason", *allowed.get(action, ()))
    reason = _text(given, "reason", "")
    if len(reason) > _MAX_REASON or not reason.isprintable():
        raise BadRequest("reason", f"must be one printable line of at most {_MAX_REASON}")
    percent = given.get("percent")
    if percent is not None and (isinstance(percent, bool) or not isinstance(percent, int | float)):
        raise BadRequest("percent", "must be a number")
    return Order(
        action,
        numbers=_texts(given, "numbers"),
        percent=percent,
        nodes=_texts(given, "nodes"),
        limits={name: given[name] for name in _LIMITS if name in given},
        version=_text(given, "version") if "version" in given else None,
        reason=reason,
    )


def _action(given: Mapping[str, object]) -> Action:
    action = _text(given, "action")
    known: tuple[Action, ...] = ("test", "share", "all", "back", "pin", "unpin")
    for one in known:
        if one == action:
            return one
    raise BadRequest("action", f"{action[:40]!a}: expected one of {', '.join(ACTIONS)}")


def _only(given: Mapping[str, object], *names: str) -> None:
    for name in given:
        if name not in names:
            raise BadRequest(name, f"does not go with action {given.get('action')!a}")


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadRequest("name", "is no flow's name: a letter, then letters, digits, '_', '-'")
    return name


def _text(given: Mapping[str, object], name: str, default: str | None = None) -> str:
    value = given.get(name, default)
    if value is None:
        raise BadRequest(name, "is missing")
    if not isinstance(value, str):
        raise BadRequest(name, f"must be text, not {type(value).__name__}")
    return value


def _texts(given: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = given.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRequest(name, "must be a list of texts")
    return tuple(value)
