"""Simulated calls of guarded prompts: the real gate and machine, and around them a module, a line
and a scenario that take their time (tests/fakes/guard_world.py), and know the truth.

What the steps say of each key is held against what was in force in the module, and what had been
ordered, when it went down.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from backend.call.gate import HIDDEN, KeyGate, Prompt
from backend.call.keys import Digits, Key, Keys
from backend.call.playback import Played, PlayEnd
from backend.call.steps import StepLog
from backend.call.turn import Sight, Turn, TurnRules
from backend.call.turn_wait import TurnWait
from backend.keying.rules import KeyGuard
from backend.model import CallStep
from backend.protocol import fork
from tests.fakes.guard_world import VERDICTS, Line, Module, World

SYMBOLS = "0123456789*ABCD"
CALL = UUID(int=1)
Anchor = Literal["order", "place", "end", "input_over", "next"]
Way = Literal["rfc4733", "info"]
Zone = Literal["blocked", "open", "conflict", "edge"]


@dataclass(frozen=True)
class Planned:
    """A key: when it is to go down, how long it is held, ms."""

    anchor: Anchor
    delta_ms: int
    held_ms: int
    way: Way = "rfc4733"
    ends: bool = False  # it is the terminator


@dataclass(frozen=True)
class Round:
    """A prompt, then an input. ``told``: whether the module tells of the prompt's end, and when.
    ``asks``: the prompt is the input's own, so a key in its open part ends it."""

    rules: KeyGuard
    length_ms: int
    presses: tuple[Planned, ...]
    known_ms: int = 0  # its length is known so long after it began
    told: Literal["at once", "late", "never"] = "at once"
    asks: bool = False
    digits: int = 4
    first_ms: int = 1500
    between_ms: int = 800
    think_ms: int = 100


@dataclass
class Press:
    """The truth about one key. ``told_ms``: the backend knows of it."""

    key: str
    down_ms: int
    up_ms: int
    way: Way
    zone: Zone
    rules: KeyGuard
    told_ms: int = -1
    mode: str = ""


@dataclass(frozen=True)
class Ended:
    """An input: how, and which steps its end made."""

    at_ms: int
    status: str | None
    first: int
    last: int


@dataclass
class Account:
    """What it came to."""

    prompts: int = 0
    whole: int = 0
    broken: int = 0  # by the steps: a key was read while it played
    pressed: int = 0
    doubtful: int = 0  # so near to an order that it may be on either side of it
    zones: Counter[tuple[str, str]] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    steps: list[CallStep] = field(default_factory=list)

    def add(self, other: Account) -> None:
        for name in ("prompts", "whole", "broken", "pressed", "doubtful"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.zones.update(other.zones)
        self.alarms.update(other.alarms)
        self.problems += other.problems
        self.steps += other.steps

    def story(self) -> str:
        rows = [f"  {zone} {end}: {count}" for (zone, end), count in sorted(self.zones.items())]
        head = (
            f"{self.prompts} prompts, {self.whole} whole, {self.broken} broken;"
            f" {self.pressed} keys, {self.doubtful} at an order; alarms {dict(self.alarms)}"
        )
        return "\n".join([head, *rows, *self.problems[:40]])


class SimulatedTalk:
    """One call of ``rounds``, all of them guarded."""

    def __init__(self, rounds: Sequence[Round], seed: int) -> None:
        self._luck = random.Random(seed)
        self._rounds = rounds
        self.world = World()
        self._line = Line(self.world, self._luck)
        self.steps: list[CallStep] = []
        log = StepLog(CALL, None, self.steps.append, lambda: self.position_ms)
        self.keys = Keys(self.world.clock)
        self.gate = KeyGate("PJSIP/a-1", self.keys, self, self._stop, log)
        self.module = Module(self.world, self._line, self._hear)
        self.presses: list[Press] = []
        self.read: list[str] = []
        self.inputs: list[Ended] = []
        self.terminated = 0
        nothing: Any = None
        self._wait = TurnWait(nothing, nothing, nothing, self.keys, nothing, 1.0, self.world.clock)
        self.played: list[tuple[int, int, bool]] = []  # length, so much played, stopped by a key
        self._told = self._symbols = 0
        self._finger_ms = 0
        self._orders: list[int] = []
        self._floor_ms = self._heard_ms = 0
        self._tick_ms: int | None = None
        self._over = False
        self._waits: int | None = None
        self._news = 0
        self.overrun = False

    # Backend's ear

    @property
    def position_ms(self) -> int:
        self._floor_ms = max(self._floor_ms, self._line.position_ms())
        return self._floor_ms

    def _hear(self, message: fork.FromModule) -> None:
        """Audio and messages come in one stream."""
        if self._over:
            return
        at_ms = getattr(message, "at_ms", 0)
        self._floor_ms = max(self.position_ms, at_ms)
        self.gate.on_audio((self._floor_ms - self._heard_ms) * 16)
        self._heard_ms = self._floor_ms
        self.gate.on_message(message)
        if isinstance(message, fork.Digit):
            self._told += 1
            self.presses[self._told - 1].told_ms = self.world.now_ms
        if isinstance(message, fork.PlayOver):
            self._orders.append(self.world.now_ms)
        self._wake()

    def _stop(self) -> None:
        self.overrun = True
        self.module.clear()

    # Life

    def run(self) -> Account:
        self.gate.on_open(self.module)
        self._scenario = self._talk()
        self._go_on()
        self.world.run(lambda: self._over, self._plan_tick)
        return self._account()

    def _plan_tick(self) -> None:
        due_ms = self.keys.state.tick_due_ms
        if due_ms != self._tick_ms and due_ms is not None:
            self.world.at(due_ms, self.gate.on_tick)
        self._tick_ms = due_ms

    def _go_on(self) -> None:
        """The scenario, to its next wait."""
        self._news += 1
        news = self._news
        try:
            wait_ms = next(self._scenario)
        except StopIteration:
            self._over = True
            return
        if wait_ms is not None:
            self.world.at(self.world.now_ms + wait_ms, lambda: self._resume(news))

    def _resume(self, news: int) -> None:
        if news == self._news and not self._over:
            self._go_on()

    def _wake(self) -> None:
        """Something has come; its thread runs in a moment."""
        news = self._news
        self.world.at(
            self.world.now_ms + self._luck.randint(0, WAKES_MS - 1), lambda: self._resume(news)
        )

    # The scenario; None: until it is woken

    def _talk(self) -> Generator[int | None, None, None]:
        for number, one in enumerate(self._rounds):
            self.gate.guard_keys(one.rules)
            if one.asks:
                yield from self._input(number, one, prompt=True)
            else:
                yield from self._prompt(number, one, keys=False)
                yield from self._sleep(self._luck.randint(0, 3))
                yield from self._input(number, one, prompt=False)
            yield from self._sleep(one.think_ms)
        yield from self._sleep(1500)  # until the last key has been told
        self.gate.hang_up()

    def _prompt(self, number: int, one: Round, *, keys: bool) -> Generator[int | None, None, None]:
        name = f"p{number + 1}"
        over: list[int] = []
        stopped: list[Key] = []

        def on_end(played_ms: int) -> None:
            reply_ms = 2500 if one.told == "late" else self._luck.randint(1, 15)
            self.world.at(self.world.now_ms + reply_ms, lambda: done(played_ms))

        def done(played_ms: int) -> None:
            over.append(played_ms)
            self._wake()

        def on_key(key: Key) -> None:
            if keys and not stopped and not over:
                stopped.append(key)
                self.module.clear()

        with self.gate.prompt(one.rules) as prompt:
            self.keys.watch(on_key)
            self._orders.append(self.world.now_ms)
            self.module.opened_since_order = False
            start_ms = self.world.now_ms + self._luck.choice((5, 15, 40, 120))
            self._press_around(one, start_ms)
            yield from self._sleep(start_ms - self.world.now_ms)
            known = one.length_ms if one.known_ms == 0 else None
            self.gate.streams(name, known, True)
            self.module.play(name, one.length_ms, on_end, one.told == "at once")
            if known is None:
                self.world.at(
                    start_ms + min(one.known_ms, one.length_ms),
                    lambda: None if over else self.gate.streams(name, one.length_ms, True),
                )
            while not over:
                yield None
            self.keys.unwatch(on_key)
            self._orders.append(self.world.now_ms)
            self._end(prompt, one, over[0], bool(stopped))

    def _sleep(self, ms: int) -> Generator[int | None, None, None]:
        """What comes meanwhile does not end it."""
        until_ms = self.world.now_ms + ms
        while self.world.now_ms < until_ms:
            yield until_ms - self.world.now_ms

    def _end(self, prompt: Prompt, one: Round, played_ms: int, stopped: bool) -> None:
        whole = played_ms >= one.length_ms
        prompt.played(Played(PlayEnd.COMPLETED if whole else PlayEnd.INTERRUPTED, played_ms))
        self.played.append((one.length_ms, played_ms, stopped))

    def _input(self, number: int, one: Round, *, prompt: bool) -> Generator[int | None, None, None]:
        digits = Digits(one.digits, "#", one.between_ms / 1000)
        rules = TurnRules(one.first_ms / 1000, speech=False, digits=digits)
        turn, heard = Turn(rules, self.world.clock()), None
        with self.gate.turn(one.rules) as waiting:
            self._wait.take_keys(turn)  # as call.dialogue does it
            if prompt and not turn.begun:
                yield from self._prompt(number, one, keys=True)
            waiting.waits()
            self._orders.append(self.world.now_ms)
            turn.prompt_over(None, self.world.clock())
            while heard is None:
                self._wait.take_keys(turn)
                now_s = self.world.clock()
                if (heard := turn.look(Sight(), now_s)) is None:
                    yield max(round(turn.wait_s(now_s, 0.2) * 1000), 1)
            waiting.how = "digits" if heard.status == "digits" else "timeout"
            if turn.digits_status == "complete":
                waiting.complete = digits
            before = len(self.steps)
        ended = Ended(self.world.now_ms, turn.digits_status, before, len(self.steps))
        self.inputs.append(ended)
        self.read.append(heard.digits)
        self.terminated += turn.digits_status == "terminator"
        self._orders.append(self.world.now_ms)
        self.module.opened_since_order = False
        self._press_after(one)

    # The caller

    def _press_around(self, one: Round, start_ms: int) -> None:
        place_ms = max(one.length_ms - one.rules.open_before_ms, 0)
        places = {
            "order": self.world.now_ms,
            "place": start_ms + place_ms,
            "end": start_ms + one.length_ms,
        }
        for planned in one.presses:
            if (begin := places.get(planned.anchor)) is not None:
                self._plan_press(begin + planned.delta_ms, planned)

    def _press_after(self, one: Round) -> None:
        now_ms = self.world.now_ms
        places = {"input_over": now_ms, "next": now_ms + one.think_ms}
        for planned in one.presses:
            if (begin := places.get(planned.anchor)) is not None:
                self._plan_press(begin + planned.delta_ms, planned)

    def _plan_press(self, when_ms: int, planned: Planned) -> None:
        if when_ms >= self.world.now_ms:
            self.world.at(when_ms, lambda: self._press(planned))

    def _press(self, planned: Planned) -> None:
        """One finger: a key after the other."""
        now_ms = self.world.now_ms
        if now_ms < self._finger_ms:
            self.world.at(self._finger_ms, lambda: self._press(planned))
            return
        self._finger_ms = now_ms + planned.held_ms + 5
        key = "#" if planned.ends else SYMBOLS[self._symbols % len(SYMBOLS)]
        self._symbols += 1
        judged_ms = now_ms + (planned.held_ms if planned.way == "info" else 0)
        press = Press(key, now_ms, now_ms + planned.held_ms, planned.way, "edge", DROP)
        verdict: list[str] = []

        def judge() -> None:
            mode = self.module.mode_now()
            verdict.append(VERDICTS.get(mode, "passed"))
            press.zone = self._zone(stopped=self.module.blocks)
            press.mode = mode
            press.rules = self.keys.state.rules or DROP

        def up() -> None:
            if not verdict:
                judge()
            self.module.press(key, now_ms, verdict[0])

        if judged_ms == now_ms:
            judge()
        self.presses.append(press)
        self.world.at(press.up_ms, up)

    def _zone(self, *, stopped: bool) -> Zone:
        """By what is in force in the module and what the backend has ordered."""
        if self.keys.state.blocks:
            if self.module.opened_since_order:  # and the backend has not heard of it
                return "edge" if stopped else "open"
            return "blocked" if stopped else "conflict"
        return "edge" if stopped else "open"

    # The proof

    def _account(self) -> Account:
        account = Account(prompts=len(self.played), pressed=self._told, steps=self.steps)
        account.whole = sum(played == length or stopped for length, played, stopped in self.played)
        account.alarms.update(
            str(step.body["alarm"]) for step in self.steps if step.kind == "alarm"
        )
        account.broken = broken_prompts(self.steps)
        told, groups = self.presses[: self._told], groups_of(self.steps)
        if not same_keys([press.key for press in told], [key for key, _ in groups]):
            account.problems.append(
                f"pressed {''.join(p.key for p in told)}, told {''.join(k for k, _ in groups)}"
            )
            return account
        for press, (_, verdicts) in zip(told, groups, strict=True):
            account.zones[press.zone, "+".join(verdicts)] += 1
            account.doubtful += self._doubtful(press)
            if verdicts not in self._allowed(press):
                account.problems.append(f"{press}: {verdicts}")
        self._check_read(account, groups)
        self._check_discards(account)
        return account

    def _allowed(self, press: Press) -> list[tuple[str, ...]]:
        stopped: list[tuple[str, ...]] = [("blocked",)]
        conflict: list[tuple[str, ...]] = [("conflict",)]
        if press.rules.policy == "buffer":
            stopped = conflict = [("buffered", "released"), ("buffered", "discarded")]
        taken: list[tuple[str, ...]] = [("taken",), ("discarded",)]
        if press.rules.secret and press.rules.policy == "buffer":
            # The module keeps them when open, too: which it was only their place tells.
            taken = stopped = [*taken, *stopped]
        if press.key == "#" and any(ended.status == "complete" for ended in self.inputs):
            stopped = [*stopped, ("discarded",)]  # it ends nothing any more
        if self._doubtful(press):
            return [*stopped, *conflict, *taken, *DOUBT]
        if press.zone == "edge":
            return [*taken, *stopped] if press.way == "info" else taken
        return {"blocked": stopped, "conflict": conflict, "open": taken}[press.zone]

    def _doubtful(self, press: Press) -> bool:
        """Whether an order was given so near that the backend's place of it, which may be behind,
        is on the other side; or was on its way to the module; or it is an INFO that spans one."""
        stalled = self._line.stalls(press.down_ms, press.told_ms)
        lag_ms = self._line.lag_ms(stalled)
        first = press.down_ms - (lag_ms if stalled else 0)
        last = (press.up_ms if press.way == "info" or stalled else press.down_ms) + lag_ms
        for order_ms in {*self._orders, *self.module.turned}:
            sent = [arrives for ordered, arrives in self.module.obeyed if ordered == order_ms]
            if first <= max(sent, default=order_ms) and order_ms <= last:
                return True
        # The very moment of a switch; in a stall a key's beginning is not known better.
        last = press.up_ms + lag_ms if stalled else press.down_ms + 1
        return any(press.down_ms - 1 <= at_ms <= last for at_ms in self.module.switched)

    def _check_discards(self, account: Account) -> None:
        """No input that was still waiting has thrown away a key that it could have had."""
        told = {(press.down_ms, press.key): press.told_ms for press in self.presses}
        for ended in self.inputs:
            for step in self.steps[ended.first : ended.last]:
                if step.kind != "key" or ended.status in ("complete", "terminator"):
                    continue
                at_ms = told.get((step.at_ms, str(step.body["key"])), ended.at_ms)
                if at_ms < ended.at_ms - WAKES_MS:
                    account.problems.append(f"{ended} has lost {step.body}, told at {at_ms}")

    def _check_read(self, account: Account, groups: list[tuple[str, tuple[str, ...]]]) -> None:
        """What was read is what the steps say, in order, none twice."""
        last = Counter(verdicts[-1] for _, verdicts in groups)
        got = sum(map(len, self.read))
        if got + self.terminated != last["taken"] + last["released"]:
            account.problems.append(f"read {self.read}, the steps say {groups}")
        ends = ("taken", "released")
        rest = iter(p.key for p, (_, v) in zip(self.presses, groups, strict=False) if v[-1] in ends)
        if not all(key in rest for key in "".join(self.read)):
            account.problems.append(f"read {self.read}, out of order: {groups}")


DROP = KeyGuard()
WAKES_MS = 7  # the scenario's thread does, when there is news
DOUBT = [("blocked",), ("conflict",), ("buffered", "released"), ("buffered", "discarded")]


def same_keys(pressed: Sequence[str], told: Sequence[str]) -> bool:
    return len(pressed) == len(told) and all(
        other in (key, HIDDEN) for key, other in zip(pressed, told, strict=True)
    )


def groups_of(steps: Sequence[CallStep]) -> list[tuple[str, tuple[str, ...]]]:
    """Each key that the steps know, by its place, and all that became of it."""
    found: dict[tuple[int, str], list[str]] = {}
    for step in steps:
        if step.kind == "key":
            key = step.at_ms, str(step.body["key"])
            found.setdefault(key, []).append(str(step.body["verdict"]))
    return [(key, tuple(verdicts)) for (_, key), verdicts in sorted(found.items())]


def broken_prompts(steps: Sequence[CallStep]) -> int:
    """Prompts in which a key was read that went down in them while keys were blocked."""
    broken, order_ms, counted = 0, 0, True
    for step in steps:
        body: Any = step.body
        if step.kind == "state" and body["event"] == "play":
            order_ms, counted = step.at_ms, False
        read = step.kind == "key" and body["verdict"] in ("taken", "released")
        if read and step.state == "playing" and step.at_ms >= order_ms and not counted:
            broken, counted = broken + 1, True
    return broken


# -- plans


def random_round(luck: random.Random) -> Round:
    """Mostly what happens in calls, now and then what should not; keys at random and where it
    hurts."""
    rules = KeyGuard(
        luck.choice(("drop", "buffer")),
        open_before_end_s=luck.choice((0, 0.1, 0.5, 0.5, 0.5, 1.0, 10)),
        max_block_s=5.0,
        secret=luck.random() < 0.1,
    )
    length_ms = luck.choice((200, 700, 1600, luck.randint(300, 5000)))
    return Round(
        rules,
        length_ms,
        tuple(random_press(luck, length_ms) for _ in range(luck.choice((0, 2, 4, 6, 9)))),
        known_ms=luck.choice((0, 0, 0, luck.randint(1, length_ms))),
        told=luck.choices(("at once", "late", "never"), (94, 3, 3))[0],
        asks=luck.random() < 0.3,
        digits=luck.choice((1, 2, 4, 20)),
        first_ms=luck.choice((300, 1500)),
        between_ms=luck.choice((200, 800)),
        think_ms=luck.choice((0, 1, 30, 200, 700)),
    )


EDGES_MS = (-600, -500, -400, -100, -40, -20, -5, -1, 0, 1, 5, 20, 40, 100)


def random_press(luck: random.Random, length_ms: int) -> Planned:
    anchor: Anchor = luck.choice(("order", "place", "end", "input_over", "next"))
    delta_ms = luck.choice((luck.choice(EDGES_MS), luck.randint(-300, length_ms)))
    way: Way = luck.choice(("rfc4733", "rfc4733", "info"))
    return Planned(anchor, delta_ms, luck.randint(40, 200), way, luck.random() < 0.12)


def simulate(prompts: int, seed: int) -> Account:
    """Calls of a few prompts each, so many in all."""
    luck, whole = random.Random(seed), Account()
    while whole.prompts < prompts:
        rounds = [random_round(luck) for _ in range(luck.randint(1, 6))]
        whole.add(SimulatedTalk(rounds, luck.randrange(2**32)).run())
    return whole
