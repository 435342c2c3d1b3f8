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
from backend.keying.state import (
    CONFIRM_MS,
    PAUSE_MS,
    REPORT_MS,
    START_MS,
    UNKNOWN_MS,
    State,
)
from backend.keying.work import Work


def step(state: State, event: ev.Event) -> tuple[State, tuple[ev.Action, ...]]:
    """The next state, and what is to be done, in order. After a hangup nothing happens."""
    if state.over:
        return state, ()
    work = _Step(state)
    cast("Callable[[_Step, Any], None]", _HANDLERS[type(event)])(work, event)
    return work.state, tuple(work.actions)


class _Step(Work):
    """One step under way: a method for each event."""

    # The prompt

    def play_ordered(self, e: ev.PlayOrdered) -> None:
        s = self.state
        self.set(
            prompt=e.prompt, play=None, length_ms=None, last=False, played_ms=0, left_ms=None,
            asked=False, stopped=False, under_way=e.rules is not None,
        )  # fmt: skip
        if s.rules is not None and s.rules.secret:
            self.set(secret_to_ms=e.at_ms)
        if e.rules is None:
            self.turn_off("unguarded", e.now_ms, e.at_ms)
            return
        self.set(due_ms=e.now_ms + UNKNOWN_MS)
        self.close("playing", "play", e.rules, e.now_ms, e.at_ms)

    def stretch(self, e: ev.Stretch) -> None:
        s = self.state
        again = e.play == s.play and e.play is not None
        if not s.under_way or (again and (s.length_ms, s.last) == (e.length_ms, e.last)):
            return
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
            there = e.how == "played" and s.opening is not None and s.block_told
            self.open(e.how, e.at_ms, there=there)
        else:
            self.changed(e.how, e.at_ms)

    # What the module says

    def guard_set(self, e: ev.GuardSet) -> None:
        s = self.state
        # A guard that another has replaced is not told of: that one's word counts for both.
        if s.awaited is not None and _number(e.name) >= _number(s.awaited[0]):
            self.set(awaited=None)
            if s.blocks and s.in_force_at_ms is None:
                self.set(in_force_at_ms=e.at_ms)
            if e.why == "asked":
                self.changed("in_force", e.at_ms, took_ms=e.now_ms - s.awaited[1])
        if e.why == "asked" and e.name == s.block:
            self.set(block_told=True)
        if e.why == "place" and s.opening is not None and e.name == s.opening[0]:
            self.set(opening=None)
            error_ms = None if e.played_ms is None else e.played_ms - s.opening[1]
            if s.name == "playing":
                # A block that was renewed at this moment would stay.
                self.open("opened", e.at_ms, obeyed=s.block_told, error_ms=error_ms)
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
            hidden=e.begun_ms < s.secret_to_ms
            or any(r is not None and r.secret for r in (rules, s.rules)),
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
            secret = e.rules.secret or (s.rules is not None and s.rules.secret)
            rules = replace(e.rules, secret=secret)  # what is typed behind it may be of it
            self.close("processing", e.how, rules, e.now_ms, e.at_ms)

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


def _number(name: str) -> int:
    """Of a guard, by its name."""
    return int(name[1:]) if name[1:].isdecimal() else 0


_HANDLERS: dict[type[ev.Event], Callable[..., None]] = {
    ev.PlayOrdered: _Step.play_ordered,
    ev.Stretch: _Step.stretch,
    ev.Progress: _Step.progress,
    ev.Paused: _Step.paused,
    ev.Asked: _Step.asked,
    ev.PlayOver: _Step.play_over,
    ev.GuardSet: _Step.guard_set,
    ev.Refused: _Step.refused,
    ev.Linked: _Step.linked,
    ev.Pressed: _Step.pressed,
    ev.TurnBegins: _Step.turn_begins,
    ev.InputWanted: _Step.input_wanted,
    ev.InputOver: _Step.input_over,
    ev.Take: _Step.take,
    ev.Opened: _Step.opened,
    ev.Off: _Step.off,
    ev.Tick: _Step.tick,
    ev.HangUp: _Step.hang_up,
}
