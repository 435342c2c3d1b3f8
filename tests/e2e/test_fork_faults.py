"""app_audiofork and servers that refuse, freeze, speak nonsense, die or come back.

Time limits are shortened in audiofork.conf. The call must go on, whatever the server does.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e.fork_lab import FAR_HZ, LEVEL, Call, ForkLab, dead_port
from tests.fakes import fork_server
from tests.fakes.fork_server import ForkServer, RawServer, level

LIMITS = """connect_timeout_ms = 1000
stall_timeout_ms = 1500
ring_ms = 1000
flush_ms = 500
reconnect_delay_ms = 100
reconnect_max_delay_ms = 200"""


@pytest.fixture(scope="module")
def fork(fork: ForkLab) -> ForkLab:
    fork.configure(LIMITS)
    return fork


pytestmark = pytest.mark.usefixtures("story")


# -- a fork that fails and was not asked to come back: all at the same time

BEHAVIOURS: dict[str, tuple[Callable[[socket.socket], None], str]] = {
    "never answers": (fork_server.never_answers, "timeout connecting"),
    "has no WebSocket": (fork_server.not_found, ""),
    "redirects": (fork_server.redirects, ""),
    "speaks garbage": (fork_server.speaks_garbage, ""),
    "sends bad frames": (fork_server.sends_bad_frames, ""),
    "hangs up": (fork_server.hangs_up, ""),
    "freezes": (fork_server.freezes, "taken no audio for too long"),
}
ABSENT = {
    "nobody there": (f"ws://127.0.0.1:{dead_port()}/", "cannot connect"),
    "unknown host": ("ws://no-such-host.invalid/", "cannot find the host"),
}
CONNECTED = {"sends bad frames", "hangs up", "freezes"}


@dataclass
class Fault:
    call: Call
    fork: str
    words: str


@pytest.fixture(scope="module")
def faults(fork: ForkLab) -> Iterator[dict[str, Fault]]:
    with ExitStack() as stack:
        urls = dict(ABSENT)
        for name, (behave, words) in BEHAVIOURS.items():
            urls[name] = (stack.enter_context(RawServer(behave)).url, words)
        calls = {name: fork.call() for name in urls}
        yield {
            name: Fault(call, fork.start(call.channel, urls[name][0]), urls[name][1])
            for name, call in calls.items()
        }


@pytest.mark.parametrize("name", [*ABSENT, *BEHAVIOURS])
def test_the_fork_ends_with_a_reason_and_the_call_goes_on(
    fork: ForkLab, faults: dict[str, Fault], name: str
) -> None:
    fault = faults[name]
    end = fork.ended(fault.fork)
    assert fault.words in end.reason
    assert end.connections == (1 if name in CONNECTED else 0)
    if name not in CONNECTED:
        assert (end.sent, end.lost_s) == (0, end.captured / 50)
    fork.logged("WARNING", fault.fork, "no further attempt after 1")
    assert fault.call.is_up
    of_the_channel = f"audiofork list {fault.call.channel}"
    fork.wait("the end of the hook", lambda: "0 AudioFork(s)" in fork.lab.pbx.cli(of_the_channel))


def test_a_hook_whose_fork_has_ended_is_gone_too(fork: ForkLab, faults: dict[str, Fault]) -> None:
    """Nothing is left to stop, and a new fork on the channel works."""
    fault = faults["nobody there"]
    fork.ended(fault.fork)
    fork.wait("the end of the hook", lambda: fault.fork not in fork.lab.pbx.cli("audiofork list"))
    again = fork.start(fault.call.channel, fork.server.url("again"))
    one = fork.server.frames("again", 40)
    assert level(one.frames[10:], FAR_HZ) == pytest.approx(LEVEL, rel=0.05)
    fork.stop(fault.call.channel, AudioForkID=again)
    assert fork.server.closed(one) == 1000


# -- coming back


def test_attempts_are_counted(fork: ForkLab) -> None:
    call = fork.call()
    for options, attempts in (("D(in)r(2)", 3), ("D(in)R(0)r(1)", 2), ("D(in)R(0)r(0)", 1)):
        name = fork.start(call.channel, f"ws://127.0.0.1:{dead_port()}/", options)
        assert fork.ended(name).connections == 0
        fork.logged(name, f"no further attempt after {attempts}")
    call.hangup()


def test_a_name_with_several_addresses(fork: ForkLab) -> None:
    """localhost is ::1 first, where nobody listens; both are tried within one attempt."""
    call = fork.call()
    name = fork.start(call.channel, f"ws://localhost:{fork.server.port}/by-name")
    fork.server.frames("by-name", 10)
    call.hangup()
    end = fork.ended(name)
    assert (end.connections, end.lost_s) == (1, 0)


def test_a_server_that_dies_and_comes_back_gets_the_rest(fork: ForkLab) -> None:
    call = fork.call()
    with ForkServer() as server:
        name = fork.start(call.channel, server.url("back"), "D(in)R(0)")
        first = server.frames("back", 30)
        server.close()
        assert fork.logged(name, "trying again")
        with ForkServer(port=server.port) as again:
            second = again.frames("back", 30)
            assert second.texts == first.texts == [call.channel]
            assert level(second.frames[:30], FAR_HZ) == pytest.approx(LEVEL, rel=0.1)
            seen = fork.counters(name)
            assert seen["Connections"] == 2
            call.hangup()
            assert again.closed(second) == 1000
        end = fork.ended(name)
    assert (end.reason, end.connections) == ("hangup", 2)
    assert end.captured == end.sent + end.lost_s * 50
    on_the_way = end.sent - len(first.frames) - len(second.frames)
    assert 0 <= on_the_way <= 5, "handed to the kernel when the connection broke"


def test_while_the_server_is_away_the_oldest_is_dropped_and_counted(fork: ForkLab) -> None:
    call = fork.call()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        name = fork.start(call.channel, f"ws://127.0.0.1:{port}/late", "D(in)R(0)")
        fork.wait("a full ring", lambda: fork.counters(name)["DroppedInMs"] > 200)
        assert fork.counters(name)["WaitingCells"] == 50, "ring_ms = 1000"
    with ForkServer(port=port) as server:
        one = server.frames("late", 60)
        burst = sum(at - one.times[0] < 0.5 for at in one.times)
        assert burst >= 45, "what the ring held comes at once"
        call.hangup()
        assert server.closed(one) == 1000
    end = fork.ended(name)
    assert end.captured == end.sent + round(end.lost_s * 50)
    assert end.sent == len(one.frames)
    assert re.search(r"connected again, \d{3,} ms", fork.logged(name, "connected again"))


CODES = {1000: False, 1008: False, 1003: False, 4001: False, 1001: True, 1011: True}


def test_the_servers_close_code_decides_whether_it_comes_back(fork: ForkLab) -> None:
    calls = {code: fork.call() for code in CODES}
    names = {
        code: fork.start(call.channel, fork.server.url(f"code-{code}"), "D(in)R(0)")
        for code, call in calls.items()
    }
    for code in CODES:
        one = fork.server.frames(f"code-{code}", 5)
        one.connection.close(code, "because\tof it\x1b[0m")
    for code, comes_back in CODES.items():
        if comes_back:
            fork.server.find(f"code-{code}", number=2)
            fork.logged(names[code], "trying again")
        else:
            end = fork.ended(names[code])
            assert str(code) in end.reason
            assert "\t" not in end.reason
            assert "\x1b" not in end.reason
            assert end.connections == 1
    for call in calls.values():
        assert call.is_up
        call.hangup()


# -- slow and talkative servers


def test_pings_are_answered_and_talk_is_passed_over(fork: ForkLab) -> None:
    call = fork.call()
    name = fork.start(call.channel, fork.server.url("ping"))
    one = fork.server.find("ping")
    assert one.connection.ping().wait(2)
    for _ in range(200):
        one.connection.send("x" * 20_000)
        one.connection.send(b"\0" * 20_000)
    assert one.connection.ping().wait(5)
    call.hangup()
    assert fork.server.closed(one) == 1000
    end = fork.ended(name)
    assert (end.lost_s, end.captured, end.connections) == (0, len(one.frames), 1)


def test_a_server_that_freezes_and_thaws(fork: ForkLab) -> None:
    thaw = threading.Event()
    taken: list[int] = []

    def behave(connection: socket.socket) -> None:
        fork_server.shake_hands(connection)
        thaw.wait(30)
        taken.append(fork_server.drain(connection))

    fork.configure(LIMITS.replace("stall_timeout_ms = 1500", "stall_timeout_ms = 0"))
    call = fork.call()
    try:
        with RawServer(behave) as server:
            name = fork.start(call.channel, server.url)
            fork.configure(LIMITS)
            fork.wait("a full ring", lambda: fork.counters(name)["DroppedInMs"] > 200, 20)
            before = fork.counters(name)
            thaw.set()
            fork.wait("its end", lambda: fork.counters(name)["WaitingCells"] == 0)
            fork.wait("more", lambda: fork.counters(name)["Messages"] > before["Messages"] + 60)
            call.hangup()
            end = fork.ended(name)
    finally:
        thaw.set()
    assert end.connections == 1
    assert end.captured == end.sent + round(end.lost_s * 50)
    wire = 8 + 320  # header, mask, audio
    assert (taken[0] - 8) // wire >= end.sent - 1


def test_the_end_of_a_call_does_not_wait_for_a_frozen_server(fork: ForkLab) -> None:
    call = fork.call()
    with RawServer(fork_server.freezes) as server:
        name = fork.start(call.channel, server.url)
        fork.wait("a full socket", lambda: fork.counters(name)["WaitingCells"] > 5, 20)
        call.hangup()
        end = fork.ended(name, timeout_s=3)
    assert end.reason == "hangup"
    assert end.lost_s > 0


def test_a_call_shorter_than_the_handshake_loses_nothing(fork: ForkLab) -> None:
    """The server answers only after the call is over."""
    over = threading.Event()
    taken: list[int] = []

    def behave(connection: socket.socket) -> None:
        over.wait(10)
        fork_server.shake_hands(connection)
        taken.append(fork_server.drain(connection))

    call = fork.call()
    with RawServer(behave) as server:
        name = fork.start(call.channel, server.url)
        fork.wait("some audio", lambda: fork.counters(name)["CapturedInMs"] >= 100)
        call.hangup()
        over.set()
        end = fork.ended(name)
    assert end.captured == end.sent >= 5
    assert end.lost_s == 0
