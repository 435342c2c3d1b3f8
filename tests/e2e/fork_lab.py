"""A lab for the tests of app_audiofork: calls whose two sides are different tones.

far side, Local/…;2           near side, Local/…;1: the channel that is forked
plays FAR_HZ  ─────────────▶  hears it: D(in)
hears it      ◀─────────────  plays NEAR_HZ: D(out)
"""

from __future__ import annotations

import itertools
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import lab_sound
import pytest
from lab import Lab
from lab_ami import Ami, Message
from lab_config import DEFAULT_VERSION
from lab_instance import wait_until

from tests.fakes.fork_server import ForkServer, level

NEAR_HZ, FAR_HZ, LEVEL = 450, 1000, 6000  # whole periods in 20 ms: a frame of silence shifts none
MODULE = "app_audiofork.so"


def hears(frames: list[bytes], near: float, far: float) -> bool:
    """Whether the two tones have these amplitudes, within 5 % of the usual one: on a busy machine a
    frame or two of the tone come late, and silence is mixed in their place."""
    slack = 0.05 * LEVEL
    found = level(frames, NEAR_HZ), level(frames, FAR_HZ)
    assert found == pytest.approx((near, far), abs=slack), found
    return True


_held: list[socket.socket] = []


def dead_port() -> int:
    """A port on which nobody listens, nor will: it is held."""
    _held.append(socket.socket())
    _held[-1].bind(("127.0.0.1", 0))
    port: int = _held[-1].getsockname()[1]
    return port


@dataclass(frozen=True)
class End:
    """How a fork ended: the module's own line about it."""

    reason: str
    captured: int
    """Frames of 20 ms, both directions."""
    sent: int
    lost_s: float
    connections: int


_END = re.compile(
    r"ended: (?P<reason>.*); captured (?P<read>[\d.]+) s in, (?P<write>[\d.]+) s out, "
    r"sent (?P<sent>\d+) frames, lost (?P<lost>[\d.]+) s, (?P<connections>\d+) connection"
)


def figures(text: str) -> dict[str, int]:
    """The lines "Name: number" of the CLI, or the like headers of an event."""
    return {name: int(value) for name, value in re.findall(r"^ *(\w+): (\d+)$", text, re.M)}


@dataclass
class Call:
    """One call; `id` is the near side's unique id, `channel` its name."""

    fork_lab: ForkLab
    id: str

    @property
    def channel(self) -> str:
        return self.fork_lab.ami.event("Newchannel", Uniqueid=self.id)["Channel"]

    def result(self) -> Message:
        """What AudioFork() told the dialplan: Status, ID, Named (LAB_ID), Server."""
        return self.fork_lab.ami.event("UserEvent", UserEvent="LabFork", Uniqueid=self.id)

    def fork(self) -> str:
        """The id of the fork that the dialplan has started."""
        told = self.result()
        assert told["Status"] == "STARTED", told
        return told["ID"]

    def hangup(self) -> None:
        """Hang up; returns when it has happened."""
        self.fork_lab.ami.action("Hangup", Channel=self.channel)
        self.fork_lab.ami.event("Hangup", Uniqueid=self.id)

    @property
    def is_up(self) -> bool:
        return self.channel in self.fork_lab.lab.pbx.channels()


class ForkLab:
    """A lab, an observer on its PBX and a WebSocket server that keeps what it receives."""

    def __init__(self, folder: Path, asterisk: str = DEFAULT_VERSION) -> None:
        self.lab = Lab(folder, asterisk=asterisk)
        self._numbers = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self) -> ForkLab:
        with ExitStack() as stack:
            stack.enter_context(self.lab)
            pbx = self.lab.pbx
            self.tones = {}
            for name, hz in (("near", NEAR_HZ), ("far", FAR_HZ), ("silence", 0)):
                file = self.lab.sounds / f"{name}.wav"
                lab_sound.write(file, lab_sound.tone(20_000, hz, LEVEL))
                self.tones[name] = str(file.with_suffix(""))
            self.ami = stack.enter_context(
                Ami(pbx.ami_port, pbx.observer_user, pbx.observer_secret)
            )
            self.server = stack.enter_context(ForkServer())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # -- calls

    def call(
        self,
        url: str = "",
        options: str = "",
        *,
        near: str = "near",
        far: str = "tone",
        **more: str,
    ) -> Call:
        """A call that forks to URL by the dialplan; without URL a plain one.

        near  the tone it plays: near, silence, or nothing at all when empty
        far   what the other side does, an extension of [lab_far]
        more  further variables, e.g. LAB_STOP
        """
        number = f"fork-{next(self._numbers)}"
        values = {"LAB_URL": url, "LAB_OPTIONS": options, **more}
        values["LAB_TONE"] = self.tones[near] if near else ""
        values["__LAB_FAR_TONE"] = self.tones["far"]
        answer = self.ami.action(
            "Originate",
            Channel=f"Local/{far}@lab_far/n",
            Context="lab-fork",
            Exten="s" if url else "plain",
            Priority="1",
            Async="true",
            ChannelId=number,
            OtherChannelId=f"{number}-far",
            Variable=[f"{name}={value}" for name, value in values.items()],
        )
        assert answer["Response"] == "Success", answer
        if not url:
            self.ami.event("Newexten", Uniqueid=number, Extension="plain")
        return Call(self, number)

    def bridged(self) -> tuple[Call, str]:
        """A call in a bridge, and the name of the channel it was connected to: it has no dialplan.

        That channel reads NEAR_HZ and is played FAR_HZ.
        """
        call, called = self.dialled("Local/plain@lab-fork/n")
        self.ami.event("BridgeEnter", Channel=called)
        self.ami.event("BridgeEnter", Uniqueid=call.id)
        return call, called

    def dialled(self, place: str) -> tuple[Call, str]:
        """A call that dials PLACE, and the channel that it dials."""
        call = self.run("Dial", place)
        return call, self.ami.event("DialBegin", Uniqueid=call.id)["DestChannel"]

    def run(self, application: str, data: str) -> Call:
        """A call whose near side runs one application; the far side plays FAR_HZ."""
        number = f"fork-{next(self._numbers)}"
        answer = self.ami.action(
            "Originate",
            Channel="Local/tone@lab_far/n",
            Application=application,
            Data=data,
            Async="true",
            ChannelId=number,
            OtherChannelId=f"{number}-far",
            Variable=[f"__LAB_FAR_TONE={self.tones['far']}", f"__LAB_TONE={self.tones['near']}"],
        )
        assert answer["Response"] == "Success", answer
        return Call(self, number)

    def start(self, channel: str, url: str, options: str = "D(in)") -> str:
        """Start a fork by AMI; its id."""
        answer = self.ami.action("AudioFork", Channel=channel, WsServer=url, Options=options)
        assert answer["Response"] == "Success", answer
        return answer["AudioForkID"]

    def stop(self, channel: str, **fork: str) -> None:
        """Stop a fork, or all of the channel, by AMI."""
        answer = self.ami.action("StopAudioFork", Channel=channel, **fork)
        named = fork.get("AudioForkID", channel)  # it may have ended by itself: the log says why
        assert answer["Response"] == "Success", (answer, self.log_rows(named, " ended: "))

    def hangup_all(self) -> None:
        """End all calls; returns when no channel is left."""
        self.lab.pbx.cli("channel request hangup all")
        self.wait("the end of all calls", lambda: not self.lab.pbx.channels())

    # -- what the module says

    def log_rows(self, *words: str) -> list[str]:
        """The rows of Asterisk's log in which all these words stand."""
        return [
            row for row in self.lab.pbx.log().splitlines() if all(word in row for word in words)
        ]

    def logged(self, *words: str, timeout_s: float = 10) -> str:
        """The first row of the log with all these words, past or to come."""

        def found() -> bool:
            return bool(self.log_rows(*words))

        self.wait(f"a log line with {words}", found, timeout_s)
        return self.log_rows(*words)[0]

    def ended(self, fork: str, timeout_s: float = 10) -> End:
        """How the fork ended, once it has."""
        row = self.logged(f"AudioFork {fork} ", " ended: ", timeout_s=timeout_s)
        found = _END.search(row)
        assert found, row
        captured_s = float(found["read"]) + float(found["write"])
        return End(
            found["reason"],
            round(captured_s * 50),
            int(found["sent"]),
            float(found["lost"]),
            int(found["connections"]),
        )

    def counters(self, fork: str) -> dict[str, int]:
        """What `audiofork show` counts of a running fork: CapturedInMs, Messages, Connections, …"""
        return figures(self.lab.pbx.cli(f"audiofork show {fork}"))

    def told(self, fork: str, timeout_s: float = 10) -> list[Message]:
        """All AMI events of the fork, in order, once it has stopped."""
        self.ami.event("AudioForkStop", timeout_s, AudioForkID=fork)
        return [event for event in list(self.ami.events) if event.get("AudioForkID") == fork]

    def forks(self) -> int:
        """How many forks there are."""
        return int(self.lab.pbx.cli("audiofork list").splitlines()[-1].split()[0])

    def load_what_option_b_wants(self) -> None:
        """Asterisk's modules for a periodic beep."""
        for module in ("func_cut", "func_uri", "func_periodic_hook"):
            self.lab.pbx.cli(f"module load {module}.so")

    def configure(self, text: str) -> None:
        """Give audiofork.conf this [general] section and reload it."""
        file = self.lab.pbx.home / "etc" / "audiofork.conf"
        file.write_text(f"[general]\n{text}\n")
        self.lab.pbx.cli(f"module reload {MODULE}")

    def wait(self, what: str, ready: object, timeout_s: float = 10) -> None:
        """Wait until READY() is true. Raises LabError, WHAT did not come."""
        assert callable(ready)
        wait_until(what, lambda: ready() or None, time.monotonic() + timeout_s)

    @contextmanager
    def story(self) -> Iterator[None]:
        """Around a test: should it fail, pytest shows what Asterisk logged and the server saw."""
        before = len(self.lab.pbx.log())
        seen = len(self.server.received)
        yield
        rows = self.lab.pbx.log()[before:].splitlines()
        told = [row for row in rows if "Executing [" not in row and "Playing '" not in row]
        sys.stdout.write("Asterisk's log:\n" + "\n".join(told[-60:]) + "\nthe server saw:\n")
        sys.stdout.write("\n".join(map(str, self.server.received[seen:])) + "\n")
