"""Events as other systems read them: one JSON object each (event.schema.json). Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from backend.ports import BusEvent

FORM = 1  # of the object below; a change that a reader must know of raises it
LONG = 200  # characters: an event that is too long keeps so much of a long text


def encode(event: BusEvent, limit_bytes: int) -> bytes:
    """UTF-8 JSON, no more than ``limit_bytes`` (at least 4,000).

    One that would be longer is shortened, and says so (``shortened`` is true): of the values of
    its ``body`` the longest is cut, then the next, until it fits. A text keeps its first LONG
    characters and ends with "…", anything else becomes null. Does that not do, the body is left
    out, and the texts around it are cut likewise.

    Raises ValueError, TypeError, RecursionError for a body that is no JSON at all.
    """
    form = form_of(event)
    line = _dump(form)
    if len(line) <= limit_bytes:
        return line
    form["shortened"] = True
    body = form["body"]
    for name in sorted(body, key=lambda name: len(_dump(body[name])), reverse=True):
        body[name] = _cut(body[name])
        if len(line := _dump(form)) <= limit_bytes:
            return line
    form["body"] = {}
    for name in ("channel", "node", "process", "flow", "version", "flow_node", "state"):
        part = form[name]
        form[name] = (
            {k: _cut(v) for k, v in part.items()} if name == "channel" and part else (_cut(part))
        )
    return _dump(form)


def form_of(event: BusEvent) -> dict[str, Any]:
    """The object, its values still Python's."""
    channel = event.channel
    return {
        "v": FORM,
        "id": event.id,
        "at": _time(event.at),
        "node": event.node,
        "process": event.process,
        "kind": event.kind,
        "call": str(event.call) if event.call else None,
        "task": str(event.task) if event.task else None,
        "n": event.n,
        "flow": event.flow,
        "version": event.version,
        "flow_node": event.flow_node,
        "channel": channel
        and {
            "kind": channel.kind,
            "name": channel.name,
            "caller": channel.caller,
            "called": channel.called,
        },
        "state": event.state,
        "at_ms": event.at_ms,
        "body": dict(event.body),
    }


def _time(at: datetime) -> str:
    """UTC, to the millisecond: 2026-11-28T13:45:01.123Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _cut(value: object) -> object:
    if isinstance(value, str):
        return value if len(value) <= LONG else value[:LONG] + "…"
    return value if value is None or isinstance(value, bool | int | float) else None


def _dump(value: object) -> bytes:
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, default=str, separators=(",", ":")
        )
    except ValueError:  # not-a-number, or an infinity
        text = json.dumps(_finite(value), ensure_ascii=False, default=str, separators=(",", ":"))
    return text.encode("utf-8", "replace")  # a lone surrogate becomes "?"


def _finite(value: object) -> object:
    """``value`` with null for what is no number in JSON."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
