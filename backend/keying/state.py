"""The state of the machine of keys, and its limits. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.keying.events import HeldKey, Mode
from backend.keying.rules import KeyGuard

MAX_KEPT = 64  # keys that nobody has read
MAX_RULED = 8  # changes of the rules while a key is held
UNKNOWN_MS = 30_000  # without a sign of life a prompt of unknown length is expected to end
FILE_MS = 600_000  # a file that Asterisk plays tells nothing of itself: a prompt's greatest length
START_MS = 1_000  # from the order to the first sample
PAUSE_MS = 15_000  # a pause is no longer than this (call.speaker)
REPORT_MS = 1_000  # a prompt's end is told within this, or asked for
CONFIRM_MS = 2_000  # a module says within this that a guard is in force, or it knows none

StateName = Literal["off", "playing", "waiting_input", "processing"]


@dataclass(frozen=True, slots=True)
class State:
    """``play`` … ``asked``: the prompt under way. ``closed_at_ms``: place of the order to block;
    ``in_force_at_ms``: where the module has obeyed, None: not yet. ``ruled``: which rules held
    until where, before ``rules``. ``module``: whether there is one to be told; "refused": it does
    not guard. ``awaited``: a block that was ordered and not confirmed, and when;
    ``opening``: the one that was ordered for a place, and the place. ``surplus_before_ms``: what
    went down before was meant for an input that has its answer."""

    name: StateName = "off"
    rules: KeyGuard | None = None
    prompt: int = 0
    under_way: bool = False
    play: str | None = None
    length_ms: int | None = None
    last: bool = False
    played_ms: int = 0
    due_ms: int = 0  # its end is expected then, now_ms
    left_ms: int | None = None  # it is paused, and so much of it was left
    asked: bool = False
    stopped: bool = False
    closed_at_ms: int = 0
    in_force_at_ms: int | None = None
    open_at_ms: int = 0
    opened_there: bool = False  # by the module itself: what it has stopped went down before
    ruled: tuple[tuple[int, KeyGuard], ...] = ()
    secret_to_ms: int = 0  # keys that went down before are told by nobody
    limit_ms: int = 0  # of "processing", now_ms
    module: Literal["none", "able", "refused"] = "none"
    guards: int = 0
    block: str | None = None  # the name of the last block that was ordered
    block_told: bool = False  # it is in force
    blocks_from: int = 0  # this block's guards have higher numbers
    mode: Mode = "off"  # the last one that was ordered for at once
    told_limit_ms: int = 0  # the module's limit, now_ms
    awaited: tuple[str, int] | None = None
    opening: tuple[str, int] | None = None
    held: tuple[HeldKey, ...] = ()
    readable: tuple[HeldKey, ...] = ()
    needless: tuple[str, int] | None = None
    surplus_before_ms: int = 0
    over: bool = False

    def rules_at(self, place_ms: int) -> KeyGuard | None:
        """The rules that held at this place of the audio, not long ago."""
        return next((rules for until, rules in self.ruled if place_ms < until), self.rules)

    @property
    def blocks(self) -> bool:
        return self.name in ("playing", "processing")

    @property
    def block_ends_ms(self) -> int | None:
        """When a block ends at the latest, now_ms; None: nothing is blocked."""
        if self.rules is None or not self.blocks:
            return None
        return self.due_ms + self.rules.max_block_ms if self.name == "playing" else self.limit_ms

    @property
    def tick_due_ms(self) -> int | None:
        """When a tick would do something; None: never."""
        if self.over or self.rules is None:
            return None
        dues = [self.awaited[1] + CONFIRM_MS] if self.awaited is not None else []
        if self.name == "processing":
            dues.append(self.limit_ms)
        if self.under_way:
            dues.append(self.due_ms + self.rules.max_block_ms)
            if self.may_ask:
                dues.append(self.due_ms + REPORT_MS)
        return min(dues, default=None)

    @property
    def may_ask(self) -> bool:
        """Its end can be told, and has not been asked for."""
        known = self.play is not None and self.last and self.length_ms is not None
        return known and self.left_ms is None and not self.asked
