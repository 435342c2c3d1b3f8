"""How a tried call ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backend.model import Outcome


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, as the task would say it: the outcome, the scenario's value, and what it
    raised (``error`` as text, ``raised`` itself)."""

    outcome: Outcome
    result: Any = None
    error: str | None = None
    raised: BaseException | None = None
