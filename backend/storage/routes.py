"""Routes, number → scenario: the table, and what of it is known to calls at any time."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Engine, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from backend.dialing.routing import Direction, Route, RouteTable, check_pattern
from backend.errors import BadRequest, StorageUnavailable
from backend.storage.changes import ROUTES_CHANNEL
from backend.storage.engine import reaching
from backend.storage.tables import routes
from backend.storage.waiting import Waiter

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
    while it is away."""

    def __init__(self, table: Routes) -> None:
        self._table = table
        self._routes: list[Route] = []
        self._known = RouteTable()
        self._away = False

    def refresh(self) -> None:
        """Read the table; when PostgreSQL is away it is said once, and all stays as it was."""
        try:
            found = self._table.all()
        except StorageUnavailable as error:
            if not self._away:
                log.warning("routes: %s; those known last count", error)
            self._away = True
            return
        if self._away:
            log.warning("routes: they can be read again")
        self._away = False
        if found != self._routes:
            self._routes, self._known = found, RouteTable(found)
            for route in self._known.bad:
                log.error("routes: %s: %r is no pattern; it fits nothing", *_named(route))

    def scenario_for(self, number: str, direction: Direction) -> str | None:
        """The scenario of the most specific route (dialing.routing)."""
        return self._known.scenario_for(number, direction)


def _named(route: Route) -> tuple[str, str]:
    return route.direction, route.pattern


class RouteWatch:
    """Keeps a book up to date: at once when a change was told of, and every REFRESH_S."""

    def __init__(self, book: RouteBook, waiter: Waiter) -> None:
        """``waiter`` listens on ROUTES_CHANNEL; it is closed by ``stop``."""
        self._book = book
        self._waiter = waiter
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="routes", daemon=True)

    def start(self) -> None:
        """Read the routes, then watch them."""
        self._book.refresh()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._waiter.wake()
        self._thread.join(10)
        if not self._thread.is_alive():  # else it waits for a PostgreSQL that hangs
            self._waiter.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._waiter.wait(REFRESH_S)
            if not self._stopping.is_set():
                self._book.refresh()
