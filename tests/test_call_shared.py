"""What calls have beside the line: originate, config, and the tasks behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg2 import extensions
from sqlalchemy import Engine, text

from backend.call.shared import Shared
from backend.dialing.policy import Rules
from backend.errors import BadRequest, StorageUnavailable
from backend.model import Task, TaskRequest, TaskState
from backend.storage import tasks as storage
from backend.storage.deadline import keep_deadlines
from backend.storage.engine import make_engine
from backend.storage.tasks import CallTasks, Tasks

RULES = Rules(
    channels={"default": "PJSIP/{phone}@trunk", "beeline": "PJSIP/{phone}@beeline"},
    caller_ids=("74951234567",),
    caller_id="74950000000",
    variables=("order",),
    scenarios=("article", "survey"),
    route={"79160000000": "survey"}.get,
)


@dataclass
class Desk:
    """Tasks in memory; known by external_id."""

    requests: list[TaskRequest] = field(default_factory=list)
    known: dict[str, UUID] = field(default_factory=dict)

    def submit(self, request: TaskRequest) -> tuple[Any, bool]:
        key = request.external_id or str(uuid4())
        new = key not in self.known
        self.requests.append(request)
        return _Id(self.known.setdefault(key, uuid4())), new

    def get(self, task_id: UUID) -> Task | None:
        raise StorageUnavailable("away")


@dataclass
class _Id:
    id: UUID


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def shared(desk: Desk) -> Shared:
    return Shared(rules=RULES, tasks=desk)


def test_a_call_is_handed_in_as_by_http(shared: Shared, desk: Desk) -> None:
    handle = shared.originate(
        "+79161234567",
        scenario="survey",
        caller_id="74951234567",
        variables={"order": "17"},
        external_id="A 1",
        channel="beeline",
    )
    assert desk.requests == [
        TaskRequest(
            phone="+79161234567",
            scenario="survey",
            channel="beeline",
            caller_id="74951234567",
            external_id="A 1",
            variables={"order": "17"},
        )
    ]
    assert (handle.id, handle.new) == (desk.known["A 1"], True)
    again = shared.originate("79161234567", external_id="A 1")
    assert (again.id, again.new) == (handle.id, False)
    assert repr(handle) == f"TaskHandle({handle.id})"
    with pytest.raises(StorageUnavailable):
        handle.status()


def test_what_is_left_out_is_by_route_and_default(shared: Shared, desk: Desk) -> None:
    shared.originate("79160000000", scenario=None, caller_id=None, variables=None)
    shared.originate("79161111111")
    first, second = desk.requests
    assert (first.scenario, first.caller_id, first.channel) == ("survey", "74950000000", "default")
    assert (second.scenario, second.variables) == ("article", {})


@pytest.mark.parametrize(
    ("argument", "number", "options"),
    [
        ("number", "abc", {}),
        ("number", "", {}),
        ("number", 79161234567, {}),
        ("scenario", "123456", {"scenario": "none"}),
        ("caller_id", "123456", {"caller_id": "79990000000"}),
        ("variables.other", "123456", {"variables": {"other": "1"}}),
        ("variables.order", "123456", {"variables": {"order": "a,b"}}),
        ("variables.order", "123456", {"variables": {"order": 17}}),
        ("variables", "123456", {"variables": ["order"]}),
        ("external_id", "123456", {"external_id": " x"}),
        ("channel", "123456", {"channel": "other"}),
    ],
)
def test_what_the_settings_do_not_allow_is_named(
    shared: Shared, desk: Desk, argument: str, number: Any, options: dict[str, object]
) -> None:
    with pytest.raises(BadRequest) as caught:
        shared.originate(number, **options)
    assert caught.value.parameter == argument
    assert desk.requests == []


def test_where_nobody_dials() -> None:
    with pytest.raises(StorageUnavailable, match="hand in a call"):
        Shared().originate("123456")


# --- The real tasks ------------------------------------------------------------------------------


def test_it_is_a_task_like_any_other(engine: Engine) -> None:
    shared = Shared(rules=RULES, tasks=CallTasks(engine))
    handle = shared.originate("79161234567", external_id="x")
    assert handle.status().state is TaskState.QUEUED
    task = Tasks(engine).get(handle.id)
    assert task == handle.status()
    assert not shared.originate("79161234567", external_id="x").new


@pytest.fixture
def deadlines() -> Iterator[None]:
    """As in a worker."""
    keep_deadlines()
    yield
    extensions.set_wait_callback(None)


@pytest.mark.usefixtures("deadlines")
def test_a_lock_that_is_not_given_back_costs_one_deadline(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Shared(rules=RULES, tasks=CallTasks(engine))
    monkeypatch.setattr(storage, "IN_CALL_S", 0.2)
    with engine.begin() as connection:
        connection.execute(text("LOCK tasks"))
        with pytest.raises(StorageUnavailable, match="within the deadline"):
            shared.originate("79161234567")
    monkeypatch.setattr(storage, "IN_CALL_S", 30.0)
    assert shared.originate("79161234567").new
    assert sum(Tasks(engine).count_by_state().values()) == 1


def test_away() -> None:
    engine = make_engine("postgresql://x@127.0.0.1:17998/x", name="test")
    shared = Shared(rules=RULES, tasks=CallTasks(engine))
    with pytest.raises(StorageUnavailable):
        shared.originate("79161234567")
    engine.dispose()
