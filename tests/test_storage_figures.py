"""storage.figures: what each step counts to, once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select

from backend.model import CallStep, StepKind
from backend.storage.apply import RecordRefused, RecordStore
from backend.storage.figures import BUCKETS_S, KEYS, FlowFigures, bucket, figures_of
from backend.storage.tables import steps
from backend.storage.upkeep import Steps

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PLACE = ("pay", "ab12")
CALL = UUID("0b7c1a52-6b0e-4b0e-8f5e-2f1f7a4d9c11")


class Talk:
    """The steps of one call, numbered."""

    def __init__(self, flow: str | None = "pay", version: str | None = "ab12") -> None:
        self.place = flow, version
        self.call = uuid4()
        self.steps: list[CallStep] = []

    def add(self, kind: StepKind, state: str = "off", **body: Any) -> CallStep:
        n = len(self.steps)
        step = CallStep(self.call, None, n, NOW, kind, *self.place, "pin", state, n * 100, body)
        self.steps.append(step)
        return step

    def key(self, verdict: str, state: str, **body: Any) -> CallStep:
        return self.add("key", state, **{"key": "5", "verdict": verdict, "duration_ms": 80, **body})


def counted(found: Sequence[CallStep]) -> dict[str, float]:
    return {name: value for (_, _, name), value in figures_of(found).items()}


def stored(engine: Engine) -> dict[str, float]:
    return dict(FlowFigures(engine).all()[PLACE])


def test_a_whole_call(engine: Engine) -> None:
    talk = Talk()
    talk.add("flow", cohort="stable")
    talk.add("node", type="play")
    talk.add("state", "playing", event="play", took_ms=12, play="p1")
    talk.key("blocked", "playing", play="p1")
    talk.key("blocked", "playing", play="p1", by="backend")
    talk.key("buffered", "playing", play="p1")
    talk.add("conflict", "playing", key="5")
    talk.key("conflict", "playing", play="p1")
    talk.add("state", "waiting_input", event="opened", error_ms=-7, **{"from": "playing"})
    talk.key("taken", "waiting_input")
    talk.key("lost", "waiting_input")
    talk.key("discarded", "processing")
    talk.add("alarm", "waiting_input", alarm="overrun")
    talk.add("flow_end", ok=True, reason="end")
    RecordStore(engine).store(talk.steps)
    assert stored(engine) == {
        "calls": 1,
        "prompts_blocked": 1,
        "keys_blocked": 2,
        "second_gate": 1,
        "keys_buffered": 1,
        "keys_conflict": 1,
        "keys_taken": 1,
        "keys_lost": 1,
        "keys_discarded": 1,
        "conflicts": 1,
        "alarms.overrun": 1,
        "switch_le_0.02": 1,
        "switch_sum": 0.012,
        "switch_count": 1,
        "opening_error_le_0.01": 1,
        "opening_error_sum": 0.007,
        "opening_error_count": 1,
    }


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        ({"ok": True, "reason": "end"}, 0),
        ({"ok": False, "reason": "error", "error": "http: 500"}, 1),
        ({"ok": False, "reason": "max_steps"}, 1),
        ({"ok": False}, 1),
        ({"ok": False, "reason": "hangup"}, 0),
        ({"ok": False, "reason": "caller_hangup"}, 0),
        ({}, 0),
    ],
)
def test_which_end_is_a_failure(body: dict[str, Any], failed: int) -> None:
    assert counted([Talk().add("flow_end", **body)]).get("calls_failed", 0) == failed


@pytest.mark.parametrize("state", ["off", "playing", "waiting_input", "processing"])
@pytest.mark.parametrize("verdict", [*KEYS, "nonsense"])
def test_every_key_counts_to_one_figure(state: str, verdict: str) -> None:
    (name,) = counted([Talk().key(verdict, state)])
    if verdict == "nonsense":
        assert name == "keys_other"
    elif verdict == "lost" and state in ("playing", "processing"):
        assert name == "keys_lost_blocked"
    else:
        assert name == f"keys_{verdict}"


def test_a_broken_prompt_counts_once_whatever_its_keys(engine: Engine) -> None:
    store = RecordStore(engine)
    talk = Talk()
    talk.add("state", "playing", event="play")
    talk.add("state", "playing", event="in_force", took_ms=9)
    leaks = [talk.key("taken", "playing") for _ in range(3)]
    store.store(talk.steps[:2])
    for leak in leaks:  # in batches of their own
        store.store([leak])
    assert stored(engine)["prompts_broken"] == 1
    before = len(talk.steps)
    talk.add("state", "playing", event="play")
    talk.key("released", "playing")
    talk.key("taken", "playing")
    store.store(talk.steps[before:])  # in one
    assert stored(engine)["prompts_broken"] == 2
    store.store(talk.steps)
    assert stored(engine)["prompts_broken"] == 2
    assert stored(engine)["prompts_blocked"] == 2


def test_a_key_that_was_down_before_the_prompt_breaks_nothing(engine: Engine) -> None:
    talk = Talk()
    talk.add("node")
    order = talk.add("state", "playing", event="play")
    early, later = talk.key("taken", "playing"), talk.key("taken", "playing")
    store = RecordStore(engine)
    store.store([*talk.steps[:2], replace(early, at_ms=order.at_ms - 1)])
    assert "prompts_broken" not in stored(engine)
    store.store([replace(later, at_ms=order.at_ms)])
    assert stored(engine)["prompts_broken"] == 1


def test_a_key_without_its_prompts_order_counts(engine: Engine) -> None:
    """Rather a false alarm than none."""
    talk = Talk()
    talk.key("taken", "playing")
    RecordStore(engine).store(talk.steps)
    assert stored(engine)["prompts_broken"] == 1


def test_a_key_in_the_open_part_breaks_nothing(engine: Engine) -> None:
    talk = Talk()
    talk.add("state", "playing", event="play", play="p1")
    talk.add("state", "waiting_input", event="opened", play="p1", **{"from": "playing"})
    talk.key("taken", "waiting_input", play="p1")
    RecordStore(engine).store(talk.steps)
    assert "prompts_broken" not in stored(engine)


def test_applying_twice_counts_once(engine: Engine) -> None:
    store, talk = RecordStore(engine), Talk()
    for _ in range(20):
        talk.key("blocked", "playing")
    store.store(talk.steps[:15])
    store.store(talk.steps)
    store.store(talk.steps)
    assert stored(engine) == {"keys_blocked": 20}


def test_what_cannot_be_stored_counts_nothing(engine: Engine) -> None:
    talk = Talk()
    talk.key("blocked", "playing")
    bad = CallStep(talk.call, None, 2**40, NOW, "key", *PLACE, "pin", "playing", 0, {})
    with pytest.raises(RecordRefused, match="integer"):
        RecordStore(engine).store([*talk.steps, bad])
    assert FlowFigures(engine).all() == {}


def test_a_step_twice_in_a_batch_counts_once(engine: Engine) -> None:
    talk = Talk()
    talk.key("blocked", "playing")
    assert RecordStore(engine).store(talk.steps * 3) == 1
    assert stored(engine) == {"keys_blocked": 1}


def test_what_postgresql_cannot_keep_is_cleaned(engine: Engine) -> None:
    talk = Talk(flow="pa\0y", version="ab\ud80012")
    talk.add("node", text="nul \0", number=float("nan"))
    talk.key("taken", "waiting_input")
    RecordStore(engine).store(talk.steps)
    assert FlowFigures(engine).all() == {("pay", "ab\ufffd12"): {"keys_taken": 1}}
    with engine.connect() as connection:
        rows = connection.execute(select(steps.c.flow, steps.c.body).order_by(steps.c.n)).all()
    assert tuple(rows[0]) == ("pay", {"text": "nul ", "number": None})


def test_flows_versions_and_no_flow_are_told_apart(engine: Engine) -> None:
    talks = [Talk(), Talk(version="cd34"), Talk("menu", "ab12"), Talk(None, None)]
    for number, talk in enumerate(talks, 1):
        for _ in range(number):
            talk.key("taken", "waiting_input")
    RecordStore(engine).store([step for talk in talks for step in talk.steps])
    assert FlowFigures(engine).all() == {
        ("pay", "ab12"): {"keys_taken": 1},
        ("pay", "cd34"): {"keys_taken": 2},
        ("menu", "ab12"): {"keys_taken": 3},
        ("", ""): {"keys_taken": 4},
    }


def test_many_processes_at_once_lose_no_count_and_never_lock_each_other_out(
    engine: Engine,
) -> None:
    """Each with its batches, in orders of their own."""
    failed: list[BaseException] = []

    def drain(number: int) -> None:
        try:
            for _ in range(20):
                talk = Talk(version=f"v{number % 2}")
                verdicts = KEYS if number % 3 else KEYS[::-1]
                for verdict in verdicts:
                    talk.key(verdict, "waiting_input")
                RecordStore(engine).store(talk.steps)
        except BaseException as error:  # noqa: BLE001  a thread's, told by the test
            failed.append(error)

    threads = [threading.Thread(target=drain, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    found = FlowFigures(engine).all()
    assert found == {("pay", f"v{v}"): {f"keys_{name}": 60.0 for name in KEYS} for v in (0, 1)}


@pytest.mark.parametrize(
    ("ms", "bound"), [(0, "0.001"), (20, "0.02"), (20.1, "0.05"), (-20, "0.02"), (3000, "inf")]
)
def test_buckets(ms: float, bound: str) -> None:
    found = counted([Talk().add("state", "processing", took_ms=ms)])
    assert found.pop(f"switch_le_{bound}") == 1
    assert found["switch_sum"] == pytest.approx(abs(ms) / 1000)


@settings(deadline=None)
@given(
    st.sampled_from(["flow", "node", "state", "key", "conflict", "alarm", "flow_end"]),
    st.dictionaries(
        st.sampled_from(["ok", "reason", "verdict", "alarm", "took_ms", "error_ms", "from"]),
        st.none() | st.text() | st.floats() | st.booleans() | st.lists(st.integers()),
    ),
)
def test_no_body_is_too_odd(kind: StepKind, body: dict[str, Any]) -> None:
    step = CallStep(CALL, None, 0, NOW, kind, None, None, None, "playing", 0, body)
    for flow, version, name in figures_of([step]):
        assert (flow, version) == ("", "")
        assert len(name) < 60


def test_every_bucket_has_its_name() -> None:
    assert len({bucket("switch", bound) for bound in BUCKETS_S}) == len(BUCKETS_S)


def test_old_steps_are_deleted_and_their_figures_stay(engine: Engine) -> None:
    talk = Talk()
    for _ in range(30):
        talk.key("taken", "waiting_input")
    now = datetime.now(UTC)
    aged = [
        CallStep(
            s.call_id, None, s.n, now - timedelta(days=91 if s.n < 25 else 89), "key", *PLACE,
            "pin", "waiting_input", 0, s.body,
        )
        for s in talk.steps
    ]  # fmt: skip
    RecordStore(engine).store(aged)
    assert Steps(engine).delete_older(90, threading.Event(), batch=10) == 25
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(steps)).scalar() == 5
    assert stored(engine) == {"keys_taken": 30}
