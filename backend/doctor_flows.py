"""The doctor's look at published flows."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from backend.config import Settings
from backend.doctor_finding import Finding, bad, good
from backend.errors import DialogError
from backend.flow.rollout import Rollout
from backend.http_figures import ALIVE_S
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.engine import make_engine
from backend.storage.flows import Flows
from backend.storage.upkeep import Instances


def check_pins(settings: Settings) -> Iterable[Finding]:
    """Of each pinned flow the machines are alive. Where PostgreSQL cannot be asked nothing is
    said: check_database has."""
    if settings.database_url is not None:
        dsn = settings.database_url.get_secret_value()
    else:
        dsn = EmbeddedPostgres(settings.data_dir / "postgres").dsn
    engine = make_engine(dsn, name="doctor", pool=1)
    try:
        pinned, alive = _read(engine)
    except (SQLAlchemyError, DialogError):
        return
    finally:
        engine.dispose()
    for rollout in pinned:
        yield _finding(rollout, alive)


def _read(engine: Engine) -> tuple[list[Rollout], set[str]]:
    """The pinned flows, and the machines that dial. Raises SQLAlchemyError, StorageUnavailable."""
    with engine.connect() as connection:
        there = connection.exec_driver_sql("SELECT to_regclass('rollouts')").scalar()
    if there is None:  # a database of an older version, or a new one
        return [], set()
    pinned = [one.rollout for one in Flows(engine).rollouts()[0] if one.rollout.nodes]
    alive = {one.node for one in Instances(engine).seen(ALIVE_S) if one.process == "control"}
    return pinned, alive


def _finding(rollout: Rollout, alive: set[str]) -> Finding:
    nodes = ", ".join(rollout.nodes)
    dead = [node for node in rollout.nodes if node not in alive]
    if not dead:
        return good(f"flow {rollout.flow}: pinned to {nodes}, alive")
    what = f"flow {rollout.flow}: pinned to {nodes}; no sign of {', '.join(dead)}"
    if len(dead) == len(rollout.nodes):
        what += ", so nobody dials its tasks"
    return bad(
        what,
        "start the backend there (its setting node must be this name), or"
        f" asterisk-dialog flow pin {rollout.flow} --node …, or flow unpin {rollout.flow}",
    )
