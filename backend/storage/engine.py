"""The way to PostgreSQL: one engine a process, short timeouts, one error at the edge."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from backend.errors import StorageUnavailable

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 20
POOL = 5
POOL_WAIT_S = 5

# A cable that was pulled is noticed after about 20 s, also by a connection that only reads.
_KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 4,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def make_engine(dsn: str, *, name: str, pool: int = POOL) -> Engine:
    """An engine for ``dsn`` (postgresql://…). ``name`` is what pg_stat_activity shows.

    Connects nowhere yet. ``pool`` connections are kept, twice as many may be open at a time; a
    caller who finds none free waits POOL_WAIT_S and then gets StorageUnavailable.
    """
    url = make_url(dsn).set(drivername="postgresql+psycopg2")
    arguments: dict[str, Any] = {"application_name": f"asterisk-dialog {name}"[:63]}
    arguments |= {"connect_timeout": CONNECT_TIMEOUT_S} | _KEEPALIVE
    if "options" not in url.query:
        arguments["options"] = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c timezone=UTC"
    return create_engine(
        url,
        connect_args=arguments,
        pool_pre_ping=True,
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=POOL_WAIT_S,
        json_serializer=to_json,
    )


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turns what SQLAlchemy raises inside into StorageUnavailable, ``what`` said first.

    What is no trouble with the connection is our own mistake: it is logged with its traceback.
    """
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise StorageUnavailable(f"{what}: {first_line(error)}") from error
    except SQLAlchemyError as error:
        if not (isinstance(error, DBAPIError) and error.connection_invalidated):
            log.exception("PostgreSQL refused a statement (%s): please report this", what)
        raise StorageUnavailable(f"{what}: {first_line(error)}") from error


def first_line(error: SQLAlchemyError) -> str:
    """The words of PostgreSQL or of the driver, without the statement and its parameters."""
    cause: object = error.orig if isinstance(error, DBAPIError) and error.orig else error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def to_json(value: Any) -> str:
    """JSON that jsonb takes: no NUL, no lone surrogates, no NaN (each is replaced)."""
    return json.dumps(clean(value), ensure_ascii=False, separators=(",", ":"))


def clean(value: Any) -> Any:
    """``value`` without what PostgreSQL refuses: NUL is dropped, a lone surrogate becomes U+FFFD,
    NaN and infinities become None."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def clean_text(text: str) -> str:
    """``text`` as PostgreSQL takes it, see clean()."""
    if text.isascii():
        return text.replace("\0", "") if "\0" in text else text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "")


def clean_or_none(text: str | None) -> str | None:
    return None if text is None else clean_text(text)
