"""Versions of a flow on a real Asterisk: who gets which, what a running call keeps, what is taken
back. A version is known by its tone at the subscriber's, by the task's result, by its steps."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import lab_sound
import psycopg2
import pytest
from lab_ami import Ami
from lab_sound import Span
from stack import ROOT, Stack

from backend.flow.rollout import place
from backend.storage.engine import make_engine
from backend.storage.flow_book import fingerprint
from backend.storage.flows import Flows
from tests.e2e.conftest import probing_stack

TONES_HZ = {"old": 500, "new": 900, "file": 700}
TONE_MS = 1000
_suffix = itertools.count(1000)
_names = itertools.count(1)

FLOW = """
flow: {name}
priority: high
start: tone
nodes:
  tone: {{type: play, prompt: {{sound: rollout/{word}}}, next: end}}
result: {{version: "{word}"}}
"""
FAILING = """
flow: {name}
start: fails
nodes:
  fails: {{type: call, scenario: raises, next: end}}
"""
RAISES = """
from backend import Call, scenario


@scenario("raises")
def raises(call: Call) -> None:
    raise ZeroDivisionError("the author's own mistake")
"""
INNER = """
flow: {name}
start: one
nodes:
  one: {{type: set, values: {{x: 1}}, next: end}}
result: "{word}"
"""
OUTER = """
flow: {name}
start: tone
variables: {{inner: ""}}
nodes:
  tone: {{type: play, prompt: {{sound: rollout/long}}, next: enter}}
  enter: {{type: flow, flow: {inner}, save: inner, next: end}}
result: {{inner: "{{inner}}", outer: "{word}"}}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    """A set of its own: what is published stays. Inbound calls get the scenario ``door``, which a
    file has."""
    folder = tmp_path_factory.mktemp("rollout")
    files = folder / "files"
    files.mkdir()
    (files / "raises.py").write_text(RAISES)
    (files / "door.flow.yaml").write_text(FLOW.format(name="door", word="file"))
    settings = {"DIALOG_SCENARIOS_DIR": str(files), "DIALOG_DEFAULT_SCENARIO": "door"}
    with probing_stack(folder / "stack", asterisk, **settings) as stack:
        sounds = stack.lab.sounds / "rollout"
        sounds.mkdir()
        for word, hz in TONES_HZ.items():
            lab_sound.write(sounds / f"{word}.wav", lab_sound.tone(TONE_MS, hz))
        lab_sound.write(sounds / "long.wav", lab_sound.tone(8000))
        yield stack


@pytest.fixture
def name() -> str:
    """A flow of this test's own."""
    return f"flow-{next(_names)}"


def phone(code: str = "111") -> str:
    """A number that nobody dialled before: it answers and is silent."""
    return f"{code}{next(_suffix)}"


def ask(stack: Stack, method: str, path: str, body: object = None) -> tuple[int, Any]:
    request = urllib.request.Request(  # noqa: S310  our own server
        f"{stack.url}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {stack.token}", "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def put(stack: Stack, content: str) -> str:
    """Hand in a version; which it is."""
    status, answer = ask(stack, "PUT", "/flows", {"text": content})
    assert status == 200, answer
    return str(answer["rollout"]["candidate"])


def order(stack: Stack, name: str, **fields: object) -> dict[str, Any]:
    """A step, once the worker goes by it."""
    status, answer = ask(stack, "POST", f"/flows/{name}", fields)
    assert status == 200, answer
    rollout: dict[str, Any] = answer["rollout"]
    settle(stack)
    return rollout


def settle(stack: Stack) -> None:
    """Wait until the worker knows what is published; it tells so every two seconds."""
    engine = make_engine(stack.dsn, name="test")
    try:
        stored, _ = Flows(engine).rollouts()
        wanted = fingerprint(one.rollout for one in stored)
    finally:
        engine.dispose()

    def known() -> bool | None:
        query = "SELECT stats ->> 'flows_known' FROM instances WHERE process LIKE 'voice%%'"
        return {row[0] for row in rows(stack, query)} == {str(wanted)} or None

    stack.wait_for("the roll-out to be known", known)


def rows(stack: Stack, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(stack.dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def call(stack: Stack, name: str, *numbers: str) -> list[dict[str, Any]]:
    """The tasks of calls to these numbers, all at once, when they have ended."""
    tasks = [stack.originate(number, scenario=name)["id"] for number in numbers]
    return [stack.ended(task, 120) for task in tasks]


def versions(tasks: list[dict[str, Any]]) -> list[str]:
    assert [task["state"] for task in tasks] == ["done"] * len(tasks), tasks
    return [task["result"]["version"] for task in tasks]


def published(stack: Stack, name: str) -> tuple[str, str]:
    """``old`` for all, ``new`` the candidate."""
    old = put(stack, FLOW.format(name=name, word="old"))
    order(stack, name, action="all")
    return old, put(stack, FLOW.format(name=name, word="new"))


def test_a_candidate_is_for_the_test_numbers_only(stack: Stack, name: str) -> None:
    tester, other = phone("103"), phone("103")
    old, new = published(stack, name)
    order(stack, name, action="test", numbers=[tester])
    tasks = call(stack, name, tester, other)
    assert versions(tasks) == ["new", "old"]
    for number, word in ((tester, "new"), (other, "old")):
        samples = lab_sound.read(stack.lab.heard(number))
        (tone,) = lab_sound.spans(samples, gap_ms=300)
        middle = Span(tone.start_ms + 200, tone.end_ms - 200)
        assert abs(lab_sound.pitch_hz(samples, middle) - TONES_HZ[word]) < 50
    told = "SELECT version, body ->> 'cohort', body ->> 'caller_key' FROM steps"
    found = {
        number: (version, cohort)
        for version, cohort, number in rows(
            stack, f"{told} WHERE kind = 'flow' AND flow = %s", name
        )
    }
    assert found == {tester: (new, "test"), other: (old, "stable")}


def test_a_flow_that_nobody_has_yet_is_dialled_for_its_test_numbers_only(
    stack: Stack, name: str
) -> None:
    tester, other = phone("103"), phone("103")
    put(stack, FLOW.format(name=name, word="new"))
    order(stack, name, action="test", numbers=[tester])
    status, answer = stack.get("/originate", phone=other, scenario=name)
    assert (status, answer["error"]["parameter"]) == (400, "scenario"), answer
    assert other in answer["error"]["why"], answer
    assert versions(call(stack, name, tester)) == ["new"]
    order(stack, name, action="all")
    assert versions(call(stack, name, other)) == ["new"]


def test_a_share_that_grows_and_a_caller_that_stays(stack: Stack, name: str) -> None:
    published(stack, name)
    numbers = [phone() for _ in range(12)]
    at = sorted(place(name, number) for number in numbers)
    had: set[str] = set()
    for percent in ((at[3] + at[4]) / 2, (at[7] + at[8]) / 2, 100.0):
        order(stack, name, action="share", percent=percent)
        expected = ["new" if place(name, number) < percent else "old" for number in numbers]
        assert versions(call(stack, name, *numbers)) == expected
        now = {number for number, word in zip(numbers, expected, strict=True) if word == "new"}
        assert had < now
        had = now
    order(stack, name, action="back")
    assert set(versions(call(stack, name, *numbers[:4]))) == {"old"}


def test_a_flow_takes_over_from_a_file_and_inbound_the_caller_counts(stack: Stack) -> None:
    """The number called is everybody's. Until it is for all, the others get the file."""
    tester, other, ours = "79160000001", "79160000002", "74956660001"
    assert inbound(stack, ours, tester, other) == {tester: "file", other: "file"}
    put(stack, FLOW.format(name="door", word="new"))
    order(stack, "door", action="test", numbers=[f"+{tester}", ours])
    assert inbound(stack, ours, tester, other) == {tester: "new", other: "file"}
    order(stack, "door", action="all")
    assert inbound(stack, ours, tester, other) == {tester: "new", other: "new"}
    part = stack.health()["parts"]["scenarios"]
    assert "scenario door of the files: calls get the published flow of that name" in part["why"]


def inbound(stack: Stack, called: str, *callers: str) -> dict[str, str]:
    """A call from each of them: caller → the version it got."""
    subscriber = stack.lab.subscriber
    query = (
        "SELECT caller, result ->> 'version' FROM calls"
        " WHERE direction = 'inbound' AND ended_at IS NOT NULL ORDER BY ended_at"
    )
    before = len(rows(stack, query))
    with Ami(subscriber.ami_port, subscriber.observer_user, subscriber.observer_secret) as ami:
        for caller in callers:
            ami.action(
                "Originate",
                Channel=f"PJSIP/{called}@pbx",
                CallerID=f"<{caller}>",
                Context="subscriber",
                Exten=phone("103"),
                Priority="1",
                Async="true",
            )

        def all_ended() -> dict[str, str] | None:
            found = rows(stack, query)[before:]
            return dict(found) if len(found) == len(callers) else None

        return stack.wait_for("the inbound calls to end", all_ended, 90)


def test_a_running_call_keeps_what_it_began_with(stack: Stack, name: str) -> None:
    """Its sub-flow, too, though it enters it after the change."""
    inner = f"{name}-inner"
    put(stack, INNER.format(name=inner, word="old"))
    order(stack, inner, action="all")
    put(stack, OUTER.format(name=name, inner=inner, word="old"))
    order(stack, name, action="all")
    task = stack.originate(phone(), scenario=name)["id"]
    begun = "SELECT 1 FROM steps WHERE kind = 'node' AND flow = %s AND node = 'tone'"
    stack.wait_for("the flow to begin", lambda: rows(stack, begun, name) or None)
    put(stack, INNER.format(name=inner, word="new"))
    order(stack, inner, action="all")
    put(stack, OUTER.format(name=name, inner=inner, word="new"))
    order(stack, name, action="all")
    assert stack.task(task)["state"] == "talking", "all was changed while it ran"
    assert stack.ended(task)["result"] == {"inner": "old", "outer": "old"}
    assert stack.ended(stack.originate(phone(), scenario=name)["id"])["result"] == {
        "inner": "new",
        "outer": "new",
    }


def test_a_version_that_fails_is_taken_back_by_itself(stack: Stack, name: str) -> None:
    put(stack, FLOW.format(name=name, word="old"))
    order(stack, name, action="all")
    bad = put(stack, FAILING.format(name=name))
    order(stack, name, action="share", percent=100)
    tasks = call(stack, name, *(phone() for _ in range(4)))
    hurt = [task for task in tasks if task["state"] == "failed"]
    assert len(hurt) >= 3, tasks

    def taken_back() -> dict[str, Any] | None:
        entry = ask(stack, "GET", f"/flows/{name}")[1]["history"][0]
        return entry if entry["action"] == "fall_back" and entry["hurt"] == len(hurt) else None

    entry: dict[str, Any] = stack.wait_for("the version to be taken back", taken_back, 60)
    assert (entry["by"], entry["version"]) == ("asterisk-dialog", bad)
    assert "calls failed: 100 %, the limit is 5 %" in entry["reason"]
    mine = "SELECT id::text FROM calls WHERE scenario = %s AND state = 'failed'"
    assert set(entry["calls"]) == {row[0] for row in rows(stack, mine, name)}
    settle(stack)
    assert set(versions(call(stack, name, *(phone() for _ in range(3))))) == {"old"}
    log = stack.log_path.read_text(encoding="utf-8")
    assert f"flow {name}: version {bad} was taken back: " in log
    assert ask(stack, "GET", f"/flows/{name}")[1]["rollout"]["state"] == "stable"


def test_a_broken_version_never_answers(stack: Stack, name: str, tmp_path: Path) -> None:
    old, _ = published(stack, name)
    order(stack, name, action="back")
    file = tmp_path / "broken.flow.yaml"
    file.write_text(FLOW.format(name=name, word="new").replace("next: end", "next: nowhere"))
    done = flow_command(stack, "put", str(file))
    assert done.returncode == 1
    assert f"{file}:6: node tone: " in done.stderr
    assert "nowhere" in done.stderr
    # Past the door, as a newer program on another machine might: this one cannot load it.
    tester = phone()
    with (
        closing(psycopg2.connect(stack.dsn)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "INSERT INTO flow_versions SELECT flow, 'ffffffffffff', 'flow: [', format, note,"
            " created_at, created_by FROM flow_versions WHERE flow = %s AND version = %s",
            (name, old),
        )
        cursor.execute(
            "UPDATE rollouts SET candidate = 'ffffffffffff', state = 'test', test_numbers = %s"
            " WHERE flow = %s",
            (json.dumps([tester]), name),
        )
    settle(stack)
    assert versions(call(stack, name, tester, phone())) == ["old", "old"]
    part = stack.health()["parts"]["scenarios"]
    assert not part["ok"]
    assert f"flow {name}, version ffffffffffff: " in part["why"]
    order(stack, name, action="back")


def test_a_pinned_flow_waits_for_its_machine(stack: Stack, name: str) -> None:
    free = f"{name}-free"
    put(stack, FLOW.format(name=free, word="new"))
    order(stack, free, action="all")
    published(stack, name)
    order(stack, name, action="pin", nodes=["another"])
    waiting = stack.originate(phone(), scenario=name)["id"]
    assert versions(call(stack, free, phone())) == ["new"]
    assert stack.task(waiting)["state"] == "queued", "one that came later was dialled"
    order(stack, name, action="pin", nodes=["another", "lab"])
    assert stack.ended(waiting)["result"] == {"version": "old"}


def test_the_command_line_shows_it(stack: Stack, name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.flow.yaml"
    file.write_text(FLOW.format(name=name, word="old"))
    assert "candidate" in flow_command(stack, "put", str(file), "--note", "first").stdout
    assert flow_command(stack, "all", name).returncode == 0
    settle(stack)
    call(stack, name, phone())

    def counted() -> str | None:
        said = flow_command(stack, "status", name).stdout
        return said if "1 calls, 0 failed (0 %)" in said else None

    said = stack.wait_for("the call to be counted", counted, 60)
    assert "first" in said


def flow_command(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backend", "flow", *arguments],
        cwd=ROOT,
        env=stack.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
