"""What scenarios share and how they are managed: two workers, real calls."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab_ami import Ami
from sqlalchemy import text
from stack import ROOT, Stack

from backend.storage.engine import make_engine
from tests.e2e.conftest import probing_stack
from tests.e2e.waiting_calls import finish, loaded

CALLS = 10
SCENARIOS = """
from backend import Call, StorageUnavailable, scenario

@scenario("count")
def count(call: Call) -> dict[str, object]:
    call.answer()
    return {
        "all": call.store.add("calls"),
        "own": call.store.own.add("calls", expires_s=3600),
        "first": call.store.compare_and_set("first", None, str(call.id)),
        "config": call.config["shop"],
    }

@scenario("parent")
def parent(call: Call) -> dict[str, object]:
    call.answer()
    number = call.get_variable("number")
    tasks = [call.originate(number, scenario="count", external_id=f"of {call.id}") for _ in "ab"]
    return {"ids": [str(task.id) for task in tasks], "new": [task.new for task in tasks]}

@scenario("patient")
def patient(call: Call) -> list[str]:
    call.answer()
    went = []
    for ask in (lambda: call.store.get("x"), lambda: call.originate("103")):
        try:
            ask()
        except StorageUnavailable:
            went.append("on")
    call.log("patient", went=went)
    return went
"""
VERSIONED = """
import texts
from backend import Call, scenario

@scenario("versioned")
def versioned(call: Call) -> list[str]:
    call.answer()
    while call.store.get("go on") != call.called:
        call.wait(0.1)
    import texts as late
    return [{version!r}, texts.VERSION, late.VERSION]
"""
_suffix = itertools.count(1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' folder."""
    return tmp_path_factory.mktemp("scenarios")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, folder: Path, asterisk: str) -> Iterator[Stack]:
    (folder / "shared.py").write_text(SCENARIOS)
    for file in ("versioned.py", "texts.py"):
        (folder / file).unlink(missing_ok=True)
    settings = {
        "DIALOG_SCENARIOS_DIR": str(folder),
        "DIALOG_SCENARIO_CONFIG": json.dumps({"shop": {"opens": 9}}),
        "DIALOG_VARIABLES": "number",
        "DIALOG_WORKERS": "2",
    }
    with probing_stack(tmp_path_factory.mktemp("shared"), asterisk, **settings) as stack:
        yield stack


def number(code: str) -> str:
    return f"{code}{next(_suffix)}"


def run(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``asterisk-dialog …`` with the stack's settings."""
    return subprocess.run(
        [sys.executable, "-m", "backend", *arguments],
        cwd=ROOT,
        env=stack.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_ten_calls_of_two_workers_count_in_one_store(stack: Stack) -> None:
    tasks = [stack.originate(number("103"), scenario="count")["id"] for _ in range(CALLS)]
    results = [stack.ended(task)["result"] for task in tasks]
    assert sorted(result["all"] for result in results) == list(range(1, CALLS + 1))
    assert sorted(result["own"] for result in results) == list(range(1, CALLS + 1))
    assert [result["first"] for result in results].count(True) == 1
    assert all(result["config"] == {"opens": 9} for result in results)
    log = stack.log_path.read_text()
    assert " voice-0 call-" in log
    assert " voice-1 call-" in log


def test_a_call_makes_another_once(stack: Stack) -> None:
    parent = stack.originate(number("103"), scenario="parent", var_number=number("103"))
    result = stack.ended(parent["id"])["result"]
    assert (result["ids"][0], result["new"]) == (result["ids"][1], [True, False])
    child = stack.ended(result["ids"][0])
    assert (child["state"], child["scenario"]) == ("done", "count"), child
    assert child["result"]["all"] > CALLS


def test_what_the_settings_refuse_ends_the_scenario_by_name(stack: Stack) -> None:
    parent = stack.originate(number("103"), scenario="parent", var_number="not-a-number")
    task = stack.ended(parent["id"])
    assert (task["state"], task["reason"]) == ("failed", "scenario_error")
    assert "number: not-a-number is no number" in task["error"]


# --- Reload --------------------------------------------------------------------------------------


def save(folder: Path, version: str) -> None:
    (folder / "texts.py").write_text(f"VERSION = {version!r}\n")
    (folder / "versioned.py").write_text(VERSIONED.replace("{version!r}", repr(version)))


def begun(stack: Stack) -> tuple[str, str]:
    """A call that waits: its task and its number."""
    phone = number("103")
    task = stack.originate(phone, scenario="versioned")["id"]
    stack.wait_for("the talk", lambda: stack.task(task)["state"] == "talking" or None)
    return task, phone


def test_scenarios_are_reloaded_while_calls_run(stack: Stack, folder: Path) -> None:
    save(folder, "one")
    loaded(stack, "versioned.py loaded: versioned", 3)
    old = begun(stack)
    save(folder, "two")
    loaded(stack, "versioned.py loaded: versioned", 6)
    new = begun(stack)
    assert finish(stack, *new) == ["two"] * 3
    assert finish(stack, *old) == ["one"] * 3, "it keeps its version, and its helper's"

    (folder / "versioned.py").write_text("def (")
    loaded(stack, "refused, its former version goes on: ", 3)
    kept = begun(stack)
    assert finish(stack, *kept) == ["two"] * 3
    health = stack.wait_for("the news", lambda: told(stack, ok=False))
    assert "versioned.py: SyntaxError" in health["parts"]["scenarios"]["why"]
    assert health["status"] == "ok"
    done = run(stack, "scenarios")
    assert done.returncode == 1
    assert "versioned.py: SyntaxError: invalid syntax" in done.stderr
    assert "count" in done.stdout

    save(folder, "three")
    loaded(stack, "versioned.py loaded: versioned", 9)
    assert finish(stack, *begun(stack)) == ["three"] * 3
    assert stack.wait_for("the news", lambda: told(stack, ok=True))["status"] == "ok"
    assert run(stack, "scenarios").returncode == 0

    (folder / "versioned.py").unlink()
    loaded(stack, "versioned.py is gone, and with it versioned", 3)
    status, answer = stack.get("/originate", phone=number("103"), scenario="versioned")
    assert (status, answer["error"]["parameter"]) == (400, "scenario")
    assert stack.log_path.read_text().count("refused, its former version goes on: ") == 3, "once"


def told(stack: Stack, *, ok: bool) -> dict[str, Any] | None:
    health = stack.health()
    return health if health["parts"]["scenarios"]["ok"] is ok else None


# --- Routes --------------------------------------------------------------------------------------


def test_routes_by_the_command_line(stack: Stack) -> None:
    assert run(stack, "routes", "set", "_7495777XXXX", "count").returncode == 0
    assert run(stack, "routes", "set", "--outbound", "1039*", "count").returncode == 0
    listed = run(stack, "routes", "list").stdout.split()
    assert listed == ["inbound", "_7495777XXXX", "count", "outbound", "1039*", "count"]
    assert run(stack, "routes", "test", "74957770001").stdout.split()[1] == "_7495777XXXX"
    assert "default scenario, article" in run(stack, "routes", "test", "1").stdout
    refused = run(stack, "routes", "set", "7*5", "count")
    assert (refused.returncode, "pattern" in refused.stderr) == (1, True)
    unknown = run(stack, "routes", "set", "7", "none")
    assert (unknown.returncode, "is unknown; known: article" in unknown.stderr) == (1, True)

    assert stack.task(stack.originate("1039001")["id"])["scenario"] == "count", "at once"
    becomes(stack, "74957770001", "count")
    assert run(stack, "routes", "set", "74957770002", "parent").returncode == 0
    becomes(stack, "74957770002", "parent")
    assert inbound(stack, "74957770003") == "count"
    assert run(stack, "routes", "delete", "_7495777XXXX").returncode == 0
    assert run(stack, "routes", "delete", "_7495777XXXX").returncode == 1
    becomes(stack, "74957770004", "article")


def becomes(stack: Stack, called: str, scenario: str) -> None:
    """Calls to that number take the scenario; a worker that has not heard yet is excused."""
    stack.wait_for(scenario, lambda: inbound(stack, called) == scenario or None, 60)


def inbound(stack: Stack, called: str) -> str:
    """The subscriber calls us; the scenario that took it."""
    said = "PJSIP/subscriber-[^ ]* scenario ([a-z]+) task None"
    before = scenarios_in(stack, said)
    subscriber = stack.lab.subscriber
    with Ami(subscriber.ami_port, subscriber.observer_user, subscriber.observer_secret) as ami:
        ami.originate(called, "subscriber", exten=number("103"), trunk="pbx")
        found = stack.wait_for("the call", lambda: scenarios_in(stack, said)[len(before) :] or None)
    return found[0]


def scenarios_in(stack: Stack, pattern: str) -> list[str]:
    return re.findall(pattern, stack.log_path.read_text())


# --- PostgreSQL hangs ----------------------------------------------------------------------------


def test_a_call_goes_on_while_postgresql_hangs(stack: Stack) -> None:
    """Reached, and silent: the hardest way of being away. The last known routes count."""
    assert run(stack, "routes", "set", "74957770005", "patient").returncode == 0
    becomes(stack, "74957770005", "patient")
    loaded(stack, "patient went=[]", 1)
    with frozen(stack.data_dir / "postgres" / "data"):
        assert inbound(stack, "74957770005") == "patient"
        loaded(stack, "patient went=['on', 'on']", 1)
    engine = make_engine(stack.dsn, name="test")
    query = text("SELECT result FROM calls WHERE scenario = 'patient' AND result IS NOT NULL")

    def results() -> list[Any] | None:
        with engine.connect() as connection:
            found = list(connection.execute(query).scalars())
        return found if ["on", "on"] in found else None

    try:
        assert stack.wait_for("its record", results, 90)
    finally:
        engine.dispose()


@contextmanager
def frozen(data: Path) -> Iterator[None]:
    """The server and all its processes are stopped, their connections stay."""
    server = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    children = Path(f"/proc/{server}/task/{server}/children")
    os.kill(server, signal.SIGSTOP)  # first: it makes no more of them
    pids = [server, *map(int, children.read_text().split())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
