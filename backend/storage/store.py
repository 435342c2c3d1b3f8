"""The store of scenarios: keys and JSON values, with expiry, shared by all workers and machines.

Each operation is one statement, so it happens whole or not at all, whoever else is at it. Time is
PostgreSQL's, read when the row is held: clock_timestamp(), not now(), which would be the time at
which a statement began to wait for the row.
"""

# ruff: noqa: S608  the statements are put together of the constants below alone

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import DataError

from backend.errors import BadRequest
from backend.storage.deadline import within
from backend.storage.engine import POOL, reaching
from backend.storage.turns import Turns

STORE_S = 3.0  # a caller waits in silence meanwhile
WAIT_S = 2.0  # of it, for a connection
_OUT_OF_RANGE = "22003"

# The row is another's until it is deleted, but to whoever looks it is not there any more.
_ALIVE = "(store.expires_at IS NULL OR store.expires_at > clock_timestamp())"
_MINE = "store.space = :space AND store.key = :key"
_EXPIRES = "clock_timestamp() + make_interval(secs => CAST(:expires_s AS double precision))"
_NEW = f"INSERT INTO store (space, key, value, expires_at) VALUES (:space, :key, {{}}, {_EXPIRES})"
_REPLACE = "ON CONFLICT (space, key) DO UPDATE SET value = excluded.value, "
_REPLACE += "expires_at = excluded.expires_at"
_JSON = "CAST(:value AS jsonb)"

_GET = text(f"SELECT value FROM store WHERE {_MINE} AND {_ALIVE}")
_SET = text(f"{_NEW.format(_JSON)} {_REPLACE}")
_SET_IF_NONE = text(f"{_NEW.format(_JSON)} {_REPLACE} WHERE NOT {_ALIVE}")
_SET_IF_SAME = text(
    f"UPDATE store SET value = {_JSON}, expires_at = {_EXPIRES}"
    f" WHERE {_MINE} AND {_ALIVE} AND store.value = CAST(:expected AS jsonb)"
)
_DELETE_IF_SAME = text(
    f"DELETE FROM store WHERE {_MINE} AND {_ALIVE} AND store.value = CAST(:expected AS jsonb)"
)
_DELETE = text(f"DELETE FROM store WHERE {_MINE} RETURNING {_ALIVE}")
# The clock is read once (OFFSET 0: in a subquery that is not unfolded): value and expiry must
# agree on whether the old counter was over.
_ADD = text(
    f"{_NEW.format('to_jsonb(CAST(:n AS bigint))')} ON CONFLICT (space, key) DO UPDATE"
    " SET (value, expires_at) = (SELECT"
    " CASE WHEN alive THEN to_jsonb(CAST(CAST(store.value AS text) AS bigint) + CAST(:n AS bigint))"
    " ELSE excluded.value END,"
    " CASE WHEN alive THEN store.expires_at ELSE excluded.expires_at END"
    f" FROM (SELECT {_ALIVE} AS alive OFFSET 0) AS now)"
    " RETURNING value"
)
_KEYS = text(
    f"SELECT key FROM store WHERE store.space = :space AND store.key LIKE :prefix AND {_ALIVE}"
    " ORDER BY key LIMIT :limit"
)
# The condition twice: between choosing a row and deleting it somebody may have set it anew.
_FORGET = text(
    "DELETE FROM store WHERE (space, key) IN"
    " (SELECT space, key FROM store WHERE expires_at <= clock_timestamp() LIMIT :batch)"
    " AND expires_at <= clock_timestamp()"
)


class KeyValues:
    """The table ``store``; implements ports.KeyValues. Thread-safe. ``turns``: of the engine's
    connections."""

    def __init__(self, engine: Engine, turns: Turns | None = None) -> None:
        self._engine = engine
        self._turns = turns or Turns(POOL)

    def get(self, space: str, key: str) -> object:
        with self._asking("read the store") as connection:
            row = connection.execute(_GET, {"space": space, "key": key}).first()
            return None if row is None else row[0]

    def set(self, space: str, key: str, value: str, expires_s: float | None) -> None:
        self._change("write to the store", _SET, space, key, value=value, expires_s=expires_s)

    def add(self, space: str, key: str, n: int, expires_s: float | None) -> int:
        values = {"space": space, "key": key, "n": n, "expires_s": expires_s}
        with self._asking("count in the store") as connection:
            try:
                return int(connection.execute(_ADD, values).scalar_one())
            except DataError as error:
                if getattr(error.orig, "pgcode", None) == _OUT_OF_RANGE:
                    raise BadRequest("n", f"{key!r} would be beyond 64 bits") from None
                raise BadRequest("key", f"{key!r} holds no whole number to add to") from None

    def compare_and_set(
        self, space: str, key: str, expected: str | None, value: str | None, expires_s: float | None
    ) -> bool:
        what = "write to the store"
        if expected is None:
            values = {"value": value, "expires_s": expires_s}
            return self._change(what, _SET_IF_NONE, space, key, **values)
        if value is None:
            return self._change(what, _DELETE_IF_SAME, space, key, expected=expected)
        values = {"value": value, "expires_s": expires_s, "expected": expected}
        return self._change(what, _SET_IF_SAME, space, key, **values)

    def delete(self, space: str, key: str) -> bool:
        with self._asking("delete from the store") as connection:
            return bool(connection.execute(_DELETE, {"space": space, "key": key}).scalar())

    def keys(self, space: str, prefix: str, limit: int) -> list[str]:
        literal = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values = {"space": space, "prefix": f"{literal}%", "limit": limit}
        with self._asking("list the store") as connection:
            return list(connection.execute(_KEYS, values).scalars().all())

    def forget_expired(self, stop: threading.Event, batch: int = 5000) -> int:
        """Delete what nobody can see any more, in small transactions, until ``stop``. Raises
        StorageUnavailable."""
        total, count = 0, batch
        while count >= batch and not stop.is_set():
            with reaching("delete from the store"), self._engine.begin() as connection:
                count = connection.execute(_FORGET, {"batch": batch}).rowcount
            total += count
        return total

    def _change(
        self, what: str, statement: TextClause, space: str, key: str, **more: object
    ) -> bool:
        with self._asking(what) as connection:
            return connection.execute(statement, {"space": space, "key": key, **more}).rowcount > 0

    @contextmanager
    def _asking(self, what: str) -> Iterator[Connection]:
        """One short transaction; raises StorageUnavailable after STORE_S at the latest."""
        turn = self._turns.turn(WAIT_S)
        with within(STORE_S), turn, reaching(what), self._engine.begin() as connection:
            yield connection
