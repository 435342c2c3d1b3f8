"""The node http: another system is asked, its answer becomes variables."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from backend.errors import FlowValueError, HttpFailed
from backend.flow.model import HttpNode
from backend.flow.text import MISSING, as_text, fill, fill_data, look_up, spell
from backend.ports import HttpAnswer, HttpRequest

if TYPE_CHECKING:
    from backend.flow.run.engine import Run

log = logging.getLogger(__name__)

PAUSE_S = 0.3  # before the second attempt; then twice as long, and so on


def http(run: Run, node: HttpNode) -> str:
    answer = _asked(run, node, _request(run, node))
    saved: dict[str, Any] = {}
    if node.save_status is not None:
        saved[node.save_status] = answer.status
    good = 200 <= answer.status < 300
    status = str(answer.status)
    ways = [way for way in (f"status {status}", f"status {status[0]}xx") if way in node.exits]
    if node.save and (good or ways):
        saved |= _read(node, answer, strict=good and not ways)
    run.save(saved)
    if ways:
        return ways[0]
    if not good:
        raise HttpFailed(f"{_name(node)} says {status}", status=answer.status)
    return "next"


def _asked(run: Run, node: HttpNode, request: HttpRequest) -> HttpAnswer:
    """With as many attempts as the node allows; a status is an answer, but for 5xx. Raises
    HttpFailed; Hangup between two attempts."""
    left, pause_s = node.retries, PAUSE_S
    while True:
        try:
            answer = run.call.request(request)
            if answer.status < 500 or left == 0:
                return answer
            why = f"status {answer.status}"
        except HttpFailed as error:
            if left == 0:
                raise
            why = str(error)
        log.warning("call %s: node %s: %s; tried again", run.call.id, node.name, why)
        left -= 1
        if run.gone is None:
            run.call.wait(pause_s)
        pause_s *= 2


def _request(run: Run, node: HttpNode) -> HttpRequest:
    variables = run.variables
    headers = {name: _header(name, fill(text, variables)) for name, text in node.headers.items()}
    body = None
    if node.has_body:
        body = json.dumps(fill_data(node.body, variables), ensure_ascii=False).encode()
        headers.setdefault("Content-Type", "application/json")
    headers.setdefault("Accept", "application/json")
    return HttpRequest(
        method=node.method,
        url=_url(node, variables),
        headers=headers,
        secret_headers=node.secret_headers,
        body=body,
        timeout_s=node.timeout_s,
        max_bytes=node.max_bytes,
    )


def _url(node: HttpNode, variables: dict[str, Any]) -> str:
    """A variable's value cannot become a part of the path, or another host."""
    pieces = []
    for piece in node.url.pieces:
        if isinstance(piece, str):
            pieces.append(quote(piece, safe="/:?&=%+,;@!$'()*~#[]"))
            continue
        value = look_up(piece, variables)
        if value is MISSING or value is None:
            raise FlowValueError(f"url: {{{spell(piece)}}} has no value")
        if (text := as_text(value)) in (".", ".."):
            raise FlowValueError(f"url: {{{spell(piece)}}} would lead to another place")
        pieces.append(quote(text, safe=""))
    url = "".join(pieces).partition("#")[0]
    query = urlencode([(name, fill(text, variables)) for name, text in node.query.items()])
    return url + (("&" if "?" in url else "?") + query if query else "")


def _header(name: str, value: str) -> str:
    if any(ord(sign) < 32 or ord(sign) > 255 for sign in value):
        raise FlowValueError(f"the header {name!r} would have signs that no header can have")
    return value


def _read(node: HttpNode, answer: HttpAnswer, *, strict: bool) -> dict[str, Any]:
    """The variables; null where the answer has nothing there."""
    try:
        told = json.loads(answer.body, parse_constant=_no_json)
    except (ValueError, RecursionError):
        if strict:
            raise HttpFailed(
                f"{_name(node)}: the answer is no JSON", status=answer.status
            ) from None
        told = None
    saved = {}
    for name, place in node.save.items():
        found = look_up(place, told)
        saved[name] = None if found is MISSING else found
    return saved


def _no_json(word: str) -> None:
    """NaN, Infinity: Python would take them."""
    raise ValueError(word)


def _name(node: HttpNode) -> str:
    """Without what is in variables: that is nobody's business in a log."""
    return f"{node.method} {node.url.text}"
