"""Thousands of forks on one Asterisk: starts, stops, cut connections, unloads under calls.

FORK_SOAK (1.0) scales the numbers; FORK_SOAK_SEED repeats a run. Afterwards Asterisk has the
threads, descriptors and channels that it had, and about the memory.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lab_sanitizer
import pytest

from tests.e2e.campaigns import cut_forks
from tests.e2e.fork_lab import FAR_HZ, MODULE, Call, ForkLab
from tests.e2e.test_fork_play import Talk, tone
from tests.fakes.cutting_server import CuttingServer
from tests.fakes.fork_server import ForkServer, RawServer, freezes, never_answers, speaks_garbage

pytestmark = [
    pytest.mark.timeout(3600),
]

SCALE = float(os.environ.get("FORK_SOAK", "1.0"))
STARTS = round(10_000 * SCALE)
CUTS = round(1_000 * SCALE)
UNLOADS = round(100 * SCALE)
WARM_UNLOADS = max(5, round(40 * SCALE))  # 400 in a row leave no more than 100: 10 MB, at first
STEPS = round(2_000 * SCALE)
SEED = int(os.environ.get("FORK_SOAK_SEED", "0")) or random.randrange(1, 1_000_000)
AT_ONCE = 50
LIMITS = "connect_timeout_ms = 1000\nflush_ms = 200\nreconnect_delay_ms = 50"
KB_PER_CYCLE = 1  # a fork that leaks would be 35: its ring
SLACK_KB = 300_000 if lab_sanitizer.wanted() else 8192  # what the allocator keeps


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[ForkLab]:
    with ForkLab(tmp_path_factory.mktemp("fork-soak"), asterisk) as one:
        one.configure(LIMITS)
        yield one


@pytest.fixture
def patient(fork: ForkLab) -> Iterator[None]:
    """A fork is not over before its stop because the server, in this very process, has not been
    able to answer for a second: on a busy machine a start and a stop have taken as long."""
    fork.configure(LIMITS.replace("connect_timeout_ms = 1000", "connect_timeout_ms = 20000"))
    yield
    fork.configure(LIMITS)


@pytest.fixture(autouse=True)
def story(fork: ForkLab) -> Iterator[None]:
    with fork.story():
        yield
        fork.hangup_all()


def tell(figures: str) -> None:
    """For the report: `make soak` shows it."""
    sys.stdout.write(figures + "\n")


def memory_kb(fork: ForkLab) -> int:
    rows = Path(f"/proc/{fork.lab.pbx.pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmRSS:"))


def settle(fork: ForkLab) -> tuple[int, int]:
    """No call, no fork. Threads and descriptors."""
    pbx = fork.lab.pbx
    fork.hangup_all()
    fork.wait("the end of all forks", lambda: fork.forks() == 0, 20)
    fork.ami.forget()
    return pbx.threads(), pbx.fds()


def new_calls(fork: ForkLab) -> list[str]:
    """The channels of four new calls; the old ones are over."""
    settle(fork)
    fork.server.received.clear()
    return [fork.call().channel for _ in range(4)]


@pytest.mark.usefixtures("patient")
def test_starts_and_stops(fork: ForkLab) -> None:
    def campaign(count: int) -> None:
        channels: list[str] = []
        for number in range(count):
            if number % 500 == 0:  # before a call's tone ends
                channels = new_calls(fork)
            if number % AT_ONCE == 0:  # stopped forks close on their own: they must not pile up
                fork.wait("the end of the forks so far", lambda: fork.forks() == 0, 20)
            channel = channels[number % len(channels)]
            options = ("D(both)", "D(in)j", "D(stereo)jm(60)f(16000)")[number % 3]
            one = fork.start(channel, fork.server.url(f"soak-{number % 7}"), options)
            fork.stop(channel, AudioForkID=one)
        fork.wait("the end of all forks", lambda: fork.forks() == 0, 20)
        fork.server.received.clear()

    campaign(200)
    with leaves_nothing(fork, STARTS):
        campaign(STARTS)


def test_cut_at_random_points(fork: ForkLab) -> None:
    """Each fork is cut, comes back once or not at all, and accounts for every frame."""
    chance = random.Random(SEED)
    with CuttingServer(chance) as server:
        cut_forks(fork, chance, server, 30)
        with leaves_nothing(fork, CUTS):
            cut_forks(fork, chance, server, CUTS)
    tell(f"seed {SEED}: {sum(server.cuts.values())} connections cut: {dict(server.cuts)}")


def test_unloads_under_calls(fork: ForkLab) -> None:
    """The module is taken from under forks and a player; calls stay up, but for the player's:
    Asterisk hangs up whoever is inside an application of the module."""
    pbx = fork.lab.pbx

    def cycle(number: int, channels: list[str]) -> None:
        talk = Talk(fork)
        talk.play("long", tone(10_000, FAR_HZ))
        talk.wait("started", play="long")
        for channel in channels:
            fork.start(channel, fork.server.url(f"unload-{number}"), "D(both)jR(0)")
        fork.server.find(f"unload-{number}", len(channels))
        pbx.cli(f"module unload -f {MODULE}")
        assert "Loaded" in pbx.cli(f"module load {MODULE}"), f"cycle {number}"
        assert fork.forks() == 0
        fork.ami.event("Hangup", Uniqueid=talk.id)
        fork.ami.forget()
        fork.server.received.clear()

    def cycles(count: int) -> None:
        for first in range(0, count, 20):  # before a call's tone ends
            channels = new_calls(fork)
            for number in range(first, min(first + 20, count)):
                cycle(number, channels)
            up = pbx.channels()
            assert set(channels) <= set(up), up

    cycles(WARM_UNLOADS)
    with leaves_nothing(fork, UNLOADS, kb_each=16):
        cycles(UNLOADS)


def test_at_random(fork: ForkLab) -> None:
    """Whatever may happen to a fork, in any order; the seed is in the failure's text."""
    chance = random.Random(SEED)
    with (
        RawServer(freezes) as frozen,
        RawServer(never_answers) as mute,
        RawServer(speaks_garbage) as garbage,
    ):
        bad = [frozen.url, mute.url, garbage.url, "ws://127.0.0.1:1/"]
        run_at_random(fork, chance, bad, 50)
        with leaves_nothing(fork, STEPS):
            run_at_random(fork, chance, bad, STEPS)


@contextmanager
def leaves_nothing(fork: ForkLab, cycles: int, kb_each: int = KB_PER_CYCLE) -> Iterator[None]:
    """Asterisk has afterwards what it had before."""
    before, memory = settle(fork), memory_kb(fork)
    yield
    assert fork.lab.pbx.is_alive(), f"seed {SEED}"
    wait_as_before(fork, before)
    grown = memory_kb(fork) - memory
    tell(f"{cycles} cycles: threads, descriptors {before}, now {settle(fork)}; {grown:+} kB")
    assert grown < SLACK_KB + kb_each * cycles, f"{grown} kB more memory, seed {SEED}"


def run_at_random(fork: ForkLab, chance: random.Random, bad: list[str], count: int) -> None:
    calls: list[Call] = []
    server = ForkServer()
    try:
        for number in range(count):
            while len(calls) < 6:
                calls.append(fork.call())
            call = chance.choice(calls)
            what = chance.choices(
                ("start", "bad", "stop", "hangup", "mute", "die", "unload"),
                (40, 15, 20, 8, 10, 4, 1),
            )[0]
            if what in ("start", "bad"):
                url = server.url(f"r-{number}") if what == "start" else chance.choice(bad)
                options = chance.choice(["D(in)", "D(out)R(0)", "D(both)r(3)", "R(0)"])
                fork.start(call.channel, url, options)
            elif what == "stop":
                fork.ami.action("StopAudioFork", Channel=call.channel)
            elif what == "hangup":
                calls.remove(call)
                fork.ami.action("Hangup", Channel=call.channel)
            elif what == "mute":
                state = chance.choice("01")
                fork.ami.action("AudioForkMute", Channel=call.channel, State=state)
            elif what == "die":
                server.close()
                server = ForkServer(port=server.port)
            else:
                fork.lab.pbx.cli(f"module unload -f {MODULE}")
                assert "Loaded" in fork.lab.pbx.cli(f"module load {MODULE}"), f"seed {SEED}"
    finally:
        fork.hangup_all()
        server.close()


def wait_as_before(fork: ForkLab, before: tuple[int, int]) -> None:
    def settled() -> bool:
        now = settle(fork)
        return now[0] <= before[0] and now[1] <= before[1]

    try:
        fork.wait("Asterisk to be as before", settled, 60)
    except Exception as error:
        raise AssertionError(f"before {before}, now {settle(fork)}, seed {SEED}") from error
