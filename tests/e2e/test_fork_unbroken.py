"""app_audiofork and servers at their worst: the caller hears an unbroken tone all the while.

All faults at the same time, each in a real call (SIP, alaw) of its own, which is played a tone from
its beginning to its end. Proved by the subscriber's tape: not a sample is missing,
and no packet comes later than in the calls without a fork beside them (a busy machine delays all).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import lab_sanitizer
import lab_sound
import pytest

from tests.e2e.fork_lab import LEVEL, Call, End, ForkLab
from tests.e2e.tones import judge
from tests.fakes import fork_server
from tests.fakes.fork_server import RawServer, messages_of, says, shake_hands, take, told

TONE_HZ = 440
LENGTH_S = 14
LATE_MS = 40  # what any jitter buffer takes; a busy machine may add to it in all calls
CONTROLS = 3
LIMITS = """connect_timeout_ms = 1000
stall_timeout_ms = 0
ring_ms = 1000
flush_ms = 1000
reconnect_delay_ms = 100
reconnect_max_delay_ms = 400"""
PINGS_PER_S, PINGS_S = 10_000, 5


@dataclass
class Wire:
    """What a server has received, and when it shall thaw."""

    got: bytearray = field(default_factory=bytearray)
    thaw: threading.Event = field(default_factory=threading.Event)
    pings: int = 0


def taking(wire: Wire, say: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """A server that takes all, while it says what it says."""

    def behave(connection: socket.socket) -> None:
        shake_hands(connection)
        reader = threading.Thread(target=quietly, args=(take, connection, wire.got))
        reader.start()
        quietly(say, connection)
        reader.join(60)

    return behave


def quietly(act: Callable[..., None], *arguments: object) -> None:
    with suppress(OSError):
        act(*arguments)


def bad_json(connection: socket.socket) -> None:
    for number in range(200):
        says(connection, 1, [b"{", b'{"type": 7}', b"\xff\xfe", b"[]", b'{"type":"x"}'][number % 5])
        time.sleep(0.01)


def megabyte(connection: socket.socket) -> None:
    for _ in range(5):
        says(connection, 1, b'{"type": "text", "text": "' + b"x" * 1_000_000 + b'"}')
    says(connection, 1, b"x" * 500_000, final=False)
    says(connection, 0, b"x" * 500_000)


def audio_without_a_prompt(connection: socket.socket) -> None:
    for _ in range(100):
        says(connection, 2, os.urandom(8000))
        time.sleep(0.01)


def floods(wire: Wire) -> Callable[[socket.socket], None]:
    def say(connection: socket.socket) -> None:
        batch = b"\x89\x04ping" * (PINGS_PER_S // 100)
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < PINGS_S:
            connection.sendall(batch)
            wire.pings += PINGS_PER_S // 100
            time.sleep(max(0, wire.pings / PINGS_PER_S - passed))

    return say


def slow_to_accept(wire: Wire) -> Callable[[socket.socket], None]:
    """Answers byte by byte, in time."""

    class Slowly:
        def __init__(self, connection: socket.socket) -> None:
            self.recv = connection.recv
            self._connection = connection

        def sendall(self, answer: bytes) -> None:
            for byte in answer:
                self._connection.sendall(bytes([byte]))
                time.sleep(0.002)

    def behave(connection: socket.socket) -> None:
        shake_hands(Slowly(connection))  # type: ignore[arg-type]
        take(connection, wire.got)

    return behave


def freezes(wire: Wire) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        shake_hands(connection)
        wire.thaw.wait(60)
        take(connection, wire.got)

    return behave


def nothing(connection: socket.socket) -> None:
    """Well-behaved."""


MakeServer = Callable[[Wire], Callable[[socket.socket], None]]
AWAY: dict[str, MakeServer] = {
    "never answers": lambda _: fork_server.never_answers,
    "dribbles": lambda _: fork_server.dribbles,
    "has no WebSocket": lambda _: fork_server.not_found,
    "speaks garbage": lambda _: fork_server.speaks_garbage,
}
BREAKING: dict[str, MakeServer] = {
    "hangs up": lambda _: fork_server.hangs_up,
    "resets": lambda _: fork_server.resets,
    "sends bad frames": lambda _: fork_server.sends_bad_frames,
}
STAYING: dict[str, MakeServer] = {
    "well-behaved": lambda wire: taking(wire, nothing),
    "bad JSON": lambda wire: taking(wire, bad_json),
    "a megabyte": lambda wire: taking(wire, megabyte),
    "audio for nothing": lambda wire: taking(wire, audio_without_a_prompt),
    "a flood of pings": lambda wire: taking(wire, floods(wire)),
    "slow to accept": slow_to_accept,
    "freezes": freezes,
}
FAULTS = AWAY | BREAKING | STAYING
BAD_MESSAGES = {"bad JSON": 200, "a megabyte": 6, "audio for nothing": 100}


@dataclass
class Fault:
    number: str
    call: Call
    fork: str
    wire: Wire
    end: End | None = None


pytestmark = pytest.mark.usefixtures("story")


@pytest.fixture(scope="module")
def fork(fork: ForkLab) -> ForkLab:
    fork.configure(LIMITS)
    file = fork.lab.sounds / "long.wav"
    lab_sound.write(file, lab_sound.tone((LENGTH_S + 15) * 1000, TONE_HZ, LEVEL))
    fork.tones["long"] = str(file.with_suffix(""))
    return fork


def dial(fork: ForkLab, number: str) -> Call:
    """A call that plays the tone; it has its answer."""
    values = {"LAB_TONE": fork.tones["long"]}
    call = Call(fork, fork.ami.originate(number, "lab-fork", values, exten="plain"))
    fork.ami.event("Newexten", Uniqueid=call.id, Extension="plain")
    return call


def memory_kb(fork: ForkLab) -> int:
    with Path(f"/proc/{fork.lab.pbx.pid}/status").open() as status:
        return next(int(row.split()[1]) for row in status if row.startswith("VmRSS:"))


@dataclass
class Run:
    faults: dict[str, Fault]
    controls: list[str]
    """Numbers of calls without a fork."""
    before: tuple[int, int]
    """Threads and descriptors, of a moment of rest."""
    stalled_ms: int
    """The longest time for which the machine did not let this process run."""
    grown_kb: int
    """Asterisk's memory, from the first fork to the end of the faults."""


def watched(length_s: float) -> int:
    """Sleep for so long, in short naps; by how many ms the worst of them was too long."""
    until, worst = time.monotonic() + length_s, 0.0
    while (begun := time.monotonic()) < until:
        time.sleep(0.005)
        worst = max(worst, time.monotonic() - begun - 0.005)
    return round(worst * 1000)


@pytest.fixture(scope="module")
def run(fork: ForkLab) -> Iterator[Run]:
    """All the faults, over; the calls too."""
    pbx = fork.lab.pbx
    warm = [dial(fork, f"1039{number:03}") for number in range(len(FAULTS))]
    for call in warm:
        call.hangup()
    fork.wait("the end of the first calls", lambda: not pbx.channels())
    before = pbx.threads(), pbx.fds()
    faults: dict[str, Fault] = {}
    with ExitStack() as stack:
        calls = {name: dial(fork, f"1030{n:03}") for n, name in enumerate(FAULTS)}
        controls = [f"1031{n:03}" for n in range(CONTROLS)]
        plain = [dial(fork, number) for number in controls]
        begun_kb = memory_kb(fork)
        for number, (name, make) in enumerate(FAULTS.items()):
            wire = Wire()
            stack.callback(wire.thaw.set)
            server = stack.enter_context(RawServer(make(wire)))
            one = fork.start(calls[name].channel, server.url, "jD(in)R(0)")
            faults[name] = Fault(f"1030{number:03}", calls[name], one, wire)
        stalled_ms = watched(LENGTH_S - 2)
        grown_kb = memory_kb(fork) - begun_kb
        faults["freezes"].wire.thaw.set()
        stalled_ms = max(stalled_ms, watched(2))
        for fault in faults.values():
            assert fault.call.is_up
            fault.call.hangup()
        for call in plain:
            call.hangup()
        for fault in faults.values():
            fault.end = fork.ended(fault.fork)
    yield Run(faults, controls, before, stalled_ms, grown_kb)


@pytest.mark.parametrize("name", FAULTS)
def test_the_caller_hears_an_unbroken_tone(fork: ForkLab, run: Run, name: str) -> None:
    number = run.faults[name].number
    tape = lab_sound.read(fork.lab.heard(number))
    assert len(tape) / lab_sound.RATE_HZ > LENGTH_S - 1
    heard = judge(tape, TONE_HZ)
    busy_ms = max(run.stalled_ms, *(latest_ms(fork, number) for number in run.controls))
    assert heard.damage == []
    assert latest_ms(fork, number) <= LATE_MS + 2 * busy_ms


def latest_ms(fork: ForkLab, number: str) -> float:
    """How late the latest packet to this number was, or for how long none came."""
    heard = judge(lab_sound.read(fork.lab.heard(number)), TONE_HZ)
    return max(fork.lab.late_ms(number), heard.longest_ms)


@pytest.mark.parametrize("name", FAULTS)
def test_all_audio_is_accounted_for(run: Run, name: str) -> None:
    """To the frame: captured = sent + dropped."""
    end = run.faults[name].end
    assert end is not None
    assert end.captured > 50 * (LENGTH_S - 2)
    assert end.captured == end.sent + round(end.lost_s * 50)
    assert end.reason == "hangup"
    if name in AWAY:
        assert (end.sent, end.connections) == (0, 0)
    elif name in BREAKING:
        assert end.connections >= 3
    else:
        assert end.connections == 1
        assert (end.lost_s > 5) == (name == "freezes")


@pytest.mark.parametrize("name", STAYING)
def test_the_server_received_what_was_sent_and_told(run: Run, name: str) -> None:
    fault = run.faults[name]
    assert fault.end is not None
    messages = messages_of(fault.wire.got)
    rows = told(messages)
    assert sum(isinstance(message, bytes) for message in messages) == fault.end.sent
    lost_ms = sum(row["ms"] for row in rows if row["type"] == "dropped")
    assert lost_ms == round(fault.end.lost_s * 1000)
    assert [row["type"] for row in rows][-2:] == ["hangup", "stop"]
    errors = sum(row["type"] == "error" for row in rows)
    bad = BAD_MESSAGES.get(name, 0)
    assert rows[-1]["counters"]["bad_messages"] == bad
    assert min(bad, 5) <= errors <= min(bad, 60), "not more than ten in a second"


def test_pings_by_the_ten_thousand_are_kept_up_with(run: Run) -> None:
    """A pong may answer several of them (RFC 6455, 5.5.3); the audio goes on in step."""
    fault = run.faults["a flood of pings"]
    assert fault.wire.pings > 0.8 * PINGS_PER_S * PINGS_S
    assert b"\x8a\x84" in fault.wire.got


def test_memory_is_bounded(run: Run) -> None:
    freed_kb = 32 * 1024 if lab_sanitizer.wanted() else 0  # AddressSanitizer keeps so much of it
    assert run.grown_kb < 8192 + freed_kb


def test_no_thread_and_no_descriptor_is_left(fork: ForkLab, run: Run) -> None:
    pbx = fork.lab.pbx

    def settled() -> bool:
        return pbx.threads() <= run.before[0] and pbx.fds() <= run.before[1]

    assert fork.forks() == 0
    fork.wait(f"{run.before} threads and descriptors", settled, 20)


# -- back again: what `start` and `dropped` tell


def test_after_an_outage_the_gap_is_told_and_the_place_is_right(fork: ForkLab) -> None:
    """The server is away for longer than the ring holds."""
    call = dial(fork, "1038001")
    with fork_server.ForkServer() as server:
        one = fork.start(call.channel, server.url("back"), "jD(in)R(0)")
        first = server.frames("back", 30)
        server.close()
        fork.logged(one, "trying again")
        fork.wait("a loss", lambda: fork.counters(one)["DroppedInMs"] >= 200)
        with fork_server.ForkServer(port=server.port) as again:
            second = again.frames("back", 70)
            call.hangup()
            assert again.closed(second) == 1000
    end = fork.ended(one)
    rows = told(second.messages)
    assert [row["type"] for row in rows] == ["start", "dropped", "hangup", "stop"]
    assert json.loads(first.texts[0])["connection"] == 1
    assert (rows[0]["connection"], rows[1]["at_ms"]) == (2, rows[0]["at_ms"])
    on_the_way = rows[0]["at_ms"] // 20 - len(first.frames)
    assert 0 <= on_the_way <= 5, "handed to the kernel when the connection broke"
    assert rows[1]["ms"] == round(end.lost_s * 1000)
    assert rows[-1]["at_ms"] == 20 * end.captured
    heard = judge(lab_sound.read(fork.lab.heard("1038001")), TONE_HZ)
    assert heard.damage == []
