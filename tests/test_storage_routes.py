"""storage.routes: the table against a real PostgreSQL, and what calls know of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from psycopg2 import extensions
from sqlalchemy import Engine

from backend.dialing.routing import Route
from backend.errors import BadRequest, StorageUnavailable
from backend.storage import routes as module
from backend.storage.changes import ROUTES_CHANNEL
from backend.storage.deadline import keep_deadlines
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.engine import make_engine
from backend.storage.migrate import migrate
from backend.storage.routes import RouteBook, Routes, RouteWatch
from backend.storage.tables import routes as table
from backend.storage.waiting import Waiter


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the routes are kept."""
    return tmp_path / "routes.json"


def book(routes: Routes, kept: Path) -> RouteBook:
    found = RouteBook(routes, kept)
    found.refresh()
    return found


@pytest.mark.parametrize(
    ("number", "scenario"),
    [
        ("78001234567", "exact"),
        ("78001230000", "long"),
        ("78009990000", "short"),
        ("5", "all"),
        ("7800123456", "long"),
    ],
)
def test_the_longest_route_wins(engine: Engine, kept: Path, number: str, scenario: str) -> None:
    routes = Routes(engine)
    for pattern, name in (
        ("*", "all"),
        ("7800*", "short"),
        ("7800123*", "long"),
        ("78001234567", "exact"),
    ):
        routes.put(pattern, "inbound", "old")
        routes.put(pattern, "inbound", name)
    routes.put("78001234567", "outbound", "other")
    assert book(routes, kept).scenario_for(number, "inbound") == scenario
    assert len(routes.all()) == 5


def test_no_route(engine: Engine, kept: Path) -> None:
    routes = Routes(engine)
    routes.put("123", "inbound", "x")
    assert book(routes, kept).scenario_for("1234", "inbound") is None
    assert book(routes, kept).scenario_for("123", "outbound") is None
    assert book(routes, kept).scenario_for("1%", "inbound") is None
    assert routes.remove("123", "inbound")
    assert not routes.remove("123", "inbound")
    assert book(routes, kept).scenario_for("123", "inbound") is None


def test_a_route_as_it_is_stored(engine: Engine) -> None:
    routes = Routes(engine)
    first = routes.put("_7495.", "inbound", "one")
    assert first == Route("_7495.", "inbound", "one", first.changed_at)
    second = routes.put("_7495.", "inbound", "two")
    assert first.changed_at is not None
    assert second.changed_at is not None
    assert second.changed_at > first.changed_at
    assert routes.all() == [second]
    assert routes.remove("_7495.", "inbound") == second


def test_what_is_no_pattern_is_not_stored(engine: Engine) -> None:
    routes = Routes(engine)
    with pytest.raises(BadRequest, match="pattern"):
        routes.put("7*5", "inbound", "x")
    assert routes.all() == []


def test_there_is_a_bound(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROUTES", 2)
    routes = Routes(engine)
    for number in ("1", "2"):
        routes.put(number, "inbound", "x")
    with pytest.raises(BadRequest, match="2 routes already"):
        routes.put("3", "inbound", "x")
    routes.put("2", "inbound", "y")
    assert [route.scenario for route in routes.all()] == ["x", "y"]


def test_what_was_written_past_the_door_fits_nothing_and_is_said_once(
    engine: Engine, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert(engine, "7*5")
    found = book(Routes(engine), kept)
    found.refresh()
    assert found.scenario_for("7*5", "inbound") is None
    assert [r.getMessage() for r in caplog.records] == [
        "routes: inbound: '7*5' is no pattern; it fits nothing"
    ]


# --- Watched -------------------------------------------------------------------------------------


@pytest.fixture
def deadlines() -> Iterator[None]:
    """As in a worker."""
    keep_deadlines()
    yield
    extensions.set_wait_callback(None)


def watch(engine: Engine, kept: Path) -> tuple[RouteBook, RouteWatch]:
    found = RouteBook(Routes(engine), kept)
    return found, RouteWatch(found, Waiter(engine, ROUTES_CHANNEL, what="changed routes"))


def insert(engine: Engine, pattern: str) -> None:
    """Past the door, as with psql."""
    row = {"pattern": pattern, "direction": "inbound", "scenario": "x"}
    with engine.begin() as connection:
        connection.execute(table.insert().values(**row))


def wait_for(found: RouteBook, number: str, scenario: str | None) -> None:
    ends = monotonic() + 60
    while found.scenario_for(number, "inbound") != scenario:
        assert monotonic() < ends
        threading.Event().wait(0.005)


@pytest.mark.usefixtures("deadlines")
def test_a_change_is_told_to_every_worker(
    engine: Engine, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFRESH_S", 3600.0)
    routes = Routes(engine)
    routes.put("1", "inbound", "first")
    books = [watch(engine, kept) for _ in range(2)]
    for _, watcher in books:
        watcher.start()
    try:
        assert [found.scenario_for("1", "inbound") for found, _ in books] == ["first"] * 2
        for scenario in ("second", "third"):
            routes.put("1", "inbound", scenario)
            for found, _ in books:
                wait_for(found, "1", scenario)
        routes.remove("1", "inbound")
        for found, _ in books:
            wait_for(found, "1", None)
    finally:
        for _, watcher in books:
            watcher.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "routes"]


def test_a_change_by_sql_is_seen_too(
    engine: Engine, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFRESH_S", 0.01)
    found, watcher = watch(engine, kept)
    watcher.start()
    try:
        insert(engine, "1")
        wait_for(found, "1", "x")
    finally:
        watcher.stop()


@pytest.mark.usefixtures("deadlines")
def test_the_last_known_routes_count_while_postgresql_is_away(
    tmp_path_factory: pytest.TempPathFactory,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "REFRESH_S", 0.01)
    server = EmbeddedPostgres(tmp_path_factory.mktemp("pg"), {"fsync": "off"})
    engine = make_engine(server.start(), name="test")
    found, watcher = watch(engine, kept)
    try:
        migrate(engine)
        Routes(engine).put("1", "inbound", "x")
        watcher.start()
        server.pause()
        with pytest.raises(StorageUnavailable):
            Routes(engine).put("1", "inbound", "y")
        wait_said(caplog, "those known last count")
        assert found.scenario_for("1", "inbound") == "x"
        server.restart()
        wait_said(caplog, "they can be read again")
        Routes(engine).put("1", "inbound", "y")
        wait_for(found, "1", "y")
    finally:
        watcher.stop()
        engine.dispose()
        server.stop()
    said = [r.getMessage() for r in caplog.records if r.name == module.__name__]
    assert len(said) == 2, "once each"
    assert max(r.levelno for r in caplog.records if r.name == module.__name__) == logging.WARNING


def wait_said(caplog: pytest.LogCaptureFixture, words: str) -> None:
    ends = monotonic() + 60
    while words not in caplog.text:
        assert monotonic() < ends
        threading.Event().wait(0.01)


def test_who_begins_while_postgresql_is_away_knows_them_too(
    engine: Engine, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Routes(engine).put("1", "inbound", "x")
    Routes(engine).put("_2.", "outbound", "y")
    book(Routes(engine), kept)
    away = make_engine("postgresql://x@127.0.0.1:17998/x", name="test")
    found = book(Routes(away), kept)
    assert found.scenario_for("1", "inbound") == "x"
    assert found.scenario_for("21", "outbound") == "y"
    assert book(Routes(away), kept.with_name("none")).scenario_for("1", "inbound") is None
    assert sorted(kept.parent.iterdir()) == [kept], "no draft is left"
    assert "cannot be read" not in caplog.text
    away.dispose()


@pytest.mark.parametrize("text", ["", "{}[", "[1]", '[["1", "both", "x"]]', "\udc80"])
def test_a_damaged_file_is_said_and_that_is_all(
    kept: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept.write_bytes(text.encode("utf-8", "surrogateescape"))
    away = make_engine("postgresql://x@127.0.0.1:17998/x", name="test")
    assert book(Routes(away), kept).scenario_for("1", "inbound") is None
    assert f"routes: {kept} cannot be read" in caplog.text
    away.dispose()


def test_a_folder_that_cannot_be_written(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Routes(engine).put("1", "inbound", "x")
    found = book(Routes(engine), tmp_path / "none" / "routes.json")
    assert found.scenario_for("1", "inbound") == "x"
    assert "cannot be written" in caplog.text
