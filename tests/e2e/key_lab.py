"""A lab for the tests of keys: calls whose far side presses keys, and a FastAGI server by hand."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import lab_sound
from lab import Lab
from lab_ami import Ami, Message
from lab_instance import wait_until


@dataclass
class Call:
    """A call of our PBX; `far` presses its keys."""

    lab: KeyLab
    id: str
    far: Callable[[], str] = str
    """The name of the channel at the other end of the wire."""
    far_ami: Ami | None = None

    @property
    def channel(self) -> str:
        return self.lab.ami.event("Newchannel", Uniqueid=self.id)["Channel"]

    # -- what came

    @property
    def keys(self) -> str:
        """The keys that the dialplan's Read() got."""
        told = (e for e in list(self.lab.ami.events) if e["Event"] == "UserEvent")
        return "".join(e["Key"] for e in told if e["Uniqueid"] == self.id and "Key" in e)

    def wait_keys(self, keys: str, timeout_s: float = 10) -> None:
        self.lab.wait(f"the keys {keys} (not {self.keys})", lambda: self.keys == keys, timeout_s)

    def events(self, name: str) -> list[Message]:
        """AMI's events about keys received: DTMFBegin, DTMFEnd."""
        return [
            event
            for event in list(self.lab.ami.events)
            if (event["Event"], event.get("Uniqueid")) == (name, self.id)
            and event["Direction"] == "Received"
        ]

    # -- the guard

    def set(self, what: str, value: str) -> str:
        """Set DTMF_GUARD by AMI; the response."""
        answer = self.lab.ami.action(
            "Setvar", Channel=self.channel, Variable=f"DTMF_GUARD({what})", Value=value
        )
        return answer["Response"]

    def get(self, what: str) -> str:
        answer = self.lab.ami.action("Getvar", Channel=self.channel, Variable=f"DTMF_GUARD({what})")
        assert answer["Response"] == "Success", answer
        return answer["Value"]

    @property
    def status(self) -> dict[str, str]:
        return dict(field.split("=", 1) for field in self.get("status").split(","))

    def counts(self, *names: str) -> list[int]:
        status = self.status
        return [int(status[name]) for name in names]

    # -- the caller's hand

    def press(self, keys: str, ms: int = 100, gap_ms: int = 60) -> None:
        """Press keys; returns when the last is up, at this end of the wire."""
        ami = self.far_ami or self.lab.ami
        for key in keys:
            answer = ami.action("PlayDTMF", Channel=self.far(), Digit=key, Duration=str(ms))
            assert answer["Response"] == "Success", answer
            time.sleep(gap_ms / 1000)

    def hangup(self) -> None:
        self.lab.ami.action("Hangup", Channel=self.channel)
        self.lab.ami.event("Hangup", Uniqueid=self.id)


class KeyLab:
    """The lab with an observer on either side, and a FastAGI server driven by hand."""

    def __init__(self, folder: Path, asterisk: str) -> None:
        self.lab = Lab(folder, asterisk=asterisk)
        self._numbers = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self) -> KeyLab:
        with ExitStack() as stack:
            stack.enter_context(self.lab)
            pbx, far = self.lab.pbx, self.lab.subscriber
            self.ami = stack.enter_context(
                Ami(pbx.ami_port, pbx.observer_user, pbx.observer_secret)
            )
            self.far_ami = stack.enter_context(
                Ami(far.ami_port, far.observer_user, far.observer_secret)
            )
            self.agi = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            self.agi.settimeout(10)
            lab_sound.write(self.lab.sounds / "two.wav", lab_sound.tone(2000))
            self.tone = str(self.lab.sounds / "two")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def number(self, code: str) -> str:
        """A number of the subscriber that was not dialled yet."""
        return f"{code}{next(self._numbers):03}"

    def dial(self, code: str, trunk: str = "subscriber", exten: str = "s", **values: str) -> Call:
        """A call over SIP to a number of this kind, running [lab-guard]."""
        number = self.number(code)
        values = {"LAB_GUARD": "pass", **values}
        call = self.ami.originate(number, "lab-guard", values, exten=exten, trunk=trunk)
        if exten == "s":  # the guard is set at priority 1
            self.ami.event("Newexten", Uniqueid=call, Priority="2")
        return Call(self, call, lambda: self.far_channel(number), self.far_ami)

    def far_channel(self, number: str) -> str:
        """The subscriber's channel for the number; waits until it has answered."""
        channel = self.far_ami.event("Newexten", Extension=number)["Channel"]
        self.far_ami.event("Newstate", Channel=channel, ChannelStateDesc="Up")
        return channel

    def local(self, mode: str, exten: str = "s", **values: str) -> Call:
        """A call without SIP and without a sound: nothing is on the wire but keys."""
        number = f"keys-{next(self._numbers)}"
        answer = self.ami.action(
            "Originate",
            Channel="Local/quiet@lab_far/n",
            Context="lab-guard",
            Exten=exten,
            Priority="1",
            Async="true",
            ChannelId=number,
            OtherChannelId=f"{number}-far",
            Variable=[f"{key}={value}" for key, value in ({"LAB_GUARD": mode} | values).items()],
        )
        assert answer["Response"] == "Success", answer
        far = f"{number}-far"
        call = Call(self, number, lambda: self.ami.event("Newchannel", Uniqueid=far)["Channel"])
        self.ami.event("Newexten", Uniqueid=number, Priority="2" if exten == "s" else "1")
        return call

    def talk(self, **values: str) -> tuple[Call, Agi]:
        """A call over SIP that is in our hands by AGI."""
        port = self.agi.getsockname()[1]
        call = self.dial("103", exten="agi", LAB_AGI=f"127.0.0.1:{port}", **values)
        return call, Agi(self.agi.accept()[0])

    def wait(self, what: str, ready: Callable[[], bool], timeout_s: float = 10) -> None:
        wait_until(what, lambda: ready() or None, time.monotonic() + timeout_s)


class Agi:
    """One AGI connection, a command at a time."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        self._socket = connection
        self._lines = connection.makefile("r", encoding="utf-8", newline="\n")
        while self._lines.readline().strip():
            pass

    def command(self, text: str) -> str:
        """What follows "200 result="."""
        self._socket.sendall(text.encode() + b"\n")
        return self.answer()

    def answer(self) -> str:
        line = self._lines.readline().strip()
        assert line.startswith("200 result="), line
        return line.removeprefix("200 result=")

    def guard(self, what: str) -> str:
        return self.command(f"GET VARIABLE DTMF_GUARD({what})").removeprefix("1 (")[:-1]

    def wait_for_digit(self, ms: int = 3000) -> str:
        code = int(self.command(f"WAIT FOR DIGIT {ms}"))
        return chr(code) if code > 0 else ""

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
