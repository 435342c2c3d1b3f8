"""How long a caller waits: to be dialled, to be listened to, to be answered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stack import Stack

from tests.bench.figures import Sample, Table
from tests.bench.talks import BargeIn, Round, number
from tests.bench.wire import Wire

HEAD = ("ms", "samples", "median", "p95", "max")
BETWEEN_S = 0.08


@dataclass(frozen=True)
class Dialled:
    """Of ``GET /originate``: until the INVITE, until the HTTP answer. ms."""

    invite: list[float]
    answer: list[float]


def dial(stack: Stack, count: int) -> Dialled:
    """COUNT requests one after the other, to numbers that reject the call at once."""
    found = Dialled([], [])
    with Wire(stack.lab.ports, rtp=False) as wire:
        for _ in range(count):
            phone = number("107")
            sent_at = time.time()
            stack.originate(phone)
            found.answer.append((time.time() - sent_at) * 1000)
            if (invite := wire.invite(phone)) is not None:
                found.invite.append((invite.at - sent_at) * 1000)
            time.sleep(BETWEEN_S)
    return found


def dial_table(idle: Dialled, busy: Dialled) -> Table:
    table = Table("From GET /originate to the INVITE", HEAD)
    for when, dialled in (("idle", idle), ("50 calls up", busy)):
        table.add(f"request sent → INVITE on the wire, {when}", *Sample.of(dialled.invite).cells(1))
        table.add(f"request sent → HTTP answer, {when}", *Sample.of(dialled.answer).cells(1))
    table.notes = [
        "Clock: CLOCK_REALTIME; the client's before it connects, the kernel's at the packet. Each "
        "request opens a connection of its own."
    ]
    return table


def barge_in_tables(
    alone: list[Round],
    crowded: list[Round],
    files: list[Round],
    words: list[Round],
    recogniser_ms: float,
) -> list[Table]:
    """Barge-in, and the next prompt, at 1 call at a time and at 50 at once; and at 1 with prompts
    from files, and with those that voice only pauses. ``recogniser_ms``: the local recogniser's
    CPU time per utterance."""
    one, fifty, filed, paused = (
        [call for r in rounds for call in r.calls] for rounds in (alone, crowded, files, words)
    )
    cut = Table("Barge-in: from the start of speech to the end of the prompt", HEAD)
    after = Table("From the end of speech to the start of the next prompt", HEAD)
    for when, calls in (("1 call", one), ("50 calls", fifty)):
        _add(cut, when, calls, _CUT)
        _add(after, when, calls, _NEXT)
    _add(cut, "1 call, Asterisk plays a file", filed, _CUT[:1])
    _add(cut, '1 call, barge_in="words", until the pause', paused, _PAUSED)
    _add(after, '1 call, barge_in="words"', paused, _NEXT)
    cut.notes = [AIM, _noise(crowded)]
    after.notes = [
        "The silence that ends an utterance (`end_silence_ms`, 600) is waited for by intent. The "
        "recogniser is the local server: one process, one core, "
        f"{recogniser_ms:.0f} ms of CPU per utterance. At 50 calls all subscribers speak in the "
        f"same second: {50 * recogniser_ms / 1000:.1f} s of work at once for that process, "
        "the likely reason why their texts come late. SpeechKit's own time is not in this."
    ]
    return [cut, after]


AIM = (
    "Aim: median 80 ms, p95 120 ms. "
    "Clock: the kernel's at the packet, plus the sample's place in it."
)

_Part = tuple[str, Callable[[BargeIn], float]]
_CUT: list[_Part] = [
    ("**speech's first sample → the prompt's last**", lambda call: call.cut),
    ("· speech's first packet → voice decided", lambda call: call.detected),
    ("· voice decided → `clear` written", lambda call: call.cleared),
    ("· `clear` written → the prompt's last sample", lambda call: call.ran_on),
]
_PAUSED = [
    *_CUT[:2],
    ("· voice decided → `pause` written", _CUT[2][1]),
    ("· `pause` written → the prompt's last sample", _CUT[3][1]),
]
_NEXT: list[_Part] = [
    ("**speech's last sample → the next prompt's first**", lambda call: call.next),
    ("· silence, until the end is decided", lambda call: call.silence),
    ("· the end decided → `hear` returns with the text", lambda call: call.recognised),
    ("· `hear` returned → the next prompt's first sample", lambda call: call.started),
    ("the same without the silence", lambda call: call.next - call.silence),
]


def _add(table: Table, when: str, calls: list[BargeIn], parts: Iterable[_Part]) -> None:
    for name, value in parts:
        table.add(f"{when}: {name}", *Sample.of(map(value, calls)).cells())


def _noise(crowded: list[Round]) -> str:
    rounds = "; ".join(
        f"p95 {Sample.of(call.cut for call in r.calls).p95:.0f} ms with {r.busy:.0f} % of "
        f"{100 * (os.cpu_count() or 1)} % busy, {r.others:.0f} % of it not the set's"
        for r in crowded
    )
    return f"The rounds of 50, from the first request to the last end: {rounds}."
