"""Nothing is left of calls: no thread, no descriptor, no channel; the module unloads and loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import Stack

from tests.e2e.conftest import probing_stack
from tests.e2e.test_recordings import write_tones

CALLS, AT_ONCE = 200, 25


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    settings = {"DIALOG_MAX_CALLS": str(AT_ONCE)}
    with probing_stack(tmp_path_factory.mktemp("leaks"), asterisk, **settings) as stack:
        yield stack


def run_calls(stack: Stack, first: int, count: int) -> None:
    tasks = [
        stack.originate(f"103{number}", scenario="quick")["id"]
        for number in range(first, first + count)
    ]
    for task_id in tasks:
        task = stack.ended(task_id, 120)
        assert task["state"] == "done", task
    stack.wait_for("the channels to go", lambda: not stack.lab.pbx.channels() or None)


def test_two_hundred_calls_leave_nothing(stack: Stack) -> None:
    pbx = stack.lab.pbx
    run_calls(stack, 1000, AT_ONCE)  # thread pools and caches are warm now
    worker = stack.info["pids"]["voice-0"]
    before = stack.wait_for("a settled Asterisk", lambda: (pbx.threads(), pbx.fds()))
    mine = descriptors(worker)
    run_calls(stack, 2000, CALLS)
    await_as_before(stack, before)
    stack.wait_for(
        "the worker's descriptors to be as before",
        lambda: descriptors(worker) <= mine + 2 or None,
        30,
    )


def test_recordings_leave_nothing(stack: Stack) -> None:
    """Stopped, paused, left to the hangup, and cut by it: no monitor's thread, no open file."""
    write_tones(stack.lab.sounds / "own")
    pbx = stack.lab.pbx
    run_recordings(stack, 4000, 2)
    before = stack.wait_for("a settled Asterisk", lambda: (pbx.threads(), pbx.fds()))
    run_recordings(stack, 5000, 20)
    await_as_before(stack, before)


def run_recordings(stack: Stack, first: int, count: int) -> None:
    """``count`` calls with three recordings each, and as many that the subscriber ends."""
    kinds = {"recordings": "103", "recording-hangup": "108"}
    tasks = [
        stack.originate(f"{code}{number}", scenario=scenario)["id"]
        for number in range(first, first + count)
        for scenario, code in kinds.items()
    ]
    ended = [stack.ended(task, 120) for task in tasks]
    assert {task["reason"] for task in ended} == {"completed", "caller_hangup"}
    stack.wait_for("the channels to go", lambda: not stack.lab.pbx.channels() or None)


def await_as_before(stack: Stack, before: tuple[int, int]) -> None:
    """Asterisk has no more threads and descriptors than ``before``."""
    pbx = stack.lab.pbx

    def as_before() -> bool | None:
        return (pbx.threads() <= before[0] and pbx.fds() <= before[1]) or None

    try:
        stack.wait_for("Asterisk to be as before", as_before, 30)
    except Exception as error:
        raise AssertionError(f"before {before}, after {(pbx.threads(), pbx.fds())}") from error


def test_the_module_unloads_and_loads(stack: Stack) -> None:
    pbx = stack.lab.pbx
    assert "Unloaded app_audiofork" in pbx.cli("module unload app_audiofork.so")
    assert "Loaded app_audiofork" in pbx.cli("module load app_audiofork.so")
    run_calls(stack, 3000, 5)


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
