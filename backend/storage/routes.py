"""Routes, number → scenario: the table, and what of it is known to calls at any time."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path

from sqlalchemy import Engine, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from backend.dialing.routing import Direction, Route, RouteTable, check_direction, check_pattern
from backend.errors import BadRequest, StorageUnavailable
from backend.storage.changes import ROUTES_CHANNEL
from backend.storage.engine import reaching
from backend.storage.tables import routes
from backend.storage.waiting import Waiter
from backend.storage.watching import BookWatch

log = logging.getLogger(__name__)

MAX_ROUTES = 10_000
REFRESH_S = 2.0  # when nobody told of a change: it was written by SQL, or PostgreSQL was away

_COLUMNS = (routes.c.pattern, routes.c.direction, routes.c.scenario, routes.c.changed_at)
_NOTIFY = text("SELECT pg_notify(:channel, '')").bindparams(channel=ROUTES_CHANNEL)


class Routes:
    """The table. Every method raises StorageUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, pattern: str, direction: Direction, scenario: str) -> Route:
        """Add or change a route; all workers are told. Raises BadRequest for a pattern that is
        none, and for one too many."""
        statement = insert(routes).values(
            pattern=check_pattern(pattern), direction=direction, scenario=scenario
        )
        new = {"scenario": statement.excluded.scenario, "changed_at": func.clock_timestamp()}
        change = statement.on_conflict_do_update(
            index_elements=["pattern", "direction"], set_=new
        ).returning(*_COLUMNS)
        with reaching("write a route"), self._engine.begin() as connection:
            row = connection.execute(change).one()
            count = connection.execute(select(func.count()).select_from(routes)).scalar_one()
            if count > MAX_ROUTES:
                raise BadRequest("pattern", f"there are {MAX_ROUTES} routes already, the most")
            connection.execute(_NOTIFY)
        return Route(*row)

    def remove(self, pattern: str, direction: Direction) -> Route | None:
        """What the route was; None: there was none."""
        mine = routes.c.pattern == pattern, routes.c.direction == direction
        with reaching("remove a route"), self._engine.begin() as connection:
            row = connection.execute(delete(routes).where(*mine).returning(*_COLUMNS)).first()
            connection.execute(_NOTIFY)
        return None if row is None else Route(*row)

    def all(self) -> list[Route]:
        """Sorted by direction and pattern."""
        query = select(*_COLUMNS).order_by(routes.c.direction, routes.c.pattern)
        with reaching("read routes"), self._engine.connect() as connection:
            return [Route(*row) for row in connection.execute(query).all()]


class RouteBook:
    """The routes from memory: a call does not wait for PostgreSQL. What was known last counts
    while it is away, also to a process that begins then: it is kept in the file ``kept``."""

    def __init__(self, table: Routes, kept: Path) -> None:
        self._table = table
        self._kept = kept
        self._routes: list[Route] | None = None  # None: never read
        self._known = RouteTable()
        self._away = False
        self._mutex = threading.Lock()  # one refresh at a time: the later reading counts

    def refresh(self) -> None:
        """Read the table; when PostgreSQL is away it is said once, and all stays as it was.
        Thread-safe."""
        with self._mutex:
            self._refresh()

    def _refresh(self) -> None:
        try:
            found = self._table.all()
        except StorageUnavailable as error:
            if not self._away:
                log.warning("routes: %s; those known last count", error)
            self._away = True
            if self._routes is None:
                self._use(self._recall())
            return
        if self._away:
            log.warning("routes: they can be read again")
        self._away = False
        if found != self._routes:
            self._use(found)
            self._keep(found)

    def scenario_for(self, number: str, direction: Direction) -> str | None:
        """The scenario of the most specific route (dialing.routing)."""
        return self._known.scenario_for(number, direction)

    def _use(self, found: list[Route]) -> None:
        self._routes, self._known = found, RouteTable(found)
        for route in self._known.bad:
            words = "routes: %s: %r is no pattern; it fits nothing"
            log.error(words, route.direction, route.pattern)

    def _keep(self, found: list[Route]) -> None:
        rows = [(route.pattern, route.direction, route.scenario) for route in found]
        # Processes of this machine share the file: each writes the same, none half of it.
        draft = self._kept.with_name(f"{self._kept.name}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(rows), encoding="utf-8")
            draft.replace(self._kept)
        except OSError as error:
            log.warning("routes: %s cannot be written: %s", self._kept, error)

    def _recall(self) -> list[Route]:
        try:
            rows = json.loads(self._kept.read_text(encoding="utf-8"))
            return [
                Route(str(pattern), check_direction(str(direction)), str(scenario))
                for pattern, direction, scenario in rows
            ]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, BadRequest) as error:
            log.error("routes: %s cannot be read: %s", self._kept, error)
            return []


class RouteWatch(BookWatch):
    """Keeps a book up to date: at once when a change was told of, and every REFRESH_S."""

    def __init__(self, book: RouteBook, waiter: Waiter) -> None:
        """``waiter`` listens on ROUTES_CHANNEL; it is closed by ``stop``."""
        super().__init__(book, waiter, "routes", REFRESH_S)
