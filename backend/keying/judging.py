"""What becomes of a key, by the state at its own time. Pure.

The module's word is exact for the moment in which a key went down: "passed" means that no block was
in force then, "blocked" and "buffered" that there was one, and which. Its place in the audio is
compared with those of orders that the module has not obeyed yet, or no more.
"""

from __future__ import annotations

from typing import Literal

from backend.keying.events import Pressed
from backend.keying.state import State

Judged = Literal["take", "block", "hold", "conflict"]


def judge(state: State, key: Pressed) -> Judged:
    """take: it can be read; block; hold: kept until input begins; conflict: it came at the moment
    of an order."""
    if state.rules_at(key.begun_ms) is None:
        return "take"
    if not state.blocks or key.begun_ms < state.closed_at_ms:
        return _judge_open(state, key)
    if _stopped(state, key):
        return _stop(state, key)
    if state.in_force_at_ms is None or key.begun_ms < state.in_force_at_ms:
        return "conflict"
    return _stop(state, key)


def _judge_open(state: State, key: Pressed) -> Judged:
    """Of a key that went down while keys were open, or before the block that holds now."""
    if _stopped(state, key):  # it was under way, or the prompt was over before the module knew
        late = not state.opened_there and key.begun_ms >= state.open_at_ms
        return "take" if late else _stop(state, key)
    in_force_ms = state.in_force_at_ms
    if in_force_ms is not None and state.closed_at_ms <= key.begun_ms < in_force_ms:
        return "conflict"
    kept = _ours(state, key) and _buffers(state, key)
    if kept and state.closed_at_ms <= key.begun_ms < state.open_at_ms:
        return "hold"
    return "take"


def _stopped(state: State, key: Pressed) -> bool:
    """Whether the module's block has stopped it. Secret keys are kept from Asterisk while they are
    open, too: of those that were kept it cannot tell."""
    return key.verdict == "blocked" or (key.verdict == "buffered" and not _ours(state, key))


def _ours(state: State, key: Pressed) -> bool:
    """Whether it was kept because it is secret, or may have been."""
    rules = state.rules_at(key.begun_ms)
    return key.verdict == "buffered" and rules is not None and rules.secret


def _stop(state: State, key: Pressed) -> Judged:
    return "hold" if _buffers(state, key) else "block"


def _buffers(state: State, key: Pressed) -> bool:
    rules = state.rules_at(key.begun_ms)
    return rules is not None and rules.policy == "buffer"
