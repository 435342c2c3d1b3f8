"""How long the caller waits for a prompt: from ``speak()`` to its first sample on the wire."""

from __future__ import annotations

from dataclasses import dataclass

from stack import Stack

from tests.bench.figures import Sample, Table
from tests.bench.latency import HEAD
from tests.bench.talks import Ended, call_all
from tests.bench.wire import Wire

# Nearly all of 50 calls are still there when the last one comes. At once they would have the local
# synthesiser late for the backend's deadline; and it takes 40 requests a second, as SpeechKit does.
BETWEEN_S = 0.08


@dataclass(frozen=True)
class FirstSound:
    """One call that spoke a text, then the same text again. All in ms."""

    made: float  # speak() was called → the synthesiser's first audio has come
    heard: float  # speak() was called → the first sample is on the wire
    kept: float  # the same for the second time: from the cache


def first_sounds(stack: Stack, at_once: int, rounds: int) -> tuple[list[FirstSound], list[str]]:
    """ROUNDS times AT_ONCE calls; and what went wrong in those that are not measured."""
    found: list[FirstSound] = []
    failed: list[str] = []
    for _ in range(rounds):
        with Wire(stack.lab.ports, rtp=True) as wire:
            for call in call_all(stack, wire, "111", "bench-speak", at_once, BETWEEN_S):
                if (sound := _first_sound(wire, call)) is not None:
                    found.append(sound)
                else:
                    failed.append(str(call))
            if lost := wire.lost():
                failed.append(f"the sniffer lost {lost} packets")
    return found, failed


def _first_sound(wire: Wire, call: Ended) -> FirstSound | None:
    marks = call.result.get("marks")
    if marks is None or call.rtp_port is None:
        return None
    first = wire.first_played(call.rtp_port, marks["speak"])
    second = wire.first_played(call.rtp_port, marks["again"])
    if first is None or second is None:
        return None
    return FirstSound(
        made=(marks["made"] - marks["speak"]) * 1000,
        heard=(first - marks["speak"]) * 1000,
        kept=(second - marks["again"]) * 1000,
    )


def first_sound_table(alone: list[FirstSound], crowded: list[FirstSound]) -> Table:
    table = Table("From `speak()` to the first sample of a synthesised prompt", HEAD)
    for when, calls in (("1 call", alone), ("50 calls", crowded)):
        for name, values in (
            ("a new text, on the wire", (call.heard for call in calls)),
            ("· `speak()` → the synthesiser's first audio", (call.made for call in calls)),
            ("· **that → the first sample**", (call.heard - call.made for call in calls)),
            ("**a text from the cache**, on the wire", (call.kept for call in calls)),
        ):
            table.add(f"{when}: {name}", *Sample.of(values).cells(1))
    table.notes = [
        "Aim: 100 ms besides the synthesis: the lines in bold. The first sample is the prompt's, "
        "though speech begins with silence. Each call speaks a text of its own. 50 calls are "
        f"dialled within {50 * BETWEEN_S:.0f} s; what they wait for is the local synthesiser, four "
        "programs at a time on these cores. SpeechKit's own time is not in this."
    ]
    return table
