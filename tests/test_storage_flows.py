"""storage.flows and storage.flow_review against a real PostgreSQL."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from queue import Queue
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event, text, update

from backend.errors import BadRequest, StorageUnavailable
from backend.flow.fallback import FallBack
from backend.flow.published import FlowVersion, StoredRollout
from backend.flow.rollout import FellBack, Figures, Limits, Order
from backend.model import CallStep, TaskRequest
from backend.storage import flows as module
from backend.storage.apply import RecordStore
from backend.storage.changes import ROLLOUT_LOCK
from backend.storage.engine import make_engine
from backend.storage.flow_review import FlowReview
from backend.storage.flows import Flows
from backend.storage.tables import flow_versions, rollouts
from backend.storage.tasks import Tasks


@pytest.fixture
def flows(engine: Engine) -> Flows:
    return Flows(engine)


def version(name: str, flow: str = "menu", note: str = "") -> FlowVersion:
    return FlowVersion(flow, name, f"flow: {flow}\nnote: {name}\n", "yaml", note)


def put(flows: Flows, name: str, flow: str = "menu", note: str = "") -> StoredRollout:
    return flows.put(version(name, flow, note), priority="high", by="ann")


def change(flows: Flows, order: Order, flow: str = "menu") -> StoredRollout:
    found = flows.change(flow, order, by="bob")
    assert found is not None
    return found


def told(flows: Flows, flow: str = "menu") -> list[tuple[str, str, str | None, str]]:
    """The history, the oldest first."""
    report = flows.report(flow)
    assert report is not None
    return [(e.by, e.action, e.version, e.reason) for e in reversed(report.history)]


def set_figures(engine: Engine, version: str, flow: str = "menu", **figures: int) -> None:
    with engine.begin() as connection:
        for name, value in figures.items():
            connection.execute(
                text(
                    "INSERT INTO flow_figures VALUES (:flow, :version, :name, :value)"
                    " ON CONFLICT (flow, version, name) DO UPDATE SET value = :value"
                ),
                {"flow": flow, "version": version, "name": name, "value": value},
            )


def failed_call(engine: Engine, version: str, *, ok: bool = False, flow: str = "menu") -> UUID:
    """A call with that version, as its steps tell."""
    call, at = uuid4(), datetime.now(UTC)
    begins = CallStep(call, None, 0, at, "flow", flow, version, None, "off", 0, {})
    ends = CallStep(call, None, 1, at, "flow_end", flow, version, None, "off", 9, {"ok": ok})
    RecordStore(engine).store([begins, ends])
    return call


# --- Versions and steps --------------------------------------------------------------------------


def test_a_version_from_put_to_all_and_back(flows: Flows) -> None:
    first = put(flows, "v1", note="the first")
    assert (first.rollout.state, first.rollout.candidate, first.changed_by) == ("put", "v1", "ann")
    change(flows, Order("all"))
    put(flows, "v2")
    change(flows, Order("test", numbers=("+7916", "7917")))
    shared = change(flows, Order("share", percent=5, reason="first callers"))
    assert (shared.rollout.share, shared.changed_by) == (5.0, "bob")
    assert shared.step_at > first.step_at
    done = change(flows, Order("all"))
    assert (done.rollout.stable, done.rollout.previous) == ("v2", "v1")
    undone = change(flows, Order("back", version="v2", reason="silent"))
    assert (undone.rollout.stable, undone.rollout.state) == ("v1", "stable")
    assert told(flows) == [
        ("ann", "put", "v1", "the first"),
        ("bob", "all", "v1", ""),
        ("ann", "put", "v2", ""),
        ("bob", "test", "v2", "7916, 7917"),
        ("bob", "share", "v2", "5 %; first callers"),
        ("bob", "all", "v2", ""),
        ("bob", "back", "v2", "silent"),
    ]
    report = flows.report("menu")
    assert report is not None
    assert [one.version for one in report.versions] == ["v2", "v1"]
    assert report.versions[0].used_at is not None, "it left what calls get"
    assert report.versions[1].used_at is None
    (stored,) = flows.texts([("menu", "v1"), ("menu", "v9")])
    assert (stored.text, stored.format) == (version("v1").text, "yaml")
    assert (stored.note, stored.created_by) == ("the first", "ann")


def test_what_is_refused_changes_nothing(flows: Flows) -> None:
    put(flows, "v1")
    change(flows, Order("all"))
    before = flows.rollouts()
    for order in (
        Order("share", percent=5),
        Order("share", percent=5, limits={"min_calls": 9}),
        Order("back", version="v7"),
    ):
        with pytest.raises(BadRequest):
            flows.change("menu", order, by="bob")
    with pytest.raises(BadRequest, match="all calls have already"):
        put(flows, "v1")
    assert flows.rollouts() == before
    assert len(told(flows)) == 2
    assert flows.change("nosuch", Order("all"), by="bob") is None
    assert flows.report("nosuch") is None


def test_the_shares_of_the_versions(flows: Flows) -> None:
    assert flows.shares() == {}
    put(flows, "v1")
    assert flows.shares() == {("menu", "v1"): 0.0}
    change(flows, Order("all"))
    put(flows, "v2")
    change(flows, Order("test", numbers=("1",)))
    assert flows.shares() == {("menu", "v1"): 100.0, ("menu", "v2"): 0.0}
    change(flows, Order("share", percent=5))
    assert flows.shares() == {("menu", "v1"): 95.0, ("menu", "v2"): 5.0}
    change(flows, Order("back"))
    assert flows.shares() == {("menu", "v1"): 100.0}


def test_the_same_put_twice_is_one(flows: Flows) -> None:
    first = put(flows, "v1")
    change(flows, Order("test", numbers=("1",)))
    again = put(flows, "v1")
    assert (again.rollout.state, again.rollout.candidate) == ("test", "v1")
    assert again.step_at > first.step_at
    assert [action for _, action, _, _ in told(flows)] == ["put", "test"]


def test_limits_stay_until_others_are_given(flows: Flows) -> None:
    put(flows, "v1")
    change(flows, Order("share", percent=5, limits={"min_calls": 10, "loss_percent": 0.5}))
    change(flows, Order("share", percent=10, limits={"error_percent": 2}))
    limits = change(flows, Order("share", percent=50)).rollout.limits
    assert limits == Limits(min_calls=10, error_percent=2, loss_percent=0.5)
    ((stored,), bad) = flows.rollouts()
    assert (stored.rollout.limits, bad) == (limits, [])


def test_there_are_bounds(flows: Flows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FLOWS", 1)
    monkeypatch.setattr(module, "MAX_VERSIONS", 2)
    monkeypatch.setattr(module, "MAX_TEXT_BYTES", 100)
    put(flows, "v1")
    with pytest.raises(BadRequest, match="there are 1 flows already"):
        put(flows, "v1", flow="other")
    put(flows, "v2")
    with pytest.raises(BadRequest, match="2 versions of menu already"):
        put(flows, "v3")
    put(flows, "v1")  # it is there already
    with pytest.raises(BadRequest, match="text: has 202 bytes"):
        flows.put(replace(version("v1"), text="ж" * 101), by="ann")
    for note in ("x" * 1001, "a\nb", "\0"):
        with pytest.raises(BadRequest, match="note"):
            flows.put(replace(version("v1"), note=note), by="ann")
    assert [one.rollout.flow for one in flows.rollouts()[0]] == ["menu"]


def test_old_versions_are_deleted_by_command_only(flows: Flows, engine: Engine) -> None:
    for name in ("v1", "v2", "v3", "v4"):
        put(flows, name)
        change(flows, Order("all"))
    put(flows, "v5")
    long_ago = datetime.now(UTC) - timedelta(days=31)
    with engine.begin() as connection:
        connection.execute(update(flow_versions).values(created_at=long_ago))
        mine = flow_versions.c.version.in_(("v1", "v3", "v4", "v5"))
        connection.execute(update(flow_versions).where(mine).values(used_at=long_ago))
    for name in ("v1", "v2"):
        set_figures(engine, name, calls=5)
    assert flows.prune("menu", by="ann") == ["v1"], "v2 was used lately, the others are in use"
    report = flows.report("menu")
    assert report is not None
    assert list(report.totals) == ["v2"], "figures go with their version"
    assert flows.prune("menu", by="ann") == []
    assert told(flows)[-1] == ("ann", "prune", None, "v1")
    assert flows.prune("nosuch", by="ann") is None
    left = flows.texts([("menu", f"v{n}") for n in range(1, 6)])
    assert sorted(one.version for one in left) == ["v2", "v3", "v4", "v5"]


def test_what_sql_has_spoiled_is_said_and_left_out(flows: Flows, engine: Engine) -> None:
    put(flows, "v1")
    put(flows, "v1", flow="other")
    for values in ({"state": "half"}, {"limits": {"min_calls": 0}}, {"limits": {"x": 1}}):
        with engine.begin() as connection:
            mine = update(rollouts).where(rollouts.c.flow == "menu")
            connection.execute(mine.values(state="put", limits={}))
            connection.execute(mine.values(**values))
        good, (bad,) = flows.rollouts()
        assert [one.rollout.flow for one in good] == ["other"]
        assert bad.startswith("menu: ")
        with pytest.raises(BadRequest):
            change(flows, Order("all"))


def test_many_orders_at_once_are_carried_out_one_by_one(flows: Flows) -> None:
    put(flows, "v1")
    barrier = threading.Barrier(8)

    def order(number: int) -> str:
        barrier.wait(30)
        try:
            flows.change("menu", Order("all"), by=f"user{number}")
        except BadRequest as error:
            return error.parameter
        return "done"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(order, range(8)))
    assert sorted(results) == ["action"] * 7 + ["done"]
    assert [action for _, action, _, _ in told(flows)] == ["put", "all"]


# --- Taken back ----------------------------------------------------------------------------------


def in_share(flows: Flows) -> None:
    put(flows, "good")
    change(flows, Order("all"))
    put(flows, "bad")
    change(flows, Order("share", percent=5))


def test_a_version_that_fails_is_taken_back_and_its_calls_are_counted(
    flows: Flows, engine: Engine
) -> None:
    in_share(flows)
    review = FlowReview(engine)
    set_figures(engine, "bad", calls=2, calls_failed=2)
    assert review.review() == [], "two unlucky calls"
    hurt = [failed_call(engine, "bad") for _ in range(3)]
    for others in ("good", "worse"):
        failed_call(engine, others)
    failed_call(engine, "bad", ok=True)
    set_figures(engine, "bad", calls=4, calls_failed=3)
    (fell,) = review.review()
    assert (fell.flow, fell.version, fell.now, fell.hurt) == ("menu", "bad", "good", 3)
    assert fell.reason == "3 of 4 calls failed: 75 %, the limit is 5 %"
    assert set(fell.calls) == {str(call) for call in hurt}
    ((stored,), _) = flows.rollouts()
    assert (stored.rollout.state, stored.rollout.candidate) == ("stable", None)
    assert stored.changed_by == "asterisk-dialog"
    assert told(flows)[-1] == ("asterisk-dialog", "fall_back", "bad", fell.reason)
    assert review.review() == [], "once"


def test_calls_that_end_after_it_was_taken_back_are_counted_too(
    flows: Flows, engine: Engine
) -> None:
    in_share(flows)
    first = [failed_call(engine, "bad") for _ in range(3)]
    set_figures(engine, "bad", calls=3, calls_failed=3)
    assert FlowReview(engine).review()[0].hurt == 3
    late = failed_call(engine, "bad")
    FlowReview(engine).review()
    report = flows.report("menu")
    assert report is not None
    entry = report.history[0]
    assert (entry.action, entry.hurt) == ("fall_back", 4)
    assert set(entry.calls) == {str(call) for call in (*first, late)}


def test_three_calls_that_fail_are_enough_and_who_hangs_up_hurts_nobody(
    flows: Flows, engine: Engine
) -> None:
    """From the steps as calls leave them, through the figures, to the hurt."""
    in_share(flows)
    call, at = uuid4(), datetime.now(UTC)
    hangup = {"ok": False, "reason": "caller_hangup"}
    blocked = {"key": "5", "verdict": "lost"}
    excused = [
        CallStep(call, None, 0, at, "flow", "menu", "bad", None, "off", 0, {}),
        CallStep(call, None, 1, at, "key", "menu", "bad", None, "playing", 0, blocked),
        CallStep(call, None, 2, at, "flow_end", "menu", "bad", None, "off", 0, hangup),
    ]
    RecordStore(engine).store(excused)
    failed = {failed_call(engine, "bad") for _ in range(3)}
    (fell,) = FlowReview(engine).review()
    assert fell.reason == "3 of 4 calls failed: 75 %, the limit is 5 %"
    assert set(fell.calls) == {str(call) for call in failed}


def test_lost_keys_take_it_back_too(flows: Flows, engine: Engine) -> None:
    in_share(flows)
    call, at = uuid4(), datetime.now(UTC)
    lost = {"key": "5", "verdict": "lost"}
    RecordStore(engine).store(
        [
            CallStep(call, None, n, at, "key", "menu", "bad", "ask", "waiting_input", n, lost)
            for n in range(2)
        ]
    )
    set_figures(engine, "bad", calls=10, keys_taken=30, keys_lost=4)
    (fell,) = FlowReview(engine).review()
    assert (fell.reason, fell.hurt) == ("4 of 34 keys were lost: 11.8 %, the limit is 1 %", 1)


def test_only_what_happened_since_the_step_began_counts(flows: Flows, engine: Engine) -> None:
    in_share(flows)
    set_figures(engine, "bad", calls=10, calls_failed=1)
    change(flows, Order("share", percent=20))
    set_figures(engine, "bad", calls=12, calls_failed=3)
    assert FlowReview(engine).review() == []
    report = flows.report("menu")
    assert report is not None
    assert report.totals["bad"] == Figures(12, 3)
    assert report.current == Figures(2, 2)
    set_figures(engine, "bad", calls=13, calls_failed=4)
    assert FlowReview(engine).review()[0].reason.startswith("3 of 3")


def test_a_version_that_all_calls_have_goes_back_to_the_former(
    flows: Flows, engine: Engine
) -> None:
    in_share(flows)
    change(flows, Order("all"))
    set_figures(engine, "bad", calls=9, calls_failed=9)
    (fell,) = FlowReview(engine).review()
    assert fell.now == "good"
    ((stored,), _) = flows.rollouts()
    assert (stored.rollout.stable, stored.rollout.previous) == ("good", None)


def test_without_a_way_back_or_after_an_hour_it_stays(flows: Flows, engine: Engine) -> None:
    put(flows, "only")
    change(flows, Order("all"))
    set_figures(engine, "only", calls=9, calls_failed=9)
    assert FlowReview(engine).review() == []
    in_share(flows)
    change(flows, Order("all"))
    set_figures(engine, "bad", calls=9, calls_failed=9)
    with engine.begin() as connection:
        long_ago = datetime.now(UTC) - timedelta(hours=2)
        connection.execute(update(rollouts).values(step_at=long_ago))
    assert FlowReview(engine).review() == []


def test_one_machine_acts(flows: Flows, engine: Engine, dsn: str) -> None:
    in_share(flows)
    for _ in range(3):
        failed_call(engine, "bad")
    set_figures(engine, "bad", calls=3, calls_failed=3)
    other = make_engine(dsn, name="other machine")
    barrier = threading.Barrier(6)

    def review(number: int) -> int:
        mine = FlowReview(engine if number % 2 else other)
        barrier.wait(30)
        return sum(len(mine.review()) for _ in range(5))

    try:
        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(review, range(6))) == 1
    finally:
        other.dispose()
    assert [action for _, action, _, _ in told(flows)][-1:] == ["fall_back"]
    assert [action for _, action, _, _ in told(flows)].count("fall_back") == 1


def test_who_holds_the_lock_is_waited_for_by_nobody(flows: Flows, engine: Engine) -> None:
    in_share(flows)
    set_figures(engine, "bad", calls=3, calls_failed=3)
    with engine.begin() as connection:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({ROLLOUT_LOCK})"))
        assert FlowReview(engine).review() == []
    assert len(FlowReview(engine).review()) == 1


def test_the_count_of_the_hurt_is_the_indexs(flows: Flows, engine: Engine) -> None:
    """Else it would read all steps since the step began, within a transaction that others see."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO steps SELECT gen_random_uuid(), 0, NULL, now(), 'node', 'menu', 'bad',"
                " 'n', 'off', 0, '{}' FROM generate_series(1, 20000)"
            )
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE steps"))
    said: list[str] = []

    def note(_: object, cursor: Any, statement: str, parameters: Any, *_more: object) -> None:
        said.append(cursor.mogrify(statement, parameters).decode())

    event.listen(engine, "before_cursor_execute", note)
    try:
        with engine.connect() as connection:
            module.hurt_calls(connection, "menu", "bad", datetime(2026, 1, 1, tzinfo=UTC))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len(said) == 2
    with engine.connect() as connection:
        for statement in said:
            plan = connection.exec_driver_sql("EXPLAIN " + statement.replace("%", "%%")).scalars()
            assert "ix_steps_hurt" in "\n".join(plan)


def test_the_thread_says_what_it_took_back(
    flows: Flows, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    in_share(flows)
    failed_call(engine, "bad")
    set_figures(engine, "bad", calls=3, calls_failed=3)
    told: Queue[FellBack] = Queue()
    watch = FallBack(FlowReview(engine), told.put)
    watch.start()
    try:
        assert told.get(timeout=60).calls
    finally:
        watch.stop()
    assert watch.taken_back_total == 1
    assert told.empty()
    (line,) = [r for r in caplog.records if r.name == "backend.flow.fallback"]
    assert line.levelno == logging.ERROR
    assert line.getMessage() == (
        "flow menu: version bad was taken back: 3 of 3 calls failed: 100 %, the limit is 5 %; 1"
        " calls were hurt; all calls get version good now (asterisk-dialog flow status menu)"
    )
    assert not [thread for thread in threading.enumerate() if thread.name == "fall-back"]


def test_while_postgresql_is_away_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Away:
        away = True

        def review(self) -> list[object]:
            if self.away:
                raise StorageUnavailable("gone")
            return []

    store = Away()
    watch = FallBack(store)  # type: ignore[arg-type]
    for store.away in (True, True, False, False):
        watch.look()
    said = [r.getMessage() for r in caplog.records]
    assert said == [
        "fall-back: new versions of flows are not watched: gone",
        "fall-back: new versions of flows are watched again",
    ]


# --- Pinned --------------------------------------------------------------------------------------


def test_tasks_of_a_pinned_flow_are_claimed_by_its_nodes_alone(
    flows: Flows, engine: Engine
) -> None:
    tasks = Tasks(engine)
    put(flows, "v1")
    put(flows, "v1", flow="free")
    change(flows, Order("pin", nodes=("a", "b")))
    ids = {
        name: tasks.submit(TaskRequest("79161234567", name))[0].id
        for name in ("menu", "free", "article")
    }

    def claim(node: str, limit: int = 9, **more: bool) -> set[UUID]:
        claimed = {task.id for task in tasks.claim(node, uuid4(), limit, **more)}
        for task_id in claimed:
            tasks.release(task_id)
        return claimed

    assert claim("other") == {ids["free"], ids["article"]}
    assert claim("other", 1) == {ids["free"]}, "the first in the queue is for others"
    assert claim("a") == claim("b") == set(ids.values())
    assert claim("a", pinned_only=True) == {ids["menu"]}
    assert claim("other", pinned_only=True) == set()
    change(flows, Order("unpin"))
    assert claim("other") == set(ids.values())


def test_a_pin_is_no_step(flows: Flows, engine: Engine) -> None:
    in_share(flows)
    set_figures(engine, "bad", calls=2, calls_failed=2)
    ((before,), _) = flows.rollouts()
    pinned = change(flows, Order("pin", nodes=("a",)))
    assert pinned.step_at == before.step_at
    set_figures(engine, "bad", calls=3, calls_failed=3)
    assert len(FlowReview(engine).review()) == 1
    ((after,), _) = flows.rollouts()
    assert after.rollout.nodes == ("a",), "the machines stay"
