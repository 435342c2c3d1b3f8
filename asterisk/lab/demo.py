"""The main job, shown: a task by GET /originate, a call over real SIP and RTP, the subscriber's
real speech, the decision. Everything it starts is stopped; exit code 0 only when all is right.

    demo.py --answer yes|no|over|silence|busy|noanswer|reject|hangup|keys
    demo.py --serve      leave the set running, print how to use it
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg2
from lab import LabError
from stack import FINAL, ROOT, Stack

CALL_S = 90.0
POLL_S = 0.1
EVENTS_S = 10.0


@dataclass(frozen=True)
class Answer:
    """What the subscriber does, by the number's first digits, and how the task must end."""

    code: str
    text: str
    state: str
    reason: str
    decision: str | None = None
    extra: tuple[tuple[str, str], ...] = ()


ANSWERS = {
    "yes": Answer("100", 'says "yes" after the question', "done", "completed", "yes"),
    "no": Answer("101", 'says "no" after the question', "done", "completed", "no"),
    "over": Answer("102", "speaks over the question", "done", "completed", "yes"),
    "silence": Answer("103", "answers and stays silent", "done", "completed", "silence"),
    "keys": Answer("104", "presses 1 2 3 and says nothing", "done", "completed", "silence"),
    "busy": Answer("105", "is busy", "failed", "busy"),
    "noanswer": Answer("106", "does not answer", "failed", "no_answer", extra=(("timeout", "5"),)),
    "reject": Answer("107", "rejects the call", "failed", "rejected"),
    "hangup": Answer("108", "hangs up in the middle of the question", "failed", "caller_hangup"),
}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answer", choices=sorted(ANSWERS), default="yes")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="asterisk-dialog-"))
    began = time.monotonic()
    try:
        with Stack(folder) as stack:
            say(began, f"{stack.lab.pbx.cli('core show version').strip()}")
            say(
                began,
                f"backend {stack.url}, AGI {stack.info['agi']}, subscriber's PBX on SIP port "
                f"{stack.lab.subscriber.sip_port}",
            )
            if options.serve:
                return serve(stack)
            return show(stack, options.answer, began)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def say(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:7.2f} s  {text}", flush=True)


def serve(stack: Stack) -> int:
    """Until Ctrl-C."""
    curl = f"curl -H 'Authorization: Bearer {stack.token}'"
    print(
        f"\nA call to a subscriber who says yes (numbers: asterisk/lab/README.md):\n"
        f"  {curl} '{stack.url}/originate?phone=1000001'\n"
        f"Its task:\n  {curl} '{stack.url}/tasks/ID'\n"
        f"API: {stack.url}/docs   log: {stack.log_path}\nCtrl-C ends everything.",
        flush=True,
    )
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


def show(stack: Stack, answer: str, began: float) -> int:
    """One call, watched."""
    wanted = ANSWERS[answer]
    shutil.copyfile(stack.lab.speech / "question.wav", stack.lab.sounds / "question.wav")
    query = {
        "phone": f"{wanted.code}0001",
        "file": "dialog/question",
        "external_id": f"demo-{answer}",
        **dict(wanted.extra),
    }
    say(began, f"GET /originate?{urlencode(query, safe='/')}  (a subscriber who {wanted.text})")
    task = stack.originate(**query)
    task = watch(stack, task, began)
    print(json.dumps(task, indent=2, ensure_ascii=False))
    stored = stored_events(stack, task)
    say(began, f"{stored} AMI events of this call are in PostgreSQL")
    faults = check(task, wanted, stored)
    if task["recording"]:
        faults += keep_recording(Path(task["recording"]), began)
    for fault in faults:
        print(f"demo: {fault}", file=sys.stderr)
    say(began, "not as expected" if faults else f"as expected: {wanted.state}/{wanted.reason}")
    return 1 if faults else 0


def watch(stack: Stack, task: dict[str, Any], began: float) -> dict[str, Any]:
    """Print what is new until the task is final."""
    state, said, deadline = "", 0, time.monotonic() + CALL_S
    while time.monotonic() < deadline:
        task = stack.task(task["id"])
        if task["state"] != state:
            state = task["state"]
            say(began, f"task {task['id']}: {state} {task['reason'] or ''}")
        for line in task["transcript"][said:]:
            at = f"{line['start_ms'] / 1000:5.2f}–{line['end_ms'] / 1000:.2f} s"
            say(began, f"   {line['speaker']:6} {at}  {line['text']}")
        said = len(task["transcript"])
        if state in FINAL:
            return task
        time.sleep(POLL_S)
    raise LabError(f"the task did not end in {CALL_S:g} s\n{stack.log_tail()}")


def stored_events(stack: Stack, task: dict[str, Any]) -> int:
    """The stored events of the call, by PostgreSQL's own count."""
    connection = psycopg2.connect(stack.dsn)
    try:
        with connection.cursor() as cursor:
            query = "SELECT count(*) FROM events WHERE linkedid = %s"
            cursor.execute(query, (task["asterisk_uniqueid"],))
            row = cursor.fetchone()
            return int(row[0]) if row else 0
    finally:
        connection.close()


def check(task: dict[str, Any], wanted: Answer, stored: int) -> list[str]:
    """What is not as it must be."""
    faults = []
    if (task["state"], task["reason"]) != (wanted.state, wanted.reason):
        faults.append(
            f"the task is {task['state']}/{task['reason']}, expected {wanted.state}/{wanted.reason}"
        )
    decision = (task["result"] or {}).get("decision")
    if decision != wanted.decision:
        faults.append(f"the decision is {decision!r}, expected {wanted.decision!r}")
    if stored == 0:
        faults.append("no AMI event of the call was stored")
    return faults


def keep_recording(path: Path, began: float) -> list[str]:
    """Copy the recording out of the folder that is deleted."""
    if not path.exists() or path.stat().st_size < 8000:
        return [f"the recording {path} is missing or empty"]
    kept = ROOT / "var" / "demo" / path.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, kept)
    say(began, f"recording of both sides: {kept}")
    return []


if __name__ == "__main__":
    sys.exit(main())
