"""Audio from the WebSocket into real calls: AudioForkPlay and whispers.

What the caller heard is judged by the subscriber's tape, sample by sample: a prompt is noise
without a quiet sample, so that its first and last one are seen, and a missing one too.
"""

from __future__ import annotations

import array
import itertools
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

import lab_sanitizer
import lab_sound
import pytest
from lab_config import LabError

from tests.e2e.fork_lab import FAR_HZ, LEVEL, MODULE, ForkLab
from tests.fakes.fork_server import Received, level

FRAME_MS = 20
PACKET = 160
WHISPER_HZ = 600
LOUD_MIN, LOUD_MAX = 4000, 12_000


pytestmark = pytest.mark.usefixtures("hung_up")


def noise(length_ms: int, seed: int = 0, rate: int = 8000) -> list[int]:
    """No sample of it is quiet."""
    dice = random.Random(seed)
    count = length_ms * rate // 1000
    return [dice.choice((-1, 1)) * dice.randint(LOUD_MIN, LOUD_MAX) for _ in range(count)]


def tone(length_ms: int, hz: int, rate: int = 8000, loud: int = LEVEL) -> list[int]:
    wave = lab_sound.tone(length_ms * rate // 8000, hz * 8000 // rate, loud)
    return list(wave)


def pcm(samples: list[int]) -> bytes:
    return array.array("h", samples).tobytes()


_numbers = itertools.count(1)


class Talk:
    """A call to the subscriber, and its fork's server."""

    def __init__(
        self, fork: ForkLab, exten: str = "s", telephone: str = "103", **more: str
    ) -> None:
        name = f"talk-{next(_numbers)}"
        self.fork = fork
        self.number = f"{telephone}{next(_numbers):04}"
        values = {"LAB_PLAY": "t(60000)", "LAB_OPTIONS": "D(in)", "LAB_URL": fork.server.url(name)}
        values["__LAB_FAR_TONE"] = fork.tones["far"]
        self.id = fork.ami.originate(self.number, "lab-speak", {**values, **more}, exten=exten)
        self.name = name

    @property
    def server(self) -> Received:
        return self.fork.server.find(self.name)

    @property
    def channel(self) -> str:
        return self.fork.ami.event("Newchannel", Uniqueid=self.id)["Channel"]

    def say(self, kind: str, **fields: object) -> None:
        self.server.connection.send(json.dumps({"type": kind, **fields}))

    def audio(self, samples: list[int]) -> None:
        self.server.connection.send(pcm(samples))

    def play(self, name: str, samples: list[int], *, end: bool = True, **fields: object) -> None:
        self.say("play", play=name, **fields)
        if samples:
            self.audio(samples)
        if end:
            self.say("end", play=name)

    def wait(self, kind: str, **fields: object) -> dict[str, Any]:
        """The first message of this type with these fields."""
        server = self.server

        def found() -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = [json.loads(text) for text in server.texts]
            return [row for row in rows if row["type"] == kind and fields.items() <= row.items()]

        self.fork.server.wait(f"{kind} {fields}", lambda: bool(found()), 90)
        return found()[0]

    def over(self, name: str) -> dict[str, Any]:
        """How the prompt has ended."""
        return self.wait("played", play=name)

    def status(self, status: str) -> tuple[str, str]:
        """The first prompt that ended so for the dialplan: its length, and the key."""
        told = self.fork.ami.event("UserEvent", UserEvent="LabPlayed", Uniqueid=self.id,
                                   Status=status)  # fmt: skip
        return told["Ms"], told.get("Digit", "")

    def hangup(self) -> None:
        self.fork.ami.action("Hangup", Channel=self.channel)
        self.fork.ami.event("Hangup", Uniqueid=self.id)

    def tape(self) -> list[int]:
        """All that the subscriber has heard."""
        if self.channel in self.fork.lab.pbx.channels():
            self.hangup()
        return list(lab_sound.read(self.fork.lab.heard(self.number)))

    def sounds(self, silence_ms: int) -> list[list[int]]:
        """What was heard, cut at silences of so long; shorter ones are a busy machine's."""
        tape = array.array("h", self.tape())
        pieces: list[list[int]] = []
        end_ms = -float(silence_ms)
        for one in lab_sound.spans(tape, gap_ms=10):
            if one.start_ms - end_ms >= silence_ms:
                pieces.append([])
            pieces[-1] += tape[round(one.start_ms * 8) : round(one.end_ms * 8)]
            end_ms = one.end_ms
        return pieces

    def whole(self) -> list[int]:
        """All sound that was heard."""
        return [value for part in self.sounds(silence_ms=10) for value in part]


def same(heard: list[int], sent: list[int]) -> bool:
    """Whether these are the same samples, but for alaw's 3 %."""
    assert len(heard) == len(sent)
    packets = range(0, len(sent), PACKET)
    wrong = [at for at in packets if not alike(heard[at : at + PACKET], sent[at : at + PACKET])]
    assert wrong == []
    return True


def alike(heard: list[int], sent: list[int]) -> bool:
    return len(heard) == len(sent) and all(
        abs(a - b) <= 500 for a, b in zip(heard, sent, strict=True)
    )


# -- prompts


def test_prompts_are_heard_sample_by_sample(fork: ForkLab) -> None:
    talk = Talk(fork)
    first, second = noise(1010, 1), noise(400, 2)
    talk.play("a", first, end=False)
    talk.wait("started", play="a")
    talk.say("mark", play="a", name="m", at_ms=500)
    talk.say("mark", play="a", name="last")
    talk.say("end", play="a")
    assert talk.over("a") == {
        "type": "played", "play": "a", "how": "end", "played_ms": 1010, "gap_ms": 0,
        "skipped_ms": 0,
    }  # fmt: skip
    assert talk.wait("mark", name="m")["played_ms"] == 500
    assert talk.wait("mark", name="last")["played_ms"] == 1010
    assert talk.status("END")[0] == "1010"
    talk.play("b", second)
    talk.over("b")
    heard = talk.whole()
    assert same(heard, first + second)


def test_clear_is_heard_at_once(fork: ForkLab) -> None:
    talk = Talk(fork)
    sent = noise(3000, 3)
    talk.play("a", sent)
    talk.wait("buffer", play="a")
    talk.say("clear", play="a")
    told = talk.over("a")
    assert told["how"] == "clear"
    assert told["played_ms"] < 2000, "of more than two seconds that were left"
    assert talk.status("CLEAR")[0] == str(told["played_ms"])
    heard = talk.whole()
    assert same(heard, sent[: told["played_ms"] * 8])
    assert 500 <= told["played_ms"] < 700


def test_pause_goes_on_at_the_very_sample(fork: ForkLab) -> None:
    talk = Talk(fork)
    sent = noise(1000, 4)
    talk.play("a", sent)
    talk.wait("started", play="a")
    time.sleep(0.2)
    talk.say("pause", play="a")
    time.sleep(0.6)
    talk.say("resume", play="a")
    assert talk.over("a")["gap_ms"] == 0
    heard = talk.sounds(silence_ms=400)
    assert len(heard) == 2
    assert same(heard[0] + heard[1], sent)


def resident_kb(fork: ForkLab) -> int:
    status = Path(f"/proc/{fork.lab.pbx.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_a_minute_in_one_go(fork: ForkLab) -> None:
    """It waits in the network: nothing is lost, and Asterisk does not grow by it.

    Judged by a fork's D(out): a tape of a minute has holes of its own on a busy machine.
    """
    talk = Talk(fork, LAB_OPTIONS="D(out)")
    sent = noise(60_000, 5)
    before = resident_kb(fork)
    talk.play("a", sent)
    talk.say("counters")
    talk.wait("started", play="a")
    assert not [text for text in talk.server.texts if '"counters"' in text], "it waits behind"
    assert talk.over("a")["gap_ms"] == 0
    assert talk.wait("counters")["counters"]["played_ms"] > 50_000
    assert resident_kb(fork) - before < (16_000 if lab_sanitizer.wanted() else 3000)
    frames = fork.server.frames(talk.name, 3000).frames
    assert same(list(array.array("h", b"".join(frames))), sent)


def test_audio_that_comes_late_leaves_a_gap(fork: ForkLab) -> None:
    talk = Talk(fork)
    sent = noise(400, 6)
    talk.play("a", sent[:1600], end=False)
    talk.wait("started", play="a")
    time.sleep(0.5)
    talk.audio(sent[1600:])
    talk.say("end", play="a")
    told = talk.over("a")
    assert (told["how"], told["played_ms"]) == ("end", 400)
    assert 200 < told["gap_ms"] < 450
    talk.wait("buffer", play="a")
    assert same(talk.whole(), sent)


def test_live_audio_does_not_fall_behind(fork: ForkLab) -> None:
    talk = Talk(fork)
    sent = noise(1000, 7)
    talk.say("play", play="a", live_ms=100)
    for number in range(50):  # the network hangs for 400 ms
        talk.audio(sent[number * 160 : (number + 1) * 160])
        time.sleep(0.4 if number == 20 else 0 if 20 < number < 40 else 0.02)
    talk.say("end", play="a")
    told = talk.over("a")
    assert told["skipped_ms"] >= 200
    assert told["played_ms"] + told["skipped_ms"] == 1000


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_a_prompt_of_another_rate(fork: ForkLab, rate: int) -> None:
    talk = Talk(fork)
    talk.play("a", tone(1000, WHISPER_HZ, rate), rate=rate)
    assert talk.over("a")["played_ms"] == 1000
    heard = talk.whole()
    assert len(heard) / 8 == pytest.approx(1000, abs=25)
    assert level([pcm(heard[800:6400])], WHISPER_HZ) == pytest.approx(LEVEL, rel=0.05)


# -- ends


def test_a_key_ends_it(fork: ForkLab) -> None:
    """The subscriber's number 112 presses 1, 2, 3 one second after the first sound."""
    talk = Talk(fork, telephone="112", LAB_PLAY="t(60000)e(23)")
    talk.play("a", noise(10_000, 8))
    told = talk.over("a")
    assert told["how"] == "digit"
    assert talk.status("DIGIT") == (str(told["played_ms"]), "2")
    assert 1000 < told["played_ms"] < 3000


def test_a_blocked_key_does_not_end_it(fork: ForkLab) -> None:
    guard = {"DTMF_GUARD(mode)": "block"}
    talk = Talk(fork, telephone="112", LAB_PLAY="t(60000)e(123)", **guard)
    talk.play("a", noise(4000, 9))
    assert talk.over("a") == {
        "type": "played", "play": "a", "how": "end", "played_ms": 4000, "gap_ms": 0, "skipped_ms": 0
    }  # fmt: skip
    told = [json.loads(text) for text in talk.server.texts if '"digit"' in text]
    keys = [(one["digit"], one["verdict"]) for one in told if one["type"] == "digit"]
    assert keys == [("1", "blocked"), ("2", "blocked"), ("3", "blocked")]


def test_a_hangup_ends_it(fork: ForkLab) -> None:
    talk = Talk(fork)
    talk.play("a", noise(10_000, 9))
    talk.wait("started", play="a")
    talk.hangup()
    assert talk.over("a")["how"] == "hangup", "of ten seconds"
    talk.status("HANGUP")


def test_limits_of_time(fork: ForkLab) -> None:
    talk = Talk(fork, LAB_PLAY="p(a)t(300)g(400)")
    assert talk.over("a")["how"] == "timeout"
    assert talk.status("TIMEOUT")[0] == "0"
    fork.server.wait("none waits", lambda: True)
    talk.play("a", noise(200, 10), end=False)
    told = talk.wait("played", play="a", how="timeout", played_ms=200)
    assert told["gap_ms"] == 0


def test_a_connection_cut_in_the_midst(fork: ForkLab) -> None:
    talk = Talk(fork)
    sent = noise(600, 11)
    talk.play("a", sent, end=False)
    talk.wait("started", play="a")
    talk.server.connection.socket.shutdown(2)
    assert talk.status("LOST")[0] == "600"
    heard = talk.whole()
    assert same(heard, sent)


def test_a_fork_that_is_stopped(fork: ForkLab) -> None:
    talk = Talk(fork)
    talk.play("a", noise(5000, 12))
    talk.wait("started", play="a")
    fork.stop(talk.channel)
    assert int(talk.status("LOST")[0]) < 1000
    assert talk.over("a")["how"] == "lost"
    assert fork.server.closed(talk.server) == 1000


@pytest.mark.parametrize(
    ("exten", "play", "status"),
    [("none", "", "NOFORK"), ("s", "q(1)", "BADARGS"), ("s", "p(", "BADARGS"),
     ("s", "t(-1)", "BADARGS"), ("s", "e(5x)", "BADARGS")],
)  # fmt: skip
def test_what_cannot_be_played(fork: ForkLab, exten: str, play: str, status: str) -> None:
    Talk(fork, exten=exten, LAB_PLAY=play).status(status)


def test_a_fork_of_another_channel_is_none(fork: ForkLab) -> None:
    Talk(fork, LAB_FORK="00000000-0000-0000-0000-000000000000").status("NOFORK")


def test_the_module_stays_while_a_prompt_is_played(fork: ForkLab) -> None:
    talk = Talk(fork)
    talk.play("a", noise(5000, 13))
    talk.wait("started", play="a")
    assert "Unable to unload" in fork.lab.pbx.cli(f"module unload {MODULE}")
    assert "Unloaded" in fork.lab.pbx.cli(f"module unload -f {MODULE}")
    assert fork.server.closed(talk.server) == 1000
    assert "Loaded" in fork.lab.pbx.cli(f"module load {MODULE}")


# -- several


def test_two_forks_on_one_channel(fork: ForkLab) -> None:
    url = fork.server.url("second")
    talk = Talk(fork, exten="two", LAB_URL_2=url)
    first, second = noise(300, 14), noise(300, 15)
    other = fork.server.find("second")
    talk.play("first", first)
    other.connection.send(json.dumps({"type": "play", "play": "second"}))
    other.connection.send(pcm(second))
    other.connection.send(json.dumps({"type": "end", "play": "second"}))
    talk.over("first")
    joined = talk.whole()
    assert same(joined, second + first)


def test_fifty_prompts_leave_nothing(fork: ForkLab) -> None:
    talk, pbx = Talk(fork), fork.lab.pbx
    talk.play("warm", noise(40), end=False)
    talk.wait("started", play="warm")
    before = pbx.threads(), pbx.fds()  # with a player at work, as in the end
    talk.say("end", play="warm")
    talk.over("warm")
    sent = [noise(60, seed) for seed in range(50)]
    for number, part in enumerate(sent):
        talk.play(f"p{number}", part)
        assert talk.over(f"p{number}")["how"] == "end"
    try:
        fork.wait("no thread", lambda: pbx.threads() <= before[0] and pbx.fds() <= before[1])
    except LabError as error:
        raise AssertionError(f"before {before}, now {(pbx.threads(), pbx.fds())}") from error
    heard = talk.whole()
    assert same(heard[40 * 8 :], [value for part in sent for value in part])


# -- whispers


def whispered(talk: Talk) -> None:
    """Two seconds of a whisper: it is heard whole, and the other party beside it."""
    time.sleep(1.5)
    talk.play("w", tone(2000, WHISPER_HZ), whisper=True)
    assert talk.over("w")["played_ms"] == 2000
    time.sleep(0.7)
    tape = talk.tape()
    first = next(at for at, value in enumerate(tape) if value)
    packets = [tape[at : at + PACKET] for at in range(first, len(tape) - PACKET + 1, PACKET)]
    loud = [n for n, one in enumerate(packets) if level([pcm(one)], WHISPER_HZ) > 0.6 * LEVEL]
    assert len(loud) == 2000 // FRAME_MS
    holes = set(range(loud[0], loud[-1])) - set(loud)
    assert not any(any(packets[n]) for n in holes), "where no packet was sent it waits"
    beside = [level([pcm(packets[n])], FAR_HZ) for n in loud]
    assert statistics.median(beside) == pytest.approx(LEVEL, rel=0.05)
    # Where the other party's frame is late a conference mixes without it. By the wire, 42 calls on
    # two cores: never on an idle machine, 1 in 100 at most with 2 and with 12 busy loops; and as
    # often beside the whisper as before and after it, so that it is not the whisper's doing.
    assert sum(value < 0.85 * LEVEL for value in beside) <= len(beside) // 10, beside


def test_a_whisper_into_a_bridged_call(fork: ForkLab) -> None:
    whispered(Talk(fork, exten="bridge"))


def test_a_whisper_into_a_conference(fork: ForkLab) -> None:
    other = fork.run("ConfBridge", "play-room")  # hears that it is alone first
    fork.ami.event("BridgeEnter", 20, Uniqueid=other.id)
    talk = Talk(fork, exten="room", LAB_ROOM="play-room")
    fork.ami.event("BridgeEnter", Uniqueid=talk.id)
    whispered(talk)


def test_a_whisper_over_a_prompt_is_heard_by_the_fork_too(fork: ForkLab) -> None:
    talk = Talk(fork, LAB_OPTIONS="D(out)")
    talk.play("a", tone(2000, FAR_HZ))
    talk.play("w", tone(1000, WHISPER_HZ), whisper=True)
    assert talk.over("w")["played_ms"] == 1000
    talk.over("a")
    heard = talk.server.frames[5:40]
    for hz in (FAR_HZ, WHISPER_HZ):
        assert level(heard, hz) == pytest.approx(LEVEL, rel=0.05)


def test_a_whisper_of_the_wrong_rate_is_refused(fork: ForkLab) -> None:
    talk = Talk(fork)
    talk.play("w", tone(1000, WHISPER_HZ, 16_000), whisper=True, rate=16_000)
    talk.play("a", noise(200))
    assert talk.wait("error")["about"] == "play"
    assert talk.over("w")["how"] == "lost"
    assert talk.over("a")["how"] == "end"
