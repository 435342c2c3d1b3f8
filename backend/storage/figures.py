"""Figures of guarded keys and of flows, counted from steps as they are stored.

In the transaction that stores the steps, from those that were new: each step counts once, however
often its batch is applied. What each figure means: docs/figures.md.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select

from backend.model import CallStep
from backend.storage.bulk import insert_many
from backend.storage.engine import clean_text, reaching
from backend.storage.tables import flow_figures, steps

Figure = tuple[str, str, str]  # flow, version ("" and "": outside a flow), name

# Upper bounds in seconds; the last bucket has none.
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, math.inf)

BLOCKING = ("playing", "processing")  # states that take no keys
KEYS = ("taken", "blocked", "buffered", "released", "conflict", "discarded", "lost")
# A flow that ends so has not failed: the caller went, or the backend was stopped.
NO_FAILURE = ("hangup", "caller_hangup", "backend_lost")

_ALARM = re.compile(r"[a-z][a-z_]{0,39}")


def count_figures(connection: Connection, fresh: Iterable[object]) -> None:
    """Add what the steps among ``fresh`` count: one statement, its rows in one order, so that
    two transactions never wait for each other."""
    found = [record for record in fresh if isinstance(record, CallStep)]
    if not found:
        return
    added = figures_of(found)
    for flow, version in _newly_broken(connection, found):
        added[flow, version, "prompts_broken"] += 1
    rows = [(*key, value) for key, value in sorted(added.items()) if value]
    if rows:
        insert_many(
            connection,
            f"INSERT INTO {flow_figures.name} AS kept (flow, version, name, value) VALUES %s"  # noqa: S608
            " ON CONFLICT (flow, version, name) DO UPDATE SET value = kept.value + excluded.value",
            rows,
        )


def figures_of(found: Iterable[CallStep]) -> defaultdict[Figure, float]:
    """What each step counts by itself. Pure; ``prompts_broken`` is not among it: that is
    counted once a prompt, whatever its keys."""
    added: defaultdict[Figure, float] = defaultdict(float)
    for step in found:
        flow, version = place_of(step)
        for name, value in _counts(step):
            added[flow, version, name] += value
    return added


def place_of(step: CallStep) -> tuple[str, str]:
    return clean_text(step.flow or ""), clean_text(step.version or "")


def _counts(step: CallStep) -> Iterable[tuple[str, float]]:
    body = step.body
    if step.kind == "flow":
        yield "calls", 1
    elif step.kind == "flow_end":
        if body.get("ok") is False and body.get("reason") not in NO_FAILURE:
            yield "calls_failed", 1
    elif step.kind == "conflict":
        yield "conflicts", 1
    elif step.kind == "alarm":
        name = str(body.get("alarm"))
        yield f"alarms.{name if _ALARM.fullmatch(name) else 'other'}", 1
    elif step.kind == "key":
        yield _key(step), 1
        if body.get("by") == "backend":
            yield "second_gate", 1
    elif step.kind == "state":
        yield from _state(step)


def _key(step: CallStep) -> str:
    """The one figure that a key step counts to."""
    verdict = step.body.get("verdict")
    if verdict == "lost" and step.state in BLOCKING:
        return "keys_lost_blocked"
    return f"keys_{verdict}" if verdict in KEYS else "keys_other"


def _state(step: CallStep) -> Iterable[tuple[str, float]]:
    if step.state == "playing" and step.body.get("event") == "play":
        yield "prompts_blocked", 1  # its order: from now on it takes no keys
    for name, field in (("switch", "took_ms"), ("opening_error", "error_ms")):
        value = step.body.get(field)
        if isinstance(value, int | float) and math.isfinite(value):
            seconds = abs(value) / 1000
            bound = next(bound for bound in BUCKETS_S if seconds <= bound)
            yield bucket(name, bound), 1
            yield f"{name}_sum", seconds
            yield f"{name}_count", 1


def bucket(name: str, bound_s: float) -> str:
    """The figure that holds how many fell into the bucket, and into none before it."""
    return f"{name}_le_{bound_s:g}"


def _may_break(step: CallStep) -> bool:
    """Whether a key was read by the scenario while a prompt played that takes none."""
    came_through = step.body.get("verdict") in ("taken", "released")
    return step.kind == "key" and step.state == "playing" and came_through


def _newly_broken(connection: Connection, found: Sequence[CallStep]) -> list[tuple[str, str]]:
    """Flow and version of each prompt that its first key came through to. Such steps are rare:
    the rest is asked of the table, where all earlier steps of the call are."""
    broken = []
    seen: set[tuple[UUID, int]] = set()
    for step in found:
        if not _may_break(step):
            continue
        order = _order_of(connection, step)
        prompt = step.call_id, order.n if order else -1
        if prompt in seen or not _came_after(step, order):
            continue
        seen.add(prompt)
        if not any(_came_after(key, order) for key in _read_between(connection, order, step)):
            broken.append(place_of(step))
    return broken


def _came_after(key: CallStep, order: CallStep | None) -> bool:
    """Whether the key went down (its ``at_ms``) when its prompt was ordered already. One that was
    down before may be read later, and breaks nothing."""
    return order is None or key.at_ms >= order.at_ms


def _order_of(connection: Connection, step: CallStep) -> CallStep | None:
    """Of the prompt during which ``step`` was."""
    query = select(steps).where(
        steps.c.call_id == step.call_id,
        steps.c.n < step.n,
        steps.c.kind == "state",
        steps.c.state == "playing",
        steps.c.body["event"].astext == "play",
    )
    row = connection.execute(query.order_by(steps.c.n.desc()).limit(1)).mappings().first()
    return None if row is None else CallStep(**row)


def _read_between(
    connection: Connection, order: CallStep | None, step: CallStep
) -> Iterable[CallStep]:
    """Keys that were read from the prompt's order on, before ``step``."""
    query = select(steps).where(
        steps.c.call_id == step.call_id,
        steps.c.n < step.n,
        steps.c.n > (order.n if order else -1),
        steps.c.kind == "key",
    )
    found = (CallStep(**row) for row in connection.execute(query).mappings().all())
    return (key for key in found if _may_break(key))


class FlowFigures:
    """The table. Every method raises StorageUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> dict[tuple[str, str], Mapping[str, float]]:
        """By (flow, version): figure → value."""
        query = select(
            flow_figures.c.flow,
            flow_figures.c.version,
            func.jsonb_object_agg(flow_figures.c.name, flow_figures.c.value),
        ).group_by(flow_figures.c.flow, flow_figures.c.version)
        with reaching("read figures"), self._engine.connect() as connection:
            return {(flow, version): values for flow, version, values in connection.execute(query)}
