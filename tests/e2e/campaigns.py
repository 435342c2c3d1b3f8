"""Many forks and what becomes of them: in short in test_fork_life.py, at length in the soak."""

from __future__ import annotations

import random

from tests.e2e.fork_lab import ForkLab
from tests.fakes.cutting_server import CuttingServer

ONE_WAY = ("D(in)", "D(in)j", "D(in)jr(2)R(0)")  # each frame is one that was captured
TWO_WAYS = ("D(both)jr(1)R(0)", "D(stereo)jm(60)r(2)")


def cut_forks(fork: ForkLab, chance: random.Random, server: CuttingServer, count: int) -> None:
    """COUNT forks whose connections are cut, some with their call. None loses a frame uncounted."""
    calls = [fork.call() for _ in range(8)]
    one_way: list[str] = []
    for _ in range(count):
        at = chance.randrange(len(calls))
        options = chance.choice(ONE_WAY + TWO_WAYS)
        one = fork.start(calls[at].channel, server.url, options)
        one_way += [one] * (options in ONE_WAY)
        if chance.random() < 0.1:
            fork.ami.action("Hangup", Channel=calls[at].channel)
            calls[at] = fork.call()
        fork.wait("room for a fork", lambda: fork.forks() < 24, 30)
    fork.wait("the end of all forks", lambda: fork.forks() == 0, 60)
    for one in one_way:
        end = fork.ended(one)
        assert end.captured == end.sent + round(end.lost_s * 50), f"{one}: {end}"
