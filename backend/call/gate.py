"""A call's keys during prompts: the hands of keying.machine.

What it wants of the module goes over the fork, in order, before the audio that it is about; what
the module and the prompt tell comes back as its events. Steps are told as they happen.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from backend.call.guard_rules import Guarding, KeyGuard
from backend.call.keys import Digits, Keys
from backend.call.places import Places
from backend.call.playback import Played, PlayEnd
from backend.call.steps import StepLog
from backend.call.streaming import Link
from backend.errors import BadRequest, Hangup
from backend.keying import events as ev
from backend.protocol import fork

log = logging.getLogger(__name__)

HIDDEN = "•"
_HOW: dict[PlayEnd, ev.Ending] = {
    PlayEnd.COMPLETED: "played",
    PlayEnd.INTERRUPTED: "stopped",
    PlayEnd.LOST: "lost",
}


class Ear(Protocol):
    """call.ear.CallEar."""

    @property
    def position_ms(self) -> int: ...


class KeyGate:
    """One channel's. Methods may be called from any thread and never block; ``steps`` None: this
    channel's prompts are not guarded, and asking for it is a BadRequest."""

    def __init__(
        self,
        channel: str,
        keys: Keys,
        ear: Ear,
        stop: Callable[[], object],
        steps: StepLog | None,
    ) -> None:
        self._channel = channel
        self._keys = keys
        self._ear = ear
        self._stop = stop
        self._steps = steps
        self._rules: KeyGuard | None = None
        self._prompts = 0
        self._link: Link | None = None
        self._outbox: deque[fork.ToModule] = deque()
        self._places = Places()
        self._fork_ms = 0  # the fork's own place in the stream
        self._fork = ""
        self._played: dict[str, int] = {}  # prompts of this fork that are over
        self._guards = False  # the module has told of one
        self._said_alone = self._said_late = False
        keys.join(self)

    # The scenario's thread

    def guard_keys(self, rules: KeyGuard | None) -> None:
        """What holds for the prompts from now on."""
        if rules is not None:
            self._check()
        self._rules = rules
        if rules is None:
            self._keys.apply(ev.Off(self._keys.now_ms, self.place_ms))

    def rules_of(self, guard: Guarding) -> KeyGuard | None:
        """Of one prompt. Raises BadRequest where nothing can be guarded."""
        if isinstance(guard, KeyGuard):
            self._check()
            return guard
        return self._rules if guard == "call" else None

    def _check(self) -> None:
        if self._steps is None:
            raise BadRequest("guard", "only a call's own prompts are guarded, not a leg's")

    @contextmanager
    def prompt(self, rules: KeyGuard | None) -> Iterator[Prompt]:
        """One is played inside."""
        self._prompts += 1
        self._keys.apply(ev.PlayOrdered(self._keys.now_ms, self.place_ms, self._prompts, rules))
        prompt = Prompt()
        try:
            yield prompt
        except Hangup:
            self.hang_up()
            raise
        finally:
            self._keys.apply(ev.PlayOver(self._keys.now_ms, self.place_ms, prompt.how))
            if rules is not None and self._keys.state.module == "none":
                self._say_alone("there is no fork that can be told")

    @contextmanager
    def turn(self, rules: KeyGuard | None) -> Iterator[Input]:
        """An input is had inside: what was typed ahead may be the answer, then comes its prompt,
        then ``Input.waits``."""
        self._keys.apply(ev.TurnBegins(self._keys.now_ms))
        turn = Input(self, rules)
        try:
            yield turn
        except Hangup:
            self.hang_up()
            raise
        finally:
            digits = turn.complete
            self._keys.apply(
                ev.InputOver(
                    self._keys.now_ms,
                    self.place_ms,
                    turn.how,
                    self._rules,
                    digits.terminator if digits is not None else None,
                    round(digits.between_s * 1000) if digits is not None else 0,
                )
            )

    def input_wanted(self, rules: KeyGuard | None) -> None:
        """The wait for an answer begins."""
        self._keys.apply(ev.InputWanted(self._keys.now_ms, self.place_ms, rules))

    def open(self) -> None:
        """Something else wants the keys: a bridge, an application."""
        self._keys.apply(ev.Opened(self._keys.now_ms, self.place_ms))

    def hang_up(self) -> None:
        """The channel is gone, or the talk is over."""
        self._keys.apply(ev.HangUp(self._keys.now_ms, self.place_ms))

    def press(self, key: str) -> None:
        """Asterisk itself has read a key, since no fork tells of them."""
        self._keys.press(key, begun_ms=self.place_ms)

    @property
    def place_ms(self) -> int:
        return self._ear.position_ms

    # The prompt under way: call.speaker tells

    def streams(self, play: str, length_ms: int | None, last: bool) -> None:
        """The audio loop: a part of the prompt is streamed, and its length is known, or not yet."""
        self._keys.apply(ev.Stretch(self._keys.now_ms, play, length_ms, last))

    def file(self, length_ms: int | None, last: bool) -> None:
        """Asterisk plays a part of the prompt by itself."""
        if self._keys.state.rules is not None:
            self._say_late()
        self._keys.apply(ev.Stretch(self._keys.now_ms, None, length_ms, last))

    def paused(self, on: bool) -> None:
        if self._keys.state.under_way:
            self._keys.apply(ev.Paused(self._keys.now_ms, on))

    # The audio loop: call.fork tells

    def on_open(self, link: Link) -> None:
        start = link.start
        if start is None:
            return
        if start.fork != self._fork:
            self._fork = start.fork
            self._played = {}
        self._fork_ms = start.at_ms
        self._link = link
        self._keys.apply(ev.Linked(self._keys.now_ms, True))

    def on_close(self) -> None:
        self._link = None
        self._outbox.clear()
        self._keys.apply(ev.Linked(self._keys.now_ms, False))

    def on_audio(self, size: int) -> None:
        """So many bytes of it have come."""
        self._fork_ms += size // 16
        self._places.note(self._keys.now_ms, self.place_ms)

    def on_dropped(self, lost_ms: int) -> None:
        self._fork_ms += lost_ms

    def on_message(self, message: fork.FromModule) -> None:
        now_ms, keys = self._keys.now_ms, self._keys
        if isinstance(message, fork.Digit):
            keys.tell(message, self._begun_ms(message))
        elif isinstance(message, fork.GuardSet):
            self._guards = True
            keys.apply(
                ev.GuardSet(
                    now_ms,
                    self._own_place(message.at_ms),
                    message.name,
                    message.mode,
                    message.why,
                    message.play,
                    message.played_ms,
                )
            )
        elif isinstance(message, fork.Refused) and self._refuses_guards(message):
            self._say_alone(f"the module refused: {message.why}")
            keys.apply(ev.Refused(now_ms, message.why))
        elif isinstance(message, fork.Started):
            keys.apply(ev.Progress(now_ms, message.play, 0))
        elif isinstance(message, fork.Buffer):
            keys.apply(ev.Progress(now_ms, message.play, message.played_ms))
        elif isinstance(message, fork.PlayOver):
            self._played[message.play] = message.played_ms
            if message.how == "end":
                keys.apply(ev.PlayOver(now_ms, self.place_ms, "played", message.play))
        elif isinstance(message, fork.Counters):
            self._answered(message)

    def _refuses_guards(self, message: fork.Refused) -> bool:
        """A module that knows no guards has no better word than that it is no message."""
        unknown = message.about == "message" and not self._guards
        return message.about == "guard" or (unknown and self._keys.state.awaited is not None)

    def on_tick(self) -> None:
        due_ms = self._keys.state.tick_due_ms
        if due_ms is not None and self._keys.now_ms >= due_ms:
            self._keys.apply(ev.Tick(self._keys.now_ms, self.place_ms))

    def _answered(self, counters: fork.Counters) -> None:
        """How much the fork has played in all: what was not over prompts is the one under way's."""
        played_ms, play = counters.counters.get("played_ms"), self._keys.state.play
        if isinstance(played_ms, int) and play is not None:
            others_ms = sum(ms for name, ms in self._played.items() if name != play)
            self._keys.apply(ev.Asked(self._keys.now_ms, self.place_ms, played_ms - others_ms))

    def _own_place(self, at_ms: int) -> int:
        """The fork's place as the ear counts it, which puts silence where no audio comes."""
        return max(at_ms + self.place_ms - self._fork_ms, 0)

    def _begun_ms(self, digit: fork.Digit) -> int:
        """Where it went down. A telephone that sends no audio meanwhile lets the stream stand
        still: then by the time that has passed."""
        at_ms = self._own_place(digit.at_ms)
        earliest = max(at_ms - digit.duration_ms, 0)
        by_time = self._places.at(self._keys.now_ms - digit.duration_ms)
        return earliest if by_time is None else min(max(by_time, earliest), at_ms)

    # What the machine wants

    def record(self, action: ev.Action) -> None:
        """In the order of actions; under the keys' lock."""
        if isinstance(action, ev.SetGuard):
            self._outbox.append(
                fork.Guard(
                    action.name,
                    action.mode,
                    None,
                    action.play,
                    action.place_ms,
                    action.limit_ms,
                    "take" if action.play is None else None,
                )
            )
        elif isinstance(action, ev.AskOver):
            self._outbox.append(fork.AskCounters())
        elif self._steps is not None:
            self._step(self._steps, action)

    def act(self, action: ev.Action) -> None:
        if isinstance(action, ev.SetGuard | ev.AskOver):
            self._send()
        elif isinstance(action, ev.StopPlay):
            self._stop()

    def _send(self) -> None:
        if (link := self._link) is not None:
            link.run(self._flush)

    def _flush(self) -> None:
        """The audio loop: what has gathered, in order."""
        items: list[fork.ToModule] = []
        while self._outbox:
            items.append(self._outbox.popleft())
        if items and (link := self._link) is not None:
            link.send(*items)

    def _step(self, steps: StepLog, action: ev.Action) -> None:
        if isinstance(action, ev.Changed):
            body: dict[str, object] = {"from": action.before, "event": action.event}
            for name in ("play", "took_ms", "error_ms"):
                if (value := getattr(action, name)) is not None:
                    body[name] = value
            steps.add("state", body, state=action.after, at_ms=action.at_ms)
        elif isinstance(action, ev.KeyJudged):
            by = {"by": "backend"} if action.by_backend else {}
            body = {**_key(action.key), "verdict": action.verdict, **by}
            steps.add("key", body, at_ms=action.key.begun_ms)
        elif isinstance(action, ev.Conflict):
            body = {**_key(action.key), "order": action.order, "after_ms": action.after_ms}
            steps.add("conflict", body, at_ms=action.key.begun_ms)
        elif isinstance(action, ev.Raised):
            body = {"alarm": action.alarm, "why": action.why}
            if action.play is not None:
                body["play"] = action.play
            steps.add("alarm", body)
            log.warning("%s: keys: %s: %s", self._channel, action.alarm, action.why)

    def _say_alone(self, why: str) -> None:
        """Once a call."""
        if not self._said_alone:
            log.warning(
                "%s: keys: %s: Asterisk does not block keys, the backend passes over those of"
                " prompts",
                self._channel,
                why,
            )
        self._said_alone = True

    def _say_late(self) -> None:
        """Once a call."""
        if not self._said_late:
            log.info(
                "%s: keys: Asterisk plays a prompt by itself: they are blocked to its very end",
                self._channel,
            )
        self._said_late = True


class Prompt:
    """How the prompt ends, for the steps."""

    how: ev.Ending = "failed"

    def played(self, played: Played) -> None:
        self.how = _HOW[played.end]


class Input:
    """An input, and how it ends."""

    def __init__(self, gate: KeyGate, rules: KeyGuard | None) -> None:
        self._gate = gate
        self._rules = rules
        self.how: ev.InputEnding = "failed"
        self.complete: Digits | None = None  # as many keys as these asked for have come

    def waits(self) -> None:
        """Its prompt is over."""
        self._gate.input_wanted(self._rules)


def _key(key: ev.HeldKey) -> dict[str, object]:
    body: dict[str, object] = {"key": HIDDEN if key.hidden else key.key}
    if key.duration_ms is not None:
        body["duration_ms"] = key.duration_ms
    if key.play is not None:
        body["play"] = key.play
    return body


__all__ = ["HIDDEN", "Input", "KeyGate", "Prompt"]
