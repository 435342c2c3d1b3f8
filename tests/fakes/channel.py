"""A channel as Asterisk plays prompts on it, with its queue of control frames.

Models what was measured on Asterisk 16.28: ControlPlayback puts a frame on the channel's queue and
answers; a prompt that runs reads the queue and ends; a frame that came too late stays and ends the
next prompt, unless WAIT FOR DIGIT reads it (1000).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from backend.errors import AsteriskError, Hangup
from backend.ports import AmiReply
from backend.protocol.agi import Reply


class ForkModule(Protocol):
    """fork_module.FakeModule."""

    def play(self, arguments: str, timeout_s: float) -> tuple[str, int]:
        """AudioForkPlay: AUDIOFORK_PLAY_STATUS and _MS."""


class FakeChannel:
    """Both the AGI session (``command``) and the AMI (``send``) of one channel.

    ``on_play`` runs in the prompt's thread just after it began; ``at_end`` just after it ended,
    before the result is sent. ``swallow``: that many stops are lost, as by an idle AGI.
    """

    def __init__(self) -> None:
        self.connected = True
        self.on_play: Callable[[], object] = lambda: None
        self.at_end: Callable[[], object] = lambda: None
        self.swallow = 0
        self.missing_sounds: set[str] = set()
        self.hung_up = False
        self.commands: list[str] = []
        self.played: list[str] = []
        self.variables: dict[str, str] = {}
        self._cond = threading.Condition()
        self._queue = 0
        self._finished = False
        self._status = ""
        self.offsets: list[str] = []  # of the files played, ms; "" from the start
        self.escapes: list[str] = []  # of the files played: keys that end them
        self.escape = ""  # a key that is pressed in the next file, after 700 ms
        self.keys: list[str] = []  # what WAIT FOR DIGIT returns, one by one; "": none came
        self.module: ForkModule | None = None

    # What the test does

    def finish(self) -> None:
        """The prompt comes to its natural end."""
        with self._cond:
            self._finished = True
            self._cond.notify_all()

    def hang_up(self) -> None:
        with self._cond:
            self.hung_up = True
            self._cond.notify_all()

    @property
    def queued(self) -> int:
        return self._queue

    # AMI

    def action(
        self, name: str, headers: Mapping[str, str | list[str]], *, timeout_s: float = 5.0
    ) -> AmiReply:
        raise AssertionError("a prompt is stopped without waiting")

    def send(
        self,
        name: str,
        headers: Mapping[str, str | list[str]],
        on_reply: Callable[[AmiReply | AsteriskError], None],
    ) -> None:
        assert (name, headers["Control"]) == ("ControlPlayback", "stop")
        with self._cond:
            if self.swallow:
                self.swallow -= 1
            else:
                self._queue += 1
            self._cond.notify_all()
        on_reply(AmiReply(True, "", {}))

    # AGI

    def poll_hangup(self) -> None:
        if self.hung_up:
            raise Hangup("the other side hung up")

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        self.poll_hangup()
        self.commands.append(command)
        if command == "CONTROL STREAM FILE":
            self.offsets.append(str(args[6]) if len(args) > 6 else "")
            self.escapes.append(str(args[1]))
            if self.escape and self.escape in self.escapes[-1]:
                return Reply(200, "", str(ord(self.escape)), None, {"endpos": "700"})
            return self._play(str(args[0]), timeout_s)
        if command == "EXEC" and args[0] == "AudioForkPlay":
            return self._play_stream(str(args[1]), timeout_s)
        if command == "EXEC" and args[0] == "MixMonitor":
            return self._monitor(str(args[1]))
        if command == "GET FULL VARIABLE":
            values = re.sub(r"\$\{(\w+)\}", lambda m: self.variables.get(m[1], ""), str(args[0]))
            return Reply(200, "", "1", values)
        if command == "WAIT FOR DIGIT" and self.keys:
            key = self.keys.pop(0)
            return Reply(200, "", str(ord(key)) if key else "0")
        if command == "WAIT FOR DIGIT":
            with self._cond:
                self._queue, found = max(self._queue - 1, 0), self._queue > 0
            return Reply(200, "", "1000" if found else "0")
        if command == "GET VARIABLE":
            value = (
                self._status if args[0] == "CPLAYBACKSTATUS" else self.variables.get(str(args[0]))
            )
            return Reply(200, "", "0" if value is None else "1", value)
        if command == "SET VARIABLE":
            self.variables[str(args[0])] = str(args[1])
            return Reply(200, "", "1")
        return Reply(200, "", "0")

    def _monitor(self, arguments: str) -> Reply:
        """MixMonitor: an id for the variable of its option i."""
        if variable := re.search(r"i\((\w+)\)", arguments):
            self.variables[variable[1]] = f"0x{len(self.variables):x}"
        return Reply(200, "", "0")

    def _play_stream(self, arguments: str, timeout_s: float) -> Reply:
        if self.module is None:
            return Reply(200, "", "-2")
        self.on_play()
        status, played_ms = self.module.play(arguments, timeout_s)
        self.poll_hangup()
        self.variables["AUDIOFORK_PLAY_STATUS"] = status
        self.variables["AUDIOFORK_PLAY_MS"] = str(played_ms)
        self.at_end()
        return Reply(200, "", "0")

    def _play(self, sound: str, timeout_s: float) -> Reply:
        self._finished = False
        if sound in self.missing_sounds:
            self._status = "ERROR"
            return Reply(200, "", "-1", None, {"endpos": "0"})
        self.on_play()
        with self._cond:
            assert self._cond.wait_for(
                lambda: self._queue or self._finished or self.hung_up, timeout_s
            ), "the prompt never ended"
            stopped = self._queue > 0
            self._queue -= stopped
            self._status = "REMOTESTOPPED" if stopped else "SUCCESS"
        self.poll_hangup()
        self.played.append(f"{sound} {self._status}")
        self.at_end()
        return Reply(200, "", "0", None, {"endpos": "500" if stopped else "2000"})
