"""A store in memory, for trying scenarios without PostgreSQL."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from time import monotonic

from backend.errors import BadRequest

_LARGEST = 2**63 - 1


class MemoryStore:
    """ports.KeyValues for one process; what it holds is gone with it. ``clock``: seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._rows: dict[tuple[str, str], tuple[object, float | None]] = {}  # value, when it ends

    def get(self, space: str, key: str) -> object:
        with self._mutex:
            return self._value(space, key)

    def set(self, space: str, key: str, value: str, expires_s: float | None) -> None:
        with self._mutex:
            self._put(space, key, json.loads(value), expires_s)

    def add(self, space: str, key: str, n: int, expires_s: float | None) -> int:
        with self._mutex:
            value = self._value(space, key)
            if value is None:
                self._put(space, key, n, expires_s)
                return n
            if isinstance(value, bool) or not isinstance(value, int):
                raise BadRequest("key", f"{key!r} holds no whole number to add to")
            if not -_LARGEST - 1 <= value + n <= _LARGEST:
                raise BadRequest("n", f"{key!r} would be beyond 64 bits")
            self._rows[space, key] = (value + n, self._rows[space, key][1])
            return value + n

    def compare_and_set(
        self, space: str, key: str, expected: str | None, value: str | None, expires_s: float | None
    ) -> bool:
        with self._mutex:
            found = self._value(space, key)
            if not _same(found, None if expected is None else json.loads(expected)):
                return False
            if value is None:
                del self._rows[space, key]
            else:
                self._put(space, key, json.loads(value), expires_s)
            return True

    def delete(self, space: str, key: str) -> bool:
        with self._mutex:
            there = self._value(space, key) is not None
            self._rows.pop((space, key), None)
            return there

    def keys(self, space: str, prefix: str, limit: int) -> list[str]:
        with self._mutex:
            found = [key for where, key in list(self._rows) if where == space]
            alive = [key for key in found if self._value(space, key) is not None]
        return sorted((k for k in alive if k.startswith(prefix)), key=str.encode)[:limit]

    def _value(self, space: str, key: str) -> object:
        value, ends = self._rows.get((space, key), (None, None))
        if ends is not None and ends <= self._clock():
            del self._rows[space, key]
            return None
        return value

    def _put(self, space: str, key: str, value: object, expires_s: float | None) -> None:
        ends = None if expires_s is None else self._clock() + expires_s
        self._rows[space, key] = (value, ends)


def _same(one: object, other: object) -> bool:
    """Equality of jsonb: true is not 1, 1 is 1.0."""
    return _plain(one) == _plain(other)


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
