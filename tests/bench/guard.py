#!/usr/bin/env python3
"""The fork's message `guard`: how long a switch takes, and how exact the place in a prompt is.

Each call plays a prompt that is silent but for a burst at each place where a guard is to come in
force; on the wire the burst's first sample says when that was. Between the places guards are asked
for at once.

    sudo -E python3 tests/bench/guard.py [--asterisk 16|22] [--calls 1 10] [--places 20]
"""

from __future__ import annotations

import argparse
import array
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[0:1] = [str(ROOT), str(ROOT / "asterisk" / "lab")]

from lab import Lab  # noqa: E402
from lab_ami import Ami  # noqa: E402
from lab_config import DEFAULT_VERSION, VERSIONS  # noqa: E402

from tests.bench.figures import Sample, Table  # noqa: E402
from tests.bench.wire import Wire  # noqa: E402

CALLS = (1, 10)
PLACES = 20
STEP_MS = 1000
BURST_MS = 200
PART_MS = 250
"""Audio is sent in such parts, one ahead of its time: guards asked for at once wait behind none."""
AHEAD_MS = 1000
ENDS_S = 30.0
AIM_MS = 20


@dataclass
class Call:
    """One call's server side. Times are seconds of CLOCK_REALTIME."""

    number: str
    connection: ServerConnection | None = None
    connected: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    asked: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def say(self, kind: str, **fields: object) -> None:
        assert self.connection
        self.connection.send(json.dumps({"type": kind, **fields}))

    def hear(self, text: str) -> None:
        at, row = time.time(), json.loads(text)
        if row["type"] == "guard":
            self.told[row["name"]] = at
        elif row["type"] == "error":
            self.failures.append(f"{self.number}: {row}")
        elif row["type"] == "played":
            self.over.set()


class Prompt:
    """The places of one prompt, ms, and its audio."""

    def __init__(self, seed: int, places: int) -> None:
        dice = random.Random(seed)
        self.places = [
            STEP_MS * number + dice.randrange(STEP_MS - BURST_MS - 300)
            for number in range(1, places + 1)
        ]
        self._loud = array.array("h", [8000, -8000] * (BURST_MS * 4)).tobytes()

    @property
    def length_ms(self) -> int:
        return self.places[-1] + BURST_MS + 300

    def audio(self) -> bytes:
        found = bytearray(self.length_ms * 16)
        for place in self.places:
            found[place * 16 : (place + BURST_MS) * 16] = self._loud
        return bytes(found)


def play(call: Call, prompt: Prompt) -> None:
    """Send the prompt as it is played, and ask for a guard with each part of it."""
    call.say("play", play="p")
    for number, place in enumerate(prompt.places):
        mode = ("block", "pass")[number % 2]
        call.say("guard", name=f"place-{number}", mode=mode, play="p", at_ms=place, limit_ms=5000)
    audio, began = prompt.audio(), time.monotonic()
    for number, start in enumerate(range(0, prompt.length_ms, PART_MS)):
        due = began + (start - AHEAD_MS) / 1000
        time.sleep(max(0.0, due - time.monotonic()))
        assert call.connection
        call.connection.send(audio[start * 16 : (start + PART_MS) * 16])
        if start > AHEAD_MS:
            call.asked[f"now-{number}"] = time.time()
            call.say("guard", name=f"now-{number}", mode=("buffer", "pass")[number % 2])
    call.say("end", play="p")
    if not call.over.wait(ENDS_S):
        call.failures.append(f"{call.number}: the prompt is not over")


class Bench:
    """A lab, and a server for its forks."""

    def __init__(self, folder: Path, asterisk: str) -> None:
        self._lab = Lab(folder, asterisk=asterisk)
        self._calls: dict[str, Call] = {}
        self._first = 0

    @contextmanager
    def up(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self._lab)
            pbx = self._lab.pbx
            self._ami = stack.enter_context(
                Ami(pbx.ami_port, pbx.observer_user, pbx.observer_secret)
            )
            server = stack.enter_context(
                serve(self._serve, "127.0.0.1", 0, compression=None, ping_interval=None)
            )
            self._port = server.socket.getsockname()[1]
            thread = threading.Thread(target=server.serve_forever, name="server")
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            yield

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request
        call = self._calls[connection.request.path.strip("/")]
        call.connection = connection
        call.connected.set()
        try:
            for message in connection:
                if isinstance(message, str):
                    call.hear(message)
        except ConnectionClosed:
            pass

    def measure(self, at_once: int, places: int) -> Measured:
        found = Measured(at_once)
        with Wire(self._lab.ports, rtp=True) as wire:
            calls = [self._dial() for _ in range(at_once)]
            prompts = [Prompt(seed, places) for seed in range(at_once)]
            hands = [
                threading.Thread(target=self._talk, args=(call, prompt), name=call.number)
                for call, prompt in zip(calls, prompts, strict=True)
            ]
            for hand in hands:
                hand.start()
            for hand in hands:
                hand.join()
            self._lab.pbx.cli("channel request hangup all")
            time.sleep(0.5)  # the last packets
            for call in calls:
                found.add(call, wire, places)
            if lost := wire.lost():
                found.failures.append(f"{lost} packets were not seen")
        return found

    def _dial(self) -> Call:
        self._first += 1
        call = Call(f"1037{self._first:03}")
        self._calls[call.number] = call
        values = {
            "LAB_URL": f"ws://127.0.0.1:{self._port}/{call.number}",
            "LAB_OPTIONS": "D(in)",
            "LAB_PLAY": "t(60000)",
        }
        self._ami.originate(call.number, "lab-speak", values)
        return call

    @staticmethod
    def _talk(call: Call, prompt: Prompt) -> None:
        if call.connected.wait(ENDS_S):
            play(call, prompt)
        else:
            call.failures.append(f"{call.number}: no fork")


@dataclass
class Measured:
    """All of so many calls at once, ms."""

    at_once: int
    switches: list[float] = field(default_factory=list)
    """Message sent → told that it is in force."""
    places: list[float] = field(default_factory=list)
    """Told that it is in force, less the moment of the place on the wire."""
    failures: list[str] = field(default_factory=list)

    def add(self, call: Call, wire: Wire, places: int) -> None:
        self.failures += call.failures
        for name, at in call.asked.items():
            if name in call.told:
                self.switches.append((call.told[name] - at) * 1000)
            else:
                self.failures.append(f"{call.number}: {name} was not told")
        invite = wire.invite(call.number)
        onsets = wire.onsets(invite.rtp_port) if invite else []
        told = [call.told[f"place-{n}"] for n in range(places) if f"place-{n}" in call.told]
        if len(onsets) == len(told) == places:
            self.places += [(b - a) * 1000 for a, b in zip(onsets, told, strict=True)]
        else:
            self.failures.append(f"{call.number}: {len(onsets)} bursts, {len(told)} places told")


def guard_table(found: Sequence[Measured]) -> Table:
    table = Table("Guard: keys switched by the fork's server", ("ms", "samples", "median", "p95",
                                                                 "max"))  # fmt: skip
    for one in found:
        calls = "one call" if one.at_once == 1 else f"{one.at_once} calls at once"
        table.add(f"at once: message sent → told back, {calls}", *Sample.of(one.switches).cells(1))
    for one in found:
        calls = "one call" if one.at_once == 1 else f"{one.at_once} calls at once"
        count, _, p95, most = Sample.of(map(abs, one.places)).cells(1)
        middle = f"{Sample.of(one.places).median:+.1f}"
        table.add(
            f"at a place: told, less the place on the wire, {calls}", count, middle, p95, most
        )
    table.notes = [
        "In force is a switch before it is told: the first is what the server waits at most, with "
        "the way there and back. Of a place median is with its sign, p95 and max without; the "
        "guard comes with the frame of 20 ms that begins nearest to it. Clock: the server's, and "
        f"the kernel's at the packet, to the sample. Aim: {AIM_MS} ms, and ±{AIM_MS} ms."
    ]
    return table


def tables(
    folder: Path, asterisk: str, calls: Sequence[int] = CALLS, places: int = PLACES
) -> tuple[list[Table], list[str]]:
    """Measure in a lab of its own in FOLDER; and what should not be."""
    bench = Bench(folder, asterisk)
    with bench.up():
        bench.measure(1, 2)  # warming up
        found = [bench.measure(count, places) for count in calls]
    return [guard_table(found)], [f"guard: {it}" for one in found for it in one.failures]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--asterisk", choices=sorted(VERSIONS), default=DEFAULT_VERSION)
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--places", type=int, default=PLACES, help="in each call, one a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dialog-guard-") as folder:
        Path(folder).chmod(0o755)
        found, failures = tables(Path(folder), options.asterisk, options.calls, options.places)
    print("\n".join([*(table.markdown() for table in found), *failures]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
