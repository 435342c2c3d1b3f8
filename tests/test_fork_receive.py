"""asterisk/fork_receive.c: what the server says, over a real WebSocket.

The driver plays the channel: it takes frames when it is told to.
"""

from __future__ import annotations

import json
import os
import random
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from tests.fakes.authority import Authority
from tests.fixtures_fork import Driver, Sink, eventually

FRAME = 160


class Talk:
    """A link with JSON, and its server's side."""

    def __init__(self, driver: Driver, sink: Sink, options: str = "", number: int = 1) -> None:
        self.driver, self.sink, self.number = driver, sink, number
        scheme = "wss" if "ca=" in options else "ws"
        url = f"{scheme}://localhost:{sink.port}/"
        assert driver.do(f"open {number} {url} json=1 {options}") == "ok"
        self.connected(1)

    wish: int
    """The number of the last that was taken."""

    def connected(self, times: int) -> None:
        """Wait for the connection that is the TIMESth."""
        assert eventually(lambda: len(self.sink.texts) >= times), self.driver.logs
        self.texts, self.connection = self.sink.texts[-1], self.sink.connections[-1]
        assert eventually(lambda: bool(self.texts))

    def say(self, kind: str, **fields: object) -> None:
        self.connection.send(json.dumps({"type": kind, **fields}))

    def play(self, name: str, audio: bytes = b"", *, end: bool = True, **fields: object) -> None:
        self.say("play", play=name, **fields)
        if audio:
            self.connection.send(audio)
        if end:
            self.say("end", play=name)

    def heard(self) -> list[dict[str, Any]]:
        """What the module has said, `start` aside."""
        return [json.loads(text) for text in self.texts if '"start"' not in text]

    def wait(self, kind: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """The COUNTth message of this type with these fields."""

        def found() -> list[dict[str, Any]]:
            return [
                row for row in self.heard() if row["type"] == kind and fields.items() <= row.items()
            ]

        assert eventually(lambda: len(found()) >= count, 5), (kind, fields, self.heard())
        return found()[count - 1]

    def settled(self) -> None:
        """All that was said has been obeyed."""
        asked = sum(row["type"] == "counters" for row in self.heard())
        self.say("counters")
        self.wait("counters", asked + 1)

    # -- the channel

    def attach(self, name: str = "") -> str:
        return self.driver.do(f"attach {self.number} {name}")

    def take(self, frames: int = 1) -> tuple[bytes, str]:
        """What was played, and how it went on: audio, wait, paused, over."""
        _, *samples, result = self.driver.do(f"take {self.number} {frames}").split(" ")
        return bytes.fromhex("".join(samples)), result

    def detach(self) -> str:
        return self.driver.do(f"detach {self.number}")


MakeTalk = Callable[..., Talk]


@pytest.fixture
def talk(driver: Driver, sink: Sink) -> Iterator[MakeTalk]:
    made: list[Talk] = []

    def make(options: str = "", to: Sink | None = None) -> Talk:
        made.append(Talk(driver, to or sink, options, len(made) + 1))
        return made[-1]

    yield make
    for one in made:
        driver.do(f"close {one.number} x")
        driver.do(f"free {one.number}")


def counting(first: int, many: int) -> bytes:
    return struct.pack(f"<{many}h", *((first + n) % 32_000 for n in range(many)))


def test_a_prompt_is_played_as_it_was_sent(talk: MakeTalk) -> None:
    one = talk()
    audio = counting(0, 10 * FRAME)
    one.play("a", audio[:1000], end=False)
    one.connection.send([audio[1000:1501], audio[1501:1502], audio[1502:]])  # fragments
    one.say("mark", play="a", name="here")
    one.say("end", play="a")
    one.settled()
    assert one.attach("a") == "ok 0 clear"
    assert one.take(20) == (audio, "over")
    assert one.detach() == "ok end 200"
    assert one.wait("started") == {"type": "started", "play": "a"}
    assert one.wait("mark") == {"type": "mark", "play": "a", "name": "here", "played_ms": 200}
    assert one.wait("played") == {
        "type": "played", "play": "a", "how": "end", "played_ms": 200, "gap_ms": 0,
        "skipped_ms": 0,
    }  # fmt: skip
    assert [row["type"] for row in one.heard() if row["type"] != "counters"] == [
        "started", "mark", "played",
    ]  # fmt: skip


def test_clear_before_during_and_ahead(talk: MakeTalk) -> None:
    one = talk()
    one.play("a", counting(0, 10 * FRAME), end=False)
    one.settled()
    one.attach("a")
    assert one.take(2)[1] == "audio"
    one.say("clear", play="a")
    assert one.wait("played", how="clear")["played_ms"] == 40
    assert one.take() == (b"", "over")
    assert one.detach() == "ok clear 40"
    one.connection.send(counting(0, FRAME))  # was on its way
    one.say("clear", play="later")
    one.play("b", counting(5, FRAME))
    one.settled()
    assert one.attach("later") == "ok 1 clear"
    one.attach("b")
    assert one.take(2) == (counting(5, FRAME), "over")
    one.detach()
    one.say("clear")
    one.settled()
    assert not [row for row in one.heard() if row["type"] == "error"]


def test_pause_and_resume(talk: MakeTalk) -> None:
    one = talk()
    one.play("a", counting(0, 4 * FRAME))
    one.settled()
    one.attach("a")
    first, _ = one.take(1)
    one.say("pause", play="a")
    one.settled()
    assert one.take() == (b"", "paused")
    one.say("resume", play="a")
    one.settled()
    assert first + one.take(9)[0] == counting(0, 4 * FRAME)
    assert one.detach() == "ok end 80"


def test_reports_on_the_way(talk: MakeTalk) -> None:
    one = talk()
    one.play("a", counting(0, 50 * FRAME), end=False)
    one.settled()
    one.attach("a")
    one.take(25)
    assert one.wait("buffer", played_ms=500)["buffered_ms"] == 500
    one.take(25)
    assert one.take()[1] == "wait"
    one.wait("buffer", played_ms=1000)
    time.sleep(0.05)
    one.connection.send(counting(0, FRAME))
    one.settled()
    one.take()
    assert one.wait("buffer", played_ms=1020)["buffered_ms"] == 0
    one.say("end", play="a")
    one.settled()
    assert one.take()[1] == "over"
    assert one.wait("played")["gap_ms"] >= 50


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def tls_sink(authority: Authority) -> Sink:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("good", "DNS:localhost"))
    return Sink(tls=context)


@pytest.mark.parametrize("tls", [False, True])
def test_a_minute_in_one_go_waits_in_the_network(
    talk: MakeTalk, driver: Driver, authority: Authority, sink: Sink, tls: bool
) -> None:
    """Nothing is lost, nothing spins, and what is said after it is heard after it."""
    server = tls_sink(authority) if tls else sink
    one = talk(f"play_ms=2000 {f'ca={authority.ca}' if tls else ''}", server)
    audio = counting(0, 60 * 8000)

    def send() -> None:
        one.say("play", play="a")
        for start in range(0, len(audio), 50_000):
            one.connection.send(audio[start : start + 50_000])
        one.say("end", play="a")

    sender = threading.Thread(target=send)
    sender.start()
    one.attach("a")
    time.sleep(0.5)
    before = cpu_s(driver)
    time.sleep(0.5)
    assert cpu_s(driver) - before < 0.1, "it sleeps while the buffer is full"
    played, result = b"", "wait"
    begun = time.monotonic()
    while result != "over" and time.monotonic() < begun + 60:
        part, result = one.take(25)
        played += part
        time.sleep(0.001)
    sender.join(10)
    assert result == "over"
    assert played == audio
    assert one.detach() == "ok end 60000"
    if tls:
        driver.do("close 1 x")
        server.close()


def cpu_s(driver: Driver) -> float:
    fields = Path(f"/proc/{driver.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_full_buffer_holds_the_server_and_a_key_lets_it_go(talk: MakeTalk) -> None:
    one = talk("play_ms=500")
    one.play("a", counting(0, 30 * 8000))
    one.say("counters")
    assert one.attach("a").startswith("ok 0")
    assert eventually(lambda: one.take()[1] == "audio")
    time.sleep(0.3)
    assert not [row for row in one.heard() if row["type"] == "counters"], "it waits behind"
    assert one.detach().startswith("ok digit")
    one.wait("counters")
    assert one.wait("played", how="digit")["played_ms"] == 20


def test_a_full_buffer_does_not_keep_the_fork_from_ending(talk: MakeTalk, driver: Driver) -> None:
    one = talk("play_ms=500")
    one.play("a", counting(0, 30 * 8000))
    time.sleep(0.2)
    driver.do("push 1 in 5 8000 1")
    begun = time.monotonic()
    driver.do("close 1 hangup")
    assert driver.wait_ended(1)["sent"] == 5
    assert time.monotonic() - begun < 0.9, "the server's close frame was read"


def test_a_whisper_is_mixed(talk: MakeTalk, driver: Driver) -> None:
    one = talk()
    assert driver.do("whisper 1 4 8000 7") == "ok 0 0700070007000700"
    one.play("w", struct.pack("<4h", 1, -1, 32_767, -32_768), whisper=True)
    one.settled()
    assert driver.do("whisper 1 4 8000 1") == "ok 1 02000000ff7f0180"
    assert driver.do("whisper 1 4 8000 7") == "ok 0 0700070007000700"
    assert one.wait("played")["how"] == "end"
    one.play("x", counting(0, 320), whisper=True, rate=16_000)
    one.settled()
    driver.do("whisper 1 4 8000 1")
    assert one.wait("error")["about"] == "play"
    assert one.wait("played", play="x")["how"] == "lost"


def test_the_stream_and_its_directions(talk: MakeTalk, driver: Driver, sink: Sink) -> None:
    one = talk()
    driver.do("push 1 in 2 8000 1")
    one.say("mute", direction="in", on=True)
    one.settled()
    driver.do("push 1 in 2 8000 1")
    one.say("mute", direction="in", on=False)
    one.say("stream", on=False)
    one.settled()
    driver.do("push 1 in 50 8000 1")
    one.say("stream", on=True)
    one.settled()
    driver.do("push 1 in 1 8000 9")
    assert eventually(lambda: len(sink.frames[0]) == 5)
    assert [frame[0] for frame in sink.frames[0]] == [1, 1, 0, 0, 9]


def test_text_is_handed_on(talk: MakeTalk, driver: Driver) -> None:
    one = talk()
    one.say("text", text="Привет, call")
    one.settled()
    assert (0, "said 1 Привет, call") in driver.logs


def test_the_server_may_end_the_fork(talk: MakeTalk, driver: Driver, sink: Sink) -> None:
    one = talk()
    driver.do("push 1 in 3 8000 1")
    one.say("stop")
    ended = driver.wait_ended(1)
    assert (ended["sent"], ended["reason"]) == (3, "stopped by the server")
    assert one.wait("stop")["reason"] == "stopped by the server"
    assert eventually(lambda: sink.codes == [1000])


# -- guards


def wishes(one: Talk) -> list[str]:
    """All that is wished for the keys, taken: "mode kept limit leave"."""
    found = []
    while (told := one.driver.do(f"wish {one.number}")) != "ok none":
        number, wish = told.removeprefix("ok ").split(" ", 1)
        one.wish = int(number)
        found.append(wish)
    return found


def test_a_guard_is_wished_and_told_at_once(talk: MakeTalk) -> None:
    """No audio flows, and no player is there."""
    one = talk("keys=1")
    one.say("guard", name="g", mode="block", digits="0-9")
    assert one.wait("guard") == {
        "type": "guard", "name": "g", "mode": "block", "why": "asked", "at_ms": 0,
    }  # fmt: skip
    one.say("guard", name="h", mode="buffer", kept="stay", limit_ms=60_000)
    one.wait("guard", name="h")
    first, second = wishes(one)
    assert first == "block take 0 0"
    mode, kept, limit, leave = second.split(" ")
    assert (mode, kept, leave) == ("buffer", "stay", "0")
    assert 50_000 < int(limit) <= 60_000
    assert wishes(one) == []


def test_keys_and_guards_are_told_in_their_order_between_the_audio(
    talk: MakeTalk, driver: Driver, sink: Sink
) -> None:
    one = talk("keys=1")
    driver.do("push 1 in 5 8000 1")
    driver.do("digit 1 1")
    one.say("guard", name="g", mode="block")
    one.wait("guard")
    driver.do("digit 1 2")
    driver.do("push 1 in 2 8000 1")
    one.wait("digit", digit="2")
    rows = [(row["type"], row["at_ms"]) for row in one.heard()]
    assert rows == [("digit", 100), ("guard", 100), ("digit", 100)]


def test_a_guard_at_a_place_comes_with_its_frame(talk: MakeTalk) -> None:
    one = talk("keys=1")
    one.play("a", counting(0, 10 * FRAME), end=False)
    one.say("guard", name="g", mode="block", play="a", at_ms=90)
    one.say("guard", name="never", mode="pass", play="a", at_ms=900)
    one.say("end", play="a")
    one.settled()
    one.attach("a")
    one.take(5)
    assert wishes(one) == []
    one.take(1)
    assert wishes(one) == ["block take 0 0"]
    told_of = one.wait("guard")
    assert {key: told_of[key] for key in ("name", "mode", "play", "played_ms", "why")} == {
        "name": "g", "mode": "block", "play": "a", "played_ms": 100, "why": "place",
    }  # fmt: skip
    one.say("guard", name="late", mode="off", play="a", at_ms=20)
    assert one.wait("guard", name="late")["played_ms"] == 120, "it was past: at once"
    one.take(9)
    one.wait("played", play="a")
    one.say("guard", name="none", mode="block", play="a", at_ms=0)
    one.settled()
    assert wishes(one) == ["off take 0 0"]
    assert [row["name"] for row in one.heard() if row["type"] == "guard"] == ["g", "late"]


def test_the_limit_is_told_within_a_second(talk: MakeTalk) -> None:
    one = talk("keys=1")
    one.say("guard", name="g", mode="block", limit_ms=100)
    one.wait("guard", why="asked")
    begun = time.monotonic()
    over = one.wait("guard", why="limit")
    assert (over["name"], over["mode"]) == ("g", "pass")
    assert time.monotonic() - begun < 1.5


def test_an_overruled_limit_is_not_told(talk: MakeTalk, driver: Driver) -> None:
    one = talk("keys=1")
    one.say("guard", name="g", mode="block", limit_ms=300)
    one.wait("guard", why="asked")
    wishes(one)
    driver.do(f"over 1 {one.wish}")
    one.say("guard", name="h", mode="block", limit_ms=1500)
    one.wait("guard", name="h", why="limit")
    assert [row["name"] for row in one.heard() if row.get("why") == "limit"] == ["h"]


def test_where_keys_are_not_seen_there_is_no_guard(talk: MakeTalk) -> None:
    one = talk()
    one.say("guard", name="g", mode="block")
    one.say("play", play="a")
    one.say("guard", name="h", mode="block", play="a", at_ms=0)
    assert one.wait("error", 2, about="guard")["why"] == "the channel's keys are not seen"
    assert wishes(one) == []


def test_each_guard_is_told_or_refused(talk: MakeTalk, driver: Driver) -> None:
    """However fast they are asked for, and though nobody takes what is wished."""
    one = talk("keys=1")
    for number in range(200):
        one.say("guard", name=f"g{number}", mode=("block", "pass")[number % 2])
    one.settled()
    told_of = [row["name"] for row in one.heard() if row["type"] == "guard"]
    assert len(told_of) + driver.stats(1)["bad"] == 200
    assert told_of == sorted(told_of, key=lambda name: int(name[1:]))
    assert len(told_of) >= 16
    assert len(wishes(one)) == 8


@pytest.mark.parametrize("how", ["stop", "leave", "close"])
def test_the_end_of_the_fork_opens_the_keys(talk: MakeTalk, driver: Driver, how: str) -> None:
    one = talk("keys=1")
    one.say("guard", name="g", mode="block", limit_ms=60_000)
    one.wait("guard")
    wishes(one)
    if how == "stop":
        one.say("stop")
    elif how == "leave":
        one.connection.close()
    else:
        driver.do("close 1 x")
    driver.wait_ended(1)
    assert wishes(one) == ["pass stay 0 1"]


def test_a_lost_connection_opens_nothing_while_another_may_come(
    talk: MakeTalk, driver: Driver
) -> None:
    one = talk("keys=1 r=0 delay=50 max_delay=50")
    one.say("guard", name="g", mode="block", limit_ms=1000)
    one.wait("guard")
    wishes(one)
    one.connection.socket.shutdown(2)
    one.connected(2)
    one.wait("guard", name="g", why="limit")
    assert wishes(one) == []
    one.say("guard", name="h", mode="pass")
    one.wait("guard", name="h")


# -- what is wrong

WRONG: list[tuple[str | bytes, str]] = [
    ("hello", "message"),
    ("[]", "message"),
    ('{"type": "sing"}', "message"),
    ('{"type": "play"}', "play"),
    ('{"type": "play", "play": "a b"}', "play"),
    ('{"type": "play", "play": "a", "rate": 11025}', "play"),
    ('{"type": "mark", "play": "a"}', "mark"),
    ('{"type": "text", "text": "' + "x" * 4096 + '"}', "message"),
    ("x" * 100_000, "message"),
    (b"xx", "audio"),
]


def test_what_cannot_be_obeyed_is_answered_and_nothing_else(talk: MakeTalk) -> None:
    one = talk()
    for number, (message, about) in enumerate(WRONG, 1):
        if number % 8 == 0:
            time.sleep(1.1)  # errors are limited
        one.connection.send(message)
        assert one.wait("error", number)["about"] == about
    one.play("a", counting(0, FRAME))
    one.settled()
    assert one.attach("a").startswith("ok 0")
    assert one.take(9) == (counting(0, FRAME), "over")


def test_errors_are_limited_and_counted(talk: MakeTalk, driver: Driver) -> None:
    one = talk()
    for _ in range(300):
        one.connection.send("nonsense")
    one.settled()
    errors = sum(row["type"] == "error" for row in one.heard())
    assert 10 <= errors <= 30
    assert driver.stats(1)["bad"] == 300


NAMES = ["a", "b", "c", "", "x" * 70]


def nonsense(one: Talk, dice: random.Random) -> None:
    """A message that makes sense or none."""
    match dice.randrange(8):
        case 0:
            one.connection.send(dice.randbytes(dice.randrange(500)))
        case 1:
            one.connection.send(dice.randbytes(20).decode("latin-1"))
        case _:
            one.say(
                dice.choice(["play", "end", "mark", "guard", "clear", "pause", "resume", "mute"]),
                play=dice.choice(NAMES), name="m", mode=dice.choice(["block", "pass", "x"]),
                limit_ms=dice.choice([0, 1, 500]), live_ms=dice.choice([0, 20, 200]),
                whisper=dice.choice([True, False, False, 7]), on=True,
                direction=dice.choice(["in", "up"]), at_ms=dice.choice([0, 5, 10**12]),
            )  # fmt: skip


def play_some(one: Talk, dice: random.Random) -> None:
    """A player that comes, takes a little and goes."""
    one.driver.do(f"whisper {one.number} {FRAME} 8000 1")
    one.driver.do(f"wish {one.number}")
    one.driver.do(f"digit {one.number} 5")
    if one.attach(dice.choice(NAMES[:4])).startswith("ok 0"):
        one.take(dice.randrange(30))
        one.detach()


@pytest.mark.parametrize("seed", range(4))
def test_garbage(talk: MakeTalk, seed: int) -> None:
    """Random requests and audio, a player that comes and goes; then all works as before."""
    dice = random.Random(seed)
    one = talk("play_ms=300 keys=1")
    for _ in range(400):
        dice.choice([nonsense, nonsense, play_some])(one, dice)
    one.say("clear")
    asked = threading.Thread(target=one.settled)
    asked.start()
    while asked.is_alive():  # what waits in the buffer keeps the server from being heard
        play_some(one, dice)
    one.play("last", counting(0, FRAME))
    one.settled()
    assert one.attach("last").startswith("ok 0")
    assert one.take(9) == (counting(0, FRAME), "over")


# -- connections lost


def test_a_connection_lost_in_the_midst(talk: MakeTalk, driver: Driver, sink: Sink) -> None:
    one = talk("r=0 delay=50 max_delay=50")
    one.play("whole", counting(0, 2 * FRAME))
    one.play("half", counting(0, 3 * FRAME), end=False)
    one.settled()
    one.connection.socket.shutdown(2)
    one.connected(2)
    one.attach("half")
    assert one.take(9) == (counting(0, 3 * FRAME), "over")
    assert one.detach() == "ok lost 60"
    one.attach("whole")
    assert one.take(9) == (counting(0, 2 * FRAME), "over")
    assert one.detach() == "ok end 40"
    assert one.wait("played", play="half")["how"] == "lost", "told on the new connection"
    one.connection.send(b"xx")
    assert one.wait("error")["about"] == "audio"
    one.play("new", counting(0, FRAME))
    one.settled()
    one.attach("new")
    assert one.take(9) == (counting(0, FRAME), "over")


def test_a_message_cut_by_the_loss_is_forgotten(talk: MakeTalk, sink: Sink) -> None:
    one = talk("r=0 delay=50 max_delay=50")
    fragments = iter(['{"type": "te', 'xt", "te'])

    def cut() -> Iterator[str]:
        yield from fragments
        one.connection.socket.shutdown(2)
        raise ConnectionError

    with pytest.raises((ConnectionError, ConnectionClosed)):
        one.connection.send(cut())
    one.connected(2)
    one.settled()


def test_a_server_that_has_sent_all_may_leave(talk: MakeTalk, driver: Driver) -> None:
    one = talk()
    one.play("a", counting(0, 5 * FRAME))
    one.play("b", counting(0, 2 * FRAME), end=False)
    one.settled()
    one.connection.close()
    driver.wait_ended(1)
    one.attach("a")
    assert one.take(9) == (counting(0, 5 * FRAME), "over")
    assert one.detach() == "ok end 100"
    one.attach("b")
    assert (one.take(9)[0], one.detach()) == (counting(0, 2 * FRAME), "ok lost 40")
    assert one.attach("c") == "ok 1 lost"


def test_without_json_all_is_read_and_passed_over(driver: Driver, sink: Sink) -> None:
    driver.do(f"open 1 ws://127.0.0.1:{sink.port}/")
    assert eventually(lambda: bool(sink.texts and sink.texts[0]))
    connection: ServerConnection = sink.connections[0]
    connection.send('{"type": "stop"}')
    for _ in range(50):
        connection.send(bytes(64_000))
    assert connection.ping().wait(5)
    assert driver.stats(1)["bad"] == 0
    driver.do("close 1 x")
    driver.do("free 1")
