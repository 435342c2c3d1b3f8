"""The event log is complete: each event that an independent AMI connection with the same rights
saw is in the table exactly once, also when PostgreSQL was away meanwhile."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from lab_ami import Ami
from stack import Stack

from backend.storage.embedded import EmbeddedPostgres
from tests.e2e.conftest import probing_stack

CALLS = 20
PER_LOGIN = {"FullyBooted", "DialogGap"}  # come to one connection, at its own login
_suffix = itertools.count(5000)

Event = tuple[tuple[str, str], ...]


class Window:
    """What an observer saw between two markers that every connection sees."""

    def __init__(self, stack: Stack) -> None:
        pbx = stack.lab.pbx
        self._marker = Ami(pbx.ami_port, pbx.observer_user, pbx.observer_secret)
        self._witness = Ami(pbx.ami_port, pbx.ami_user, pbx.ami_secret)
        self._names: list[str] = []
        self.mark()

    def mark(self) -> str:
        name = f"Mark{time.monotonic_ns()}"
        self._marker.action("UserEvent", UserEvent=name)
        self._witness.event("UserEvent", UserEvent=name)
        self._names.append(name)
        return name

    def seen(self) -> Counter[Event]:
        """What the witness saw between the first mark and the last."""
        return Counter(map(normal, between(self._witness.events, *self._names)))

    def stored(self, dsn: str) -> Counter[Event]:
        """What the table holds between the same marks."""
        connection = psycopg2.connect(dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT body FROM events ORDER BY stream, seq")
                rows = [row[0] for row in cursor.fetchall()]
        finally:
            connection.close()
        return Counter(map(normal, between(rows, *self._names)))

    def close(self) -> None:
        self._marker.close()
        self._witness.close()


@contextmanager
def window(stack: Stack) -> Iterator[Window]:
    found = Window(stack)
    try:
        yield found
    finally:
        found.close()


def between(events: Iterable[dict[str, Any]], *marks: str) -> list[dict[str, Any]]:
    """Events after the first mark and before the last; fails when a mark is not there."""
    listed = list(events)
    names = [event.get("UserEvent") for event in listed]
    return listed[names.index(marks[0]) + 1 : names.index(marks[-1])]


def normal(event: dict[str, Any]) -> Event:
    """Comparable; of a header that came several times the last counts."""
    flat = {k: v[-1] if isinstance(v, list) else v for k, v in event.items()}
    return tuple(sorted(flat.items()))


def compare(stack: Stack, found: Window, dsn: str) -> int:
    """Fails unless both saw the same; how many it was."""
    last = found.mark()

    def arrived() -> bool | None:
        with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM events WHERE body->>'UserEvent' = %s", (last,))
            row = cursor.fetchone()
        connection.close()
        return row is not None or None

    stack.wait_for("the last mark to be stored", arrived)
    seen, stored = found.seen(), found.stored(dsn)
    for event in PER_LOGIN:
        for counter in (seen, stored):
            for key in [key for key in counter if ("Event", event) in key]:
                del counter[key]
    assert seen - stored == Counter(), "lost"
    assert stored - seen == Counter(), "stored twice, or never sent"
    return sum(seen.values())


def dial(stack: Stack, count: int, scenario: str) -> list[str]:
    codes = itertools.cycle(["100", "103", "104", "105", "108"])
    return [
        stack.originate(f"{next(codes)}{next(_suffix)}", scenario=scenario)["id"]
        for _ in range(count)
    ]


def test_twenty_calls(stack: Stack) -> None:
    with window(stack) as found:
        for task_id in dial(stack, CALLS, "quick"):
            stack.ended(task_id)
        assert compare(stack, found, stack.dsn) > 20 * CALLS


def test_the_events_of_a_calls_fork_are_stored_with_the_call(stack: Stack) -> None:
    (task_id,) = dial(stack, 1, "quick")
    channel = stack.ended(task_id)["asterisk_channel"]
    unique = f"dialog-{task_id}"

    def forked() -> list[tuple[str, str, str, dict[str, str]]] | None:
        with psycopg2.connect(stack.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT name, uniqueid, channel, body FROM events"
                " WHERE linkedid = %s AND name LIKE 'AudioFork%%' ORDER BY id",
                (unique,),
            )
            rows = cursor.fetchall()
        connection.close()
        return rows if rows and rows[-1][0] == "AudioForkStop" else None

    rows = stack.wait_for("the fork's events to be stored", forked)
    what = ("Start", "Connected", "Disconnected", "Stop")
    assert [row[:3] for row in rows] == [(f"AudioFork{one}", unique, channel) for one in what]
    assert len({row[3]["AudioForkID"] for row in rows}) == 1
    stop = rows[-1][3]
    assert (stop["Connections"], stop["DroppedInMs"], stop["BadMessages"]) == ("1", "0", "0")


def test_postgresql_away_under_calls(tmp_path: Path, asterisk: str) -> None:
    server = EmbeddedPostgres(tmp_path / "own-postgres")
    dsn = server.start()
    try:
        with (
            probing_stack(tmp_path / "stack", asterisk, DIALOG_DATABASE_URL=dsn) as stack,
            window(stack) as found,
        ):
            tasks = dial(stack, CALLS, "article")
            stack.wait_for("the calls to be there", lambda: len(talking(stack)) >= 8 or None)
            server.pause()
            assert stack.get("/originate", phone="1000001")[0] == 503
            stack.wait_for("some calls to end", lambda: up(stack) <= 2 * CALLS // 5 or None)
            server.restart()
            for task_id in tasks:
                task = stack.ended(task_id, 90)
                assert task["reason"] in ("completed", "busy", "caller_hangup"), task
                assert task["state"] != "done" or task["transcript"], "no word is lost"
            assert compare(stack, found, dsn) > 20 * CALLS
    finally:
        server.stop()


def up(stack: Stack) -> int:
    """Calls that are up; those of the silent subscribers, two of five, last longest."""
    return len(stack.lab.pbx.channels())


def talking(stack: Stack) -> list[dict[str, Any]]:
    tasks = stack.get("/tasks", changed_since="0", limit="1000")[1]["tasks"]
    return [task for task in tasks if task["state"] == "talking"]
