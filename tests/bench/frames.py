"""Whether all that Asterisk captured has come to the call that it belongs to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stack import Stack

from tests.bench.figures import Sample, Table
from tests.bench.talks import database, rows

FRAME_MS = 20

_ENDED = re.compile(
    r"AudioFork \S+ of (\S+) to \S+ ended: .*; captured ([\d.]+) s in, [\d.]+ s out, "
    r"sent (\d+) frames, lost ([\d.]+) s, (\d+) connection"
)


@dataclass(frozen=True)
class Account:
    """One call's frames: the module's figures and the backend's."""

    channel: str
    state: str  # of the call
    captured_ms: float  # to 10 ms
    sent: int
    dropped: int
    received: int
    audio_ms: int
    connections: int
    length_ms: float  # of the call, by the backend's clock

    @property
    def unsent(self) -> int:
        """Whole frames captured and not sent. The end of a word is a shorter packet, so a stream
        need not be whole frames; the module fills its last one up."""
        return max(0, math.ceil((self.captured_ms - 5 - FRAME_MS * self.sent) / FRAME_MS))

    @property
    def lost(self) -> int:
        """Frames captured or sent that the call did not receive."""
        return self.unsent + self.sent - self.received


def accounts(stack: Stack) -> tuple[list[Account], int]:
    """Of every talk of this lab; and the number of talks whose fork left no line."""
    forks = _forks(stack)
    found: list[Account] = []
    missing = 0
    query = (
        "SELECT channel, state, figures, extract(epoch FROM ended_at - started_at) FROM calls "
        "WHERE figures IS NOT NULL"
    )
    with database(stack) as made:
        for channel, state, figures, length_s in rows(made, query):
            if (fork := forks.get(channel)) is None:
                missing += 1
                continue
            found.append(_account(fork, state, figures["messages"], figures["audio_ms"], length_s))
    return found, missing


def accounts_alone(stack: Stack, received: Mapping[str, int]) -> list[Account]:
    """Of the forks that ran into a sink alone."""
    forks = _forks(stack)
    return [
        _account(forks[channel], "alone", count, count * FRAME_MS, 0)
        for channel, count in received.items()
        if channel in forks
    ]


def _forks(stack: Stack) -> dict[str, re.Match[str]]:
    log = (stack.lab.pbx.home / "log" / "messages").read_text(errors="replace")
    return {found[1]: found for found in _ENDED.finditer(log)}


def _account(
    fork: re.Match[str], state: str, messages: int, audio_ms: int, length_s: float
) -> Account:
    return Account(
        fork[1],
        state,
        float(fork[2]) * 1000,
        int(fork[3]),
        round(float(fork[4]) * 1000 / FRAME_MS),
        messages,
        audio_ms,
        int(fork[5]),
        float(length_s) * 1000,
    )


def frame_table(found: list[Account], missing: int, alone: list[Account]) -> Table:
    """Captured, sent and received, by who ended the stream."""
    table = Table(
        "Frames (20 ms), all calls of the run",
        ("the stream was ended by", "calls", "captured, s", "sent", "received",
         "dropped by the module", "captured, not sent", "sent, not received", "most in a call"),
    )  # fmt: skip
    table.notes = [
        "Captured and sent are the module's own counts, received is the call's. A stream that ends "
        "within a frame is filled up: 20 ms × sent may be up to 20 ms more than was captured.",
        _length_note(found),
        f"Talks without a line of their fork in Asterisk's log: {missing}. Forks with more than "
        f"one connection: {sum(a.connections != 1 for a in found)}. Talks whose audio_ms is not "
        f"20 ms × messages: {sum(a.audio_ms != FRAME_MS * a.received for a in found)}.",
    ]
    for name, some in (
        ("Asterisk (StopAudioFork; a sink alone)", alone),
        ("the backend (its scenario was over)", [a for a in found if a.state == "done"]),
        ("the subscriber (hung up in mid-talk)", [a for a in found if a.state != "done"]),
    ):
        counts = [sum(column) for column in zip(*map(_counts, some), strict=True)] or [0] * 6
        most = max((a.lost for a in some), default=0)
        table.add(name, str(len(some)), *(f"{count:.0f}" for count in counts), str(most))
    return table


def _counts(a: Account) -> tuple[float, ...]:
    return a.captured_ms / 1000, a.sent, a.received, a.dropped, a.unsent, a.sent - a.received


def _length_note(found: Iterable[Account]) -> str:
    late = Sample.of(a.length_ms - a.audio_ms for a in found)
    return (
        f"The call's length by the backend's clock minus the audio received, ms: median "
        f"{late.median:.0f}, p95 {late.p95:.0f}, max {late.most:.0f}. A subscriber's first packet "
        "comes up to 0.5 s after the answer; after the stream's end the call waits for its last "
        "words."
    )
