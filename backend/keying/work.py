"""What the machine of keys does in a step: the block, and the keys. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from backend.keying import events as ev
from backend.keying.rules import KeyGuard
from backend.keying.state import (
    FILE_MS,
    MAX_KEPT,
    MAX_RULED,
    PAUSE_MS,
    UNKNOWN_MS,
    State,
    StateName,
)

DRIFT_MS = 500  # the module's limit is moved when the prompt's end has moved by more
UNKNOWN_DRIFT_MS = 10_000
NEAR_MS = 1000  # to the opening's place: a block renewed now might come after it


class Work:
    """One step under way: the state as it becomes, and what is to be done."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.actions: list[ev.Action] = []

    def set(self, **changes: object) -> None:
        self.state = replace(self.state, **cast("dict[str, Any]", changes))

    def do(self, *actions: ev.Action) -> None:
        self.actions.extend(actions)

    # The block

    def expect(self, now_ms: int, more_ms: int = 0) -> None:
        """When the prompt's end is due."""
        s = self.state
        if s.play is None and s.length_ms is None:
            left_ms = FILE_MS
        elif s.length_ms is None or not s.last:
            left_ms = UNKNOWN_MS + (s.length_ms or 0)
        else:
            left_ms = max(s.length_ms - s.played_ms, 0) + more_ms
        if s.left_ms is not None:
            self.set(left_ms=left_ms, due_ms=now_ms + left_ms + PAUSE_MS)
        else:
            self.set(due_ms=now_ms + left_ms)

    def rule(self, rules: KeyGuard | None, at_ms: int) -> None:
        """Other rules hold from now on."""
        before = self.state.rules
        if before is not None and rules != before:
            self.set(ruled=(*self.state.ruled, (at_ms, before))[-MAX_RULED:])
        self.set(rules=rules)

    def close(self, name: StateName, event: str, rules: KeyGuard, now_ms: int, at_ms: int) -> None:
        """Keys are blocked from now on."""
        s = self.state
        self.changed(event, at_ms, to=name)
        if not s.blocks:
            self.set(closed_at_ms=at_ms, in_force_at_ms=None)
        self.rule(rules, at_ms)
        self.set(opening=None, awaited=None, blocks_from=self.state.guards)
        if name == "processing":
            self.set(limit_ms=now_ms + rules.max_block_ms)
        self.renew(now_ms)
        if self.state.block is not None and self.state.module == "able":
            self.set(awaited=(self.state.block, now_ms))
        elif self.state.in_force_at_ms is None:
            self.set(in_force_at_ms=at_ms)

    def renew(self, now_ms: int) -> None:
        """The module's block, with the limit that holds now."""
        s = self.state
        ends_ms = s.block_ends_ms
        if ends_ms is None or s.rules is None:
            return
        mode: ev.Mode = "buffer" if s.rules.policy == "buffer" else "block"
        name = self.guard(mode, limit_ms=max(ends_ms - now_ms, 1))
        self.set(block=name, block_told=False, told_limit_ms=ends_ms)

    def follow(self, now_ms: int) -> None:
        """The module's limit moves with the prompt's end."""
        s = self.state
        if s.name != "playing" or s.rules is None:
            return
        drift_ms = s.due_ms + s.rules.max_block_ms - s.told_limit_ms
        exact = s.last and s.length_ms is not None
        if drift_ms < 0 and s.opening is not None and s.opening[1] - s.played_ms < NEAR_MS:
            return  # the place ends the block before any limit
        if abs(drift_ms) > (DRIFT_MS if exact else UNKNOWN_DRIFT_MS):
            self.renew(now_ms)

    def place(self) -> None:
        """Order the opening for its place in the prompt."""
        s = self.state
        if s.rules is None or s.play is None or s.length_ms is None or not s.last:
            return
        at_ms = max(s.length_ms - s.rules.open_before_ms, 0)
        name = self.guard(self.open_mode, play=s.play, place_ms=at_ms)
        if name is not None:
            self.set(opening=(name, at_ms))

    def open(
        self, event: str, at_ms: int, *, obeyed: bool = False, there: bool = False,
        error_ms: int | None = None,
    ) -> None:  # fmt: skip
        """Keys are taken from now on. ``obeyed``: the module has opened already. ``there``: it must
        have, at the place that it was told, and the news is on its way."""
        self.changed(event, at_ms, to="waiting_input", error_ms=error_ms)
        self.set(open_at_ms=at_ms, opened_there=obeyed or there)
        if obeyed:
            self.set(mode=self.open_mode)
        else:
            self.guard(self.open_mode)

    @property
    def open_mode(self) -> ev.Mode:
        """Secret keys never come into Asterisk, where others could read them: they are told to us
        and kept from it."""
        return "buffer" if self.state.rules is not None and self.state.rules.secret else "pass"

    def turn_off(self, event: str, now_ms: int, at_ms: int) -> None:
        if self.state.name == "off":
            return
        self.changed(event, at_ms, to="off")
        self.guard("off")
        self.rule(None, at_ms)
        self.set(under_way=False, play=None, awaited=None, opening=None, open_at_ms=at_ms)
        self.release(now_ms)

    def guard(
        self, mode: ev.Mode, *, play: str | None = None, place_ms: int | None = None,
        limit_ms: int | None = None,
    ) -> str | None:  # fmt: skip
        """Tell the module, where there is one; the guard's name."""
        s = self.state
        if play is None:
            self.set(mode=mode)
        if s.module != "able":
            return None
        name = f"g{s.guards + 1}"
        self.set(guards=s.guards + 1)
        self.do(ev.SetGuard(name, mode, play, place_ms, limit_ms))
        return name

    def changed(
        self, event: str, at_ms: int | None, *, to: StateName | None = None,
        took_ms: int | None = None, error_ms: int | None = None, play: str | None = None,
    ) -> None:  # fmt: skip
        before = self.state.name
        play = play or self.state.play
        if to is not None:
            self.set(name=to)
        self.do(ev.Changed(before, event, self.state.name, at_ms, play, took_ms, error_ms))

    # Keys

    def hold(self, key: ev.HeldKey) -> None:
        if len(self.state.held) == MAX_KEPT:
            self.judged(key, "lost")
            return
        self.set(held=(*self.state.held, replace(key, ahead=True)))
        self.judged(key, "buffered")

    def release(self, now_ms: int) -> None:
        """What was typed ahead can be read; the time between keys counts from now."""
        held = self.state.held
        if held:
            self.set(held=())
        for key in held:
            self.let_read(replace(key, pressed_ms=now_ms))

    def let_read(self, key: ev.HeldKey) -> None:
        readable = self.state.readable
        if len(readable) == MAX_KEPT:
            self.judged(readable[0], "lost")
            readable = readable[1:]
        self.set(readable=(*readable, key))
        self.do(ev.Readable(key))

    def begin_count(self, now_ms: int) -> None:
        """Nobody waited before: the time between keys counts from now."""
        readable = self.state.readable
        self.set(readable=tuple(replace(key, pressed_ms=now_ms) for key in readable))

    def judged(self, key: ev.HeldKey, verdict: ev.Verdict, *, by_backend: bool = False) -> None:
        if key.guarded:
            self.do(ev.KeyJudged(key, verdict, by_backend))

    def discard_readable(self) -> None:
        keys = self.state.readable
        self.set(readable=())
        for key in keys:
            self.judged(key, "discarded")

    def alarm(self, alarm: ev.Alarm, why: str) -> None:
        self.do(ev.Raised(alarm, self.state.play, why))
