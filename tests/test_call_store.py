"""call.store: its contract, the same in PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from backend.call.memory_store import MemoryStore
from backend.call.store import MAX_KEYS, MAX_VALUE_BYTES, Store
from backend.errors import BadRequest
from backend.ports import KeyValues
from backend.storage.store import KeyValues as PostgresStore

Pass = Callable[[float], None]  # seconds


@pytest.fixture(params=["memory", "postgresql"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[KeyValues, Pass]]:
    """A store, and how to let time pass for it."""
    if request.param == "memory":
        now = [1000.0]
        yield MemoryStore(lambda: now[0]), lambda seconds: now.__setitem__(0, now[0] + seconds)
        return
    engine: Engine = request.getfixturevalue("engine")

    def let_pass(seconds: float) -> None:
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE store SET expires_at = expires_at - make_interval(secs => :s)"),
                {"s": seconds},
            )

    yield PostgresStore(engine), let_pass


@pytest.fixture
def store(place: tuple[KeyValues, Pass]) -> Store:
    return Store(place[0], "confirm")


@pytest.fixture
def let_pass(place: tuple[KeyValues, Pass]) -> Pass:
    return place[1]


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Ж", "list": [1, -2.5, True, None, {"deep": []}]},
        [],
        {},
        0,
        False,
        "",
        "null",
        2**80,
        1.5,
        'quote " backslash \\ percent % colon :x \U0001f600',
    ],
)
def test_what_is_set_is_got(store: Store, value: object) -> None:
    store.set("key", value)
    found = store.get("key")
    assert (found, type(found)) == (value, type(value))


def test_a_tuple_comes_back_as_a_list(store: Store) -> None:
    store.set("key", (1, (2, 3)))
    assert store.get("key") == [1, [2, 3]]


def test_what_is_not_there(store: Store) -> None:
    assert store.get("nothing") is None
    assert store.get("nothing", 7) == 7
    assert store.delete("nothing") is False


def test_set_replaces_and_delete_deletes(store: Store) -> None:
    store.set("key", 1)
    store.set("key", [2])
    assert store.get("key") == [2]
    assert store.delete("key") is True
    assert store.get("key") is None


def test_a_scenarios_own_keys_are_its_own(place: tuple[KeyValues, Pass]) -> None:
    one, other = Store(place[0], "one"), Store(place[0], "other")
    one.set("key", "shared")
    one.own.set("key", "of one")
    other.own.set("key", "of other")
    assert (other.get("key"), one.own.get("key"), other.own.get("key")) == (
        "shared",
        "of one",
        "of other",
    )
    assert one.own.delete("key")
    assert (one.get("key"), other.own.get("key")) == ("shared", "of other")


def test_a_key_is_not_there_once_its_time_is_over(store: Store, let_pass: Pass) -> None:
    store.set("key", 1, expires_s=60)
    store.set("other", 1, expires_s=600)
    let_pass(59)
    assert store.get("key") == 1
    let_pass(1)
    assert store.get("key") is None
    assert store.delete("key") is False
    assert store.compare_and_set("key", 1, 2) is False
    assert store.keys() == ["other"]


def test_set_ends_an_expiry(store: Store, let_pass: Pass) -> None:
    store.set("key", 1, expires_s=60)
    store.set("key", 2)
    let_pass(61)
    assert store.get("key") == 2


def test_a_counter(store: Store) -> None:
    assert [store.add("n"), store.add("n", 5), store.add("n", -7), store.add("n", 0)] == [
        1,
        6,
        -1,
        -1,
    ]
    assert store.get("n") == -1
    store.set("n", 40)
    assert store.add("n", 2) == 42


def test_a_counters_expiry_is_the_first_ones(store: Store, let_pass: Pass) -> None:
    assert store.add("n", expires_s=60) == 1
    let_pass(40)
    assert store.add("n", expires_s=60) == 2
    let_pass(19)
    assert store.add("n", expires_s=60) == 3
    let_pass(1)
    assert store.get("n") is None
    assert store.add("n", expires_s=60) == 1
    let_pass(59)
    assert store.get("n") == 1, "the new one's expiry is new"


@pytest.mark.parametrize("value", ["7", 1.5, True, [1], {"n": 1}])
def test_only_whole_numbers_are_counted(store: Store, value: object) -> None:
    store.set("key", value)
    with pytest.raises(BadRequest, match="key: 'key' holds no whole number"):
        store.add("key")
    assert store.get("key") == value


def test_a_counter_has_64_bits(store: Store) -> None:
    assert store.add("n", 2**63 - 1) == 2**63 - 1
    with pytest.raises(BadRequest, match="n: 'n' would be beyond 64 bits"):
        store.add("n")
    assert store.add("n", -(2**63 - 1)) == 0


def test_compare_and_set(store: Store, let_pass: Pass) -> None:
    assert store.compare_and_set("lock", None, "me", expires_s=60) is True
    assert store.compare_and_set("lock", None, "you") is False
    assert store.compare_and_set("lock", "you", "other") is False
    assert store.compare_and_set("lock", "me", {"by": "me"}, expires_s=60) is True
    assert store.compare_and_set("lock", {"by": "you"}, None) is False
    assert store.compare_and_set("lock", {"by": "me"}, None) is True
    assert store.get("lock") is None
    store.set("lock", "me", expires_s=1)
    let_pass(1)
    assert store.compare_and_set("lock", None, "you", expires_s=60) is True
    let_pass(59)
    assert store.get("lock") == "you"


@pytest.mark.parametrize(
    ("held", "expected", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        ([0], [False], False),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}, True),
    ],
)
def test_what_counts_as_the_same(store: Store, held: Any, expected: Any, same: bool) -> None:
    store.set("key", held)
    assert store.compare_and_set("key", expected, "new") is same


def test_keys_by_their_beginning(store: Store) -> None:
    for key in ("a%", "a_1", "ab", "a\\b", "b", "é", "A"):
        store.set(key, 1)
    store.own.set("a-own", 1)
    assert store.keys() == ["A", "a%", "a\\b", "a_1", "ab", "b", "é"]
    assert store.keys("a") == ["a%", "a\\b", "a_1", "ab"]
    assert store.keys("a%") == ["a%"]
    assert store.keys("a_") == ["a_1"]
    assert store.keys("a\\") == ["a\\b"]
    assert store.keys("a", limit=2) == ["a%", "a\\b"]


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("key", lambda s: s.get("")),
        ("key", lambda s: s.get("a\nb")),
        ("key", lambda s: s.get("a\0")),
        ("key", lambda s: s.get("\udc80")),
        ("key", lambda s: s.delete("ж" * 129)),
        ("key", lambda s: s.set(1, 1)),
        ("prefix", lambda s: s.keys("a\0")),
        ("limit", lambda s: s.keys(limit=0)),
        ("limit", lambda s: s.keys(limit=MAX_KEYS + 1)),
        ("limit", lambda s: s.keys(limit=True)),
        ("value", lambda s: s.set("k", None)),
        ("value", lambda s: s.set("k", {1: 2})),
        ("value", lambda s: s.set("k", {"a\0": 2})),
        ("value", lambda s: s.set("k", ["\ud800"])),
        ("value", lambda s: s.set("k", float("nan"))),
        ("value", lambda s: s.set("k", {1, 2})),
        ("value", lambda s: s.set("k", b"x")),
        ("value", lambda s: s.set("k", "x" * MAX_VALUE_BYTES)),
        ("value", lambda s: s.set("k", 10**5000)),
        ("value", lambda s: s.set("k", nested(40))),
        ("value", lambda s: s.set("k", nested(100_000))),
        ("value", lambda s: s.compare_and_set("k", None, None)),
        ("expected", lambda s: s.compare_and_set("k", object(), 1)),
        ("expires_s", lambda s: s.compare_and_set("k", 1, None, expires_s=5)),
        ("expires_s", lambda s: s.set("k", 1, expires_s=0)),
        ("expires_s", lambda s: s.set("k", 1, expires_s=float("nan"))),
        ("expires_s", lambda s: s.set("k", 1, expires_s=1e12)),
        ("expires_s", lambda s: s.set("k", 1, expires_s="60")),
        ("expires_s", lambda s: s.add("k", expires_s=-1)),
        ("n", lambda s: s.add("k", 1.5)),
        ("n", lambda s: s.add("k", True)),
        ("n", lambda s: s.add("k", 2**64)),
    ],
)
def test_a_wrong_argument_is_named(argument: str, call: Callable[[Any], object]) -> None:
    store = Store(MemoryStore(), "confirm")
    with pytest.raises(BadRequest) as caught:
        call(store)
    assert caught.value.parameter == argument
    assert store.keys() == []


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_the_largest_of_everything(store: Store) -> None:
    store.set("k" * 256, "x" * (MAX_VALUE_BYTES - 2), expires_s=3.1e8)
    assert store.get("k" * 256) == "x" * (MAX_VALUE_BYTES - 2)
    store.set("deep", nested(31))
    assert store.get("deep") == nested(31)
