"""The control process: the AMI event log, the dialer, the sweeper."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from backend.ami_events import EventLog
from backend.ami_listener import AmiConnection
from backend.app.bus import ProcessBus
from backend.app.flows import tell_fall_back
from backend.app.home import Heartbeat, Home, Records, ami_account, journal_root
from backend.config import Settings
from backend.dialing.dialer import Dialer
from backend.dialing.sweeper import Sweeper
from backend.errors import AsteriskError, StorageUnavailable
from backend.flow.fallback import FallBack
from backend.model import Outcome, Task
from backend.protocol.ami import Message
from backend.storage.backlog import Backlog
from backend.storage.drain import drain_leftovers
from backend.storage.engine import make_engine
from backend.storage.flow_review import FlowReview
from backend.storage.store import KeyValues
from backend.storage.tasks import OpenTask, Tasks
from backend.storage.upkeep import Events, Instance, Instances, Steps
from backend.storage.waiting import Waiter
from backend.supervisor import Ready

log = logging.getLogger(__name__)


class NodeTasks:
    """This machine's tasks, as the dialer and the sweeper need them."""

    def __init__(
        self,
        tasks: Tasks,
        waiter: Waiter,
        backlog: Backlog,
        me: Instance,
        *,
        pinned_only: bool = False,
    ) -> None:
        self._tasks = tasks
        self._pinned_only = pinned_only
        self._backlog = backlog
        self._me = me
        self.wait = waiter.wait
        self.release = tasks.release

    def in_progress(self) -> int:
        return self._tasks.in_progress(self._me.node)

    def claim(self, limit: int) -> list[Task]:
        me = self._me
        return self._tasks.claim(me.node, me.id, limit, pinned_only=self._pinned_only)

    def settle(self, task_id: UUID, outcome: Outcome, *, error: str | None = None) -> bool:
        return self._tasks.settle(task_id, outcome, error=error)

    def open_tasks(self) -> list[OpenTask]:
        return self._tasks.open_tasks(self._me.node)

    def backlog_s(self) -> float:
        return self._backlog.age_s()


class _WakeSweeper:
    """An AMI listener: Asterisk is back, so look at once which calls are left."""

    def __init__(self) -> None:
        self.sweeper: Sweeper | None = None

    def opened(self) -> None: ...

    def received(self, events: Sequence[Message]) -> None: ...

    def ready(self) -> None:
        if self.sweeper is not None:
            self.sweeper.wake()

    def lost(self, error: AsteriskError) -> None: ...


def run_control(stop: threading.Event, ready: Ready, home: Home) -> None:
    """Target of the control process."""
    settings = home.settings
    me = Instance(settings.node, "control")
    with ExitStack() as rooms:
        engine = make_engine(home.dsn, name="control")
        rooms.callback(engine.dispose)
        records = Records(settings, "control", engine, rooms)
        events = EventLog(records.journal)
        wake = _WakeSweeper()
        ami = AmiConnection(ami_account(settings, events="on"), listeners=[events, wake])
        waiter = Waiter(engine)
        rooms.callback(waiter.close)
        tasks = NodeTasks(
            Tasks(engine),
            waiter,
            Backlog(journal_root(settings)),
            me,
            pinned_only=settings.dial_pinned_only,
        )
        sweeper = Sweeper(tasks, ami, asterisk_started_at=lambda: events.asterisk_started_at)
        wake.sweeper = sweeper
        dialer = Dialer(
            tasks,
            ami,
            channels=settings.channels,
            max_calls=settings.max_calls,
            rate_per_s=settings.dial_rate_per_s,
        )
        upkeep = threading.Thread(
            target=_keep_up, args=(stop, records, engine, settings), name="upkeep"
        )
        bus = ProcessBus(home, "control", rooms)
        fall_back = FallBack(FlowReview(engine), lambda fell: tell_fall_back(bus, fell))
        for start, end in (
            (ami.start, ami.stop),
            (sweeper.start, sweeper.stop),
            (dialer.start, dialer.stop),
            (fall_back.start, fall_back.stop),
            (upkeep.start, lambda: upkeep.join(10)),
        ):
            start()
            rooms.callback(end)
        ready({})

        def figures() -> dict[str, Any]:
            return {
                **_of_asterisk(ami, events),
                "originates": dialer.sent_total,
                "originates_refused": dialer.refused_total,
                "swept": sweeper.settled_total,
                "flows_taken_back": fall_back.taken_back_total,
                **records.figures(),
                **bus.figures(),
            }

        Heartbeat(Instances(engine), me).run(stop, figures)


def _of_asterisk(ami: AmiConnection, events: EventLog) -> dict[str, Any]:
    return {
        "ami_connected": ami.connected,
        "ami_error": ami.last_error,
        "ami_clock_skew_s": ami.clock_skew_s,
        "ami_events": events.received_total,
        "ami_events_dropped": events.dropped_total,
        "ami_gaps": events.gaps_total,
    }


def _keep_up(stop: threading.Event, records: Records, engine: Engine, settings: Settings) -> None:
    """What dead processes left, then once an hour what has become too old."""
    drain_leftovers(journal_root(settings), records.store, stop)
    while not stop.is_set():
        try:
            Events(engine).delete_older(settings.events_keep_days, stop)
            Steps(engine).delete_older(settings.steps_keep_days, stop)
            Instances(engine).forget_old()
            KeyValues(engine).forget_expired(stop)
        except StorageUnavailable as error:
            log.warning("upkeep: %s; next try in an hour", error)
        stop.wait(3600)
