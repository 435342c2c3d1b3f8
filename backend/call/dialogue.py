"""A talk over one channel: what is said, what is heard, which keys are pressed, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from backend.call.keys import Digits, DigitsRead
from backend.call.listening import Listening, ResultCallback
from backend.call.playback import Played
from backend.call.prompt import Interruptible, Prompts
from backend.call.turn import BargeIn, Heard
from backend.protocol.agi import Reply


class Agi(Protocol):
    """The AGI session as a talk needs it: agi_server.ThreadedAgi."""

    def command(self, command: str, *args: object, timeout_s: float) -> Reply: ...
    def poll_hangup(self) -> None: ...


class Dialogue:
    """Speaks, hears and reads keys on one channel: Call's docstrings say what each method does.

    One thread, that of the scenario, except where a method says otherwise."""

    def begin(self) -> None:
        """Begin to listen."""
        raise NotImplementedError

    def wait(self, duration_s: float) -> None:
        raise NotImplementedError

    def speak(
        self,
        prompt: Prompts,
        *,
        repeat: int = 1,
        interruptible: Interruptible = "off",
        language: str | None = None,
        on_error: Prompts | None = None,
    ) -> Played:
        raise NotImplementedError

    def prepare(self, prompt: Prompts, *, language: str | None = None) -> None:
        raise NotImplementedError

    def hear(
        self,
        prompt: Prompts | None = None,
        *,
        timeout_s: float = 10.0,
        barge_in: BargeIn = "voice",
        language: str | Sequence[str] | None = None,
        hints: Sequence[str] = (),
        end_silence_s: float | None = None,
        digits: Digits | None = None,
    ) -> Heard:
        raise NotImplementedError

    def cancel_hear(self, reason: str = "cancelled") -> bool:
        """Any thread."""
        raise NotImplementedError

    def listen(
        self,
        *,
        partials: bool = True,
        language: str | Sequence[str] | None = None,
        hints: Sequence[str] = (),
        on_result: ResultCallback | None = None,
        on_final: ResultCallback | None = None,
    ) -> Listening:
        raise NotImplementedError

    def on_dtmf(self, callback: Callable[[str], object] | None) -> None:
        raise NotImplementedError

    def read_digits(
        self, digits: Digits, *, timeout_s: float = 10.0, prompt: Prompts | None = None
    ) -> DigitsRead:
        raise NotImplementedError
