"""How a tried call ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backend.errors import Hangup, RecognitionUnavailable, SynthesisUnavailable
from backend.model import Outcome, Reason, TaskState


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, as the task would say it: the outcome, the scenario's value, and what it
    raised (``error`` as text, ``raised`` itself)."""

    outcome: Outcome
    result: Any = None
    error: str | None = None
    raised: BaseException | None = None


def settle(raised: BaseException, *, by_robot: bool) -> Ended:
    """The end of a scenario that raised, as runner._Session has it. ``by_robot``: the scenario
    itself had hung up."""
    if isinstance(raised, Hangup) and by_robot:
        return Ended(Outcome(TaskState.DONE, Reason.COMPLETED))
    if isinstance(raised, Hangup):
        return Ended(Outcome(TaskState.FAILED, Reason.CALLER_HANGUP), raised=raised)
    if isinstance(raised, RecognitionUnavailable):
        reason = Reason.RECOGNITION_UNAVAILABLE
    elif isinstance(raised, SynthesisUnavailable):
        reason = Reason.SYNTHESIS_UNAVAILABLE
    else:
        reason = Reason.SCENARIO_ERROR
    error = f"{type(raised).__name__}: {raised}"
    return Ended(Outcome(TaskState.FAILED, reason), error=error, raised=raised)
