"""The machine of keys during prompts: ``step(state, event)`` gives the next state and actions.

    off ─▶ PLAYING (blocked) ─▶ WAITING_INPUT (taken) ─▶ PROCESSING (blocked) ─▶ PLAYING …

Pure. What is blocked is blocked twice: by the module (SetGuard), which is exact, and here, where
each key that is told is judged by the state at its own time. No state lasts without a limit in
which keys are blocked; each key that came while something was guarded ends in one verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from backend.keying import events as ev
from backend.keying.judging import judge
from backend.keying.rules import KeyGuard
from backend.keying.state import (
    CONFIRM_MS,
    FILE_MS,
    MAX_KEPT,
    PAUSE_MS,
    REPORT_MS,
    START_MS,
    UNKNOWN_MS,
    State,
    StateName,
)

DRIFT_MS = 500  # the module's limit is moved when the prompt's end has moved by more
UNKNOWN_DRIFT_MS = 10_000


def step(state: State, event: ev.Event) -> tuple[State, tuple[ev.Action, ...]]:
    """The next state, and what is to be done, in order. After a hangup nothing happens."""
    if state.over:
        return state, ()
    work = _Work(state)
    cast("Callable[[_Work, Any], None]", _HANDLERS[type(event)])(work, event)
    return work.state, tuple(work.actions)


class _Work:
    """One step under way."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.actions: list[ev.Action] = []

    def set(self, **changes: object) -> None:
        self.state = replace(self.state, **cast("dict[str, Any]", changes))

    def do(self, *actions: ev.Action) -> None:
        self.actions.extend(actions)

    # The prompt

    def play_ordered(self, e: ev.PlayOrdered) -> None:
        self.set(
            prompt=e.prompt, play=None, length_ms=None, last=False, played_ms=0, left_ms=None,
            asked=False, stopped=False, under_way=e.rules is not None,
        )  # fmt: skip
        if e.rules is None:
            self.turn_off("unguarded", e.now_ms, e.at_ms)
            return
        self.set(due_ms=e.now_ms + UNKNOWN_MS)
        self.close("playing", "play", e.rules, e.now_ms, e.at_ms)

    def stretch(self, e: ev.Stretch) -> None:
        s = self.state
        if not s.under_way or (s.play, s.length_ms, s.last) == (e.play, e.length_ms, e.last):
            return
        again = e.play == s.play and e.play is not None
        self.set(play=e.play, length_ms=e.length_ms, last=e.last, asked=False, left_ms=s.left_ms)
        self.set(played_ms=s.played_ms if again else 0, opening=None)
        self.expect(e.now_ms, START_MS if self.state.played_ms == 0 else 0)
        if self.state.name == "playing":
            self.renew(e.now_ms)
            self.place()

    def progress(self, e: ev.Progress) -> None:
        if self.state.under_way and e.play == self.state.play:
            self.set(played_ms=max(e.played_ms, self.state.played_ms))
            self.expect(e.now_ms)
            self.follow(e.now_ms)

    def paused(self, e: ev.Paused) -> None:
        s = self.state
        if not s.under_way or e.on is (s.left_ms is not None):
            return
        if e.on:
            left_ms = max(s.due_ms - e.now_ms, 0)
            self.set(left_ms=left_ms, due_ms=e.now_ms + left_ms + PAUSE_MS)
        else:
            self.set(left_ms=None, due_ms=e.now_ms + (s.left_ms or 0))
        if self.state.name == "playing":
            self.renew(e.now_ms)

    def asked(self, e: ev.Asked) -> None:
        """Who does not get on is not waited for."""
        s = self.state
        if not s.under_way or s.length_ms is None:
            return
        if e.played_ms >= s.length_ms:
            self.play_over(ev.PlayOver(e.now_ms, e.at_ms))
        elif e.played_ms > s.played_ms:
            self.set(played_ms=e.played_ms, asked=False)
            self.expect(e.now_ms)
            self.follow(e.now_ms)

    def play_over(self, e: ev.PlayOver) -> None:
        s = self.state
        if not s.under_way or (e.play is not None and (e.play != s.play or not s.last)):
            return
        self.set(under_way=False, left_ms=None)
        if s.name == "playing":
            self.open(e.how, e.at_ms)
        else:
            self.changed(e.how, e.at_ms)

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

    # The block

    def rule(self, rules: KeyGuard | None, at_ms: int) -> None:
        """Other rules hold from now on."""
        s = self.state
        if rules != s.rules:
            before = s.rules if s.rules is not None else rules
            self.set(rules=rules, rules_before=before, ruled_at_ms=at_ms)

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
        self.set(block=name, told_limit_ms=ends_ms)

    def follow(self, now_ms: int) -> None:
        """The module's limit moves with the prompt's end."""
        s = self.state
        if s.name != "playing" or s.rules is None:
            return
        drift_ms = s.due_ms + s.rules.max_block_ms - s.told_limit_ms
        exact = s.last and s.length_ms is not None
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
        self, event: str, at_ms: int, *, obeyed: bool = False, error_ms: int | None = None
    ) -> None:
        """Keys are taken from now on. ``obeyed``: the module has opened already."""
        self.changed(event, at_ms, to="waiting_input", error_ms=error_ms)
        self.set(open_at_ms=at_ms)
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

    # What the module says

    def guard_set(self, e: ev.GuardSet) -> None:
        s = self.state
        if s.awaited is not None and e.name == s.awaited[0]:
            self.set(awaited=None)
            if s.blocks and s.in_force_at_ms is None:
                self.set(in_force_at_ms=e.at_ms)
            self.changed("in_force", e.at_ms, took_ms=e.now_ms - s.awaited[1])
        if e.why == "place" and s.opening is not None and e.name == s.opening[0]:
            self.set(opening=None)
            error_ms = None if e.played_ms is None else e.played_ms - s.opening[1]
            # A block that was renewed meanwhile comes in force after it: then it is opened again.
            last = s.block is None or _number(s.block) < _number(e.name)
            if s.name == "playing":
                self.open("opened", e.at_ms, obeyed=last, error_ms=error_ms)
            else:
                self.changed("opened", e.at_ms, error_ms=error_ms, play=e.play)
        if e.why == "limit" and s.blocks and _number(e.name) > s.blocks_from:
            # Told late, perhaps of a block that was renewed meanwhile: keys were open all the same.
            self.alarm("block_limit", "the module opened the keys: its limit was over")
            self.open("limit", e.at_ms, obeyed=e.name == s.block and self.open_mode == "pass")

    def refused(self, e: ev.Refused) -> None:
        s = self.state
        if s.module != "able":
            return
        self.set(module="refused", awaited=None, opening=None, block=None)
        if s.blocks and s.in_force_at_ms is None:
            self.set(in_force_at_ms=s.closed_at_ms)
        self.alarm("guard_refused", e.why)

    def linked(self, e: ev.Linked) -> None:
        """A fork that comes (back) is told anew what holds."""
        s = self.state
        if not e.able or s.module == "refused":
            self.set(module=s.module if s.module == "refused" else "none", awaited=None)
            return
        self.set(module="able")
        if s.blocks:
            self.renew(e.now_ms)
            if self.state.block is not None:
                self.set(awaited=(self.state.block, e.now_ms))
            if s.name == "playing":
                self.place()
        elif s.name == "waiting_input":
            self.guard(self.open_mode)

    # Keys

    def pressed(self, e: ev.Pressed) -> None:
        s, rules = self.state, self.state.rules_at(e.begun_ms)
        key = ev.HeldKey(
            e.key, e.now_ms, e.begun_ms, e.at_ms, e.duration_ms,
            play=s.play if s.under_way else None,
            hidden=any(r is not None and r.secret for r in (rules, s.rules)),
            guarded=rules is not None,
        )  # fmt: skip
        judged = judge(s, e)
        needless, counts = s.needless, judged in ("take", "hold")
        self.set(needless=None)
        if counts and needless is not None and needless[0] == e.key and e.now_ms <= needless[1]:
            self.do(ev.Needless(key))
            self.judged(key, "discarded")
        elif judged == "take" and e.begun_ms < s.surplus_before_ms:
            self.judged(key, "discarded")  # as if it had been told before the input was over
        elif judged == "take":
            self.release(e.now_ms)
            self.let_read(key)
        elif judged == "conflict":
            self.do(
                ev.Conflict(
                    key,
                    "processing" if s.name == "processing" else "play",
                    e.begun_ms - s.closed_at_ms,
                )
            )
            if s.rules is not None and s.rules.policy == "buffer":
                self.hold(key)
            else:
                self.judged(key, "conflict")
        elif judged == "hold":
            self.hold(key)
            if not self.state.blocks and not self.state.under_way:
                self.release(e.now_ms)  # it was told late: input has begun meanwhile
        else:
            self.judged(key, "blocked", by_backend=e.verdict not in ("blocked", "buffered"))

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

    def judged(self, key: ev.HeldKey, verdict: ev.Verdict, *, by_backend: bool = False) -> None:
        if key.guarded:
            self.do(ev.KeyJudged(key, verdict, by_backend))

    def take(self, _: ev.Take) -> None:
        if self.state.readable:
            key, *rest = self.state.readable
            self.set(readable=tuple(rest))
            self.do(ev.Taken(key))
            self.judged(key, "released" if key.ahead else "taken")

    # Input

    def turn_begins(self, e: ev.TurnBegins) -> None:
        self.release(e.now_ms)
        if self.state.rules is not None:
            self.begin_count(e.now_ms)

    def begin_count(self, now_ms: int) -> None:
        """Nobody waited before: the time between keys counts from now."""
        readable = self.state.readable
        self.set(readable=tuple(replace(key, pressed_ms=now_ms) for key in readable))

    def input_wanted(self, e: ev.InputWanted) -> None:
        if e.rules is None:
            self.turn_off("unguarded", e.now_ms, e.at_ms)
            return
        self.rule(e.rules, e.at_ms)
        self.set(play=None)
        if self.state.name != "waiting_input":
            self.open("input", e.at_ms)
        else:
            self.changed("input", e.at_ms)
            if self.state.mode != self.open_mode:
                self.guard(self.open_mode)
        self.release(e.now_ms)
        self.begin_count(e.now_ms)

    def input_over(self, e: ev.InputOver) -> None:
        s = self.state
        if e.needless is not None:
            if not s.readable:
                self.set(needless=(e.needless, e.now_ms + e.needless_ms))
            elif s.readable[0].key == e.needless:
                self.set(readable=s.readable[1:])
                self.judged(s.readable[0], "discarded")
        if s.rules is not None and s.rules.policy == "drop":
            self.discard_readable()
            if e.how in ("digits", "speech"):
                self.set(surplus_before_ms=e.at_ms)
        self.set(under_way=False, play=None)
        if e.rules is None:
            self.turn_off(e.how, e.now_ms, e.at_ms)
        else:
            self.close("processing", e.how, e.rules, e.now_ms, e.at_ms)

    def discard_readable(self) -> None:
        keys = self.state.readable
        self.set(readable=())
        for key in keys:
            self.judged(key, "discarded")

    # Other ends

    def opened(self, e: ev.Opened) -> None:
        if self.state.name == "off":
            return
        self.changed("other", e.at_ms, to="waiting_input")
        self.set(open_at_ms=e.at_ms)
        self.guard("pass")

    def off(self, e: ev.Off) -> None:
        self.turn_off("off", e.now_ms, e.at_ms)

    def tick(self, e: ev.Tick) -> None:
        s = self.state
        if s.rules is None:
            return
        if s.awaited is not None and e.now_ms >= s.awaited[1] + CONFIRM_MS:
            self.refused(ev.Refused(e.now_ms, f"no answer within {CONFIRM_MS / 1000:g} s"))
        if s.name == "processing" and e.now_ms >= s.limit_ms:
            self.alarm("block_limit", "no prompt has followed the input: keys are open again")
            self.open("limit", e.at_ms)
        if not s.under_way:
            return
        if s.may_ask and e.now_ms >= s.due_ms + REPORT_MS:
            self.set(asked=True)
            self.alarm("no_report", "the prompt's end was not told in time: it is asked for")
            self.do(ev.AskOver())
        if e.now_ms >= s.due_ms + s.rules.max_block_ms:
            self.overrun(e)

    def overrun(self, e: ev.Tick) -> None:
        if self.state.name == "playing":
            self.alarm("block_limit", "the prompt goes on beyond its end: keys are open again")
            self.open("limit", e.at_ms)
        if not self.state.stopped:
            self.alarm("overrun", "the prompt goes on beyond its end: it is stopped")
        self.set(stopped=True)
        self.do(ev.StopPlay())  # again and again: one may be swallowed

    def hang_up(self, e: ev.HangUp) -> None:
        self.discard_readable()
        for key in self.state.held:
            self.judged(key, "discarded")
        self.set(held=(), under_way=False, awaited=None, opening=None)
        if self.state.name != "off":
            self.changed("hangup", e.at_ms, to="off")
        self.set(rules=None, over=True)

    def alarm(self, alarm: ev.Alarm, why: str) -> None:
        self.do(ev.Raised(alarm, self.state.play, why))


def _number(name: str) -> int:
    """Of a guard, by its name."""
    return int(name[1:]) if name[1:].isdecimal() else 0


_HANDLERS: dict[type[ev.Event], Callable[..., None]] = {
    ev.PlayOrdered: _Work.play_ordered,
    ev.Stretch: _Work.stretch,
    ev.Progress: _Work.progress,
    ev.Paused: _Work.paused,
    ev.Asked: _Work.asked,
    ev.PlayOver: _Work.play_over,
    ev.GuardSet: _Work.guard_set,
    ev.Refused: _Work.refused,
    ev.Linked: _Work.linked,
    ev.Pressed: _Work.pressed,
    ev.TurnBegins: _Work.turn_begins,
    ev.InputWanted: _Work.input_wanted,
    ev.InputOver: _Work.input_over,
    ev.Take: _Work.take,
    ev.Opened: _Work.opened,
    ev.Off: _Work.off,
    ev.Tick: _Work.tick,
    ev.HangUp: _Work.hang_up,
}
