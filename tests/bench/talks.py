"""The set under test, calls to load it with, and what the wire says about them."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from lab_sound import tone, write
from psycopg2.extensions import connection as Connection
from stack import Stack

from tests.bench import meters
from tests.bench.wire import Cut, Wire

SCENARIOS = Path(__file__).with_name("scenarios")
BIP_MS = 200
SETTLE_S = 3.0

_numbers = itertools.count(10_000)


def number(code: str) -> str:
    """A number of this behaviour that nobody dialled before."""
    return f"{code}{next(_numbers)}"


def bench_stack(folder: Path) -> Stack:
    """A stack whose backend knows the benchmark's scenarios and tones; settings as they come but
    for the number of new calls per second."""
    tones = folder.resolve() / "lab" / "sounds"
    tones.mkdir(parents=True)
    write(tones / "long-tone.wav", tone(30_000))
    write(tones / "bip.wav", tone(BIP_MS))
    return Stack(
        folder,
        env={"DIALOG_SCENARIOS_DIR": str(SCENARIOS), "DIALOG_DIAL_RATE_PER_S": "50"},
        globals={"LAB_TONES": str(tones)},
        tapes=False,
    )


@contextmanager
def database(stack: Stack) -> Iterator[Connection]:
    """A connection that sees what is committed."""
    made = psycopg2.connect(stack.dsn)
    made.autocommit = True
    try:
        yield made
    finally:
        made.close()


def rows(made: Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
    with made.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


@dataclass(frozen=True)
class BargeIn:
    """One call in which the subscriber spoke over a tone. All in ms.

    cut   from the first sample of the subscriber's speech to the last of the prompt
    next  from the last sample of its speech to the first of the next prompt
    The rest are the parts of both, in order.
    """

    cut: float
    next: float
    detected: float  # speech's first packet on the wire → voice decided
    cleared: float  # voice decided → `clear` is written to the fork; nan: played from a file
    ran_on: float  # `clear` is written → the prompt's last sample
    silence: float  # speech's last sample → the end was decided (end_silence_ms and what is added)
    recognised: float  # the end was decided → hear() returns with the text
    started: float  # hear() returns → the next prompt's first sample


def barge_in(result: Mapping[str, Any], cut: Cut) -> BargeIn:
    """What wire and marks tell of one call."""
    marks = result["marks"]
    cleared_at = marks.get("cleared", math.nan)
    ms = 1000.0
    return BargeIn(
        cut=(cut.prompt_ended_at - cut.speech_at) * ms,
        next=(cut.next_prompt_at - cut.speech_ended_at) * ms,
        detected=(marks["voice"] - cut.speech_packet_at) * ms,
        cleared=(cleared_at - marks["voice"]) * ms,
        ran_on=(cut.prompt_ended_at - cleared_at) * ms,
        silence=(marks["voice_ended"] - cut.speech_ended_at) * ms,
        recognised=(marks["heard"] - marks["voice_ended"]) * ms,
        started=(cut.next_prompt_at - marks["heard"]) * ms,
    )


@dataclass(frozen=True)
class Round:
    """Calls at the same time; ``busy``, ``others``: per cent of one core that everything on the
    machine, and what does not belong to the set, used meanwhile."""

    calls: list[BargeIn]
    busy: float
    others: float


@dataclass(frozen=True)
class Ended:
    """A call that is over: its task, and the port our PBX received its audio on."""

    phone: str
    task: Mapping[str, Any]
    rtp_port: int | None

    @property
    def result(self) -> Mapping[str, Any]:
        return self.task["result"] or {}

    def __str__(self) -> str:
        return f"{self.phone}: {self.task['state']} {self.task['reason']} {self.result}"


def call_all(
    stack: Stack, wire: Wire, code: str, scenario: str, at_once: int, between_s: float = 0.0
) -> list[Ended]:
    """AT_ONCE calls to subscribers of this behaviour, all seen on the wire to their end."""
    tasks: dict[str, str] = {}
    for phone in (number(code) for _ in range(at_once)):
        tasks[phone] = stack.originate(phone, scenario=scenario)["id"]
        time.sleep(between_s)
    ended = {phone: stack.ended(task, 60) for phone, task in tasks.items()}
    time.sleep(0.05)
    ports = {phone: invite.rtp_port for phone, invite in wire.invites().items()}
    return [Ended(phone, task, ports.get(phone)) for phone, task in ended.items()]


def barge_ins(
    stack: Stack, who: meters.Groups, at_once: int, rounds: int, scenario: str = "bench-barge"
) -> tuple[list[Round], list[str]]:
    """ROUNDS times AT_ONCE calls; and what went wrong in those that are not measured."""
    found: list[Round] = []
    failed: list[str] = []
    for _ in range(rounds):
        calls: list[BargeIn] = []
        with Wire(stack.lab.ports, rtp=True) as wire:
            before = meters.Snapshot.take(who)
            ended = call_all(stack, wire, "102", scenario, at_once)
            used = meters.Snapshot.take(who).percent_since(before)
            for call in ended:
                cut = wire.cut(call.rtp_port) if call.rtp_port is not None else None
                if cut is None or call.result.get("end") != "interrupted":
                    failed.append(str(call))
                else:
                    calls.append(barge_in(call.result, cut))
            if lost := wire.lost():
                failed.append(f"the sniffer lost {lost} packets")
        found.append(Round(calls, sum(used.values()), used[meters.OTHERS]))
    return found, failed


@contextmanager
def steady(stack: Stack, calls: int) -> Iterator[Sequence[str]]:
    """CALLS talks with a silent subscriber: a tone in a loop, recognition listening. Gives the
    tasks; at the end the subscriber hangs up."""
    tasks = [stack.originate(number("111"), scenario="bench-steady")["id"] for _ in range(calls)]
    try:
        stack.wait_for(f"{calls} talks", lambda: talking(stack) >= calls or None)
        time.sleep(SETTLE_S)
        yield tasks
    finally:
        clear(stack)


def talking(stack: Stack) -> int:
    """Calls in progress, as the tasks have it."""
    with database(stack) as made:
        return int(rows(made, "SELECT count(*) FROM tasks WHERE state = 'talking'")[0][0])


def clear(stack: Stack) -> None:
    """Let the subscriber hang up every call, and wait until all is over."""
    stack.lab.subscriber.cli("channel request hangup all")
    stack.wait_for("the channels to go", lambda: not stack.lab.pbx.channels() or None)
    stack.wait_for("the tasks to end", lambda: not talking(stack) or None)
