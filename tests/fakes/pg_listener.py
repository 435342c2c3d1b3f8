"""LISTEN, as psql and programs do."""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg2
from psycopg2 import extensions


class PgListener:
    """Told of all that is notified on ``topic`` from now on."""

    def __init__(self, dsn: str, topic: str) -> None:
        self._connection: Any = psycopg2.connect(dsn)
        self._connection.set_isolation_level(extensions.ISOLATION_LEVEL_AUTOCOMMIT)
        with self._connection.cursor() as cursor:
            cursor.execute(f'LISTEN "{topic}"')

    def get(self, count: int) -> list[str]:
        """The payloads of the next ``count``."""
        end = time.monotonic() + 20
        while len(self._connection.notifies) < count:
            assert time.monotonic() < end, f"{len(self._connection.notifies)} of {count}"
            select.select([self._connection], [], [], 0.5)
            self._connection.poll()
        found = self._connection.notifies[:count]
        del self._connection.notifies[:count]
        return [notify.payload for notify in found]

    def close(self) -> None:
        self._connection.close()
