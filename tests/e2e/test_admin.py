"""What an admin does: doctor, settings, start and stop, several workers."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stack import ROOT, Stack

from tests.e2e.conftest import probing_stack


def run(stack: Stack, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """``asterisk-dialog …`` with the stack's settings."""
    return subprocess.run(
        [sys.executable, "-m", "backend", *arguments],
        cwd=ROOT,
        env={**stack.environment(), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_doctor_finds_all_well_while_the_backend_runs(stack: Stack, asterisk: str) -> None:
    done = run(stack, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Asterisk {asterisk}." in done.stdout
    assert "module app_audiofork is loaded" in done.stdout
    assert "all that is needed, nothing dangerous" in done.stdout


@pytest.mark.parametrize(
    ("env", "said", "mend"),
    [
        ({"DIALOG_AMI_SECRET": "wrong"}, "AMI", "secret"),
        ({"DIALOG_AMI_PORT": "1"}, "AMI 127.0.0.1:1", "is Asterisk running"),
        ({"DIALOG_CONTEXTS": "no-such"}, "dialplan: no-such,s", "asterisk/dialplan"),
        ({"DIALOG_DEFAULT_SCENARIO": "none"}, "the default 'none' is not there", "scenarios_dir"),
        ({"DIALOG_HTTP_TOKENS": "1c=short"}, "token of 1c is short", "openssl"),
        ({"DIALOG_DATABASE_URL": "postgresql://u@127.0.0.1:1/d"}, "database 127.0.0.1:1", "pg_hba"),
    ],
)
def test_doctor_names_what_is_wrong_and_the_remedy(
    stack: Stack, env: dict[str, str], said: str, mend: str
) -> None:
    done = run(stack, "doctor", **env)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    failed = [n for n, line in enumerate(lines) if line.startswith("FAIL") and said in line]
    assert failed, done.stdout
    assert mend in lines[failed[0] + 1]
    assert "wrong" not in done.stdout, "secrets are not printed"


def test_a_call_from_the_command_line(stack: Stack) -> None:
    done = run(stack, "call", "1037001", "--scenario", "quick")
    assert done.returncode == 0, done.stderr
    assert '"state": "done"' in done.stdout
    refused = run(stack, "call", "abc")
    assert refused.returncode == 1
    assert "phone" in refused.stderr


def test_a_second_backend_says_what_is_in_its_way(stack: Stack) -> None:
    done = run(stack, "serve")
    assert done.returncode == 1
    assert "another backend" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_workers_each_take_the_audio_of_their_calls(tmp_path: Path, asterisk: str) -> None:
    settings = {"DIALOG_WORKERS": "2"}
    with probing_stack(tmp_path, asterisk, **settings) as stack:
        tasks = [stack.originate(f"100{n}", file="demo-thanks")["id"] for n in range(8001, 8009)]
        for task_id in tasks:
            task = stack.ended(task_id)
            assert task["result"]["decision"] == "yes", task
        log = stack.log_path.read_text()
        assert " voice-0 call-" in log
        assert " voice-1 call-" in log


def test_sigterm_ends_everything_in_order(tmp_path: Path, asterisk: str) -> None:
    with probing_stack(tmp_path, asterisk) as stack:
        pids = list(stack.info["pids"].values())
        talk = stack.originate("1039101", scenario="tones")["id"]
        stack.wait_for("the talk", lambda: stack.task(talk)["state"] == "talking" or None)
        stack.stop_backend()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert "Traceback" not in stack.log_path.read_text()
        stack.start_backend()
        task = stack.ended(talk, 60)
        assert (task["state"], task["reason"]) == ("failed", "backend_lost"), task
        assert task["error"] == "the backend was stopped"


def test_ctrl_c_too(tmp_path: Path, asterisk: str) -> None:
    with probing_stack(tmp_path, asterisk) as stack:
        assert stack.signal(signal.SIGINT) == 0
