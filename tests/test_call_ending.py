"""How a scenario's end is told."""

from __future__ import annotations

import math

import pytest

from backend.call.ending import COMPLETED, checked, outcome_of
from backend.errors import (
    BadRequest,
    CommandTimeout,
    Hangup,
    LegHangup,
    RecognitionUnavailable,
    ScenarioError,
    SynthesisUnavailable,
)
from backend.model import Outcome, Reason, TaskState


@pytest.mark.parametrize("result", [None, {"a": [1, 2.5, True, None, "текст"]}, [], "", (1, 2)])
def test_json_passes(result: object) -> None:
    assert checked(result) is result


@pytest.mark.parametrize("result", [{1, 2}, object(), math.nan, {"a": math.inf}, b"x"])
def test_what_is_not_json_is_an_error(result: object) -> None:
    with pytest.raises(ScenarioError, match="not JSON"):
        checked(result)


@pytest.mark.parametrize(
    ("raised", "reason", "error"),
    [
        (Hangup("gone"), Reason.CALLER_HANGUP, None),
        (RecognitionUnavailable("x"), Reason.RECOGNITION_UNAVAILABLE, "RecognitionUnavailable: x"),
        (SynthesisUnavailable("x"), Reason.SYNTHESIS_UNAVAILABLE, "SynthesisUnavailable: x"),
        (LegHangup("the leg is over"), Reason.SCENARIO_ERROR, "LegHangup: the leg is over"),
        (CommandTimeout("x"), Reason.SCENARIO_ERROR, "CommandTimeout: x"),
        (BadRequest("a", "b"), Reason.SCENARIO_ERROR, "BadRequest: a: b"),
        (KeyError("x"), Reason.SCENARIO_ERROR, "KeyError: 'x'"),
        (SystemExit(3), Reason.SCENARIO_ERROR, "SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("by_robot", [True, False])
def test_what_was_raised(
    raised: BaseException, reason: Reason, error: str | None, by_robot: bool
) -> None:
    own = by_robot and isinstance(raised, Hangup)
    expected = COMPLETED if own else Outcome(TaskState.FAILED, reason)
    assert outcome_of(raised, by_robot=by_robot) == (expected, None if own else error)


def test_a_lost_asterisk_is_no_callers_hangup() -> None:
    outcome, error = outcome_of(Hangup("gone"), by_robot=False, lost=True)
    assert (outcome.reason, error) == (Reason.ASTERISK_LOST, None)
