"""The set under test, calls to load it with, and what the tapes say about them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from lab_sound import read, spans, tone, write
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

    tape_cut, tape_next  what the subscriber's PBX recorded: from the first sample of its speech to
                         the last of the prompt; from the last sample of its speech to the first of
                         the next prompt
    wire_cut, wire_next  the same between packets on the wire
    The rest are the parts of wire_cut and wire_next, in order.
    """

    tape_cut: float
    tape_next: float
    wire_cut: float
    wire_next: float
    detected: float  # speech's first packet on the wire → voice decided
    stop_answered: float  # voice decided → Asterisk has answered ControlPlayback
    ran_on: float  # voice decided → the prompt's last sample
    silence: float  # speech's last sample → the end was decided (end_silence_ms and what is added)
    recognised: float  # the end was decided → hear() returns with the text
    started: float  # hear() returns → the next prompt's first sample


def barge_in(stack: Stack, phone: str, result: Mapping[str, Any], cut: Cut) -> BargeIn:
    """What tapes, wire and marks tell of one call."""
    said = spans(read(stack.lab.said(phone)), gap_ms=300)
    heard = spans(read(stack.lab.heard(phone)), gap_ms=200)
    marks = result["marks"]
    ms = 1000.0
    return BargeIn(
        tape_cut=heard[0].end_ms - said[0].start_ms,
        tape_next=heard[1].start_ms - said[0].end_ms,
        wire_cut=(cut.prompt_ended_at - cut.speech_at) * ms,
        wire_next=(cut.next_prompt_at - cut.speech_ended_at) * ms,
        detected=(marks["voice"] - cut.speech_packet_at) * ms,
        stop_answered=(marks["stop_answered"] - marks["stop_sent"]) * ms,
        ran_on=(cut.prompt_ended_at - marks["voice"]) * ms,
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


def barge_ins(
    stack: Stack, who: meters.Groups, at_once: int, rounds: int
) -> tuple[list[Round], list[str]]:
    """ROUNDS times AT_ONCE calls; and what went wrong in those that are not measured."""
    found: list[Round] = []
    failed: list[str] = []
    for _ in range(rounds):
        calls: list[BargeIn] = []
        with Wire(stack.lab.ports, rtp=True) as wire:
            before = meters.Snapshot.take(who)
            phones = [number("102") for _ in range(at_once)]
            tasks = [stack.originate(phone, scenario="bench-barge")["id"] for phone in phones]
            ended = [stack.ended(task, 60) for task in tasks]
            used = meters.Snapshot.take(who).percent_since(before)
            time.sleep(0.05)
            invites = wire.invites()
            for phone, task in zip(phones, ended, strict=True):
                cut = wire.cut(invites[phone].rtp_port) if phone in invites else None
                result = task["result"] or {}
                if cut is None or result.get("end") != "interrupted":
                    failed.append(f"{phone}: {task['state']} {task['reason']} {result}")
                else:
                    calls.append(barge_in(stack, phone, result, cut))
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
