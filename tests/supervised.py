"""Targets for test_supervisor: what its children do. Importable, for they are spawned."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from backend.errors import ConfigError
from backend.supervisor import Ready


def serves(stop: threading.Event, ready: Ready, note: Path) -> None:
    """Serves until told to stop, and says so in a file."""
    ready({"pid": os.getpid()})
    stop.wait(60)
    note.write_text("stopped in order")


def fails(_stop: threading.Event, _ready: Ready, why: str) -> None:
    """Cannot start."""
    raise ConfigError(why)


def crashes(_stop: threading.Event, _ready: Ready, _: object) -> None:
    """Dies without a word."""
    os._exit(7)


def stuck(_stop: threading.Event, ready: Ready, _: object) -> None:
    """Does not stop when asked."""
    ready({"pid": os.getpid()})
    threading.Event().wait(600)


def counts_lives(stop: threading.Event, ready: Ready, folder: Path) -> None:
    """Leaves a mark for each of its lives."""
    (folder / str(os.getpid())).touch()
    ready({"pid": os.getpid()})
    stop.wait(60)


def supervises(folder: Path) -> None:
    """A supervisor of its own, in a process of its own, until it is killed."""
    from backend.supervisor import Spec, Supervisor

    supervisor = Supervisor()
    info = supervisor.start(Spec("child", serves, folder / "note"))
    (folder / "child").write_text(str(info["pid"]))
    supervisor.watch(lambda: None)
