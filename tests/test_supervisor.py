from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend import supervisor as module
from backend.supervisor import ChildFailed, Spec, Supervisor
from tests import supervised

WAIT_S = 20.0


def until(what: str, probe: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not probe():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    found = Supervisor()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield found
    found.stop()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_start_gives_what_the_child_announced_and_stop_ends_it_in_order(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    info = supervisor.start(Spec("one", supervised.serves, note))
    assert supervisor.pids() == {"one": info["pid"]}
    supervisor.stop()
    assert note.read_text() == "stopped in order"
    assert not alive(info["pid"])


def test_a_child_that_cannot_start_gives_its_reason(supervisor: Supervisor) -> None:
    with pytest.raises(ChildFailed, match="one: ami_port: what an admin can read"):
        supervisor.start(Spec("one", supervised.fails, "ami_port: what an admin can read"))


def test_a_child_that_dies_without_a_word(supervisor: Supervisor) -> None:
    with pytest.raises(ChildFailed, match="exit code 7"):
        supervisor.start(Spec("one", supervised.crashes, None))


def test_a_child_that_does_not_stop_is_killed(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    info = supervisor.start(Spec("one", supervised.stuck, None, drain_s=0.2))
    supervisor.stop()
    assert not alive(info["pid"])
    assert "one did not end in 0.2 s: killed" in caplog.text


def test_a_dead_child_is_restarted_until_a_signal_ends_the_watch(
    supervisor: Supervisor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "RESTART_S", (0.01, 0.05))
    monkeypatch.setattr(module, "CHECK_S", 0.05)
    checks: list[int] = []
    first = supervisor.start(Spec("one", supervised.counts_lives, tmp_path))["pid"]

    def kill_and_end() -> None:
        os.kill(first, signal.SIGKILL)
        until("a second life", lambda: "one runs again" in caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=kill_and_end)
    thread.start()
    supervisor.watch(lambda: checks.append(1))
    thread.join(WAIT_S)
    assert len(list(tmp_path.iterdir())) == 2
    assert checks, "the check is called as well"
    assert "one has died (exit code -9)" in caplog.text


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=supervised.supervises, args=(tmp_path,))
    process.start()
    child_file = tmp_path / "child"
    until("the child", lambda: child_file.exists() and child_file.read_text())
    child = int(child_file.read_text())
    assert alive(child)
    process.kill()
    process.join(WAIT_S)
    until("the child's death", lambda: not alive(child))
    assert not (tmp_path / "note").exists()
