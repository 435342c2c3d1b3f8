#!/usr/bin/env python3
"""The benchmark: real calls between the lab's two PBXs, measured on tapes, wire and kernel clocks.

sudo -E python3 tests/bench/run.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0:1] = [str(ROOT), str(ROOT / "asterisk" / "lab")]

from stack import Stack  # noqa: E402

from tests.bench import (  # noqa: E402
    bus,
    flows,
    fork_cost,
    frames,
    guard,
    keying,
    latency,
    load,
    meters,
    prompts,
    speaking,
    store,
    talks,
    turns,
)
from tests.bench.figures import Table  # noqa: E402

DOCUMENT = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
CALLS = 50
TURNS_AT_ONCE = 10


class Plan:
    """How much of everything."""

    def __init__(self, quick: bool) -> None:
        self.dials = 10 if quick else 60
        self.alone = 5 if quick else 40
        self.rounds = 1 if quick else 3
        self.files = 3 if quick else 10
        self.spoken = 5 if quick else 20
        self.spoken_rounds = 1 if quick else 2
        self.window_s = 4.0 if quick else 20.0
        self.idle_s = 3.0 if quick else 10.0
        self.plain_s = 2.0 if quick else 8.0
        self.ramp_s = 6.0 if quick else 14.0
        self.events_s = 3.0 if quick else 10.0
        self.polls_s = 0.4 if quick else 2.0
        self.turns = 4 if quick else 40
        self.prompts = (1, 10) if quick else (5, 50)
        self.told = 2000 if quick else 20_000
        self.keying = (10, 3, 1000) if quick else (keying.CALLS, keying.ROUNDS, keying.SIMULATED)
        self.flows = 4 if quick else 40
        self.guard_places = 5 if quick else guard.PLACES
        self.cost_rounds = 1 if quick else fork_cost.ROUNDS
        self.cost_s = 2.0 if quick else fork_cost.WINDOW_S


class Run:
    """One run of everything; ``tables`` is what came of it, ``failures`` what should not be."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        self._stack = stack
        self._plan = plan
        self._who = meters.groups(stack)
        self._load = load.Load()
        self._began = time.monotonic()
        self.tables: list[Table] = []
        self.failures: list[str] = []

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:5.0f} s  {text}", file=sys.stderr, flush=True)

    def all(self) -> None:
        stack, plan = self._stack, self._plan
        self.say("warming up")
        talks.barge_ins(stack, self._who, 3, 1)
        speaking.first_sounds(stack, 1, 1)
        self.say("idle")
        self._who = meters.groups(stack)
        self._load.idle = meters.over(self._who, plan.idle_s)
        load.remember_memory(self._load, 0, self._who)
        polled = store.pollings(stack, plan.polls_s)
        idle = latency.dial(stack, plan.dials)
        self.say(f"{plan.alone} barge-ins, one at a time")
        one = self._barge_ins(1, plan.alone)
        files = self._barge_ins(1, plan.files, "bench-barge-file")
        words = self._barge_ins(1, plan.files, "bench-words")
        self.say(f"{plan.rounds} × {CALLS} barge-ins at once")
        before = meters.Snapshot.take(self._who)
        fifty = self._barge_ins(CALLS, plan.rounds)
        recogniser_ms = self._speech_ms(before) / (CALLS * plan.rounds)
        self.say(f"{plan.spoken} synthesised prompts, one at a time")
        spoken = self._first_sounds(1, plan.spoken)
        self.say(f"{plan.spoken_rounds} × {CALLS} synthesised prompts at once")
        spoken_by_fifty = self._first_sounds(CALLS, plan.spoken_rounds)
        self.say("one talk")
        with talks.steady(stack, 1):
            self._load.one = meters.over(self._who, plan.window_s)
        self.say(f"{CALLS} calls of the dialplan alone, with and without the fork")
        plain = load.plain(stack, CALLS, plan.plain_s)
        self.say(f"{CALLS} talks")
        with talks.steady(stack, CALLS):
            self._load.fifty = meters.over(self._who, plan.window_s)
            load.remember_memory(self._load, CALLS, self._who)
            self._check_forks()
            busy = latency.dial(stack, plan.dials)
        self.say(f"{CALLS} articles at a time")
        delays = self._articles()
        self.tables = [
            latency.dial_table(idle, busy),
            *latency.barge_in_tables(one, fifty, files, words, recogniser_ms),
            speaking.first_sound_table(spoken, spoken_by_fifty),
            load.cpu_table(self._load),
            load.plain_table(plain, self._load),
            self._frames(plain.received),
            store.event_table(delays, self._load.article_calls),
            store.polling_table(polled),
            load.memory_table(self._load),
        ]

    def fork_cost(self, folder: Path) -> None:
        """In a lab of its own, when the stack is gone."""
        self.say("fork and MixMonitor at " + " and ".join(map(str, fork_cost.CALLS)) + " calls")
        tables, failures = fork_cost.tables(
            folder, self._stack.lab.asterisk, rounds=self._plan.cost_rounds,
            window_s=self._plan.cost_s,
        )  # fmt: skip
        self.tables += tables
        self.failures += failures

    def turns(self, folder: Path) -> None:
        """In a stack of its own."""
        self.say(f"{self._plan.turns} sounds of a kind over a prompt; bridges")
        tables, failures = turns.tables(
            folder, self._stack.lab.asterisk, each=self._plan.turns, at_once=TURNS_AT_ONCE
        )
        self.tables += tables
        self.failures += failures

    def guard(self, folder: Path) -> None:
        """In a lab of its own."""
        self.say(f"guards at {self._plan.guard_places} places a call")
        tables, failures = guard.tables(
            folder, self._stack.lab.asterisk, places=self._plan.guard_places
        )
        self.tables += tables
        self.failures += failures

    def keying(self, folder: Path) -> None:
        """In a stack of its own."""
        calls, rounds, prompts = self._plan.keying
        self.say(f"keys over {prompts} simulated and {calls * rounds} real prompts")
        tables, failures = keying.tables(folder, self._stack.lab.asterisk, calls, rounds, prompts)
        self.tables += tables
        self.failures += failures

    def prompts(self, folder: Path) -> None:
        """In a stack of its own."""
        alone, at_once = self._plan.prompts
        self.say(f"guarded prompts and inputs: {alone} calls alone, {at_once} at once")
        tables, failures = prompts.tables(
            folder, self._stack.lab.asterisk, alone=alone, at_once=at_once
        )
        self.tables += tables
        self.failures += failures

    def flows(self) -> None:
        """Without calls."""
        self.say("flows")
        tables, failures = flows.tables(self._plan.flows)
        self.tables += tables
        self.failures += failures

    def bus(self, folder: Path) -> None:
        """Without Asterisk, when the stacks are gone."""
        self.say(f"{self._plan.told} events over each bus")
        self.tables += bus.tables(folder, self._plan.told)
        self.say("done")

    def _barge_ins(
        self, at_once: int, rounds: int, scenario: str = "bench-barge"
    ) -> list[talks.Round]:
        found, failed = talks.barge_ins(self._stack, self._who, at_once, rounds, scenario)
        self.failures += failed
        return found

    def _first_sounds(self, at_once: int, rounds: int) -> list[speaking.FirstSound]:
        found, failed = speaking.first_sounds(self._stack, at_once, rounds)
        self.failures += failed
        return found

    def _speech_ms(self, before: meters.Snapshot) -> float:
        """CPU time of the local speech server since then."""
        now = meters.Snapshot.take(self._who)
        return now.percent_since(before)["local speech server"] * (now.at - before.at) * 10

    def _check_forks(self) -> None:
        """What the module itself says while the calls are up."""
        shown = self._stack.lab.pbx.cli("audiofork show")
        figures = re.findall(r"DroppedInMs: (\d+).*?Connections: (\d+)", shown, re.DOTALL)
        if len(figures) != CALLS:
            self.failures.append(f"{len(figures)} forks are up, {CALLS} expected")
        for dropped, connections in figures:
            if int(dropped) or int(connections) != 1:
                self.failures.append(f"a fork dropped {dropped} ms, connected {connections} times")

    def _articles(self) -> store.EventDelay:
        stack, plan, found = self._stack, self._plan, self._load
        with load.Mix(stack, CALLS) as mix:
            time.sleep(plan.ramp_s)
            began = time.time()
            found.article = meters.over(self._who, plan.window_s)
            ended = time.time()
            delays = store.event_delay(stack, plan.events_s)
        found.article_calls = load.mean_calls(stack, began, ended)
        for task_id in mix.tasks:
            task = stack.ended(task_id, 60)
            found.article_done += 1
            if task["state"] != "done":
                found.article_failed.append(f"article: {task['reason']} {task['error']}")
            elif task["result"]["decision"] != "yes":
                self.failures.append(f"article: heard {task['result']}, said yes")
        self.failures += found.article_failed
        return delays

    def _frames(self, received: dict[str, int]) -> Table:
        found, missing = frames.accounts(self._stack)
        alone = frames.accounts_alone(self._stack, received)
        if missing or len(alone) != CALLS:
            self.failures.append(f"frames: {missing} talks, {len(alone)} forks alone in the log")
        self.failures += [f"frames: {it}" for it in (*alone, *found) if it.lost or it.dropped]
        return frames.frame_table(found, missing, alone)


def machine() -> str:
    """The machine in a line; no names."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    virtual = ", virtual machine" if " hypervisor" in cpuinfo else ""
    return (
        f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}{virtual}, "
        f"{memory:.0f} GB; Linux {platform.release().split('-')[0]}; "
        f"Python {platform.python_version()}"
    )


def report(run: Run, version: str, quick: bool) -> str:
    """All of it as markdown."""
    day = datetime.now(UTC).date().isoformat()
    lines = [f"Measured {day}{' (quick run)' if quick else ''} on {machine()}; {version}.", ""]
    lines += [table.markdown() for table in run.tables]
    lines += ["### What should not be", ""]
    lines += [f"- {failure}" for failure in run.failures[:20]] or ["Nothing."]
    if len(run.failures) > 20:
        lines.append(f"- and {len(run.failures) - 20} more")
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    """Put TEXT between the document's marks."""
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{DOCUMENT}: {BEGIN} … {END} is not there")
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few samples, short windows")
    parser.add_argument("--write", action="store_true", help=f"update {DOCUMENT.name}")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="dialog-bench-") as folder,
        talks.bench_stack(Path(folder)) as stack,
    ):
        Path(folder).chmod(0o755)
        run = Run(stack, Plan(options.quick))
        run.all()
        version = stack.lab.pbx.cli("core show version").split(" built")[0].strip()
    with tempfile.TemporaryDirectory(prefix="dialog-cost-") as folder:
        Path(folder).chmod(0o755)
        run.fork_cost(Path(folder))
    with tempfile.TemporaryDirectory(prefix="dialog-turns-") as folder:
        run.turns(Path(folder))
    with tempfile.TemporaryDirectory(prefix="dialog-guard-") as folder:
        Path(folder).chmod(0o755)
        run.guard(Path(folder))
    with tempfile.TemporaryDirectory(prefix="dialog-keying-") as folder:
        Path(folder).chmod(0o755)
        run.keying(Path(folder))
    with tempfile.TemporaryDirectory(prefix="dialog-prompts-") as folder:
        Path(folder).chmod(0o755)
        run.prompts(Path(folder))
    run.flows()
    with tempfile.TemporaryDirectory(prefix="dialog-bus-") as folder:
        run.bus(Path(folder))
    text = report(run, version, options.quick)
    print(text)
    if options.write:
        write(text)
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
