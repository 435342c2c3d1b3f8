"""The machine of a turn: speech, keys, both, neither; deafness; cancelling."""

from __future__ import annotations

import pytest

from backend.call.keys import Digits, DigitsStatus
from backend.call.playback import Played, PlayEnd
from backend.call.turn import (
    MAX_UTTERANCE_S,
    STREAM_S,
    Heard,
    HearStatus,
    Sight,
    Turn,
    TurnRules,
)
from backend.errors import RecognitionUnavailable
from backend.model import Utterance, Word

YES = Utterance("caller", "yes", 100, 600, 0.9, "en-US", (Word("yes", 100, 600),))
PLAYED = Played(PlayEnd.COMPLETED, 1000)
QUIET = Sight()
SPEAKS = Sight(speaking=True)
OWED = Sight(owed_s=0.1)


def turn(*, digits: Digits | None = None, speech: bool = True, owes: bool = True) -> Turn:
    """One that began at 0, and whose prompt was over at 1; 10 s are waited for."""
    machine = Turn(TurnRules(10, speech, digits, recognition_s=5, owes=owes), 0)
    machine.prompt_over(PLAYED, 1)
    return machine


def test_what_is_said_ends_it() -> None:
    machine = turn()
    assert machine.look(QUIET, 2) is None
    machine.said(YES)
    assert machine.look(QUIET, 2) == Heard(
        HearStatus.RECOGNIZED, "yes", 0.9, "en-US", 100, 600, YES.words, PLAYED
    )


def test_nothing_is_a_timeout_counted_from_the_prompts_end() -> None:
    machine = turn()
    assert machine.look(QUIET, 10.9) is None
    assert machine.look(QUIET, 11) == Heard(HearStatus.TIMEOUT, prompt=PLAYED)


def test_while_the_prompt_plays_time_does_not_count() -> None:
    machine = Turn(TurnRules(1), 0)
    assert machine.look(QUIET, 500) is None
    machine.prompt_over(None, 500)
    assert machine.look(QUIET, 500.9) is None
    assert machine.look(QUIET, 501) is not None


@pytest.mark.parametrize("sight", [SPEAKS, OWED])
def test_speech_that_began_in_time_may_end_later(sight: Sight) -> None:
    machine = turn()
    assert machine.look(sight, 11) is None
    machine.said(YES)
    assert machine.look(sight, 11) is not None


def test_text_that_is_owed_for_too_long_is_no_text() -> None:
    assert turn().look(Sight(owed_s=5.0), 3) is None
    with pytest.raises(RecognitionUnavailable, match="no result within 5 s"):
        turn().look(Sight(owed_s=5.1), 3)
    assert turn(owes=False).look(Sight(owed_s=5.1), 3) is None, "the service may find no end"


def test_recognition_that_has_ended() -> None:
    with pytest.raises(RecognitionUnavailable, match="stt is away"):
        turn().look(Sight(failure="stt is away"), 3)


def test_a_fork_that_does_not_come() -> None:
    away = Sight(connected=False)
    assert turn().look(away, STREAM_S) is None
    with pytest.raises(RecognitionUnavailable, match="app_audiofork"):
        turn().look(away, STREAM_S + 0.1)


def test_with_keys_it_goes_on_without_recognition_and_says_why() -> None:
    machine = turn(digits=Digits())
    assert machine.look(Sight(failure="stt is away"), 3) is None
    assert not machine.wants_speech
    heard = machine.look(Sight(failure="stt is away"), 11)
    assert heard is not None
    assert (heard.status, heard.error) == (HearStatus.TIMEOUT, "stt is away")
    other = turn(digits=Digits())
    other.look(Sight(failure="stt is away"), 3)
    other.key("7", 4)
    ended = other.look(Sight(failure="stt is away"), 4)
    assert ended is not None
    assert (ended.digits, ended.error) == ("7", "stt is away")


def test_keys_end_it() -> None:
    machine = turn(digits=Digits(max=2))
    machine.key("1", 2)
    assert machine.look(QUIET, 2) is None
    machine.key("2", 3)
    assert machine.look(QUIET, 3) == Heard(HearStatus.DIGITS, digits="12", prompt=PLAYED)
    assert machine.digits_status is DigitsStatus.COMPLETE


def test_speech_after_the_first_key_does_not_count_and_no_timeout_either() -> None:
    machine = turn(digits=Digits(max=2, between_s=20))
    machine.key("1", 2)
    machine.said(YES)
    assert machine.look(SPEAKS, 12) is None
    heard = machine.look(SPEAKS, 22)
    assert heard is not None
    assert (heard.status, heard.digits, heard.text) == (HearStatus.DIGITS, "1", "")


def test_speech_before_the_first_key_counts() -> None:
    machine = turn(digits=Digits())
    machine.said(YES)
    machine.key("1", 2)
    heard = machine.look(QUIET, 2)
    assert heard is not None
    assert (heard.status, heard.digits) == (HearStatus.RECOGNIZED, "")


def test_speech_and_keys_that_are_not_asked_for() -> None:
    machine = turn(speech=False, digits=Digits())
    machine.said(YES)
    assert machine.look(Sight(failure="stt is away", connected=False), 9) is None
    assert machine.look(SPEAKS, 11) is not None, "nobody waits for speech"
    machine = turn()
    machine.key("1", 2)
    assert machine.look(QUIET, 2) is None
    assert machine.digits_status is None


def test_the_first_reason_to_cancel_counts_but_not_more_than_an_answer() -> None:
    machine = turn()
    machine.cancel("one")
    machine.cancel("two")
    heard = machine.look(SPEAKS, 2)
    assert heard == Heard(HearStatus.CANCELLED, prompt=PLAYED, reason="one")
    machine = turn()
    machine.said(YES)
    machine.cancel("too late")
    heard = machine.look(QUIET, 2)
    assert heard is not None
    assert heard.recognized


def test_only_the_first_utterance_counts() -> None:
    machine = turn()
    machine.said(YES)
    machine.said(Utterance("caller", "no", 700, 900))
    heard = machine.look(QUIET, 2)
    assert heard is not None
    assert heard.text == "yes"


def test_an_endless_talker_is_cut_again_and_again() -> None:
    machine = turn()
    assert not machine.cut_due(SPEAKS, 5)
    assert not machine.cut_due(SPEAKS, 5 + MAX_UTTERANCE_S)
    assert machine.cut_due(SPEAKS, 5.1 + MAX_UTTERANCE_S)
    assert not machine.cut_due(SPEAKS, 6 + MAX_UTTERANCE_S)
    assert machine.cut_due(SPEAKS, 6 + 2 * MAX_UTTERANCE_S)
    assert not machine.cut_due(QUIET, 7 + 2 * MAX_UTTERANCE_S)
    assert not machine.cut_due(SPEAKS, 8 + 2 * MAX_UTTERANCE_S)
    assert not machine.cut_due(SPEAKS, 7 + 3 * MAX_UTTERANCE_S), "he had been silent"


def test_when_to_look_again() -> None:
    machine = turn(digits=Digits(max=3, between_s=4))
    assert machine.wait_s(2, 0.2) == 0.2
    assert machine.wait_s(10.9, 0.2) == pytest.approx(0.1)
    assert machine.wait_s(11.5, 0.2) == 0.2, "speech is awaited, not time"
    machine.key("1", 8)
    assert machine.wait_s(11.9, 0.2) == pytest.approx(0.1)


def test_a_key_that_comes_when_the_input_is_over_is_not_swallowed() -> None:
    """By the clock it is, though nobody has looked."""
    machine = turn(digits=Digits(4, between_s=2), speech=False)
    machine.key("1", 3)
    assert machine.wants_keys
    assert not machine.keys_over(4.9)
    assert machine.keys_over(5.1)
    assert not machine.wants_keys
    heard = machine.look(QUIET, 5.2)
    assert heard is not None
    assert heard.digits == "1"
