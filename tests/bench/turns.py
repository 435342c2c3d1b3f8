#!/usr/bin/env python3
"""Turns over real calls: what barge_in="words" makes of coughs, back-channel words, interruptions;
and how long a packet takes through a bridge.

Each sound of the test set of alarms.py is said over a prompt, in a call of its own; what became of
the prompt is read off the two tapes, which are in step to half a packet. A packet's way through
our PBX is read off the wire: the same alaw bytes come to it and leave it.

    sudo -E python3 tests/bench/turns.py [--asterisk 16|22] [--each 40] [--at-once 10]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0:1] = [str(ROOT), str(ROOT / "asterisk" / "lab")]

import lab_sound  # noqa: E402
from lab_config import DEFAULT_VERSION, RTP_PORTS, VERSIONS, Ports  # noqa: E402
from lab_script import LabStep, word_file, write_script  # noqa: E402
from lab_wire import Packet, Sniffer, alaw  # noqa: E402
from stack import Stack  # noqa: E402

from tests.bench import alarms  # noqa: E402
from tests.bench.figures import Sample, Table  # noqa: E402

TONE_MS = 4000
OVER_S = 1.0
ENDS_S = 300.0
KINDS = ("cough", "back-channel", "interruption")
SCENARIOS = Path(__file__).with_name("scenarios")


@dataclass(frozen=True)
class Turn:
    """What became of the prompt under one sound, by the tapes; ms. ``paused``: from the sound's
    first sample to the prompt's last one; None: it was not. ``pause``: how long it stood still."""

    kind: str
    name: str
    paused: float | None
    pause: float | None
    went_on: bool


def turns_stack(folder: Path, asterisk: str, at_once: int) -> Stack:
    sounds = folder.resolve() / "lab" / "sounds"
    sounds.mkdir(parents=True)
    lab_sound.write(sounds / "tone-4s.wav", lab_sound.tone(TONE_MS))
    env = {
        "DIALOG_SCENARIOS_DIR": str(SCENARIOS),
        "DIALOG_DIAL_RATE_PER_S": "50",
        "DIALOG_MAX_CALLS": str(at_once),
        "DIALOG_VARIABLES": "hints,leg",
    }
    return Stack(folder, env=env, asterisk=asterisk)


# -- false alarms


def chosen(each: int) -> list[alarms.Sound]:
    """At most EACH sounds of each kind, from all over the set."""
    known = [
        *alarms.coughs(),
        *alarms.words("back-channel", alarms.BACKCHANNEL),
        *alarms.words("interruption", alarms.INTERRUPTIONS),
    ]
    found: list[alarms.Sound] = []
    for kind in KINDS:
        mine = [sound for sound in known if sound.kind == kind]
        count = min(each, len(mine))
        found += [mine[place * len(mine) // count] for place in range(count)]
    return found


def false_alarms(stack: Stack, sounds: Sequence[alarms.Sound]) -> tuple[list[Turn], list[str]]:
    """A call for each; and what should not be."""
    hints = "-".join(
        phrase.replace(" ", "_")
        for phrase in (*alarms.BACKCHANNEL, *alarms.INTERRUPTIONS)
        if phrase.replace(" ", "").isalpha()
    )
    tasks = {}
    for number, sound in enumerate(sounds):
        phone, text = f"1507{number:03}", f"sound {number}"
        word_file(stack.lab, text, array("h", sound.pcm))
        write_script(stack.lab, phone, [LabStep("over", OVER_S, "say", text)])
        task = stack.originate(phone, scenario="bench-alarm", var_hints=hints)
        tasks[phone] = str(task["id"]), sound
    turns, failures = [], []
    for phone, (task_id, sound) in tasks.items():
        task = stack.ended(task_id, ENDS_S)
        if task["state"] != "done":
            failures.append(f"{sound.name}: {task['reason']} {task['error']}")
            continue
        turn = read(stack, phone, sound)
        if turn.went_on != (task["result"]["end"] == "completed"):
            failures.append(f"{sound.name}: {task['result']}, on the tapes {turn}")
        turns.append(turn)
    return turns, failures


def read(stack: Stack, phone: str, sound: alarms.Sound) -> Turn:
    prompt = lab_sound.spans(lab_sound.read(stack.lab.heard(phone)), gap_ms=60)
    voice = lab_sound.spans(lab_sound.read(stack.lab.said(phone)), gap_ms=60)
    went_on = sum(span.length_ms for span in prompt) > TONE_MS - 100
    paused = pause = None
    if voice and (len(prompt) > 1 or not went_on):
        paused = prompt[0].end_ms - voice[0].start_ms
        pause = prompt[1].start_ms - prompt[0].end_ms if len(prompt) > 1 else None
    return Turn(sound.kind, sound.name, paused, pause, went_on)


def alarm_table(turns: Sequence[Turn]) -> Table:
    table = Table(
        'barge_in="words" over real calls',
        ("sounds", "paused the prompt", "it went on", "it was stopped",
         "voice → pause, ms: median, p95, max", "pause, ms: median, p95, max"),
    )  # fmt: skip
    for kind in KINDS:
        mine = [turn for turn in turns if turn.kind == kind]
        if not mine:
            continue
        on = sum(turn.went_on for turn in mine)
        table.add(
            f"{len(mine)} × {kind}",
            str(sum(turn.paused is not None for turn in mine)),
            f"{on} ({on / len(mine):.0%})",
            f"{len(mine) - on} ({1 - on / len(mine):.0%})",
            ", ".join(Sample.of(t.paused for t in mine if t.paused is not None).cells()[1:]),
            ", ".join(Sample.of(t.pause for t in mine if t.pause is not None).cells()[1:]),
        )
    wrong = [turn.name for turn in turns if turn.went_on == (turn.kind == "interruption")]
    table.notes = [
        f"Wrong: {', '.join(wrong) or 'none'}.",
        "Clock: the tapes', which are made of the kernel's times of the packets, in step to 10 ms.",
    ]
    return table


# -- bridges


def transit(packets: Iterable[Packet], ports: Ports) -> list[float]:
    """How long each packet with sound was in our PBX, ms: from its coming in to the same bytes'
    going out."""
    ours = range(ports.pbx_rtp, ports.pbx_rtp + RTP_PORTS)
    came: dict[bytes, float] = {}
    found = []
    for packet in packets:
        audio = alaw(packet)
        if audio is None or len(set(audio)) < 20:
            continue  # silence: nobody can tell one from another
        if packet.target in ours:
            came[audio] = packet.at
        elif packet.source in ours and audio in came:
            found.append((packet.at - came.pop(audio)) * 1000)
    return found


def bridged(stack: Stack, count: int) -> list[float]:
    """COUNT bridges, one after the other; the caller speaks."""
    found: list[float] = []
    for number in range(count):
        phone = f"1508{number:03}"
        write_script(stack.lab, phone, SPEAKS)
        task = stack.originate(phone, scenario="bench-bridge", var_leg=f"103{number:05}")
        found += listened(stack, [str(task["id"])])
    return found


def conferred(stack: Stack, count: int) -> list[float]:
    """The same in a conference."""
    found: list[float] = []
    for number in range(count):
        phone = f"1509{number:03}"
        write_script(stack.lab, phone, SPEAKS)
        other = f"1509{number + count:03}"
        write_script(stack.lab, other, [LabStep("then", 8, "hangup")])
        tasks = [stack.originate(one, scenario="bench-room")["id"] for one in (phone, other)]
        found += listened(stack, [str(task) for task in tasks])
    return found


SPEAKS = [
    LabStep("then", 3, "say", "wait a moment please let me say something first"),
    LabStep("then", 0.5, "hangup"),
]


def listened(stack: Stack, tasks: Sequence[str]) -> list[float]:
    ports = stack.lab.ports
    first = min(ports.pbx_rtp, ports.subscriber_rtp)
    sniffer = Sniffer(first, max(ports.pbx_rtp, ports.subscriber_rtp) + RTP_PORTS - 1)
    try:
        for task in tasks:
            stack.ended(task, ENDS_S)
        return transit(sniffer.packets(), ports)
    finally:
        sniffer.close()


def bridge_table(bridge: Sequence[float], room: Sequence[float]) -> Table:
    table = Table(
        "A voice's packet in our PBX, from its coming to its going",
        ("ms", "packets", "median", "p95", "max"),
    )
    table.add("caller and leg in a bridge", *Sample.of(bridge).cells(2))
    table.add("two in a conference, `mixing_interval` 20", *Sample.of(room).cells(2))
    table.notes = [
        "Two channels that are not bridged: no packet of one goes to the other. Clock: the "
        "kernel's at the packet. What a conference mixed with another sound is not in it."
    ]
    return table


def tables(
    folder: Path, asterisk: str, *, each: int, at_once: int
) -> tuple[list[Table], list[str]]:
    """All of it, in a stack of its own."""
    with turns_stack(folder, asterisk, at_once) as stack:
        Path(folder).chmod(0o755)
        turns, failures = false_alarms(stack, chosen(each))
        bridges = max(1, each // 10)
        measured = bridge_table(bridged(stack, bridges), conferred(stack, bridges))
    return [alarm_table(turns), measured], failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--asterisk", choices=tuple(VERSIONS), default=DEFAULT_VERSION)
    parser.add_argument("--each", type=int, default=40, help="sounds of a kind")
    parser.add_argument("--at-once", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dialog-turns-") as folder:
        found, failures = tables(
            Path(folder), options.asterisk, each=options.each, at_once=options.at_once
        )
    print("\n".join(itertools.chain((table.markdown() for table in found), failures)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
