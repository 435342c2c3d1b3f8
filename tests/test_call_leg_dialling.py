"""What AMI's events make of a leg that is dialled, in whichever order they come."""

from __future__ import annotations

import itertools

import pytest

from backend.call.leg_dialling import NO_CHANNEL_S, SECOND_EVENT_S, Dialling, LegStatus, status_of
from backend.model import Reason

CHANNEL = {"Event": "Newchannel", "Channel": "PJSIP/t-1"}
BUSY = {"Event": "Hangup", "Cause": "17"}
FAILURE = {"Event": "OriginateResponse", "Response": "Failure", "Reason": "0"}
SUCCESS = {"Event": "OriginateResponse", "Response": "Success", "Reason": "4"}


def after(*events: dict[str, str]) -> Dialling:
    """Told one a second, from 100 s on; the clock may begin with 0."""
    dialling = Dialling()
    for at, event in enumerate(events):
        dialling.told(event, 100.0 + at)
    return dialling


@pytest.mark.parametrize("events", [*itertools.permutations((CHANNEL, BUSY, FAILURE))])
def test_both_events_are_the_end_in_any_order(events: tuple[dict[str, str], ...]) -> None:
    dialling = after(*events)
    assert dialling.is_over(102.0)
    assert dialling.outcome() == (LegStatus.BUSY, Reason.BUSY)


@pytest.mark.parametrize("first", [BUSY, FAILURE])
def test_the_second_is_waited_for(first: dict[str, str]) -> None:
    dialling = after(CHANNEL, first)
    assert not dialling.is_over(101.0 + SECOND_EVENT_S)
    assert dialling.is_over(101.1 + SECOND_EVENT_S)


def test_the_wait_begins_with_the_first_also_at_the_clocks_zero() -> None:
    dialling = Dialling()
    dialling.told(CHANNEL, 0.0)
    dialling.told(BUSY, 0.0)
    dialling.told(BUSY, 4.0)
    assert dialling.is_over(SECOND_EVENT_S + 0.1)


def test_without_a_channel_no_hangup_will_come() -> None:
    dialling = after(FAILURE)
    assert not dialling.is_over(100.0 + NO_CHANNEL_S)
    assert dialling.is_over(100.1 + NO_CHANNEL_S)
    assert dialling.outcome() == (LegStatus.FAILED, Reason.OTHER)


def test_a_channel_that_is_told_of_behind_its_failure_is_one() -> None:
    dialling = Dialling()
    dialling.told(FAILURE, 100.0)
    assert not dialling.is_over(100.002)
    dialling.told(CHANNEL, 100.002)
    assert not dialling.is_over(101.0 + NO_CHANNEL_S)
    dialling.told(BUSY, 101.0)
    assert dialling.is_over(101.0)
    assert dialling.outcome() == (LegStatus.BUSY, Reason.BUSY)


def test_an_answer_is_no_end() -> None:
    assert not after(CHANNEL, SUCCESS).is_over(1000.0)
    dialling = after(CHANNEL, SUCCESS, BUSY)
    assert dialling.is_over(102.0)
    assert dialling.outcome() == (LegStatus.ENDED, None), "answered, and gone: not busy"


def test_what_cannot_be_read_is_not_known() -> None:
    dialling = after(CHANNEL, {"Event": "Hangup", "Cause": "much"}, {"Event": "Newstate"})
    assert (dialling.hung, dialling.cause) == (True, None)


def test_every_reason_has_its_status() -> None:
    assert status_of(Reason.NO_ANSWER) is LegStatus.NO_ANSWER
    assert status_of(Reason.ASTERISK_LOST) is LegStatus.FAILED
