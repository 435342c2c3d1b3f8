"""How a prompt is guarded from keys. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.errors import BadRequest

Policy = Literal["drop", "buffer"]


@dataclass(frozen=True, slots=True)
class KeyGuard:
    """What becomes of keys that are pressed during a prompt.

    ``policy``: "drop": they are as if not pressed; "buffer": they are kept and delivered when input
    begins. ``open_before_end_s``: so long before the prompt's end keys count again, 0 to 10.
    ``max_block_s``: keys are blocked no longer than this past the prompt's expected end, and no
    longer than this between an input and the next prompt, 0.1 to 60. ``secret``: keys are stored
    and told as "•". Raises BadRequest.
    """

    policy: Policy = "drop"
    open_before_end_s: float = 0.5
    max_block_s: float = 5.0
    secret: bool = False

    def __post_init__(self) -> None:
        if self.policy not in ("drop", "buffer"):
            raise BadRequest("policy", f"{self.policy!r}: expected 'drop' or 'buffer'")
        _seconds("open_before_end_s", self.open_before_end_s, 0, 10)
        _seconds("max_block_s", self.max_block_s, 0.1, 60)
        if not isinstance(self.secret, bool):
            raise BadRequest("secret", f"{self.secret!r}: expected True or False")

    @property
    def open_before_ms(self) -> int:
        return round(self.open_before_end_s * 1000)

    @property
    def max_block_ms(self) -> int:
        return round(self.max_block_s * 1000)


def _seconds(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadRequest(name, f"{value!r}: expected seconds, {low:g} to {high:g}")
