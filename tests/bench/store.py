"""The event log's rate and delay; the status door's rate."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from stack import Stack

from tests.bench.figures import Sample, Table
from tests.bench.talks import database, rows

POLL_S = 0.01


@dataclass(frozen=True)
class EventDelay:
    """ms; ``per_s``: events stored in a second."""

    per_s: float
    received: Sample  # Asterisk's Timestamp → received by the listener
    stored: Sample  # Asterisk's Timestamp → seen as committed by another connection


def event_delay(stack: Stack, seconds: float) -> EventDelay:
    """Watch the table for a while, a look every 10 ms: what is found is committed."""
    query = (
        "SELECT id, extract(epoch FROM received_at), body->>'Timestamp' FROM events "
        "WHERE id > %s ORDER BY id"
    )
    received, stored = [], []
    with database(stack) as made:
        last = rows(made, "SELECT coalesce(max(id), 0) FROM events")[0][0]
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            found = rows(made, query, last)
            now = time.time()
            for number, received_at, stamp in found:
                last = number
                if stamp is not None:
                    received.append((float(received_at) - float(stamp)) * 1000)
                    stored.append((now - float(stamp)) * 1000)
            time.sleep(POLL_S)
        took = time.monotonic() - began
    return EventDelay(len(stored) / took, Sample.of(received), Sample.of(stored))


@dataclass(frozen=True)
class Polling:
    """Of one kind of request: rate with several clients, latency of each."""

    what: str
    per_s: float
    taken: Sample  # ms


def polling(stack: Stack, what: str, path: str, seconds: float, clients: int = 4) -> Polling:
    """GET the same path with CLIENTS connections kept alive."""
    taken: list[float] = []
    ends = time.monotonic() + seconds
    address = urlsplit(stack.url)

    def client() -> None:
        door = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
        headers = {"Authorization": f"Bearer {stack.token}"}
        while (began := time.monotonic()) < ends:
            door.request("GET", path, headers=headers)
            answer = door.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status}")
            taken.append((time.monotonic() - began) * 1000)
        door.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Polling(what, len(taken) / seconds, Sample.of(taken))


def pollings(stack: Stack, seconds: float) -> list[Polling]:
    """The ways to ask for statuses."""
    with database(stack) as made:
        ids = [str(row[0]) for row in rows(made, "SELECT id FROM tasks LIMIT 50")]
        last = rows(made, "SELECT max(change) FROM tasks")[0][0]
    kinds = {
        "`GET /tasks/<id>`": f"/tasks/{ids[0]}",
        "`GET /tasks?ids=` of 50": f"/tasks?ids={','.join(ids)}",
        "`GET /tasks?changed_since=`, nothing new": f"/tasks?changed_since={last}",
    }
    return [polling(stack, what, path, seconds) for what, path in kinds.items()]


def event_table(found: EventDelay, calls: float) -> Table:
    table = Table(
        f"AMI events, the article's talk, {calls:.0f} calls in progress",
        ("ms", "samples", "median", "p95", "max"),
    )
    table.add("Asterisk's Timestamp → received by the listener", *found.received.cells(1))
    table.add("Asterisk's Timestamp → committed row", *found.stored.cells(1))
    table.notes = [
        f"{found.per_s:.0f} events/s stored. Committed: seen by another connection that looks "
        "every 10 ms, so up to 10 ms too late. Clock: CLOCK_REALTIME of one machine."
    ]
    return table


def polling_table(found: list[Polling]) -> Table:
    table = Table(
        "Status polls, 4 clients, no call", ("request", "per second", "median, ms", "p95, ms")
    )
    for polled in found:
        taken = polled.taken
        table.add(polled.what, f"{polled.per_s:.0f}", f"{taken.median:.1f}", f"{taken.p95:.1f}")
    table.notes = ["The clients share the two cores with the server."]
    return table
