"""Composition root: which process holds what, and how the parts are joined. Only this package
knows all of them.

supervisor ─┬─ PostgreSQL     when no database_url is given
            ├─ speech         the local speech server, when speech=local
            ├─ control        AMI event log, dialer, sweeper
            ├─ voice-0 … n    FastAGI, frame sink, the calls
            └─ web            gunicorn
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from backend.app.control import run_control
from backend.app.home import JOURNAL_S, Home
from backend.app.speech import start_speech
from backend.app.voice import DRAIN_S, VoiceSpec, run_voice
from backend.app.web import run_web
from backend.config import Settings
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.engine import make_engine
from backend.storage.migrate import migrate
from backend.supervisor import Spec, Supervisor

log = logging.getLogger(__name__)


def serve(settings: Settings, announce: Callable[[Mapping[str, Any]], None]) -> None:
    """Start everything, ``announce`` the addresses, watch until SIGTERM or SIGINT, stop it all.

    Raises ConfigError and ChildFailed when something cannot be started; nothing is left then.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor()
    with ExitStack() as rooms:
        dsn, keep_database = _database(settings, rooms)
        rooms.callback(supervisor.stop)
        home = Home(settings, dsn, start_speech(settings, supervisor))
        supervisor.start(Spec("control", run_control, home, drain_s=20))
        voices = [
            supervisor.start(
                Spec(f"voice-{n}", run_voice, VoiceSpec(home, n), drain_s=DRAIN_S + JOURNAL_S + 10)
            )
            for n in range(settings.workers)
        ]
        web = supervisor.start(Spec("web", run_web, home))
        announce(
            {
                "http": f"http://{settings.http_host}:{web['port']}",
                "agi": f"{settings.agi_host}:{voices[0]['agi_port']}",
                "ws": [voice["ws_port"] for voice in voices],
                "pids": supervisor.pids(),
                # The embedded server's address holds no secret.
                "database": dsn if settings.database_url is None else "database_url",
            }
        )
        supervisor.watch(keep_database)


def _database(settings: Settings, rooms: ExitStack) -> tuple[str, Callable[[], None]]:
    """The DSN, and what keeps the server alive; the tables are there when it returns."""

    def nothing() -> None: ...

    keep: Callable[[], None] = nothing
    if settings.database_url is not None:
        dsn = settings.database_url.get_secret_value()
    else:
        server = EmbeddedPostgres(settings.data_dir / "postgres")
        rooms.callback(server.stop)
        dsn = server.start()

        def restart_when_dead() -> None:
            if server.pid is None:
                log.error("embedded PostgreSQL has died: it is started again")
                server.restart()

        keep = restart_when_dead
    engine = make_engine(dsn, name="migrate")
    try:
        migrate(engine)
    finally:
        engine.dispose()
    return dsn, keep
