"""GET /originate against the real set: one external_id is one call, a bad parameter is none."""

from __future__ import annotations

import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from lab_ami import Ami
from stack import Stack

_suffix = itertools.count(1000)


def count(stack: Stack, query: str, *values: object) -> int:
    connection = psycopg2.connect(stack.dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, values)
            row = cursor.fetchone()
            assert row is not None
            return int(row[0])
    finally:
        connection.close()


def test_fifty_identical_requests_are_one_task_one_call_and_equal_answers(stack: Stack) -> None:
    phone, key = f"103{next(_suffix)}", "fifty-identical"

    def ask(_: int) -> tuple[int, str]:
        status, answer = stack.get("/originate", phone=phone, external_id=key, scenario="quick")
        return status, json.dumps(answer, sort_keys=True)

    with ThreadPoolExecutor(50) as pool:
        answers = set(pool.map(ask, range(50)))
    assert len(answers) == 1, answers
    status, answer = answers.pop()
    assert status == 200
    task = stack.ended(json.loads(answer)["id"])
    assert task["state"] == "done"
    assert count(stack, "SELECT count(*) FROM tasks WHERE external_id = %s", key) == 1
    made = "SELECT count(*) FROM events WHERE name = 'Newchannel' AND uniqueid LIKE %s"
    assert count(stack, f"{made} AND received_at >= %s", "dialog-%", task["created_at"]) == 1


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"phone": ""}, "phone"),
        ({"phone": "100&PJSIP/200"}, "phone"),
        ({"phone": "100\r\nAction: Originate"}, "phone"),
        ({"phone": "1000001", "file": "../../etc/passwd"}, "file"),
        ({"phone": "1000001", "file": "http://host/x"}, "file"),
        ({"phone": "1000001", "file": "a&b"}, "file"),
        ({"phone": "1000001", "context": "default"}, "context"),
        ({"phone": "1000001", "channel": "Local/1@default"}, "channel"),
        ({"phone": "1000001", "caller_id": "112"}, "caller_id"),
        ({"phone": "1000001", "scenario": "no-such"}, "scenario"),
        ({"phone": "1000001", "external_id": "a\nb"}, "external_id"),
        ({"phone": "1000001", "var_CALLERID(num)": "1"}, "'var_CALLERID(num)'"),
        ({"phone": "1000001", "var_ALLOWED": "${SHELL(reboot)}"}, "var_ALLOWED"),
        ({"phone": "1000001", "application": "System"}, "application"),
        ({"phone": "1000001", "timeout": "0"}, "timeout"),
    ],
)
def test_a_bad_parameter_is_named_and_nothing_is_dialled(
    stack: Stack, query: dict[str, str], parameter: str
) -> None:
    before = count(stack, "SELECT count(*) FROM tasks")
    status, answer = stack.get("/originate", **query)
    assert (status, answer["error"]["parameter"]) == (400, parameter)
    assert answer["error"]["why"]
    assert count(stack, "SELECT count(*) FROM tasks") == before


def test_without_a_token_there_is_nothing(stack: Stack) -> None:
    token, stack.token = stack.token, "wrong"
    try:
        assert stack.get("/originate", phone="1000001")[0] == 401
        assert stack.get("/tasks", changed_since="0")[0] == 401
    finally:
        stack.token = token
    assert token not in stack.log_path.read_text()
    assert stack.lab.pbx.ami_secret not in stack.log_path.read_text()


def test_polling_by_cursor_sees_every_task_to_its_end(stack: Stack) -> None:
    cursor = stack.get("/tasks", changed_since="0", limit="1000")[1]["cursor"]
    wanted = {stack.originate(f"103{next(_suffix)}", scenario="quick")["id"] for _ in range(10)}
    final: set[str] = set()

    def poll() -> bool | None:
        nonlocal cursor
        page = stack.get("/tasks", changed_since=str(cursor))[1]
        cursor = page["cursor"]
        final.update(task["id"] for task in page["tasks"] if task["final"])
        return wanted <= final or None

    stack.wait_for("all tasks to come by the cursor", poll)


def test_metrics_and_health(stack: Stack) -> None:
    assert stack.health()["status"] == "ok"
    text = stack.text("/metrics")
    assert re.search(r"^dialog_tasks\{.*state=\"done\".*\} [1-9]", text, re.MULTILINE), text


def test_events_of_an_observer_are_allowed_to_nobody_else(stack: Stack) -> None:
    """The backend's own login may not run commands."""
    with Ami(stack.lab.pbx.ami_port, stack.lab.pbx.ami_user, stack.lab.pbx.ami_secret) as ami:
        assert "denied" in str(ami.action("Command", Command="core show channels")).lower()
