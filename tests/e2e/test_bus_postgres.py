"""The bus that is there without any setting: NOTIFY in the backend's own PostgreSQL."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

from stack import Stack

from tests.fakes.pg_listener import PgListener


def test_who_listens_is_told_of_a_call(stack: Stack) -> None:
    with closing(PgListener(stack.dsn, "dialog_events")) as listener:
        task = stack.ended(stack.originate("1037991", scenario="quick")["id"])
        told: list[dict[str, Any]] = []
        while not told or told[-1]["kind"] != "call_ended":
            event = json.loads(listener.get(1)[0])
            told += [event] if event["task"] == task["id"] else []
    assert told[0]["kind"] == "call_started"
    assert told[0]["channel"]["kind"] == "sip"
    assert told[0]["channel"]["called"] == "1037991"
    assert told[-1]["body"] == {"state": "done", "reason": "completed", "error": None}
    assert {event["call"] for event in told} == {told[0]["call"]}
