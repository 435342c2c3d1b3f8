"""storage.migrate and storage.engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError

from backend.errors import ConfigError, StorageUnavailable
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.engine import clean, make_engine, reaching, to_json
from backend.storage.migrate import VERSION_TABLE, current, migrate
from backend.storage.tables import metadata


@pytest.fixture
def bare(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An empty database."""
    url = make_url(postgres.dsn)
    name = f"bare_{abs(hash(request.node.name))}"
    admin = make_engine(url.set(database="postgres").render_as_string(False), name="test")
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    engine = make_engine(url.set(database=name).render_as_string(False), name="test", pool=10)
    yield engine
    engine.dispose()


def test_the_migrations_lead_to_the_tables(bare: Engine) -> None:
    migrate(bare)
    with bare.begin() as connection:
        connection.execute(text("CREATE TABLE cdr (id int)"))
        options = {
            "version_table": VERSION_TABLE,
            "compare_server_default": True,
            "include_object": lambda _o, name, kind, reflected, other: (
                not (
                    kind == "table" and reflected and other is None and name not in metadata.tables
                )
            ),
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_many_may_start_at_once(bare: Engine) -> None:
    barrier = threading.Barrier(8)

    def start(_: int) -> None:
        barrier.wait(10)
        migrate(bare)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(8)))
    with bare.connect() as connection:
        assert current(connection) == "0004"


def test_a_newer_database_is_refused(bare: Engine) -> None:
    migrate(bare)
    with bare.begin() as connection:
        connection.execute(text("UPDATE dialog_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="newer"):
        migrate(bare)


def test_an_unreachable_database_is_one_error() -> None:
    engine = make_engine("postgresql://u:geheim@127.0.0.1:17997/x", name="test")
    with pytest.raises(StorageUnavailable) as raised:
        migrate(engine)
    assert "geheim" not in str(raised.value)
    assert "geheim" not in repr(engine)


def test_a_statement_has_an_end(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "20s"
        name = connection.execute(text("SHOW application_name")).scalar()
    assert name == "asterisk-dialog test"


def test_a_connection_that_died_is_replaced(engine: Engine, own_dsn: str) -> None:
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    killer = make_engine(own_dsn, name="test")
    with killer.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 2000)"), {"pid": pid})
    killer.dispose()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_our_own_mistakes_are_logged(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StorageUnavailable), reaching("x"), engine.connect() as connection:
        connection.execute(text("SELECT nonsense"))
    assert "report this" in caplog.text


def test_everything_cleaned_is_taken(engine: Engine) -> None:
    value = {"a\0": ["\ud83d\ude00", "\ude00", float("inf"), 1, None, ("x",)], "ключ": "😀"}
    with engine.connect() as connection:
        query = text("SELECT CAST(:value AS jsonb)")
        found = connection.execute(query, {"value": to_json(value)}).scalar()
        assert found == clean(value)
        with pytest.raises(DataError):
            connection.execute(query, {"value": '"\\u0000"'})
