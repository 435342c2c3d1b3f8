"""What a call costs: CPU and memory of every process, at 0, 1 and 50 calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab_ami import Ami
from stack import ROOT, Stack

from tests.bench import meters
from tests.bench.figures import Table
from tests.bench.talks import clear, database, number, rows

Percent = Mapping[str, float]


@dataclass
class Load:
    """Per cent of a core of each group, in each situation; MB where it says so."""

    idle: Percent = field(default_factory=dict)
    one: Percent = field(default_factory=dict)
    fifty: Percent = field(default_factory=dict)
    article: Percent = field(default_factory=dict)
    article_calls: float = 0  # in progress on the average
    article_done: int = 0
    article_failed: list[str] = field(default_factory=list)
    resident: dict[int, Percent] = field(default_factory=dict)
    shared_out: dict[int, Percent] = field(default_factory=dict)


def remember_memory(load: Load, calls: int, who: meters.Groups) -> None:
    load.resident[calls] = meters.resident_mb(who)
    load.shared_out[calls] = meters.memory_mb(who)


# --- the article's talk, one after the other, 50 at a time


class Mix:
    """Keeps CALLS talks of the article's scenario in progress; a new one as one ends."""

    def __init__(self, stack: Stack, calls: int) -> None:
        self._stack = stack
        self._calls = calls
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="mix")
        self.tasks: list[str] = []

    def __enter__(self) -> Mix:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _feed(self) -> None:
        query = "SELECT count(*) FROM tasks WHERE state NOT IN ('done', 'failed', 'unknown')"
        with database(self._stack) as made:
            while not self._stop.wait(0.1):
                room = self._calls - rows(made, query)[0][0]
                for _ in range(min(room, 5)):  # ten at a time would end together, too
                    task = self._stack.originate(number("100"), scenario="article")
                    self.tasks.append(task["id"])


def mean_calls(stack: Stack, began: float, ended: float) -> float:
    """Calls in progress on the average between two moments of time.time()."""
    query = (
        "SELECT sum(extract(epoch FROM least(coalesce(ended_at, to_timestamp(%s)), "
        "to_timestamp(%s)) - greatest(started_at, to_timestamp(%s)))) FROM calls "
        "WHERE started_at < to_timestamp(%s) AND coalesce(ended_at, now()) > to_timestamp(%s)"
    )
    with database(stack) as made:
        total = rows(made, query, ended, ended, began, ended, began)[0][0]
    return float(total or 0) / (ended - began)


# --- the same calls without the backend


class Sink:
    """A frame sink alone in a process (sink.py)."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.bench.sink"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self.port = int(self._out.readline())
        self.pid = self._process.pid

    def claim(self, channel: str) -> None:
        self._in.write(channel + "\n")
        self._in.flush()

    def stop(self) -> dict[str, int]:
        """Messages received for each channel."""
        self._in.close()
        counted: dict[str, int] = json.loads(self._out.read() or "{}")
        self._process.wait(10)
        self._out.close()
        return counted


@dataclass(frozen=True)
class Plain:
    """Our PBX at 50 calls that its dialplan alone plays a tone to: per cent of a core."""

    before: float
    with_fork: float
    after: float
    sink: float
    received: dict[str, int]  # frames of each channel that came to the sink
    frame_us: float  # the sink's CPU per frame


@contextmanager
def _plain_calls(stack: Stack, ami: Ami, calls: int) -> Iterator[list[str]]:
    """CALLS calls of the dialplan alone; their channels' names."""
    prompt = "&".join([f"{stack.lab.sounds}/long-tone"] * 6)
    ids = [
        ami.originate(number("111"), "lab-play", {"LAB_PROMPT": prompt, "LAB_STAY": "1"})
        for _ in range(calls)
    ]
    try:
        for uniqueid in ids:
            ami.event("Newchannel", 10, Uniqueid=uniqueid)
        stack.wait_for("the calls", lambda: len(stack.lab.pbx.channels()) >= calls or None)
        time.sleep(2)
        yield [ami.event("Newchannel", Uniqueid=uniqueid)["Channel"] for uniqueid in ids]
    finally:
        clear(stack)


def plain(stack: Stack, calls: int, seconds: float) -> Plain:
    """The same load on Asterisk without the backend: without the fork, with it, and without."""
    pbx = stack.lab.pbx
    sink = Sink()
    who = {"pbx": (pbx.pid,), "sink": (sink.pid,)}
    try:
        with (
            Ami(pbx.ami_port, pbx.observer_user, pbx.observer_secret) as ami,
            _plain_calls(stack, ami, calls) as channels,
        ):
            before = meters.over(who, seconds)
            for channel in channels:
                sink.claim(channel)
                ami.action(
                    "AudioFork",
                    Channel=channel,
                    WsServer=f"ws://127.0.0.1:{sink.port}/",
                    Options="D(in)",
                )
            time.sleep(2)
            during = meters.over(who, seconds)
            for channel in channels:
                ami.action("StopAudioFork", Channel=channel)
            time.sleep(2)
            after = meters.over(who, seconds)
    finally:
        received = sink.stop()
    frame_us = during["sink"] * 1e4 / (calls * 50)
    return Plain(
        before["pbx"],
        during["pbx"],
        after["pbx"],
        during["sink"],
        received,
        frame_us,
    )


# --- tables


def cpu_table(load: Load) -> Table:
    table = Table(
        "CPU, per cent of one core",
        ("process", "no call", "1 talk: more than idle", "50 talks: in all",
         "50 talks: per call", "50 articles: per call"),
    )  # fmt: skip
    for name in load.fifty:
        idle = load.idle[name]
        if name == meters.OTHERS:
            shown = (f"({load.fifty[name]:.0f})", "–", f"({load.article[name]:.0f} in all)")
            table.add(name, f"({idle:.0f})", f"({load.one[name]:.0f} in all)", *shown)
            continue
        article = (load.article[name] - idle) / load.article_calls if load.article_calls else 0.0
        table.add(
            name,
            f"{idle:.1f}",
            f"{load.one[name] - idle:.2f}",
            f"{load.fifty[name]:.1f}",
            f"{(load.fifty[name] - idle) / 50:.2f}",
            f"{article:.2f}" if load.article_calls else "–",
        )
    table.notes = [
        "Talk: a silent subscriber, a tone in a loop, recognition listening. Article: the article's"
        " scenario from dialling to hanging up, one after the other, "
        f"{load.article_calls:.0f} in progress on the average ({load.article_done} ended, "
        f"{len(load.article_failed)} of them not `done`). Per call: what is above idle. The "
        "last row is this benchmark, its sniffer and whatever else ran meanwhile: the more of it, "
        f"the noisier the run (all cores: {100 * (os.cpu_count() or 1)} %).",
    ]
    return table


def plain_table(found: Plain, load: Load) -> Table:
    table = Table(
        "What the fork and the backend add to our PBX at 50 calls",
        ("the PBX's CPU, per cent of one core", "in all", "per call", "ratio"),
    )
    pbx = "Asterisk, our PBX"
    idle, base = load.idle[pbx], (found.before + found.after) / 2

    def add(name: str, value: float) -> None:
        ratio = (value - idle) / (base - idle)
        table.add(name, f"{value:.1f}", f"{(value - idle) / 50:.2f}", f"{ratio:.2f}")

    add("dialplan plays a tone, no fork (before)", found.before)
    add("the same, with AudioFork of the caller's voice", found.with_fork)
    add("the same, no fork (after)", found.after)
    add("the talk: fork, AGI, a tone streamed by the backend, AMI", load.fifty[pbx])
    table.notes = [
        f"A frame sink alone (no voice detection) for these forks: {found.sink:.1f} % of a core, "
        f"{found.frame_us:.0f} µs per frame of 20 ms. The voice worker with voice detection and "
        f"recognition listening: {_frame_us(load):.0f} µs per frame."
    ]
    return table


def _frame_us(load: Load) -> float:
    voice = [name for name in load.fifty if "voice" in name]
    return sum(load.fifty[name] - load.idle[name] for name in voice) * 1e4 / (50 * 50)


def memory_table(load: Load) -> Table:
    table = Table(
        "Memory, MB",
        ("process", "RSS, no call", "RSS, 50 talks", "PSS, no call", "PSS, 50 talks"),
    )
    for name in load.resident[0]:
        cells = [load.resident[0], load.resident[50], load.shared_out[0], load.shared_out[50]]
        table.add(name, *(f"{cell[name]:.0f}" for cell in cells))
    table.notes = ["PSS: a page shared by n processes counts 1/n in each."]
    return table
