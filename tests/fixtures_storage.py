"""A real PostgreSQL for the tests: one server a session, a fresh database a test.

A pytest plugin (``pytest_plugins = ["tests.fixtures_storage"]``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from backend.model import AmiEvent
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.engine import make_engine
from backend.storage.migrate import migrate
from backend.storage.tables import metadata

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The server; its own database ``dialog`` holds the tables and is the tests' template."""
    server = EmbeddedPostgres(
        tmp_path_factory.mktemp("pg"), {"fsync": "off", "max_connections": "200"}
    )
    server.start()
    try:
        engine = make_engine(server.dsn, name="fixture")
        migrate(engine)
        engine.dispose()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def _shared_dsn(postgres: EmbeddedPostgres) -> str:
    return fresh_database(postgres.dsn)


@pytest.fixture
def dsn(_shared_dsn: str) -> str:
    """The address of a database with empty tables, this test's alone while it runs."""
    empty(_shared_dsn)
    return _shared_dsn


@pytest.fixture
def own_dsn(postgres: EmbeddedPostgres) -> str:
    """The same, of a database that the test may break."""
    return fresh_database(postgres.dsn)


def empty(dsn: str) -> None:
    """Delete all rows. Fails after 5 s when an earlier test left a transaction open."""
    engine = make_engine(dsn, name="fixture")
    names = ", ".join(table.name for table in metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
    engine.dispose()


def fresh_database(template_dsn: str) -> str:
    """Make a copy of the template; returns its DSN. It goes with the server."""
    url = make_url(template_dsn)
    name = f"test_{next(_NUMBERS)}"
    admin = make_engine(url.set(database="postgres").render_as_string(False), name="fixture")
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {url.database}"))
    admin.dispose()
    return url.set(database=name).render_as_string(False)


@pytest.fixture
def engine(dsn: str) -> Iterator[Engine]:
    """An engine on this test's database."""
    engine = make_engine(dsn, name="test", pool=20)
    yield engine
    engine.dispose()


@pytest.fixture
def journal_folder(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "control"


@pytest.fixture
def ami_events() -> Callable[..., list[AmiEvent]]:
    """Makes the next events of one stream: ``ami_events(3, uniqueid=…)``."""
    stream, seq = uuid4(), itertools.count(1)

    def make(count: int = 1, name: str = "Newexten", **headers: str) -> list[AmiEvent]:
        return [ami_event(stream, next(seq), name, **headers) for _ in range(count)]

    return make


def ami_event(stream: UUID, seq: int, name: str = "Newexten", **headers: str) -> AmiEvent:
    """An event about as large as Asterisk's."""
    body = {"Event": name, "Privilege": "dialplan,all", "Context": "dialog-outbound"} | headers
    body |= {f"Header{n}": "a value of some length" for n in range(12)}
    return AmiEvent(
        stream=stream,
        seq=seq,
        received_at=datetime(2026, 11, 20, 10, tzinfo=UTC) + timedelta(milliseconds=seq),
        name=name,
        uniqueid=headers.get("Uniqueid", "1790000000.1"),
        linkedid=headers.get("Linkedid", "1790000000.1"),
        channel=headers.get("Channel", "PJSIP/trunk-00000001"),
        body={**body},
    )
