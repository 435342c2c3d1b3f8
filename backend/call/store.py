"""``call.store``: what scenarios keep beyond a call and share with other calls."""

from __future__ import annotations

import json
import math

from backend.errors import BadRequest
from backend.ports import KeyValues

MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_KEYS = 1000
MAX_EXPIRES_S = 10 * 366 * 86_400.0
MAX_NUMBER = 2**63 - 1

SHARED = ""  # the space of all scenarios; a scenario's own has its name


class Store:
    """Keys and JSON values in PostgreSQL, the same for all calls, scenarios, workers and
    machines. ``own`` is a store of this scenario's alone.

    A value is what JSON can say (dict, list, text, number, bool), but not None: that is what
    ``get`` says of a key that is not there. A tuple comes back as a list. At most 64 KiB a value,
    256 bytes a key. ``expires_s``: seconds after which the key is not there any more, by
    PostgreSQL's clock; None: it stays until it is deleted.

    Every method raises BadRequest for an argument that is none, and StorageUnavailable when
    PostgreSQL does not answer within 3 s: what became of a change is then unknown. They work after
    a hangup, too, and may be called from any thread.
    """

    def __init__(self, values: KeyValues, scenario: str, *, space: str = SHARED) -> None:
        self._values = values
        self._scenario = scenario
        self._space = space

    @property
    def own(self) -> Store:
        """The keys of this scenario: no other sees them."""
        return Store(self._values, self._scenario, space=self._scenario)

    def get(self, key: str, default: object = None) -> object:
        """The value; ``default``: there is none."""
        found = self._values.get(self._space, _key(key))
        return default if found is None else found

    def set(self, key: str, value: object, *, expires_s: float | None = None) -> None:
        """Whatever was there is replaced, its expiry too."""
        self._values.set(self._space, _key(key), _json("value", value), _expiry(expires_s))

    def add(self, key: str, n: int = 1, *, expires_s: float | None = None) -> int:
        """Count: add ``n`` (negative: subtract) and return the sum, in one step, however many
        count at once. A key that is not there begins at 0; ``expires_s`` is for that one alone:
        later additions do not move the expiry. So "at most 3 calls an hour" is
        ``add(number, expires_s=3600) <= 3``.

        BadRequest also for a value that is no whole number, and a sum beyond 64 bits.
        """
        if isinstance(n, bool) or not isinstance(n, int) or abs(n) > MAX_NUMBER:
            raise BadRequest("n", f"{n!r:.80}: expected a whole number of at most 64 bits")
        return self._values.add(self._space, _key(key), n, _expiry(expires_s))

    def compare_and_set(
        self, key: str, expected: object, value: object, *, expires_s: float | None = None
    ) -> bool:
        """Set ``value`` if the key still holds ``expected``; whether that was so. None stands
        for a key that is not there: as ``expected`` it takes a free key (a lock), as ``value`` it
        gives it back."""
        if expected is None and value is None:
            raise BadRequest("value", "is None and so is expected: nothing would change")
        if value is None and expires_s is not None:
            raise BadRequest("expires_s", "goes with a value")
        return self._values.compare_and_set(
            self._space,
            _key(key),
            None if expected is None else _json("expected", expected),
            None if value is None else _json("value", value),
            _expiry(expires_s),
        )

    def delete(self, key: str) -> bool:
        """Whether it was there."""
        return self._values.delete(self._space, _key(key))

    def keys(self, prefix: str = "", *, limit: int = 100) -> list[str]:
        """Keys that begin with ``prefix``, in the order of their bytes, at most ``limit`` (up to
        1,000)."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_KEYS:
            raise BadRequest("limit", f"{limit!r:.80}: expected 1 to {MAX_KEYS}")
        return self._values.keys(self._space, _key(prefix, "prefix") if prefix else "", limit)


def _key(key: str, argument: str = "key") -> str:
    if not isinstance(key, str):
        raise BadRequest(argument, f"must be text, not {type(key).__name__}")
    if not key or not key.isprintable():  # lone surrogates are not printable
        raise BadRequest(argument, f"{key[:80]!r}: expected printable text, at least a character")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise BadRequest(argument, f"{key[:80]!r}… is longer than {MAX_KEY_BYTES} bytes")
    return key


def _expiry(expires_s: float | None) -> float | None:
    if expires_s is None:
        return None
    if isinstance(expires_s, bool) or not isinstance(expires_s, int | float):
        raise BadRequest("expires_s", f"must be seconds, not {type(expires_s).__name__}")
    if not 0 < expires_s <= MAX_EXPIRES_S:  # NaN, too
        raise BadRequest("expires_s", f"{expires_s!r:.80}: expected more than 0, at most 10 years")
    return float(expires_s)


def _json(argument: str, value: object) -> str:
    """``value`` as JSON that PostgreSQL gives back unchanged."""
    if value is None:
        raise BadRequest(argument, "is None: delete the key instead")
    _check(argument, value, MAX_DEPTH)
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except ValueError as error:  # a number of more than 4,300 digits
        raise BadRequest(argument, f"is no JSON: {error}") from None
    if (size := len(text.encode())) > MAX_VALUE_BYTES:
        raise BadRequest(argument, f"has {size} bytes as JSON; at most {MAX_VALUE_BYTES}")
    return text


def _check(argument: str, value: object, depth: int) -> None:
    if depth < 0:
        raise BadRequest(argument, f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise BadRequest(argument, f"holds the key {odd[0]!r:.80}: JSON's keys are texts")
        for part in (*value, *value.values()):
            _check(argument, part, depth - 1)
    elif isinstance(value, list | tuple):
        for part in value:
            _check(argument, part, depth - 1)
    else:
        _check_plain(argument, value)


def _check_plain(argument: str, value: object) -> None:
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise BadRequest(argument, "holds a text with NUL or half a surrogate pair")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadRequest(argument, f"holds {value}: JSON has no such number")
    elif value is not None and not isinstance(value, int):  # bool is an int
        raise BadRequest(argument, f"holds a {type(value).__name__}, which JSON has not")
