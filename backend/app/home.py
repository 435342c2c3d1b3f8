"""What all processes of the backend have alike."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine

from backend.ami_manager import Account
from backend.call.shelf import Shelf
from backend.config import Settings
from backend.errors import StorageUnavailable
from backend.storage.apply import RecordStore
from backend.storage.changes import ROUTES_CHANNEL
from backend.storage.drain import Drainer
from backend.storage.journal import Journal
from backend.storage.routes import RouteBook, Routes, RouteWatch
from backend.storage.upkeep import Instance, Instances
from backend.storage.waiting import Waiter

log = logging.getLogger(__name__)

BEAT_S = 2.0
JOURNAL_S = 5.0  # for the journal's rest; what is left is drained at the next start
READY_SCENARIOS = Path(__file__).parents[1] / "scenarios"


@dataclass(frozen=True, slots=True)
class SpeechAddress:
    """Where recognition and synthesis are served (host:port each)."""

    stt: str
    tts: str
    local: bool


@dataclass(frozen=True, slots=True)
class Home:
    """What every child is told."""

    settings: Settings
    dsn: str
    speech: SpeechAddress


def scenario_folders(settings: Settings) -> list[Path]:
    """The ready scenarios, then the user's own, which replace by name."""
    own = [settings.scenarios_dir] if settings.scenarios_dir else []
    return [READY_SCENARIOS, *own]


def open_shelf(settings: Settings) -> Shelf:
    """The scenarios as they are now; the user's own are watched. Raises ScenarioError."""
    ready, *own = scenario_folders(settings)
    return Shelf([ready], own)


def watch_routes(settings: Settings, engine: Engine, rooms: ExitStack) -> RouteBook:
    """The routes, kept up to date until ``rooms`` close."""
    book = RouteBook(Routes(engine), settings.data_dir / "routes.json")
    watch = RouteWatch(book, Waiter(engine, ROUTES_CHANNEL, what="changed routes"))
    watch.start()
    rooms.callback(watch.stop)
    return book


def ami_account(settings: Settings, *, events: Literal["on", "calls", "off"]) -> Account:
    """Where the AMI is and who logs in."""
    return Account(
        settings.ami_host,
        settings.ami_port,
        settings.ami_user,
        settings.ami_secret.get_secret_value(),
        events,
    )


def journal_root(settings: Settings) -> Path:
    """The folder of all processes' journals."""
    return settings.data_dir / "journal"


class Records:
    """A process's journal and what brings it to PostgreSQL; closed with ``rooms``."""

    def __init__(self, settings: Settings, name: str, engine: Engine, rooms: ExitStack) -> None:
        self.journal = Journal(journal_root(settings) / name)
        rooms.callback(self.journal.close)
        self.store = RecordStore(engine)
        self.drainer = Drainer(self.journal, self.store)
        self.drainer.start()
        rooms.callback(self.drainer.drain_and_stop, JOURNAL_S)

    def figures(self) -> dict[str, Any]:
        return {
            "journal_backlog_bytes": self.journal.backlog_bytes,
            "records_stored": self.drainer.stored,
            "records_rejected": self.drainer.rejected,
            "drainer_alive": self.drainer.alive,
        }


class Heartbeat:
    """A process's life in PostgreSQL: its figures, for /health and /metrics."""

    def __init__(self, instances: Instances, instance: Instance) -> None:
        self._instances = instances
        self._instance = instance
        self._missed = False

    def run(self, stop: threading.Event, figures: Callable[[], Mapping[str, Any]]) -> None:
        """Beat until ``stop``; PostgreSQL being away is logged once."""
        while not stop.is_set():
            self._beat(figures())
            stop.wait(BEAT_S)
        try:
            self._instances.leave(self._instance)
        except StorageUnavailable as error:
            log.debug("left without saying so: %s", error)

    def _beat(self, figures: Mapping[str, Any]) -> None:
        try:
            self._instances.beat(self._instance, figures)
        except StorageUnavailable as error:
            if not self._missed:
                log.warning("no heartbeat: %s", error)
            self._missed = True
        else:
            self._missed = False
