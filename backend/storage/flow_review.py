"""New versions judged by their figures, and taken back: one machine at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import Connection, Engine, func, or_, select, text, update

import backend.flow.rollout as rules
from backend.errors import BadRequest
from backend.flow.published import StoredRollout
from backend.flow.rollout import FALL_BACK, WATCH_ALL_S, FellBack, Figures
from backend.storage.changes import ROLLOUT_LOCK
from backend.storage.engine import reaching
from backend.storage.flows import (
    current_figures,
    figures_by_flow,
    hurt_calls,
    lock_rollout,
    stored_of,
    write_rollout,
)
from backend.storage.tables import rollout_history, rollouts

BY = "asterisk-dialog"  # in the history, where a person's name stands else
# Calls that had the version when it was taken back go on, and their end is told later.
STILL_COUNTED = timedelta(minutes=30)

_NOW = func.clock_timestamp()
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)").bindparams(key=ROLLOUT_LOCK)


class FlowReview:
    """Implements flow.fallback.ReviewStore."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def review(self) -> Sequence[FellBack]:
        """Judge what is watched, take back what is beyond its limits, count who was hurt.
        Nothing, while another machine does. Raises StorageUnavailable."""
        with reaching("review roll-outs"), self._engine.begin() as connection:
            if not connection.execute(_TRY_LOCK).scalar_one():
                return []
            watched = _watched(connection)
            figures = figures_by_flow(connection) if watched else {}
            reviewed = (
                _reviewed(connection, one, figures.get(one.rollout.flow, {})) for one in watched
            )
            found = [fell for fell in reviewed if fell is not None]
            _count_late(connection)
            return found


def _watched(connection: Connection) -> list[StoredRollout]:
    """Roll-outs whose version has calls, and a way back."""
    lately = rollouts.c.step_at > _NOW - timedelta(seconds=WATCH_ALL_S)
    after_all = (rollouts.c.state == "all") & rollouts.c.previous.is_not(None) & lately
    query = select(rollouts).where(or_(rollouts.c.state.in_(("test", "share")), after_all))
    good = []
    for row in connection.execute(query.order_by(rollouts.c.flow)).mappings().all():
        try:
            good.append(stored_of(row))
        except BadRequest:  # the workers' books say so
            continue
    return good


def _reviewed(
    connection: Connection, seen: StoredRollout, totals: Mapping[str, Figures]
) -> FellBack | None:
    flow = seen.rollout.flow
    judgement = rules.judge(current_figures(seen, totals), seen.rollout.limits)
    if not judgement.fall_back:
        return None
    stored = lock_rollout(connection, flow)
    if stored != seen or seen.rollout.watched is None:  # somebody was faster: judged next time
        return None
    version, after = seen.rollout.watched, rules.back(seen.rollout)
    hurt, calls = hurt_calls(connection, flow, version, seen.step_at)
    write_rollout(
        connection,
        seen,
        after,
        FALL_BACK,
        version,
        BY,
        judgement.reason,
        hurt=hurt,
        calls=calls,
        since=seen.step_at,
    )
    return FellBack(flow, version, after.stable, judgement.reason, hurt, tuple(calls))


def _count_late(connection: Connection) -> None:
    """Calls that ended since, in the lines of the last fall-backs."""
    line = rollout_history.c
    query = select(line.id, line.flow, line.version, line.since, line.at, line.hurt)
    lately = line.action == FALL_BACK, line.at > _NOW - STILL_COUNTED
    for row in connection.execute(query.where(*lately)).all():
        until = row.at + STILL_COUNTED
        hurt, calls = hurt_calls(connection, row.flow, row.version, row.since, until)
        if hurt != row.hurt:
            mine = update(rollout_history).where(line.id == row.id)
            connection.execute(mine.values(hurt=hurt, calls=calls))
