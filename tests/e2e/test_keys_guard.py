"""The fork's message ``guard`` on a real Asterisk: keys blocked to the play position."""

from __future__ import annotations

import array
import bisect
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.key_lab import Call, KeyLab
from tests.fakes.fork_server import ForkServer, Received, told

MODULE = "app_audiofork.so"
WAYS = {
    "RFC 4733": ("120", "subscriber"),
    "SIP INFO": ("121", "subscriber-info"),
    "in-band": ("122", "subscriber-inband"),
}
HUNDRED = "1234567890" * 10
# A key that begins so near to a switch is judged by either mode: the stream is told in frames of
# 20 ms, a tone is known after two of the detector's blocks, of 13 ms each.
EDGE_MS = 70
FROZEN = Path(__file__).with_name("frozen_server.py")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[KeyLab]:
    with KeyLab(tmp_path_factory.mktemp("keys-guard"), asterisk) as one:
        yield one


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as one:
        yield one


def quiet(length_ms: int) -> bytes:
    """A prompt that one does not hear: tones of keys beside it are not disturbed."""
    return bytes(length_ms * 16)


def noise(length_ms: int) -> bytes:
    dice = random.Random(length_ms)
    return array.array("h", (dice.randint(-9000, 9000) for _ in range(length_ms * 8))).tobytes()


_names = (f"guarded-{number}" for number in itertools.count(1))


class Talk:
    """A call, its fork with JSON, and the server's hand."""

    def __init__(self, call: Call, server: ForkServer, name: str) -> None:
        self.call, self._all, self.name = call, server, name

    @property
    def server(self) -> Received:
        return self._all.find(self.name)

    def say(self, kind: str, **fields: object) -> None:
        self.server.connection.send(json.dumps({"type": kind, **fields}))

    def guard(self, name: str, mode: str, **fields: object) -> None:
        self.say("guard", name=name, mode=mode, **fields)

    def now(self, name: str, mode: str, **fields: object) -> dict[str, Any]:
        """A guard that is in force; what was told of it."""
        self.guard(name, mode, **fields)
        return self.wait("guard", name=name, why="asked")

    def play(self, name: str, audio: bytes, *, end: bool = True) -> None:
        self.say("play", play=name)
        self.server.connection.send(
            [audio[at : at + 64_000] for at in range(0, len(audio), 64_000)]
        )
        if end:
            self.say("end", play=name)

    def rows(self) -> list[dict[str, Any]]:
        """All that was told, each in its place in the stream."""
        return told(list(self.server.messages))

    def all(self, kind: str, **fields: object) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [json.loads(text) for text in list(self.server.texts)]
        return [row for row in rows if row["type"] == kind and fields.items() <= row.items()]

    def wait(self, kind: str, timeout_s: float = 20, **fields: object) -> dict[str, Any]:
        """The first message of this type with these fields."""
        ready = f"{kind} {fields}"
        self._all.wait(ready, lambda: bool(self.all(kind, **fields)), timeout_s)
        return self.all(kind, **fields)[0]

    @property
    def digits(self) -> list[tuple[str, str]]:
        return [(row["digit"], row["verdict"]) for row in self.all("digit")]

    def wait_digits(self, *digits: tuple[str, str]) -> None:
        self._all.wait(f"{digits}", lambda: len(self.digits) >= len(digits), 20)
        assert self.digits == list(digits)


@dataclass
class Talks:
    keys: KeyLab
    server: ForkServer

    def speak(self, code: str = "103", trunk: str = "subscriber", **values: str) -> Talk:
        """A call over SIP that plays what its server says, one prompt after the other."""
        name = next(_names)
        values = {"LAB_PLAY": "t(60000)", "LAB_OPTIONS": "D(in)", **values}
        number = self.keys.number(code)
        call = self.keys.ami.originate(
            number, "lab-speak", {"LAB_URL": self.server.url(name), **values}, trunk=trunk
        )
        far = Call(self.keys, call, lambda: self.keys.far_channel(number), self.keys.far_ami)
        return Talk(far, self.server, name)

    def read(self, mode: str = "off", **values: str) -> Talk:
        """A call whose dialplan tells every key that it gets; the fork is begun by AMI."""
        return self.fork(self.keys.dial("103", LAB_GUARD=mode, **values))

    def fork(self, call: Call, channel: str = "") -> Talk:
        name = next(_names)
        answer = self.keys.ami.action(
            "AudioFork",
            Channel=channel or call.channel,
            WsServer=self.server.url(name),
            Options="jD(in)",
        )
        assert answer["Response"] == "Success", answer
        talk = Talk(call, self.server, name)
        talk.wait("start")
        return talk


@pytest.fixture
def talks(keys: KeyLab, server: ForkServer) -> Iterator[Talks]:
    yield Talks(keys, server)
    keys.lab.pbx.cli("channel request hangup all")
    keys.wait("the end of all calls", lambda: not keys.lab.pbx.channels())


# -- a hundred of a hundred


@dataclass
class Modes:
    """The modes that were told, by their places in the stream."""

    places: list[int]
    modes: list[str]

    def at(self, at_ms: int) -> str:
        return self.modes[bisect.bisect(self.places, at_ms) - 1]

    def fits(self, began_ms: int, verdict: str) -> bool:
        """Whether a key that began then could be judged so."""
        wanted = {"block": "blocked", "buffer": "buffered", "pass": "passed", "off": "passed"}
        near = {self.at(began_ms - EDGE_MS), self.at(began_ms), self.at(began_ms + EDGE_MS)}
        return verdict in {wanted[mode] for mode in near}

    def clear(self, began_ms: int) -> bool:
        """Whether no switch is near."""
        return self.at(began_ms - EDGE_MS) == self.at(began_ms + EDGE_MS)


@pytest.fixture(scope="module")
def hundreds(keys: KeyLab, server: ForkServer) -> dict[str, Talk]:
    """A call for each way, all at the same time; their prompts are over."""
    talks = {way: hundred(Talks(keys, server), way) for way in WAYS}
    for talk in talks.values():
        talk.wait("played", 40, play="p")
    return talks


def hundred(talks: Talks, way: str) -> Talk:
    """A hundred keys, begun a second after the answer, in a prompt that switches each 700 ms."""
    code, trunk = WAYS[way]
    talk = talks.speak(code, trunk, LAB_OPTIONS="D(out)")  # the stream is the prompt's own time
    cycle = itertools.cycle(["block", "pass", "buffer", "block", "buffer", "pass"])
    talk.say("play", play="p")
    for number, mode in zip(range(26), cycle, strict=False):
        talk.guard(f"g{number}", mode, play="p", at_ms=700 * number)
    talk.server.connection.send([quiet(2000)] * 9)
    talk.say("end", play="p")
    return talk


@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_of_a_hundred_by_the_place(hundreds: dict[str, Talk], way: str) -> None:
    """Each key, before and after each place, is judged by the mode of its time."""
    talk = hundreds[way]
    rows = talk.rows()
    guards = [row for row in rows if row["type"] == "guard"]
    assert [row["name"] for row in guards] == [f"g{number}" for number in range(26)]
    assert [row["played_ms"] for row in guards] == [700 * number for number in range(26)]
    assert {(row["why"], row["play"]) for row in guards} == {("place", "p")}
    modes = Modes([row["at_ms"] for row in guards], [row["mode"] for row in guards])
    pressed = [row for row in rows if row["type"] == "digit"]
    assert "".join(row["digit"] for row in pressed) == HUNDRED
    # INFO tells a key when it is over, and that is when it is judged.
    began = [row["at_ms"] - (row["duration_ms"] if way != "SIP INFO" else 0) for row in pressed]
    fates = [row["verdict"] for row in pressed]
    wrong = [it for it in zip(began, fates, strict=True) if not modes.fits(*it)]
    assert wrong == []
    assert sum(map(modes.clear, began)) >= 70
    assert min(fates.count(fate) for fate in ("passed", "blocked", "buffered")) >= 15
    # What the server took, Asterisk has not seen; what passed, it has.
    passed = [row["digit"] for row in pressed if row["verdict"] == "passed"]
    assert [event["Digit"] for event in talk.call.events("DTMFEnd")] == passed
    names = ("passed", "blocked", "buffered", "taken", "released", "waiting")
    kept = fates.count("buffered")
    counts = talk.call.counts(*names)
    assert counts == [len(passed), fates.count("blocked"), kept, kept, 0, 0]


# -- at once


def test_in_force_at_once(talks: Talks) -> None:
    """No frame need pass, no lock be had: the next key that goes down is judged by it."""
    talk = talks.read()
    for number in range(10):
        mode = ("block", "pass")[number % 2]
        talk.now(f"g{number}", mode)
        assert talk.call.status["mode"] == mode
        talk.call.press(str(number))
    talk.wait_digits(*((str(n), ("blocked", "passed")[n % 2]) for n in range(10)))
    talk.call.wait_keys("13579")
    assert talk.all("guard")[0] == {
        "type": "guard", "name": "g0", "mode": "block", "why": "asked",
        "at_ms": talk.all("guard")[0]["at_ms"],
    }  # fmt: skip


def test_keys_and_guards_are_told_in_order(talks: Talks) -> None:
    talk = talks.read()
    talk.now("one", "block")
    talk.call.press("1")
    talk.wait("digit", digit="1")
    talk.now("two", "pass")
    talk.call.press("2")
    talk.wait("digit", digit="2")
    rows = [row for row in talk.rows() if row["type"] in ("guard", "digit")]
    assert [row.get("name", row.get("digit")) for row in rows] == ["one", "1", "two", "2"]


def test_only_the_keys_named(talks: Talks) -> None:
    talk = talks.read()
    talk.now("g", "block", digits="0-9")
    talk.call.press("1*2#")
    talk.wait_digits(("1", "blocked"), ("*", "passed"), ("2", "blocked"), ("#", "passed"))
    assert talk.call.get("digits") == "0123456789"
    assert talk.call.get("limit") == "0"
    talk.now("h", "block", limit_ms=60_000)
    assert 50_000 < int(talk.call.get("limit")) <= 60_000


@pytest.mark.parametrize(
    ("kept", "read", "counts"),
    [("take", "3", [2, 0, 0]), ("release", "123", [0, 2, 0]), ("stay", "3", [0, 0, 2])],
)
def test_what_becomes_of_kept_keys(talks: Talks, kept: str, read: str, counts: list[int]) -> None:
    talk = talks.read()
    talk.now("buffer", "buffer")
    talk.call.press("12")
    talk.wait_digits(("1", "buffered"), ("2", "buffered"))
    talk.now("open", "pass", kept=kept)
    if kept == "release":
        talk.call.wait_keys("12")
    talk.call.press("3")
    talk.call.wait_keys(read)
    assert talk.call.counts("taken", "released", "waiting") == counts
    assert talk.call.get("keys") == ("12" if kept == "stay" else "")
    released = [("1", "released"), ("2", "released")] if kept == "release" else []
    assert talk.digits[2:] == [*released, ("3", "passed")]


def test_the_later_of_dialplan_and_server_counts(talks: Talks) -> None:
    """And a limit is the guard's own: when somebody else has set the mode, it does nothing."""
    talk = talks.read()
    talk.now("first", "block", limit_ms=1000)
    talk.call.set("mode", "buffer")
    talk.now("second", "pass", kept="stay")
    assert talk.call.status["mode"] == "pass"
    talk.call.set("mode", "block")
    talk.now("third", "buffer", limit_ms=600)
    assert talk.call.status["mode"] == "buffer"
    talk.call.set("mode", "block")
    talk.call.press("1" * 12)  # longer than both limits
    assert talk.call.status["mode"] == "block"
    assert {verdict for _, verdict in talk.digits} == {"blocked"}
    assert talk.all("guard", why="limit") == []


def test_two_forks_on_one_channel(talks: Talks) -> None:
    one = talks.read()
    two = talks.fork(one.call)
    one.now("of-one", "block")
    two.now("of-two", "buffer")
    assert one.call.status["mode"] == "buffer"
    one.call.press("1")
    for talk in (one, two):
        talk.wait_digits(("1", "buffered"))
    one.say("stop")
    one.wait("stop")
    assert one.call.status["mode"] == "buffer", "the other's mode is none of its business"
    two.say("stop")
    two.wait("stop")
    one.call.press("2")
    one.call.wait_keys("2")
    assert one.call.status["mode"] == "pass"


@pytest.mark.parametrize("seed", range(2))
def test_whoever_comes_last_is_obeyed(talks: Talks, seed: int) -> None:
    """Two servers and the dialplan in any order, forks that end and come; each key by the last."""
    dice = random.Random(seed)
    call = talks.read().call
    forks = [talks.fork(call), talks.fork(call)]
    mode, owner, pressed = "off", -1, ""
    fates = {"block": "blocked", "buffer": "buffered", "pass": "passed", "off": "passed"}
    wanted: list[tuple[str, str]] = []
    for number in range(40):
        who = dice.randrange(3)
        what = dice.choice(["set", "set", "end"])
        if what == "end" and who < 2:
            forks[who].say("stop")
            forks[who].wait("stop")
            mode, owner = ("pass", -1) if owner == who else (mode, owner)
            call.lab.wait("its end", lambda mode=mode: call.get("mode") == mode)  # type: ignore[misc]
            forks[who] = talks.fork(call)
        else:
            mode, owner = dice.choice(["block", "buffer", "pass"]), who
            if who == 2:
                call.get("clear")
                call.set("mode", mode)
            else:
                forks[who].now(f"g{number}", mode, limit_ms=60_000)
        assert call.get("mode") == mode
        key = str(number % 10)
        call.press(key, ms=80, gap_ms=20)
        wanted.append((key, fates[mode]))
        pressed += key if fates[mode] == "passed" else ""
        call.lab.wait(
            f"the key {wanted[-1]}",
            lambda: forks[0].digits[-1:] == forks[1].digits[-1:] == wanted[-1:],
        )
    call.wait_keys(pressed)
    assert "released" not in {verdict for fork in forks for _, verdict in fork.digits}


# -- the limit


def prompted(talks: Talks) -> Talk:
    """A call in a long prompt; the stream is the prompt's own time."""
    talk = talks.speak(LAB_OPTIONS="D(out)")
    talk.call.far()  # has answered
    talk.play("p", quiet(3500), end=False)
    talk.wait("started", play="p")
    return talk


def test_the_limit_is_told_though_no_key_comes(talks: Talks) -> None:
    talk = prompted(talks)
    asked = talk.now("g", "block", limit_ms=1500)
    over = talk.wait("guard", name="g", why="limit")
    assert over["mode"] == "pass"
    assert 1400 <= over["at_ms"] - asked["at_ms"] <= 2600
    said = "guard g has reached its limit, keys pass now"
    talks.keys.wait("the log's row", lambda: said in talks.keys.lab.pbx.log())
    assert talk.call.status["mode"] == "pass"
    talk.call.press("1")
    talk.wait_digits(("1", "passed"))


def test_the_limit_is_exact_for_keys(talks: Talks) -> None:
    """Each key by its own beginning; the limit is told before the first that passes is."""
    talk = prompted(talks)
    talk.now("g", "block", limit_ms=1500)
    talk.call.press("1234567890" * 2, ms=80, gap_ms=60)
    talk.call.lab.wait("twenty keys", lambda: len(talk.digits) == 20)
    rows = [row for row in talk.rows() if row["type"] in ("guard", "digit")]
    pressed = [row for row in rows if row["type"] == "digit"]
    began = [row["at_ms"] - row["duration_ms"] - rows[0]["at_ms"] for row in pressed]
    fates = [row["verdict"] for row in pressed]
    late = bisect.bisect(fates, "blocked")  # blocked first, then passed
    assert fates == ["blocked"] * late + ["passed"] * (20 - late)
    assert began[late - 1] < 1500 + EDGE_MS
    assert began[late] > 1500 - EDGE_MS
    order = [row.get("why") or row["verdict"] for row in rows]
    assert order.index("limit") < order.index("passed")


def test_a_frozen_server_cannot_keep_the_keys(keys: KeyLab, talks: Talks) -> None:
    """The server's process is stopped for good as soon as its guard is in force."""
    with frozen_server() as (process, read):
        port = int(read())
        call = keys.dial("103", LAB_GUARD="off")
        answer = keys.ami.action(
            "AudioFork",
            Channel=call.channel,
            WsServer=f"ws://127.0.0.1:{port}/",
            Options="jD(in)",
        )
        assert answer["Response"] == "Success", answer
        assert json.loads(read())["why"] == "asked"
        os.kill(process.pid, signal.SIGSTOP)
        call.press("1")
        assert call.counts("blocked", "passed") == [1, 0]
        keys.wait("the limit", lambda: call.get("mode") == "pass")
        call.press("2")
        call.wait_keys("2")
        os.kill(process.pid, signal.SIGCONT)
        rows = [json.loads(read()) for _ in range(3)]
        assert [row.get("verdict") or row["why"] for row in rows] == ["blocked", "limit", "passed"]


@contextmanager
def frozen_server() -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """The process, and what reads a line of it."""
    process = subprocess.Popen([sys.executable, str(FROZEN)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process, process.stdout.readline
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# -- places


def test_what_is_not_reached_is_forgotten(talks: Talks) -> None:
    """A prompt that is cleared, and one that ends before the place."""
    talk = talks.speak()
    talk.say("play", play="a")
    talk.guard("in-a", "block", play="a", at_ms=200)
    talk.guard("after-a", "buffer", play="a", at_ms=9000)
    talk.server.connection.send(noise(4000))
    talk.wait("guard", name="in-a")
    talk.say("clear", play="a")
    talk.wait("played", play="a", how="clear")
    talk.say("play", play="b")
    talk.guard("beyond-b", "buffer", play="b", at_ms=500)
    talk.guard("end-of-b", "pass", play="b", at_ms=480)
    talk.server.connection.send(noise(480))
    talk.say("end", play="b")
    talk.wait("played", play="b", how="end")
    talk.guard("of-no-prompt", "buffer", play="b", at_ms=0)
    talk.now("last", "off")
    names = [row["name"] for row in talk.all("guard")]
    assert names == ["in-a", "end-of-b", "last"]
    assert talk.wait("guard", name="end-of-b")["played_ms"] == 480


def test_a_pause_moves_the_place(talks: Talks) -> None:
    """What counts is what was played, and not a clock."""
    talk = talks.speak()
    talk.play("a", noise(1500), end=False)
    talk.guard("g", "block", play="a", at_ms=1000)
    talk.say("end", play="a")
    talk.wait("started", play="a")
    talk.say("pause", play="a")
    talk.say("counters")
    talk.wait("counters")
    talk.call.press("1" * 10)  # 1.6 s
    assert talk.all("guard") == []
    assert {verdict for _, verdict in talk.digits} == {"passed"}
    talk.say("resume", play="a")
    assert talk.wait("guard", name="g")["played_ms"] == 1000
    talk.call.press("2")
    talk.wait("digit", digit="2", verdict="blocked")


def test_the_place_is_exact_to_the_frame(talks: Talks) -> None:
    """By the stream itself: where the prompt becomes loud, there the guard stands."""
    talk = talks.speak(LAB_OPTIONS="D(out)")
    talk.say("play", play="a")
    places = [500, 1010, 1999]
    for place in places:
        talk.guard(f"g{place}", "block", play="a", at_ms=place)
    audio = b"".join(
        quiet(end - begin - 300) + noise(300)
        for begin, end in itertools.pairwise([0, *(place + 300 for place in places)])
    )
    talk.server.connection.send(audio)
    talk.say("end", play="a")
    talk.wait("played", play="a")
    loud = [max(map(abs, array.array("h", frame))) > 4000 for frame in talk.server.frames]
    begins = [20 * n for n in range(1, len(loud)) if loud[n] and not loud[n - 1]]
    stands = [row["at_ms"] for row in talk.all("guard")]
    assert len(begins) == len(stands) == 3
    assert all(abs(a - b) <= 20 for a, b in zip(begins, stands, strict=True)), (begins, stands)


def test_a_live_prompt_that_is_skipped_reaches_its_places(talks: Talks) -> None:
    talk = talks.speak()
    talk.say("play", play="a", live_ms=100)
    talk.guard("g", "block", play="a", at_ms=1500)
    talk.server.connection.send(noise(3000))
    talk.say("end", play="a")
    talk.wait("played", play="a")
    assert talk.wait("guard", name="g")["played_ms"] <= 100


# -- ends


@pytest.mark.parametrize("how", ["stop", "close", "ami", "unload"])
def test_when_the_fork_ends_keys_are_open(keys: KeyLab, talks: Talks, how: str) -> None:
    talk = talks.read()
    talk.now("g", "buffer")
    talk.call.press("1")
    talk.wait_digits(("1", "buffered"))
    talk.now("h", "block", kept="stay")
    talk.call.press("2")
    talk.wait("digit", digit="2", verdict="blocked")
    if how == "stop":
        talk.say("stop")
    elif how == "close":
        talk.server.connection.close()
    elif how == "ami":
        keys.ami.action("StopAudioFork", Channel=talk.call.channel)
    else:
        assert "Unloaded" in keys.lab.pbx.cli(f"module unload -f {MODULE}")
    keys.wait("the fork's end", lambda: talk.server.code is not None)
    talk.call.press("3")
    talk.call.wait_keys("3")
    if how == "unload":
        assert "Loaded" in keys.lab.pbx.cli(f"module load {MODULE}")
    else:
        assert talk.call.status["mode"] == "pass"
        assert talk.call.get("keys") == "1", "it was told as buffered: nobody gets it by chance"


def test_a_connection_that_comes_back_finds_the_guard(keys: KeyLab, server: ForkServer) -> None:
    """Only the limit, and the fork's end, open the keys."""
    call = keys.dial("103", LAB_GUARD="off")
    name = next(_names)
    answer = keys.ami.action(
        "AudioFork", Channel=call.channel, WsServer=server.url(name), Options="jD(in)R(1)"
    )
    assert answer["Response"] == "Success", answer
    talk = Talk(call, server, name)
    talk.now("g", "block", limit_ms=60_000)
    talk.server.connection.close(1012)
    call.press("1")
    again = server.find(name, 2)
    server.wait("the key", lambda: any('"digit"' in text for text in again.texts))
    assert call.status["mode"] == "block"
    assert json.loads(again.texts[-1])["verdict"] == "blocked"
    call.hangup()


def test_the_guard_goes_with_the_call(keys: KeyLab, talks: Talks) -> None:
    """AMI's Redirect of a bridged channel is a masquerade: another channel, the same caller."""
    number = keys.number("103")
    first = keys.dial("103", exten="dial", LAB_PEER=f"PJSIP/{number}@subscriber")
    name = keys.ami.event("DialBegin", Uniqueid=first.id)["DestChannel"]
    peer = Call(
        keys,
        keys.ami.event("Newchannel", Channel=name)["Uniqueid"],
        lambda: keys.far_channel(number),
        keys.far_ami,
    )
    keys.ami.event("BridgeEnter", Uniqueid=peer.id)
    talk = talks.fork(peer, name)
    talk.now("g", "block", limit_ms=60_000)
    keys.ami.action("Redirect", Channel=name, Context="lab-guard", Exten="told", Priority="1")
    keys.ami.event("Newexten", Channel=name, Context="lab-guard", Extension="told")
    peer.press("1")
    talk.wait("digit", digit="1", verdict="blocked")
    talk.now("h", "pass")
    peer.press("2")
    talk.wait("digit", digit="2", verdict="passed")
    assert peer.get("mode") == "pass"


def test_refusals_name_what_is_wrong(talks: Talks) -> None:
    talk = talks.read("block")
    talk.say("guard", name="g", mode="shut")
    talk.say("guard", name="g", mode="pass", at_ms=5)
    talk.say("guard", name="g/", mode="pass")
    talk.say("counters")
    talk.wait("counters")
    whys = [row["why"].split(":")[0] for row in talk.all("error", about="guard")]
    assert whys == ["mode", "play is missing", "name"]
    assert talk.call.status["mode"] == "block"


def test_hangups_at_any_moment_leave_nothing(keys: KeyLab, talks: Talks) -> None:
    dice = random.Random(7)
    for number in range(8):
        talk = talks.speak()
        talk.say("play", play="a")
        for place in range(0, 1000, 40):
            talk.guard(f"g{place}", ("block", "buffer", "pass")[place % 3], play="a", at_ms=place,
                       limit_ms=100)  # fmt: skip
        talk.server.connection.send(noise(1000))
        talk.wait("started")
        time.sleep(dice.uniform(0, 0.3))
        if number % 2:
            talk.call.hangup()
        else:
            keys.ami.action("StopAudioFork", Channel=talk.call.channel)
    keys.lab.pbx.cli("channel request hangup all")
    keys.wait("the end of all calls", lambda: not keys.lab.pbx.channels())
    assert "Unloaded" in keys.lab.pbx.cli(f"module unload {MODULE}")
    assert "Loaded" in keys.lab.pbx.cli(f"module load {MODULE}")
