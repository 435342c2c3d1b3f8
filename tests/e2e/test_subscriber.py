"""The subscriber of the lab: what each of its numbers does, and its two tapes of a call."""

from __future__ import annotations

import lab_sound
import pytest
from lab import Lab
from lab_ami import Ami
from lab_sound import Samples, Span, likeness, spans

from tests.e2e.plain_lab import heard, said


@pytest.fixture(scope="module")
def calls(lab: Lab, ami: Ami) -> dict[str, str]:
    """All behaviours at once, each in a prompt of 2.7 s and 5 s of nothing: number → id."""
    late = {"LAB_PROMPT": f"{lab.sounds}/late"}
    special = {
        "1000002": late,
        "1020002": late,
        "1100001": {"LAB_THEN": f"{lab.sounds}/prompt"},
    }
    codes = ("100", "101", "102", "103", "104", "105", "107", "108", "109", "111", "112", "113")
    numbers = [*(f"{code}0001" for code in codes), *special]
    return {
        number: ami.originate(number, "lab-play", {"LAB_STAY": "5", **special.get(number, {})})
        for number in numbers
    }


def word_is(lab: Lab, samples: Samples[int], span: Span, word: str) -> bool:
    return likeness(samples, lab_sound.read(lab.speech / f"{word}.wav"), span.start_ms) > 0.9


@pytest.mark.parametrize(
    ("number", "word"), [("1000001", "yes"), ("1000002", "yes"), ("1010001", "no")]
)
def test_answers_when_the_prompt_has_ended(
    lab: Lab, calls: dict[str, str], number: str, word: str
) -> None:
    prompt, speech = heard(lab, number), said(lab, number)
    (answer,) = spans(speech, gap_ms=300)
    assert len(spans(prompt)) == 2, "it waited for the end, not for the first pause"
    assert 650 < answer.start_ms - spans(prompt)[-1].end_ms < 1900
    assert word_is(lab, speech, answer, word)


@pytest.mark.parametrize(
    ("number", "words"), [("1020001", "over"), ("1020002", "over"), ("1130001", "long")]
)
def test_speaks_over_the_prompt(lab: Lab, calls: dict[str, str], number: str, words: str) -> None:
    prompt, speech = spans(heard(lab, number)), spans(said(lab, number))
    assert word_is(lab, said(lab, number), speech[0], words)
    assert speech[0].start_ms - prompt[0].start_ms == pytest.approx(1540, abs=60)
    assert speech[0].start_ms < prompt[-1].end_ms


def test_stays_silent_and_sends_all_the_while(lab: Lab, calls: dict[str, str]) -> None:
    speech = said(lab, "1030001")
    assert spans(speech) == []
    assert lab_sound.length_ms(speech) > 2700 + 5000 - 100


def test_presses_keys_after_the_prompt_and_in_it(ami: Ami, calls: dict[str, str]) -> None:
    for number, in_the_prompt in (("1040001", False), ("1120001", True)):
        mine = {"Uniqueid": calls[number]}
        ami.event("Hangup", 30, **mine)
        story = [event for event in ami.events if mine.items() <= event.items()]
        keys = [event["Digit"] for event in story if event["Event"] == "DTMFEnd"]
        assert keys == ["1", "2", "3"]
        first = next(at for at, event in enumerate(story) if event["Event"] == "DTMFEnd")
        prompt_over = next(
            at for at, event in enumerate(story) if event.get("Application") == "Wait"
        )
        assert (first < prompt_over) is in_the_prompt


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        ("1050001", "17"),
        ("1070001", "21"),
        pytest.param("1090001", "20", marks=pytest.mark.only_asterisk("16")),
        pytest.param("1090001", "19", marks=pytest.mark.only_asterisk("22")),
    ],
)
def test_is_not_reached(ami: Ami, calls: dict[str, str], number: str, cause: str) -> None:
    mine = {"Uniqueid": calls[number]}
    assert ami.event("OriginateResponse", 20, **mine)["Response"] == "Failure"
    assert ami.event("Hangup", 20, **mine)["Cause"] == cause


def test_rings_and_does_not_answer(ami: Ami) -> None:
    call = ami.originate("1060001", "lab-play", timeout_ms=700)
    ami.event("Newstate", Uniqueid=call, ChannelStateDesc="Ringing")
    response = ami.event("OriginateResponse", Uniqueid=call)
    assert (response["Response"], response["Reason"]) == ("Failure", "3")


def test_hangs_up_in_the_middle_of_the_prompt(lab: Lab, calls: dict[str, str]) -> None:
    prompt = heard(lab, "1080001")
    assert 900 < lab_sound.length_ms(prompt) - spans(prompt)[0].start_ms < 1300


def test_a_carriers_announcement_comes_before_the_answer(
    lab: Lab, ami: Ami, calls: dict[str, str]
) -> None:
    speech = said(lab, "1090001")
    assert word_is(lab, speech, spans(speech)[0], "unavailable")
    ami.event("Hangup", 20, Uniqueid=calls["1090001"])
    states = [
        e.get("ChannelStateDesc") for e in ami.events if e.get("Uniqueid") == calls["1090001"]
    ]
    assert "Up" not in states


def test_answers_several_prompts(lab: Lab, calls: dict[str, str]) -> None:
    prompt, speech = spans(heard(lab, "1100001")), said(lab, "1100001")
    first, second = spans(speech, gap_ms=300)
    assert word_is(lab, speech, first, "yes")
    assert word_is(lab, speech, second, "no")
    assert prompt[1].end_ms < first.start_ms < prompt[2].start_ms
    assert prompt[3].end_ms < second.start_ms


def test_the_silent_one_for_load_leaves_no_tapes(lab: Lab, ami: Ami, calls: dict[str, str]) -> None:
    ami.event("Hangup", 20, Uniqueid=calls["1110001"])
    assert not (lab.subscriber.home / "heard" / "1110001.wav").exists()


def test_an_unknown_number_does_not_exist(ami: Ami) -> None:
    call = ami.originate("9990001", "lab-play")
    assert ami.event("Hangup", Uniqueid=call)["Cause"] == "1"


# -- the two tapes of a call


def test_tapes_of_both_sides_are_in_step(lab: Lab, ami: Ami) -> None:
    """Number 119 sends back each packet as it comes: in both, tones stand at the same places."""
    ami.originate("1190001", "lab-play", {"LAB_STAY": "0"})
    ears, mouth = spans(heard(lab, "1190001")), spans(said(lab, "1190001"))
    assert len(ears) == len(mouth) == 2
    for one, other in zip(ears, mouth, strict=True):
        assert one.start_ms == pytest.approx(other.start_ms, abs=20)


def test_tapes_stay_in_step_while_one_side_sends_nothing(lab: Lab, ami: Ami) -> None:
    """For 2 s our PBX sends nothing, the subscriber goes on: the gap is on the tape, whole."""
    again = {"LAB_STAY": "2", "LAB_THEN": f"{lab.sounds}/prompt"}
    ami.originate("1030002", "lab-play", again)
    ears = heard(lab, "1030002")
    gap_ms = spans(ears)[2].start_ms - spans(ears)[1].end_ms
    assert gap_ms == pytest.approx(2000 + 300, abs=60)
    assert len(said(lab, "1030002")) == len(ears)
