"""bus.event and bus.telling: one form, whatever happened on whatever channel."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.bus import event as module
from backend.bus.event import LONG, encode
from backend.bus.records import ToldRecords
from backend.bus.telling import Teller
from backend.model import (
    CallEnded,
    CallSaid,
    CallStarted,
    CallStep,
    Outcome,
    Reason,
    Record,
    StepKind,
    TaskState,
    Utterance,
)
from backend.ports import BusEvent

CALL = UUID("0b7c1a52-6b0e-4b0e-8f5e-2f1f7a4d9c11")
TASK = UUID("7d9f5a3e-51a5-4b53-94b2-92a3f60c5a11")
NOW = datetime(2026, 11, 28, 13, 45, 1, 123456, tzinfo=UTC)
SCHEMA = json.loads(Path(module.__file__).with_name("event.schema.json").read_text("utf-8"))
PG_LIMIT = 7999

STARTED = CallStarted(
    CALL, TASK, NOW, "pbx", "voice-0", "pay", "outbound", "PJSIP/trunk-0001", "u", "1", "2", "sip"
)
ENDED = CallEnded(CALL, TASK, NOW, Outcome(TaskState.DONE, Reason.COMPLETED), {"pin": "4711"}, None)
SAID = CallSaid(CALL, TASK, 0, NOW, Utterance("caller", "yes", 0, 10))
STEP_KINDS: tuple[StepKind, ...] = (
    "flow", "node", "state", "key", "conflict", "alarm", "flow_end",
)  # fmt: skip


def step(kind: StepKind = "key", n: int = 3, **body: Any) -> CallStep:
    return CallStep(CALL, TASK, n, NOW, kind, "pay", "ab12", "pin", "playing", 900, body)


def checked(event: BusEvent, limit: int = PG_LIMIT) -> dict[str, Any]:
    """As a listener reads it; valid by the schema."""
    line = encode(event, limit)
    assert len(line) <= limit
    form: dict[str, Any] = json.loads(line)
    jsonschema.validate(form, SCHEMA, jsonschema.Draft202012Validator)
    return form


def told(*records: Record) -> list[dict[str, Any]]:
    teller = Teller("pbx", "voice-0")
    events = [teller.of_record(record) for record in records]
    return [checked(event) for event in events if event is not None]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_key_says_where_when_and_on_which_channel() -> None:
    _, key = told(STARTED, step(key="5", verdict="blocked", duration_ms=80))
    life, number = key.pop("id").split("-")
    assert (len(life), number) == (32, "2")
    assert key == {
        "v": 1,
        "at": "2026-11-28T13:45:01.123Z",
        "node": "pbx",
        "process": "voice-0",
        "kind": "key",
        "call": str(CALL),
        "task": str(TASK),
        "n": 3,
        "flow": "pay",
        "version": "ab12",
        "flow_node": "pin",
        "channel": {"kind": "sip", "name": "PJSIP/trunk-0001", "caller": "1", "called": "2"},
        "state": "playing",
        "at_ms": 900,
        "body": {"key": "5", "verdict": "blocked", "duration_ms": 80},
    }


def test_a_calls_beginning_and_end() -> None:
    began, ended = told(STARTED, ENDED)
    assert began["kind"] == "call_started"
    assert began["body"] == {"scenario": "pay", "direction": "outbound", "uniqueid": "u"}
    assert ended["body"] == {"state": "done", "reason": "completed", "error": None}
    assert began["channel"] == ended["channel"]
    assert "4711" not in json.dumps(ended), "the result is the client's"


def test_every_kind_has_the_same_members() -> None:
    steps = [step(kind, n) for n, kind in enumerate(STEP_KINDS)]
    teller = Teller("pbx", "control")
    others = [teller.rollout(NOW, "pay", "ab12", {"share": 5}), teller.test(NOW)]
    forms = told(STARTED, *steps, ENDED) + [checked(event) for event in others]
    assert len({frozenset(form) for form in forms}) == 1
    assert {form["kind"] for form in forms} == set(SCHEMA["properties"]["kind"]["enum"])


def test_the_same_form_for_a_browser() -> None:
    sip, browser = (
        told(replace(STARTED, channel_kind=kind), step())[1] for kind in ("sip", "webrtc")
    )
    browser["channel"]["kind"] = "sip"
    assert {**sip, "id": ""} == {**browser, "id": ""}


def test_other_records_are_nobodys_business() -> None:
    assert told(SAID) == []


def test_ids_count_without_a_gap() -> None:
    ids = [form["id"] for form in told(STARTED, *(step(n=n) for n in range(5)), SAID, ENDED)]
    assert len({i.partition("-")[0] for i in ids}) == 1
    assert [int(i.partition("-")[2]) for i in ids] == list(range(1, 8))


def test_a_call_whose_beginning_is_unknown() -> None:
    assert told(step())[0]["channel"] is None


def test_channels_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.bus.telling.MAX_CALLS", 2)
    teller = Teller("pbx", "voice-0")
    calls = [UUID(int=n) for n in range(3)]
    for call in calls:
        teller.of_record(replace(STARTED, call_id=call))
    found = [teller.of_record(replace(step(), call_id=call)) for call in calls]
    assert [event is not None and event.channel is not None for event in found] == [
        False,
        True,
        True,
    ]


def test_times_are_utc() -> None:
    moscow = NOW.astimezone(timezone(timedelta(hours=3)))
    assert told(replace(step(), at=moscow))[0]["at"] == "2026-11-28T13:45:01.123Z"


def test_a_long_event_is_shortened_from_its_longest_value() -> None:
    form = told(step("node", type="http", url="u" * 300, answer="я" * 9000, list=[1, 2]))[0]
    assert form["shortened"] is True
    assert form["body"] == {
        "type": "http", "url": "u" * 300, "answer": "я" * LONG + "…", "list": [1, 2],
    }  # fmt: skip


def test_what_cannot_be_cut_becomes_null() -> None:
    form = told(step("node", answer={"text": "x" * 9000}, ok=True))[0]
    assert form["body"] == {"answer": None, "ok": True}


def test_a_body_of_very_many_values_is_left_out() -> None:
    body = {f"value {n}": n for n in range(2000)}
    form = told(step("node", **body))[0]
    assert (form["body"], form["shortened"]) == ({}, True)


def test_long_names_around_it_are_cut_too() -> None:
    long = "n" * 9000
    form = told(replace(STARTED, channel=long), replace(step(), node=long))[1]
    assert form["flow_node"] == form["channel"]["name"] == "n" * LONG + "…"


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    ),
    st.text(min_size=0, max_size=4000),
)
def test_any_body_fits_and_is_valid(body: dict[str, Any], text: str) -> None:
    told(step("node", long=text), replace(step(), body={**body, "long": text * 3}))


def test_records_are_kept_before_they_are_told() -> None:
    order: list[str] = []

    class Sink:
        def append(self, *records: Record) -> None:
            order.append(f"kept {len(records)}")

    class FakeBus:
        def publish(self, event: BusEvent) -> None:
            order.append(event.kind)

    ToldRecords(Sink(), FakeBus(), Teller("pbx", "voice-0")).append(STARTED, SAID, ENDED)
    assert order == ["kept 3", "call_started", "call_ended"]


def test_what_the_disk_refuses_is_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Sink:
        def append(self, *records: Record) -> None:
            raise OSError("no space")

    class FakeBus:
        def publish(self, event: BusEvent) -> None:
            raise AssertionError

    records = ToldRecords(Sink(), FakeBus(), Teller("pbx", "voice-0"))
    with pytest.raises(OSError, match="no space"):
        records.append(STARTED)
    records.keep_step(step())  # from the audio loop: it is logged, and that is all
    assert "its step 3 is lost: no space" in caplog.text
