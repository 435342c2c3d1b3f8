"""app_audiofork loaded, unloaded and loaded; nothing of a fork is left when it has ended."""

from __future__ import annotations

import random

import pytest

from tests.e2e.campaigns import cut_forks
from tests.e2e.fork_lab import FAR_HZ, LEVEL, MODULE, Call, ForkLab
from tests.fakes.cutting_server import CuttingServer
from tests.fakes.fork_server import RawServer, freezes, level, never_answers

CYCLES, CALLS, AT_ONCE, LOADS, CUTS = 200, 40, 20, 10, 60


pytestmark = pytest.mark.usefixtures("hung_up")


def cycle(fork: ForkLab, call: Call, path: str, count: int) -> list[str]:
    """Start and stop forks of one call, COUNT times; their ids."""
    names = []
    for number in range(count):
        names.append(fork.start(call.channel, fork.server.url(f"{path}-{number}")))
        if number % 2:  # each other one is stopped before its connection is made
            fork.server.find(f"{path}-{number}")
        fork.stop(call.channel, AudioForkID=names[-1])
    return names


def test_two_hundred_starts_and_stops_leave_nothing(fork: ForkLab) -> None:
    pbx = fork.lab.pbx
    call = fork.call()
    cycle(fork, call, "warm", 3)
    fork.wait("the end of the first", lambda: fork.forks() == 0)
    before = pbx.threads(), pbx.fds()
    names = cycle(fork, call, "cycle", CYCLES)
    ends = [fork.ended(name) for name in names]
    for number, end in enumerate(ends):
        one = fork.server.find(f"cycle-{number}")
        assert fork.server.closed(one) == 1000
        assert one.texts == [call.channel]
        assert (end.captured, end.lost_s) == (end.sent, 0)
        assert end.sent == len(one.frames)
    assert fork.forks() == 0
    as_before(fork, before)


def test_many_calls_leave_nothing(fork: ForkLab) -> None:
    """Each with two forks; every second one is hung up by the far side."""
    pbx = fork.lab.pbx
    many_calls(fork, "first", AT_ONCE)
    before = pbx.threads(), pbx.fds()
    for batch in range(CALLS // AT_ONCE):
        many_calls(fork, f"batch-{batch}", AT_ONCE)
    assert fork.forks() == 0
    as_before(fork, before)


def many_calls(fork: ForkLab, path: str, count: int) -> None:
    calls = [fork.call(fork.server.url(f"{path}-{n}"), "D(in)") for n in range(count)]
    for number, call in enumerate(calls):
        call.fork()
        fork.start(call.channel, fork.server.url(f"{path}-{number}-out"), "D(out)")
    for number, call in enumerate(calls):
        fork.server.frames(f"{path}-{number}-out", 10)
        if number % 2:
            call.hangup()
        else:
            far = fork.ami.event("Newchannel", Uniqueid=f"{call.id}-far")["Channel"]
            fork.ami.action("Hangup", Channel=far)
    for number, call in enumerate(calls):
        one = fork.server.find(f"{path}-{number}")
        end = fork.ended(call.fork())
        assert fork.server.closed(one) == 1000
        assert (end.reason, end.lost_s) == ("hangup", 0)
        assert end.captured == end.sent == len(one.frames)
    fork.wait("the end of the calls", lambda: not fork.lab.pbx.channels())


def as_before(fork: ForkLab, before: tuple[int, int]) -> None:
    """Asterisk has no more threads and descriptors than BEFORE."""
    pbx = fork.lab.pbx

    def settled() -> bool:
        return pbx.threads() <= before[0] and pbx.fds() <= before[1]

    try:
        fork.wait("Asterisk to be as before", settled, 20)
    except Exception as error:
        raise AssertionError(f"before {before}, now {(pbx.threads(), pbx.fds())}") from error


def is_loaded(fork: ForkLab) -> bool:
    return MODULE in fork.lab.pbx.cli("module show like audiofork")


def test_connections_cut_at_random_points(fork: ForkLab) -> None:
    chance = random.Random(3)
    with CuttingServer(chance) as server:
        cut_forks(fork, chance, server, 10)
        fork.hangup_all()
        before = fork.lab.pbx.threads(), fork.lab.pbx.fds()
        cut_forks(fork, chance, server, CUTS)
        fork.hangup_all()
    as_before(fork, before)


def test_unload_is_refused_while_there_are_forks(fork: ForkLab) -> None:
    call = fork.call()
    fork.start(call.channel, fork.server.url("in-use"))
    one = fork.server.frames("in-use", 5)
    assert "Unable to unload" in fork.lab.pbx.cli(f"module unload {MODULE}")
    assert is_loaded(fork)
    assert len(fork.server.more(one, 20)) == 20, "the fork did not notice"
    fork.stop(call.channel)
    fork.wait("the end of the fork", lambda: fork.forks() == 0)
    unload_and_load(fork)


def unload_and_load(fork: ForkLab, how: str = "") -> None:
    pbx = fork.lab.pbx
    assert "Unloaded app_audiofork" in pbx.cli(f"module unload {how} {MODULE}")
    assert not is_loaded(fork)
    assert "Loaded app_audiofork" in pbx.cli(f"module load {MODULE}")


def test_a_forced_unload_ends_all_forks_cleanly_and_no_call(fork: ForkLab) -> None:
    """Forks that are up, in conversation with bad servers, or waiting to come back."""
    calls = [fork.call() for _ in range(5)]
    with RawServer(never_answers) as mute, RawServer(freezes) as frozen:
        for number, call in enumerate(calls):
            fork.start(call.channel, fork.server.url(f"forced-{number}"), "D(both)")
        fork.start(calls[0].channel, "ws://127.0.0.1:1/", "R(1)")
        fork.start(calls[1].channel, mute.url, "R(1)")
        fork.start(calls[2].channel, frozen.url)
        for number in range(len(calls)):
            fork.server.frames(f"forced-{number}", 10)
        assert fork.forks() == 8
        unload_and_load(fork, "-f")
    for number, call in enumerate(calls):
        assert fork.server.closed(fork.server.find(f"forced-{number}")) == 1000
        assert call.is_up
        fork.start(call.channel, fork.server.url(f"anew-{number}"))
    assert fork.forks() == 5
    for number in range(len(calls)):
        one = fork.server.frames(f"anew-{number}", 30)
        assert level(one.frames[5:], FAR_HZ) == pytest.approx(LEVEL, rel=0.05)


def test_it_loads_and_unloads_again_and_again(fork: ForkLab) -> None:
    pbx = fork.lab.pbx
    unload_and_load(fork)
    before = pbx.threads(), pbx.fds()
    for _ in range(LOADS):
        unload_and_load(fork)
    as_before(fork, before)
