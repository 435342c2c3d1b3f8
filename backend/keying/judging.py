"""What becomes of a key, by the state at its own time. Pure.

The module's word is exact for the moment in which a key went down: "passed" means that no block was
in force then. Its place in the audio is compared with those of orders that the module has not
obeyed yet, or no more.
"""

from __future__ import annotations

from typing import Literal

from backend.keying.events import Pressed
from backend.keying.state import State

Judged = Literal["take", "block", "hold", "conflict"]


def judge(state: State, key: Pressed) -> Judged:
    """take: it can be read; block; hold: kept until input begins; conflict: it came at the moment
    of an order."""
    if state.rules is None:
        return "take"
    stopped = key.verdict == "blocked" or (key.verdict == "buffered" and _keeps(state))
    if not state.blocks:
        return _judge_open(state, key, stopped=stopped)
    if stopped:
        return _stop(state)
    if key.begun_ms < state.closed_at_ms:
        return "take"  # it was under way when the order came
    if state.in_force_at_ms is None or key.begun_ms < state.in_force_at_ms:
        return "conflict"
    return _stop(state)


def _judge_open(state: State, key: Pressed, *, stopped: bool) -> Judged:
    if stopped:  # the prompt was over before the module knew, or the key was under way
        return "take" if key.begun_ms >= state.open_at_ms else _stop(state)
    in_force_ms = state.in_force_at_ms
    if in_force_ms is not None and state.closed_at_ms <= key.begun_ms < in_force_ms:
        return "conflict"
    return "take"


def _stop(state: State) -> Judged:
    return "hold" if state.rules is not None and state.rules.policy == "buffer" else "block"


def _keeps(state: State) -> bool:
    """Whether a key that the module has kept was kept from a prompt. Secret ones are always kept
    from Asterisk: then it was the prompt's block only where that keeps, too."""
    assert state.rules is not None
    return not state.rules.secret or state.rules.policy == "buffer" or state.blocks
