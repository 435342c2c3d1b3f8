"""The web process: gunicorn around the Flask app."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import Engine

from backend import web_server
from backend.app.bus import ProcessBus
from backend.app.flows import FlowDesk, dial_rules, watch_flows
from backend.app.home import Home, open_shelf, watch_routes
from backend.dialing.routing import Direction, Route
from backend.storage.engine import make_engine
from backend.storage.routes import RouteBook, Routes
from backend.storage.tasks import Tasks
from backend.storage.upkeep import Overview
from backend.supervisor import Ready
from backend.web import Door, create_app


class _PortPipe:
    """web_server's Ready: the port becomes the supervisor's message."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready

    def send(self, obj: Any) -> None:
        self._ready({"port": obj})


class _SeenAtOnce(Routes):
    """The routes; whoever changed one here finds the next request treated by it."""

    def __init__(self, engine: Engine, book: RouteBook) -> None:
        super().__init__(engine)
        self._book = book

    def put(self, pattern: str, direction: Direction, scenario: str) -> Route:
        route = super().put(pattern, direction, scenario)
        self._book.refresh()
        return route

    def remove(self, pattern: str, direction: Direction) -> Route | None:
        route = super().remove(pattern, direction)
        self._book.refresh()
        return route


def run_web(_stop: threading.Event, ready: Ready, home: Home) -> None:
    """Target of the web process; gunicorn ends it with SIGTERM."""
    settings = home.settings
    rooms = ExitStack()  # of gunicorn's worker

    def build() -> Flask:
        engine = make_engine(home.dsn, name="web", pool=settings.http_threads)
        rooms.callback(engine.dispose)
        shelf = open_shelf(settings)
        shelf.start()
        rooms.callback(shelf.stop)
        book = watch_routes(settings, engine, rooms)
        flows = watch_flows(settings, engine, shelf, rooms)
        door = Door(
            rules=dial_rules(settings, flows, book),
            clients={name: key.get_secret_value() for name, key in settings.http_tokens.items()},
            token_in_query=settings.http_token_in_query,
            node=settings.node,
            admins=settings.http_admins,
            recordings=Path(settings.recordings_dir),
            recordings_url=settings.recordings_url,
        )
        return create_app(
            door,
            Tasks(engine),
            Overview(engine),
            _SeenAtOnce(engine, book),
            FlowDesk(engine, flows.book, ProcessBus(home, "web", rooms)),
        )

    web_server.serve(
        build,
        settings.http_host,
        settings.http_port,
        threads=settings.http_threads,
        ready=_PortPipe(ready),
        at_exit=rooms.close,
    )
