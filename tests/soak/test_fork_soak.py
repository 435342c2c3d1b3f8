"""Thousands of forks on one Asterisk: starts, stops, hangups, dead servers, unloads under calls.

FORK_SOAK_CYCLES (1000) bounds it; FORK_SOAK_SEED repeats a run. Afterwards Asterisk has the
threads and descriptors that it had, and about the memory.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fork_lab import MODULE, Call, ForkLab
from tests.fakes.fork_server import ForkServer, RawServer, freezes, never_answers, speaks_garbage

pytestmark = [
    pytest.mark.timeout(3600),
]

CYCLES = int(os.environ.get("FORK_SOAK_CYCLES", "1000"))
SEED = int(os.environ.get("FORK_SOAK_SEED", "0")) or random.randrange(1, 1_000_000)
KB_PER_CYCLE = 4  # a leak of a fork would be 35: its ring


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkLab]:
    with ForkLab(tmp_path_factory.mktemp("fork-soak")) as one:
        one.configure("connect_timeout_ms = 1000\nflush_ms = 200\nreconnect_delay_ms = 50")
        yield one


@pytest.fixture(autouse=True)
def story(fork: ForkLab) -> Iterator[None]:
    with fork.story():
        yield
        fork.hangup_all()


def memory_kb(fork: ForkLab) -> int:
    rows = Path(f"/proc/{fork.lab.pbx.pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmRSS:"))


def settle(fork: ForkLab) -> tuple[int, int]:
    """No call, no fork; Asterisk's pools have shrunk. Threads and descriptors."""
    pbx = fork.lab.pbx
    fork.hangup_all()
    fork.wait("the end of all forks", lambda: fork.forks() == 0, 20)
    return pbx.threads(), pbx.fds()


def test_starts_and_stops(fork: ForkLab) -> None:
    pbx = fork.lab.pbx

    def campaign(count: int) -> None:
        calls = [fork.call() for _ in range(4)]
        for number in range(count):
            call = calls[number % len(calls)]
            one = fork.start(call.channel, fork.server.url(f"soak-{number % 7}"), "D(both)")
            fork.stop(call.channel, AudioForkID=one)
        fork.wait("the end of all forks", lambda: fork.forks() == 0, 20)
        fork.server.received.clear()

    campaign(50)
    before, memory = settle(fork), memory_kb(fork)
    campaign(CYCLES)
    wait_as_before(fork, before)
    grown = memory_kb(fork) - memory
    assert grown < 4096 + KB_PER_CYCLE * CYCLES, f"{grown} kB more memory"
    assert pbx.is_alive()


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
        before = settle(fork)
        run_at_random(fork, chance, bad, CYCLES)
        assert fork.lab.pbx.is_alive(), f"FORK_SOAK_SEED={SEED}"
    wait_as_before(fork, before)


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
