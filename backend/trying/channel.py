"""A channel that is not there, and what goes wrong on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from backend.errors import (
    AsteriskError,
    BadRequest,
    Hangup,
)
from backend.protocol.agi import Reply, command_line
from backend.trying.world import World

COMMAND_S = 0.001  # a command's time; so that no loop of commands stands still
NO_APPLICATION = "-2"


@dataclass
class Troubles:
    """What goes wrong, and when it does not any more (None). May be changed in a ``do`` step.

    ``recognition``, ``synthesis``: why they are unavailable. ``asterisk``: what every command
    raises, e.g. ``CommandTimeout("…")``. ``missing``: applications and sounds that Asterisk does
    not have.
    """

    recognition: str | None = None
    synthesis: str | None = None
    asterisk: AsteriskError | None = None
    missing: Collection[str] = ()


@dataclass
class Channel:
    """An AGI session to a channel that is not there. ``applications``: each one run, with its
    arguments in one text."""

    world: World
    name: str
    troubles: Troubles
    variables: dict[str, str] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)  # of applications; else "0"
    on_robot_hangup: Callable[[int], None] = lambda cause: None
    answered: bool = False
    over: bool = False
    busy: str | None = None  # why no command is taken now
    applications: list[tuple[str, str]] = field(default_factory=list)

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        """As agi_server.ThreadedAgi's."""
        command_line(command, *args)  # what cannot be sent is refused
        self.world.step(self.world.now_s + COMMAND_S)
        self.check()
        texts = [str(argument) for argument in args]
        if command == "ANSWER":
            self.answered = True
        elif command == "HANGUP":
            self.on_robot_hangup(16)
            return Reply(200, "result=1", "1")
        elif command == "GET VARIABLE":
            return _value(self.variables.get(texts[0]))
        elif command == "SET VARIABLE":
            self.variables[texts[0]] = texts[1]
            return Reply(200, "result=1", "1")
        elif command == "EXEC":
            return self._execute(texts[0], texts[1] if len(texts) > 1 else "")
        return Reply(200, "result=0", "0")

    def check(self) -> None:
        """Raises what a command would."""
        self.poll_hangup()
        if self.busy is not None:
            raise BadRequest("call", f"is busy: {self.busy}")
        if self.troubles.asterisk is not None:
            raise self.troubles.asterisk

    def poll_hangup(self) -> None:
        if self.over:
            raise Hangup(f"the {self.name.removeprefix('Simulated/')} has hung up")

    def _execute(self, application: str, data: str) -> Reply:
        if application in self.troubles.missing:
            return Reply(200, "result=-2", NO_APPLICATION)
        self.applications.append((application, data))
        if application == "MixMonitor" and (variable := re.search(r"i\((\w+)\)", data)):
            self.variables[variable[1]] = f"monitor-{len(self.applications)}"
        elif application == "Hangup":
            self.on_robot_hangup(int(data) if data.isdecimal() else 16)
        return Reply(200, "result=0", self.results.get(application, "0"))


def _value(value: str | None) -> Reply:
    if value is None:
        return Reply(200, "result=0", "0")
    return Reply(200, f"result=1 ({value})", "1", value)
