#!/usr/bin/env python3
"""What a fork costs Asterisk, beside what MixMonitor costs it: the same calls, one after the other.

sudo -E python3 tests/bench/fork_cost.py [--asterisk 22] [--calls 60 200] [--rounds 5] [--window 8]
"""

from __future__ import annotations

import argparse
import array
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[0:1] = [str(ROOT), str(ROOT / "asterisk" / "lab")]

from lab import Lab  # noqa: E402
from lab_ami import Ami  # noqa: E402
from lab_config import DEFAULT_VERSION, VERSIONS  # noqa: E402
from lab_instance import Instance, wait_until  # noqa: E402

from tests.bench import meters  # noqa: E402
from tests.bench.figures import Table  # noqa: E402

CALLS = (60, 200)
ROUNDS = 5
WINDOW_S = 8.0
SETTLE_S = 1.5
PROMPT_MS = 60_000
FRAMES_S = 50
SLACK = 0.1
"""Of what comes out of a fork in a window: a busy machine sends some of it before or after."""
TONES = {
    "alaw": ("alaw", bytes.fromhex("55b5b2b555353235")),
    "slin": ("sln", array.array("h", (0, 8485, 12000, 8485, 0, -8485, -12000, -8485)).tobytes()),
}
"""The calls' codec → the prompt's kind of file, and a millisecond of it: 1 kHz."""


@dataclass(frozen=True)
class Situation:
    """What is done to every call: nothing, MixMonitor or AudioFork."""

    name: str
    mixmonitor: bool = False
    options: str = ""
    """AudioFork's."""
    message_ms: int = 20

    @property
    def bytes_s(self) -> float:
        """What a fork sends: audio at 16 kB/s, and eight bytes before each message."""
        return 16_000 + 8 * 1000 / self.message_ms if self.options else 0


BASE = Situation("no fork")
MIXMONITOR = Situation("MixMonitor, both directions", mixmonitor=True)
SITUATIONS = (
    MIXMONITOR,
    Situation("AudioFork D(both), 20 ms messages", options="D(both)"),
    Situation("AudioFork D(both), 60 ms messages", options="D(both)m(60)", message_ms=60),
    Situation("AudioFork D(in), 20 ms messages", options="D(in)"),
)


class Drain:
    """The other end of the forks (drain.py)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.drain"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self.url = f"ws://127.0.0.1:{int(self._out.readline())}/"

    def received(self) -> int:
        """Bytes so far, of all connections."""
        self._in.write("\n")
        self._in.flush()
        return int(self._out.readline())

    def close(self) -> None:
        self._in.close()
        self._process.wait(10)
        self._out.close()


@dataclass(frozen=True)
class Used:
    """CPU in a window, per cent of a core: Asterisk's, and its fork-service thread's part of it."""

    asterisk: float
    service: float
    bytes_s: float
    """What came to the other end, of all calls."""


def service_ns(pid: int) -> int:
    """CPU time of the fork-service thread, ns."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread may have ended meanwhile
            if (task / "comm").read_text() == "fork-service\n":
                return int((task / "schedstat").read_text().split()[0])
    return 0


@dataclass
class Measured:
    """All windows of one number of calls."""

    calls: int
    base: list[float] = field(default_factory=list)
    used: dict[Situation, list[Used]] = field(default_factory=dict)
    added: dict[Situation, list[float]] = field(default_factory=dict)
    """What a situation's window had more than the mean of the bases before and after it."""
    failed: list[str] = field(default_factory=list)
    """What could not be done to a call, or undone."""

    def ratio(self, situation: Situation) -> float:
        """What it adds: part of what MixMonitor adds."""
        mixmonitor = statistics.median(self.added[MIXMONITOR])
        return statistics.median(self.added[situation]) / mixmonitor

    def failures(self) -> list[str]:
        """That; and windows in which the forks sent another amount than the calls have."""
        found = [f"{self.calls} calls: {it}" for it in self.failed]
        for situation, windows in self.used.items():
            for used in windows:
                each = used.bytes_s / self.calls
                if abs(each - situation.bytes_s) > SLACK * situation.bytes_s:
                    found.append(f"{self.calls} × {situation.name}: {each:.0f} bytes/s a call")
        return found


class Calls:
    """So many calls of one Asterisk: Local channels, each side plays to the other without end."""

    def __init__(self, lab: Lab, ami: Ami, drain: Drain, codec: str) -> None:
        self._pbx: Instance = lab.pbx
        self._ami, self._drain, self._codec = ami, drain, codec
        self._recordings = lab.recordings
        kind, wave = TONES[codec]
        file = lab.sounds / f"fork-cost.{kind}"
        file.write_bytes(wave * PROMPT_MS)
        self._prompt = str(file.with_suffix(""))
        self._channels: list[str] = []
        self.failed: list[str] = []

    @contextmanager
    def up(self, count: int) -> Iterator[None]:
        """Keep this many calls up."""
        ids = [f"cost-{count}-{number}" for number in range(count)]
        try:
            for one in ids:
                self._originate(one)
            wait_until(
                f"{count} calls",
                lambda: len(self._pbx.channels()) == 2 * count or None,
                time.monotonic() + 30,
            )
            self._channels = [self._ami.event("Newchannel", Uniqueid=one)["Channel"] for one in ids]
            time.sleep(SETTLE_S)
            yield
        finally:
            self._pbx.cli("channel request hangup all")
            wait_until(
                "the calls to end",
                lambda: not self._pbx.channels() or None,
                time.monotonic() + 30,
            )

    def _originate(self, uniqueid: str) -> None:
        self._do(
            "Originate",
            Channel="Local/tone@lab_far/n",
            Context="lab_far",
            Exten="tone",
            Priority="1",
            Async="true",
            Codecs=self._codec,
            ChannelId=uniqueid,
            OtherChannelId=f"{uniqueid}-far",
            Variable=f"__LAB_FAR_TONE={self._prompt}",
        )

    def window(self, situation: Situation, seconds: float) -> Used:
        """Do it to every call, measure, undo it."""
        self._begin(situation)
        time.sleep(SETTLE_S)
        pid = self._pbx.pid
        bytes_before, at = self._drain.received(), time.monotonic()
        asterisk_before, service_before = meters.cpu_s(pid), service_ns(pid)
        time.sleep(seconds)
        span_s = time.monotonic() - at
        used = Used(
            100 * (meters.cpu_s(pid) - asterisk_before) / span_s,
            100 * (service_ns(pid) - service_before) / 1e9 / span_s,
            (self._drain.received() - bytes_before) / span_s,
        )
        self._end(situation)
        return used

    def _begin(self, situation: Situation) -> None:
        for number, channel in enumerate(self._channels):
            if situation.mixmonitor:
                file = str(self._recordings / f"cost-{number}.wav")
                self._do("MixMonitor", Channel=channel, File=file)
            elif situation.options:
                url, options = self._drain.url, situation.options
                self._do("AudioFork", Channel=channel, WsServer=url, Options=options)

    def _end(self, situation: Situation) -> None:
        for channel in self._channels:
            if situation.mixmonitor:
                self._do("StopMixMonitor", Channel=channel)
            elif situation.options:
                self._do("StopAudioFork", Channel=channel)
        if situation.mixmonitor or situation.options:
            time.sleep(SETTLE_S)
        for file in self._recordings.glob("cost-*.wav"):
            file.unlink()

    def _do(self, action: str, **headers: str) -> None:
        answer = self._ami.action(action, **headers)
        if answer["Response"] != "Success":
            self.failed.append(f"{action}: {answer.get('Message')}")


def measure(calls: Calls, count: int, rounds: int, window_s: float) -> Measured:
    """Each situation ROUNDS times, between two windows of half the length without it."""
    found = Measured(count)
    with calls.up(count):
        before = calls.window(BASE, window_s / 2).asterisk
        found.base.append(before)
        for turn in range(rounds):
            # Every other round backwards: what drifts meanwhile is on nobody's account.
            for situation in SITUATIONS[:: 1 - turn % 2 * 2]:
                used = calls.window(situation, window_s)
                after = calls.window(BASE, window_s / 2).asterisk
                found.base.append(after)
                found.used.setdefault(situation, []).append(used)
                found.added.setdefault(situation, []).append(used.asterisk - (before + after) / 2)
                before = after
    found.failed = calls.failed
    return found


def cost_table(found: Measured, codec: str) -> Table:
    table = Table(
        f"What a fork adds to Asterisk, and what MixMonitor adds: {found.calls} calls ({codec})",
        ("CPU of Asterisk, per cent of a core", "per call", "added per call", "least … most",
         "part of MixMonitor's", "of it fork-service", "added, µs per 20 ms"),
    )  # fmt: skip
    calls = found.calls
    base = statistics.median(found.base)
    spread = f"{min(found.base) / calls:.3f} … {max(found.base) / calls:.3f}"
    table.add(BASE.name, f"{base / calls:.3f}", "–", f"({spread} in all)", "–", "–", "–")
    for situation in SITUATIONS:
        added = found.added[situation]
        middle = statistics.median(added)
        service = statistics.median(used.service for used in found.used[situation])
        table.add(
            situation.name,
            f"{(base + middle) / calls:.3f}",
            f"{middle / calls:.3f}",
            f"{min(added) / calls:.3f} … {max(added) / calls:.3f}",
            f"{found.ratio(situation):.2f}",
            f"{service / calls:.3f}" if situation.options else "–",
            f"{middle / calls * 1e4 / FRAMES_S:.1f}",
        )
    table.notes = [
        "Two Local channels a call, each plays a prompt to the other, one of them is forked or "
        f"recorded; {codec}, so that Asterisk decodes each frame for MixMonitor as for the fork. "
        f"Added: the median of {len(added)} windows, each less the mean of the windows without, "
        "before and after it; the kernel's CPU clock of the process. Aim: a part of at most 0.50. "
        "fork-service: the module's own thread, by the kernel's clock of that thread; the rest is "
        "on the channels' threads.",
    ]
    return table


def tables(
    folder: Path, asterisk: str, calls: Sequence[int] = CALLS, rounds: int = ROUNDS,
    window_s: float = WINDOW_S, codec: str = "alaw",
) -> tuple[list[Table], list[str]]:  # fmt: skip
    """Measure in a lab of its own in FOLDER; a table for each number of calls, and what failed."""
    found: list[Table] = []
    failures: list[str] = []
    lab = Lab(folder, asterisk=asterisk)
    with lab, Ami(lab.pbx.ami_port, lab.pbx.observer_user, lab.pbx.observer_secret) as ami:
        drain = Drain()
        try:
            for count in calls:
                measured = measure(Calls(lab, ami, drain, codec), count, rounds, window_s)
                found.append(cost_table(measured, codec))
                failures += measured.failures()
        finally:
            drain.close()
    return found, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--asterisk", choices=sorted(VERSIONS), default=DEFAULT_VERSION)
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--window", type=float, default=WINDOW_S, help="seconds")
    parser.add_argument("--codec", choices=sorted(TONES), default="alaw")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dialog-cost-") as folder:
        Path(folder).chmod(0o755)
        found, failures = tables(
            Path(folder), options.asterisk, options.calls, options.rounds, options.window,
            options.codec,
        )  # fmt: skip
    for table in found:
        print(table.markdown())
    for failure in failures:
        print(f"- {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
