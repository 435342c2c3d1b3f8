"""A scenario's wish to keep keys from prompts."""

from __future__ import annotations

from typing import Literal

from backend.errors import BadRequest
from backend.keying.rules import KeyGuard

# Of one prompt: its own rules, none, or what ``Call.guard_keys`` has said.
Guarding = KeyGuard | None | Literal["call"]


def check_guard(name: str, value: object, *, call: bool = True) -> None:
    """Raises BadRequest for what is neither rules nor None nor, with ``call``, "call"."""
    if value is None or isinstance(value, KeyGuard) or (call and value == "call"):
        return
    raise BadRequest(name, f"{value!r:.80}: expected a KeyGuard, or None: not guarded")


__all__ = ["Guarding", "KeyGuard", "check_guard"]
