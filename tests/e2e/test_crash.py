"""The backend is killed in mid-call: what the caller hears, and what becomes of the tasks."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import lab_sound
import psycopg2
import pytest
from lab_sound import Samples, Span
from stack import Stack

from tests.e2e.conftest import APOLOGY_HZ, probing_stack

RESTART_S = 60.0


@pytest.fixture
def stack(tmp_path: Path, asterisk: str) -> Iterator[Stack]:
    with probing_stack(tmp_path, asterisk) as stack:
        yield stack


def dialled(stack: Stack, phone: str) -> int:
    """How often the subscriber's PBX was called for this number, by its own log of channels."""
    connection = psycopg2.connect(stack.dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(DISTINCT uniqueid) FROM events WHERE name = 'Newchannel'"
                " AND uniqueid IN (SELECT uniqueid FROM tasks WHERE phone = %s)",
                (phone,),
            )
            row = cursor.fetchone()
            assert row is not None
            return int(row[0])
    finally:
        connection.close()


def last_pitch_hz(tape: Samples[int]) -> float:
    """Of the last half second: the apology may follow a cut tone without a gap."""
    end_ms = lab_sound.spans(tape)[-1].end_ms
    return lab_sound.pitch_hz(tape, Span(end_ms - 500, end_ms))


def test_killed_in_mid_call(stack: Stack) -> None:
    talking, ringing, later = "1039001", "1069001", "1039002"
    talk = stack.originate(talking, scenario="tones")["id"]
    ring = stack.originate(ringing, scenario="quick", timeout="12")["id"]
    stack.wait_for("the talk", lambda: stack.task(talk)["state"] == "talking" or None)
    stack.wait_for("the tone to be heard", lambda: stack.task(talk)["transcript"] or None)
    stack.wait_for("the ringing", lambda: stack.task(ring)["dialed_at"])

    stack.kill_backend()
    tape = lab_sound.read(stack.lab.heard(talking, 30))
    assert last_pitch_hz(tape) == pytest.approx(APOLOGY_HZ, abs=15)

    began = time.monotonic()
    stack.start_backend()
    task = stack.ended(talk, RESTART_S)
    assert (task["state"], task["reason"]) == ("failed", "backend_lost"), task
    task = stack.ended(ring, RESTART_S)
    assert (task["state"], task["reason"]) in {
        ("failed", "no_answer"),
        ("unknown", "backend_lost"),
    }, task
    assert time.monotonic() - began < RESTART_S
    done = stack.ended(stack.originate(later, scenario="quick")["id"])
    assert done["state"] == "done", done
    assert [dialled(stack, phone) for phone in (talking, ringing, later)] == [1, 1, 1]


def test_a_dead_worker_is_replaced_and_its_call_is_settled(stack: Stack) -> None:
    talk = stack.originate("1039003", scenario="tones")["id"]
    stack.wait_for("the tone to be heard", lambda: stack.task(talk)["transcript"] or None)
    stack.kill_child("voice-0")
    tape = lab_sound.read(stack.lab.heard("1039003", 30))
    assert last_pitch_hz(tape) == pytest.approx(APOLOGY_HZ, abs=15)
    task = stack.ended(talk, RESTART_S)
    assert (task["state"], task["reason"]) == ("failed", "backend_lost"), task
    stack.wait_for("a worker to be there again", lambda: stack.health()["status"] == "ok" or None)
    done = stack.ended(stack.originate("1039004", scenario="quick")["id"])
    assert done["state"] == "done", done


def test_asterisk_dies_in_mid_call_and_comes_back(stack: Stack) -> None:
    talk = stack.originate("1039005", scenario="tones")["id"]
    stack.wait_for("the tone to be heard", lambda: stack.task(talk)["transcript"] or None)
    stack.lab.pbx.kill()
    stack.wait_for("the loss to be seen", lambda: stack.health()["status"] != "ok" or None)
    stack.lab.restart(stack.lab.pbx)
    task = stack.ended(talk, RESTART_S)
    assert (task["state"], task["reason"]) == ("failed", "asterisk_lost"), task
    done = stack.ended(stack.originate("1039006", scenario="quick")["id"])
    assert done["state"] == "done", done


def test_the_embedded_postgresql_dies_under_a_call(stack: Stack) -> None:
    talk = stack.originate("1039007", scenario="tones", timeout="20")["id"]
    stack.wait_for("the tone to be heard", lambda: stack.task(talk)["transcript"] or None)
    heard = len(stack.task(talk)["transcript"])
    pid = int((stack.data_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    stack.wait_for("PostgreSQL to go", lambda: stack.get("/health")[0] == 503 or None)
    stack.wait_for("PostgreSQL to be back", lambda: stack.get("/health")[0] == 200 or None)

    def goes_on() -> bool | None:
        return len(stack.task(talk)["transcript"]) > heard + 3 or None

    stack.wait_for("the talk to be recorded on", goes_on)
    starts = [line["start_ms"] for line in stack.task(talk)["transcript"]]
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert max(gaps) < 2000, "no line of the talk is missing"
