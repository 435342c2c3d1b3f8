"""The error tree. Every error that leaves a module is one of these.

DialogError
├── ConfigError          a setting is missing or wrong; names the setting
├── BadRequest           what came from outside is refused; names the parameter and why
├── Hangup               the other side hung up, or the channel is gone; ends the scenario
│   └── LegHangup             a leg did; the call itself goes on
├── AsteriskError
│   ├── AsteriskUnavailable   no connection to Asterisk (AMI or AGI), or it was lost
│   ├── CommandRefused        Asterisk answered with an error; carries its words
│   └── CommandTimeout        Asterisk did not answer within the deadline
├── SpeechError
│   ├── RecognitionUnavailable
│   └── SynthesisUnavailable
├── StorageUnavailable   PostgreSQL cannot be reached; nothing was stored
├── BusUnavailable       the bus cannot be reached, or does not let us in
├── HttpFailed           another system was asked over HTTP and gave no usable answer
└── ScenarioError        the scenario cannot be loaded, or its result is not JSON
    ├── FlowError             a flow's file is wrong: file, line, node and what was expected
    └── FlowValueError        a flow's text or condition: cannot be read, or a value does not fit
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DialogError(Exception):
    """Root of the tree."""


class ConfigError(DialogError):
    """A setting is missing or wrong. The message names the setting and says what it expects."""


class BadRequest(DialogError):
    """Input from outside that is refused, not repaired.

    ``parameter`` is the name as the client wrote it, ``why`` a sentence for a person.
    """

    def __init__(self, parameter: str, why: str) -> None:
        super().__init__(f"{parameter}: {why}")
        self.parameter = parameter
        self.why = why


class Hangup(DialogError):
    """The call is over: the other side hung up, or the channel or its AGI connection is gone."""


class LegHangup(Hangup):
    """A leg is over: it hung up, or was hung up. The call that dialled it goes on."""


class AsteriskError(DialogError):
    """Something between us and Asterisk."""


class AsteriskUnavailable(AsteriskError):
    """There is no connection to Asterisk, or it was lost before the answer came."""


class CommandRefused(AsteriskError):
    """Asterisk answered the command with an error; the message carries its words."""


class CommandTimeout(AsteriskError):
    """Asterisk did not answer a command within its deadline."""


class SpeechError(DialogError):
    """Recognition or synthesis."""


class RecognitionUnavailable(SpeechError):
    """The recogniser cannot be reached, refused us, or did not answer in time."""


class SynthesisUnavailable(SpeechError):
    """The synthesiser cannot be reached, refused us, or did not answer in time."""


class StorageUnavailable(DialogError):
    """PostgreSQL cannot be reached. Nothing of the request was stored."""


class BusUnavailable(DialogError):
    """The bus cannot be reached, or does not let us in. The message holds no secret."""


class HttpFailed(DialogError):
    """Another system gave no usable answer. ``timeout``: it took too long. ``status``: what it
    said; None: nothing that was understood."""

    def __init__(self, text: str, *, timeout: bool = False, status: int | None = None) -> None:
        super().__init__(text)
        self.timeout = timeout
        self.status = status


class ScenarioError(DialogError):
    """A scenario cannot be found or loaded, or what it returned is not JSON."""


@dataclass(frozen=True, slots=True)
class FlowProblem:
    """One thing that is wrong with a flow. ``line`` counts from 1; ``node``: where, if in one."""

    source: str
    line: int
    node: str | None
    text: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}"
        return f"{where}: node {self.node}: {self.text}" if self.node else f"{where}: {self.text}"


class FlowError(ScenarioError):
    """A flow cannot be used. ``problems``: all that is wrong with it, in the order of lines."""

    def __init__(self, problems: Sequence[FlowProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class FlowValueError(ScenarioError):
    """A text or condition of a flow cannot be read, or does not fit the values that it meets."""
