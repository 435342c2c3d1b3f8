"""Published flows: their versions, who gets which, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    and_,
    delete,
    func,
    not_,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

import backend.flow.rollout as rules
from backend.errors import BadRequest
from backend.flow.published import Entry, FlowReport, FlowVersion, StoredRollout
from backend.flow.rollout import Figures, Limits, Order, Rollout
from backend.storage.changes import FLOWS_CHANNEL
from backend.storage.engine import reaching
from backend.storage.figures import BLOCKING, NO_FAILURE
from backend.storage.tables import flow_figures, flow_versions, rollout_history, rollouts, steps

MAX_FLOWS = 1000
MAX_VERSIONS = 1000  # of one flow
MAX_TEXT_BYTES = 512 * 1024
MAX_NOTE = 1000
PRUNE_AFTER = timedelta(days=30)
SHOWN_CALLS = 100  # of those a version hurt
SHOWN_ENTRIES = 100  # of a flow's history

_NOTIFY = text("SELECT pg_notify(:channel, '')").bindparams(channel=FLOWS_CHANNEL)
_NOW = func.clock_timestamp()
_FIGURES = ("calls", "calls_failed", "keys_taken", "keys_lost")
# As in the index ix_steps_hurt, else PostgreSQL would not see that it serves.
_BAD_STEP = text(
    "(kind = 'flow_end' AND (body ->> 'ok') = 'false'"
    " OR kind = 'key' AND (body ->> 'verdict') = 'lost')"
)
# Neither a failure nor a loss for the figures.
_EXCUSED = or_(
    and_(
        steps.c.kind == "flow_end",
        func.coalesce(steps.c.body["reason"].astext, "").in_(NO_FAILURE),
    ),
    and_(steps.c.kind == "key", steps.c.state.in_(BLOCKING)),
)


class Flows:
    """The tables. Every method raises StorageUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(
        self, new: FlowVersion, *, priority: rules.Priority = "normal", by: str
    ) -> StoredRollout:
        """Store a version (checked before) and make it the candidate; all workers are told.
        Raises BadRequest."""
        _check_sizes(new)
        with reaching("store a flow"), self._engine.begin() as connection:
            _begin(connection, new.flow, by)
            stored = lock_rollout(connection, new.flow)
            assert stored is not None
            after = rules.put(stored.rollout, new.version, priority)
            _store_text(connection, new, by)
            if after == stored.rollout:
                return stored
            return write_rollout(connection, stored, after, "put", new.version, by, new.note)

    def change(self, flow: str, order: Order, *, by: str) -> StoredRollout | None:
        """Carry out a step; all workers are told. None: there is no such flow. Raises
        BadRequest."""
        with reaching("change a roll-out"), self._engine.begin() as connection:
            stored = lock_rollout(connection, flow)
            if stored is None:
                return None
            after = rules.carry_out(stored.rollout, order)
            about = rules.subject(stored.rollout)
            words = rules.told(order, after)
            return write_rollout(connection, stored, after, order.action, about, by, words)

    def rollouts(self) -> tuple[list[StoredRollout], list[str]]:
        """All by name, and what is wrong with those that cannot be read (written by SQL)."""
        with reaching("read roll-outs"), self._engine.connect() as connection:
            rows = connection.execute(select(rollouts).order_by(rollouts.c.flow)).mappings().all()
        good: list[StoredRollout] = []
        bad: list[str] = []
        for row in rows:
            try:
                good.append(stored_of(row))
            except BadRequest as error:
                bad.append(f"{row['flow']}: {error.why}")
        return good, bad

    def texts(self, wanted: Collection[tuple[str, str]]) -> list[FlowVersion]:
        """Those that are there of the versions (flow, version)."""
        key = tuple_(flow_versions.c.flow, flow_versions.c.version)
        query = select(flow_versions).where(key.in_(wanted))
        with reaching("read flows"), self._engine.connect() as connection:
            return [FlowVersion(**row) for row in connection.execute(query).mappings()]

    def summaries(self) -> list[tuple[StoredRollout, Figures]]:
        """All by name, each with the figures of the watched version since the step began. Those
        that cannot be read are left out."""
        figures = self._all_figures()
        good, _ = self.rollouts()
        return [(one, current_figures(one, figures.get(one.rollout.flow, {}))) for one in good]

    def shares(self) -> dict[tuple[str, str], float]:
        """By (flow, version): how many percent of the callers get it now. A candidate that only
        test numbers get has 0."""
        found: dict[tuple[str, str], float] = {}
        for rollout in (one.rollout for one in self.rollouts()[0]):
            share = rollout.share if rollout.state == "share" else 0.0
            if rollout.candidate is not None:
                found[rollout.flow, rollout.candidate] = share
            if rollout.stable is not None:
                found[rollout.flow, rollout.stable] = 100.0 - share
        return found

    def _all_figures(self) -> dict[str, dict[str, Figures]]:
        with reaching("read figures"), self._engine.connect() as connection:
            return figures_by_flow(connection)

    def report(self, flow: str) -> FlowReport | None:
        """None: there is no such flow."""
        without_text = [column for column in flow_versions.c if column.name != "text"]
        mine = rollout_history.c.flow == flow
        with reaching("read a flow"), self._engine.connect() as connection:
            row = connection.execute(select(rollouts).where(rollouts.c.flow == flow)).mappings()
            found = row.first()
            if found is None:
                return None
            stored = stored_of(found)
            versions = connection.execute(
                select(*without_text)
                .where(flow_versions.c.flow == flow)
                .order_by(flow_versions.c.created_at.desc(), flow_versions.c.version)
            ).mappings()
            told = connection.execute(
                select(rollout_history)
                .where(mine)
                .order_by(rollout_history.c.id.desc())
                .limit(SHOWN_ENTRIES)
            ).mappings()
            totals = figures_of(connection, flow)
            return FlowReport(
                stored,
                tuple(FlowVersion(text="", **one) for one in versions),
                totals,
                current_figures(stored, totals),
                tuple(entry_of(one) for one in told),
            )

    def prune(self, flow: str, *, by: str) -> list[str] | None:
        """Delete the versions that no call gets and that none got for PRUNE_AFTER, with their
        figures; returns them. None: there is no such flow."""
        with reaching("delete old versions"), self._engine.begin() as connection:
            stored = lock_rollout(connection, flow)
            if stored is None:
                return None
            last = func.coalesce(flow_versions.c.used_at, flow_versions.c.created_at)
            old = (
                flow_versions.c.flow == flow,
                flow_versions.c.version.not_in(stored.rollout.in_use),
                last < _NOW - PRUNE_AFTER,
            )
            gone = delete(flow_versions).where(*old).returning(flow_versions.c.version)
            deleted = sorted(connection.execute(gone).scalars())
            if deleted:
                theirs = flow_figures.c.flow == flow, flow_figures.c.version.in_(deleted)
                connection.execute(delete(flow_figures).where(*theirs))
                tell(connection, flow, "prune", None, by, ", ".join(deleted))
            return deleted


# --- Inside a transaction ------------------------------------------------------------------------


def lock_rollout(connection: Connection, flow: str) -> StoredRollout | None:
    query = select(rollouts).where(rollouts.c.flow == flow).with_for_update()
    row = connection.execute(query).mappings().first()
    return None if row is None else stored_of(row)


def write_rollout(
    connection: Connection,
    before: StoredRollout,
    after: Rollout,
    action: str,
    version: str | None,
    by: str,
    reason: str,
    **more: Any,
) -> StoredRollout:
    """Write it, tell the history (``more``: other columns of its line) and all workers. A step
    begins unless only ``nodes`` changed."""
    flow = after.flow
    values: dict[str, Any] = {**values_of(after), "changed_at": _NOW, "changed_by": by}
    if action not in ("pin", "unpin"):
        seen = figures_of(connection, flow).get(after.watched or "", Figures())
        values |= {"step_at": _NOW, "baseline": asdict(seen)}
    mine = update(rollouts).where(rollouts.c.flow == flow).values(**values).returning(rollouts)
    row = connection.execute(mine).mappings().one()
    if left := before.rollout.in_use - after.in_use:
        these = and_(flow_versions.c.flow == flow, flow_versions.c.version.in_(left))
        connection.execute(update(flow_versions).where(these).values(used_at=_NOW))
    tell(connection, flow, action, version, by, reason, **more)
    connection.execute(_NOTIFY)
    return stored_of(row)


def tell(
    connection: Connection,
    flow: str,
    action: str,
    version: str | None,
    by: str,
    reason: str,
    **more: Any,
) -> None:
    """A line of the history."""
    values = {"flow": flow, "action": action, "version": version, "by": by, "reason": reason}
    connection.execute(insert(rollout_history).values(at=_NOW, **values, **more))


def figures_of(connection: Connection, flow: str) -> dict[str, Figures]:
    """A flow's figures by version, as they stand."""
    return figures_by_flow(connection, flow).get(flow, {})


def figures_by_flow(
    connection: Connection, flow: str | None = None
) -> dict[str, dict[str, Figures]]:
    """Figures by flow and version; None: of all flows."""
    row = flow_figures.c
    query = select(row.flow, row.version, row.name, row.value).where(row.name.in_(_FIGURES))
    if flow is not None:
        query = query.where(row.flow == flow)
    found: dict[tuple[str, str], dict[str, int]] = {}
    for name, version, figure, value in connection.execute(query).all():
        found.setdefault((name, version), {})[figure] = int(value)
    by_flow: dict[str, dict[str, Figures]] = {}
    for (name, version), figures in found.items():
        by_flow.setdefault(name, {})[version] = Figures(**figures)
    return by_flow


def current_figures(stored: StoredRollout, totals: Mapping[str, Figures]) -> Figures:
    """Of the watched version, since the step began."""
    return totals.get(stored.rollout.watched or "", Figures()).since(stored.baseline)


def hurt_calls(
    connection: Connection, flow: str, version: str, since: datetime, until: datetime | None = None
) -> tuple[int, list[str]]:
    """The calls that failed, or lost a key, with that version: how many, and the last of them."""
    mine: list[ColumnElement[bool]] = [
        steps.c.flow == flow,
        steps.c.version == version,
        steps.c.at >= since,
    ]
    mine.append(not_(_EXCUSED))
    if until is not None:
        mine.append(steps.c.at <= until)
    last = func.max(steps.c.at)
    count = select(func.count(steps.c.call_id.distinct())).where(*mine, _BAD_STEP)
    these = (
        select(steps.c.call_id)
        .where(*mine, _BAD_STEP)
        .group_by(steps.c.call_id)
        .order_by(last.desc())
        .limit(SHOWN_CALLS)
    )
    number = connection.execute(count).scalar_one()
    return number, [str(call_id) for call_id in connection.execute(these).scalars()]


def entry_of(row: RowMapping) -> Entry:
    values = {name: row[name] for name in ("id", "flow", "at", "by", "action", "version", "reason")}
    return Entry(**values, hurt=row["hurt"], calls=tuple(row["calls"] or ()))


def _begin(connection: Connection, flow: str, by: str) -> None:
    """Make sure there is a row. Raises BadRequest for one flow too many."""
    values = {**values_of(Rollout(flow)), "baseline": asdict(Figures()), "changed_by": by}
    new = insert(rollouts).values(step_at=_NOW, changed_at=_NOW, **values)
    if connection.execute(new.on_conflict_do_nothing()).rowcount:
        count = connection.execute(select(func.count()).select_from(rollouts)).scalar_one()
        if count > MAX_FLOWS:
            raise BadRequest("text", f"there are {MAX_FLOWS} flows already, the most")


def _store_text(connection: Connection, new: FlowVersion, by: str) -> None:
    values = {name: getattr(new, name) for name in ("flow", "version", "text", "format", "note")}
    statement = insert(flow_versions).values(created_at=_NOW, created_by=by, **values)
    if not connection.execute(statement.on_conflict_do_nothing()).rowcount:
        return
    mine = select(func.count()).where(flow_versions.c.flow == new.flow)
    if connection.execute(mine).scalar_one() > MAX_VERSIONS:
        raise BadRequest(
            "text",
            f"there are {MAX_VERSIONS} versions of {new.flow} already, the most: delete the old"
            " ones (asterisk-dialog flow prune)",
        )


def _check_sizes(new: FlowVersion) -> None:
    size = len(new.text.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT_BYTES:
        raise BadRequest("text", f"has {size} bytes; at most {MAX_TEXT_BYTES}")
    if len(new.note) > MAX_NOTE or not new.note.isprintable():
        raise BadRequest("note", f"must be one printable line of at most {MAX_NOTE} characters")


def values_of(rollout: Rollout) -> dict[str, Any]:
    """The columns of a roll-out; JSON can hold them. ``rollout_of`` reads them."""
    return {
        "flow": rollout.flow,
        "state": rollout.state,
        "stable": rollout.stable,
        "candidate": rollout.candidate,
        "previous": rollout.previous,
        "test_numbers": list(rollout.test_numbers),
        "share": rollout.share,
        "limits": asdict(rollout.limits),
        "nodes": list(rollout.nodes),
        "priority": rollout.priority,
    }


def rollout_of(values: Mapping[str, Any]) -> Rollout:
    """The other way round. Raises BadRequest for what only SQL can have written."""
    try:
        return Rollout(
            flow=values["flow"],
            state=_one_of(values["state"], ("stable", "put", "test", "share", "all")),
            stable=values["stable"],
            candidate=values["candidate"],
            previous=values["previous"],
            test_numbers=tuple(map(str, values["test_numbers"])),
            share=float(values["share"]),
            limits=Limits(**values["limits"]),
            nodes=tuple(map(str, values["nodes"])),
            priority=_one_of(values["priority"], ("normal", "high")),
        )
    except (TypeError, ValueError, LookupError) as error:
        raise BadRequest("flow", f"its row in table rollouts cannot be read: {error}") from None


def stored_of(row: RowMapping) -> StoredRollout:
    """Raises BadRequest."""
    rollout = rollout_of(dict(row))
    try:
        baseline = Figures(**row["baseline"])
    except TypeError as error:
        raise BadRequest("flow", f"its row in table rollouts cannot be read: {error}") from None
    return StoredRollout(
        rollout, row["step_at"], row["changed_at"], row["changed_by"], baseline=baseline
    )


def _one_of(value: object, known: Sequence[str]) -> Any:
    if value not in known:
        raise ValueError(f"{value!r}: expected one of {', '.join(known)}")
    return value
