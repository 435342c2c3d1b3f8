"""The lab itself: started, stopped, killed; nothing of it is left, nothing listens outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import Backend, Lab, LabError
from lab_config import HERE
from lab_instance import wait_until

from tests.e2e.plain_lab import observer


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "lab.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def gone(pids: list[int]) -> bool | None:
    return not any(Path(f"/proc/{pid}/cmdline").exists() and running(pid) for pid in pids) or None


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def test_is_the_asterisk_asked_for_with_the_module(lab: Lab, asterisk: str) -> None:
    assert f"Asterisk {asterisk}." in lab.pbx.cli("core show version")
    assert "app_audiofork.so" in lab.pbx.cli("module show like audiofork")
    assert "WebSocket" in lab.pbx.cli("core show application AudioFork")


@pytest.mark.parametrize("name", ["pbx", "subscriber"])
def test_nothing_listens_beyond_the_loopback(lab: Lab, name: str) -> None:
    fds = Path(f"/proc/{getattr(lab, name).pid}/fd").iterdir()
    mine = {link[8:-1] for link in map(os.readlink, fds) if link.startswith("socket:")}
    tables = [Path(f"/proc/net/{table}") for table in ("tcp", "tcp6", "udp", "udp6")]
    rows = [row.split() for table in tables for row in table.read_text().splitlines()[1:]]
    places = {row[1] for row in rows if row[9] in mine}
    at_home = {place for place in places if place.startswith("0100007F:")}
    assert len(at_home) >= 2, "SIP and AMI"
    # pjproject's DNS resolver has two sockets for its questions, of which it asks none here.
    assert len(places - at_home) <= 2


def test_start_status_stop(lab: Lab, tmp_path: Path, asterisk: str) -> None:
    """From the command line, beside another lab, which is the fixture."""
    there = f"--dir={tmp_path}"
    started = cli("start", there, f"--asterisk={asterisk}", "--json")
    assert started.returncode == 0, started.stderr
    report = json.loads(started.stdout)
    pids = [report[name]["pid"] for name in ("pbx", "subscriber")]
    try:
        assert report["running"]
        assert report["asterisk"] == asterisk
        assert report["ports"]["pbx_sip"] != lab.ports.pbx_sip
        refused = cli("start", there)
        assert refused.returncode == 1
        assert "runs in" in refused.stderr
        assert cli("status", there).returncode == 0
    finally:
        assert cli("stop", there).returncode == 0
    assert gone(pids)
    assert cli("status", there).returncode == 1


def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path, asterisk: str) -> None:
    script = (
        "import sys, time; from pathlib import Path; from lab import Lab\n"
        "lab = Lab(Path(sys.argv[1]), asterisk=sys.argv[2]).start()\n"
        "print(lab.pbx.pid, lab.subscriber.pid, flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), asterisk],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    with owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
        owner.send_signal(signal.SIGKILL)
    wait_until("the end of both", lambda: gone(pids), time.monotonic() + 5)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    with Lab(tmp_path, asterisk=asterisk) as again:
        assert again.is_running


def test_a_killed_pbx_is_noticed_and_can_be_started_again(tmp_path: Path, asterisk: str) -> None:
    with Lab(tmp_path, asterisk=asterisk) as lab:
        lab.pbx.kill()
        assert not lab.is_running
        lab.restart(lab.pbx)
        assert lab.is_running
        with observer(lab.pbx) as ami:
            ami.event("Hangup", Uniqueid=ami.originate("1050001", "lab-play"))


def test_a_failing_start_says_why_and_leaves_nothing(tmp_path: Path, asterisk: str) -> None:
    broken = Lab(tmp_path, backend=Backend(globals={"X": "1"}), asterisk=asterisk)
    with pytest.raises(LabError, match="waited in vain"):
        broken.start(timeout_s=0.01)
    assert not broken.is_running
