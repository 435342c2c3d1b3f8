"""A module, its line to the backend, and time: what the real gate and machine of keys are tried on.

The module obeys when an order has come to it; its messages come late, in order, and sometimes in a
burst.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from backend.protocol import fork

FRAME_MS = 20
VERDICTS = {"block": "blocked", "buffer": "buffered"}


class World:
    """Time, in whole ms."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when_ms: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (max(when_ms, self.now_ms), self._count, action))

    def run(self, until: Callable[[], bool], then: Callable[[], None]) -> None:
        """Do what is due, and THEN after each, until UNTIL."""
        while not until():
            self.now_ms, _, action = heapq.heappop(self._due)
            action()
            then()

    def clock(self) -> float:
        return self.now_ms / 1000


class Line:
    """The way between module and backend: in order, with a delay of its own; in a stall nothing
    comes to the backend."""

    def __init__(self, world: World, luck: random.Random) -> None:
        self._world = world
        self._luck = luck
        self._down_ms = luck.choice((1, 3, 8, 25))
        self._stall = (0, 0)
        self._last = 0
        if luck.random() < 0.3:
            begin = luck.randint(500, 6000)
            self._stall = begin, begin + luck.randint(30, 400)

    def order_ms(self) -> int:
        """When what is sent now is with the module."""
        late_ms = self._luck.choice((1, 2, 4, 9, 9, 30, 80))
        self._last = max(self._last, self._world.now_ms + late_ms)
        return self._last

    def told_ms(self, at_ms: int) -> int:
        """When what the module sends at that moment is with the backend."""
        begin, end = self._stall
        return (end if begin <= at_ms < end else at_ms) + self._down_ms

    def position_ms(self) -> int:
        """How far the call's audio has come to the backend."""
        place = max(self._world.now_ms - self._down_ms, 0)
        begin, end = self._stall
        return begin if begin <= place < end else place

    def stalls(self, since_ms: int, until_ms: int) -> bool:
        """Whether a stall was in this time."""
        begin, end = self._stall
        return begin < end and since_ms <= end + self._down_ms and until_ms >= begin

    def lag_ms(self, stalled: bool) -> int:
        """By how much the backend's place may be behind."""
        return self._down_ms + (self._stall[1] - self._stall[0] if stalled else 0)


class Module:
    """DTMF_GUARD, the player and the fork, as docs/fork-protocol.md has them."""

    def __init__(self, world: World, line: Line, hear: Callable[[fork.FromModule], None]) -> None:
        self._world = world
        self._line = line
        self._hear = hear
        self.mode = "off"
        self._limit_ms: int | None = None
        self._limit_of = ""
        self._name = ""
        self._places: list[fork.Guard] = []
        self._play = ""
        self._began_ms = 0
        self._length_ms = 0
        self._on_end: Callable[[int], None] = lambda _: None
        self._told = True
        self._counted_ms = 0
        self.opened_since_order = True
        self.obeyed: list[tuple[int, int]] = []  # ordered, with the module
        self.turned: list[int] = []  # when another mode than before was ordered
        self._asked = "off"
        self.switched: list[int] = []

    # The backend's side of it: streaming.Link

    @property
    def start(self) -> fork.Start:
        return fork.Start("f", "PJSIP/a-1")

    @property
    def ready(self) -> bool:
        return True

    def run(self, action: Callable[[], None]) -> None:
        action()

    def send(self, *items: fork.ToModule | bytes) -> None:
        for item in items:
            if isinstance(item, fork.Guard):
                arrives_ms = self._line.order_ms()
                self.obeyed.append((self._world.now_ms, arrives_ms))
                if item.play is None and item.mode != self._asked:
                    self._asked = item.mode
                    self.turned.append(self._world.now_ms)
                self._world.at(arrives_ms, lambda item=item: self._order(item))  # type: ignore[misc]
            elif isinstance(item, fork.AskCounters):
                self._world.at(self._line.order_ms(), self._count)

    # What it does

    def mode_now(self) -> str:
        if self._limit_ms is not None and self._world.now_ms >= self._limit_ms:
            return "pass"
        return self.mode

    @property
    def blocks(self) -> bool:
        """Secret keys are kept from Asterisk though they are open: without a limit."""
        return self.mode_now() in VERDICTS and self._limit_ms is not None

    def play(self, play: str, length_ms: int, on_end: Callable[[int], None], told: bool) -> None:
        self._play, self._began_ms, self._length_ms = play, self._world.now_ms, length_ms
        self._on_end, self._told = on_end, told
        self._tell(fork.Started(play))
        self._world.at(self._began_ms + length_ms, lambda: self._end(play, "end"))

    def clear(self) -> None:
        play = self._play
        self._world.at(self._line.order_ms(), lambda: self._end(play, "clear"))

    @property
    def played_ms(self) -> int:
        """In whole frames: one is handed over at its beginning."""
        if not self._play:
            return 0
        frames = (self._world.now_ms - self._began_ms) // FRAME_MS + 1
        return min(frames * FRAME_MS, self._length_ms)

    def press(self, key: str, down_ms: int, verdict: str) -> None:
        """It is up."""
        at_ms = self._world.now_ms
        self._tell(fork.Digit(key, at_ms - down_ms, verdict, at_ms))

    def _end(self, play: str, how: str) -> None:
        if play != self._play:
            return
        played_ms = self._length_ms if how == "end" else self.played_ms
        self._play = ""
        self._places = [guard for guard in self._places if guard.play != play]
        self._counted_ms += played_ms
        if self._told:
            self._tell(fork.PlayOver(play, how, played_ms))
        self._on_end(played_ms)

    def _order(self, guard: fork.Guard) -> None:
        if guard.play is None:
            self._obey(guard, "asked", None)
            return
        if guard.play != self._play and self._play:
            return
        self._places.append(guard)
        place_ms = guard.at_ms or 0
        frame = max(-(-place_ms // FRAME_MS) - 1, 0)
        self._world.at(self._began_ms + frame * FRAME_MS, lambda: self._reach(guard))

    def _reach(self, guard: fork.Guard) -> None:
        if guard in self._places and guard.play == self._play:
            self._places.remove(guard)
            self._obey(guard, "place", guard.at_ms)

    def _obey(self, guard: fork.Guard, why: str, played_ms: int | None) -> None:
        self.mode, self._name = guard.mode, guard.name
        self.switched.append(self._world.now_ms)
        self._limit_ms = None if guard.limit_ms is None else self._world.now_ms + guard.limit_ms
        if why == "place":
            self.opened_since_order = True
        self._say(guard.name, guard.mode, why, guard.play, played_ms)
        if (limit_ms := self._limit_ms) is not None:
            self._world.at(limit_ms, lambda: self._limit(guard.name))

    def _limit(self, name: str) -> None:
        if name == self._name and self._limit_ms is not None:
            self.mode, self._limit_ms = "pass", None
            self._say(name, "pass", "limit", None, None)

    def _say(self, name: str, mode: str, why: str, play: str | None, ms: int | None) -> None:
        self._tell(fork.GuardSet(name, mode, why, self._world.now_ms, play, ms))

    def _count(self) -> None:
        self._tell(fork.Counters({"played_ms": self._counted_ms + self.played_ms}))

    def _tell(self, message: fork.FromModule) -> None:
        self._world.at(self._line.told_ms(self._world.now_ms), lambda: self._hear(message))
