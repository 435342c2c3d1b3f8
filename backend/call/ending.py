"""How a scenario's end is told: the value that it returned, or what it raised. Pure."""

from __future__ import annotations

import json
from typing import Any

from backend.errors import (
    Hangup,
    LegHangup,
    RecognitionUnavailable,
    ScenarioError,
    SynthesisUnavailable,
)
from backend.model import Outcome, Reason, TaskState

COMPLETED = Outcome(TaskState.DONE, Reason.COMPLETED)


def checked(result: Any) -> Any:
    """What a scenario returned. Raises ScenarioError when it is not JSON."""
    try:
        json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"the scenario's result is not JSON: {error}") from None
    return result


def outcome_of(
    raised: BaseException, *, by_robot: bool, lost: bool = False
) -> tuple[Outcome, str | None]:
    """Of a scenario that raised, and the task's ``error``. ``by_robot``: the scenario itself had
    hung up; ``lost``: the connection to Asterisk is gone."""
    if isinstance(raised, Hangup) and by_robot:
        return COMPLETED, None
    if isinstance(raised, Hangup) and not isinstance(raised, LegHangup):
        reason = Reason.ASTERISK_LOST if lost else Reason.CALLER_HANGUP
        return Outcome(TaskState.FAILED, reason), None
    if isinstance(raised, RecognitionUnavailable):
        reason = Reason.RECOGNITION_UNAVAILABLE
    elif isinstance(raised, SynthesisUnavailable):
        reason = Reason.SYNTHESIS_UNAVAILABLE
    else:
        reason = Reason.SCENARIO_ERROR
    return Outcome(TaskState.FAILED, reason), f"{type(raised).__name__}: {raised}"
