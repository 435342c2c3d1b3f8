"""Many rows in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg2.extras import execute_values
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


def insert_many(
    connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]], *, fetch: bool = False
) -> list[tuple[Any, ...]]:
    """Run ``statement`` (with ``VALUES %s``) once for all ``rows``; what it returns, with
    ``fetch``. Raises what SQLAlchemy would for a statement of its own."""
    cursor = connection.connection.cursor()
    try:
        found = execute_values(cursor, statement, rows, page_size=len(rows), fetch=fetch)
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError.instance(
            statement.partition("(")[0].strip(),
            None,
            error,
            connection.dialect.loaded_dbapi.Error,
            dialect=connection.dialect,
        ) from error
    finally:
        cursor.close()
    return found or []
