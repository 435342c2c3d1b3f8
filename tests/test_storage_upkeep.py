"""storage.upkeep against a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, func, select, text

from backend.model import AmiEvent
from backend.storage.apply import RecordStore
from backend.storage.tables import events
from backend.storage.upkeep import Events, Instance, Instances


def test_heartbeats(engine: Engine) -> None:
    instances = Instances(engine)
    voice, control = Instance("a", "voice-0"), Instance("a", "control")
    instances.beat(voice, {"calls": 1})
    instances.beat(voice, {"calls": 2})
    instances.beat(control)
    first, second = instances.seen()
    assert (first.process, second.process) == ("control", "voice-0")
    assert second.instance == voice
    assert second.stats == {"calls": 2}
    assert 0 <= second.age_s < 5
    instances.leave(control)
    assert [item.process for item in instances.seen()] == ["voice-0"]


def test_the_dead_are_not_seen_and_at_last_forgotten(engine: Engine) -> None:
    instances = Instances(engine)
    instances.beat(Instance("a", "voice-0"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE instances SET seen_at = now() - interval '2 minutes'"))
    assert instances.seen() == []
    assert instances.forget_old() == 0
    with engine.begin() as connection:
        connection.execute(text("UPDATE instances SET seen_at = now() - interval '2 days'"))
    assert instances.forget_old() == 1


def test_old_events_are_deleted_in_batches(
    engine: Engine, ami_events: Callable[..., list[AmiEvent]]
) -> None:
    old = datetime.now(UTC) - timedelta(days=91)
    fresh = datetime.now(UTC) - timedelta(days=89)
    RecordStore(engine).store([replace(event, received_at=old) for event in ami_events(25)])
    RecordStore(engine).store([replace(event, received_at=fresh) for event in ami_events(5)])
    stop = threading.Event()
    assert Events(engine).delete_older(90, stop, batch=10) == 25
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(events)).scalar() == 5
    stop.set()
    assert Events(engine).delete_older(1, stop) == 0
