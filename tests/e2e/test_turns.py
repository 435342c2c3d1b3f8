"""Turns on a real Asterisk, with callers who cough, talk over the prompt, pause, press keys; proved
by what the subscriber heard, and by which words and keys came."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab_sound
import pytest
from stack import Stack

from tests.e2e.conftest import SHORT_TONE_MS, probing_stack

STEP_MS, STEP_HZ, STEPS = 500, 150, 12
STAIRS_MS = STEP_MS * STEPS
LOW_MS, LOW_HZ, HIGH_HZ = 700, 500, 1500
_suffix = itertools.count(1000)


def number(code: str) -> str:
    """A number of this behaviour that nobody dialled before."""
    return f"{code}{next(_suffix)}"


def pitch_of(step: int) -> int:
    return 500 + STEP_HZ * step


def stairs() -> array[int]:
    """Every half second has a pitch of its own: which part was heard can be told."""
    steps = (lab_sound.tone(STEP_MS, pitch_of(step)) for step in range(STEPS))
    return array("h", itertools.chain.from_iterable(steps))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("turns")
    with probing_stack(folder, asterisk) as stack:
        write_sounds(stack.lab.sounds)
        yield stack


def write_sounds(folder: Path) -> None:
    lab_sound.write(folder / "stairs.wav", stairs())
    lab_sound.write(folder / "tone-3s.wav", lab_sound.tone(3000))
    lab_sound.write(folder / "low.wav", lab_sound.tone(LOW_MS, LOW_HZ))
    lab_sound.write(folder / "high.wav", lab_sound.tone(LOW_MS, HIGH_HZ))


def turn(stack: Stack, code: str, scenario: str) -> tuple[dict[str, Any], array[int], array[int]]:
    """One call: its result, what the subscriber heard and what it said."""
    phone = number(code)
    task = stack.ended(stack.originate(phone, scenario=scenario)["id"], 90)
    assert task["state"] == "done", task
    heard, said = stack.lab.heard(phone), stack.lab.said(phone)
    return task["result"], lab_sound.read(heard), lab_sound.read(said)


def climbed(tape: array[int]) -> list[int]:
    """The steps of the stairs on the tape, each once, in the order in which they were heard. A
    step is one that was heard in two windows in a row: a late packet bends one."""
    found: list[int] = []
    last = None
    for span in lab_sound.spans(tape, gap_ms=100):
        for at_ms in range(round(span.start_ms), round(span.end_ms) - 50, 50):
            pitch = lab_sound.pitch_hz(tape, lab_sound.Span(at_ms, at_ms + 50))
            step = round((pitch - pitch_of(0)) / STEP_HZ)
            if step == last and abs(pitch - pitch_of(step)) < 40 and found[-1:] != [step]:
                found.append(step)
            last = step
    return found


def without_last(tape: array[int]) -> array[int]:
    """Without the short tone that the scenario plays after the turn."""
    spans = lab_sound.spans(tape, gap_ms=100)
    assert spans[-1].length_ms == pytest.approx(SHORT_TONE_MS, abs=60), spans
    return tape[: round(spans[-1].start_ms * 8) - 80]


@pytest.mark.parametrize("scenario", ["turn-words", "turn-words-file"])
@pytest.mark.parametrize("code", ["132", "133"], ids=["cough", "okay"])
def test_a_false_alarm_resumes_the_prompt_from_the_exact_place(
    stack: Stack, code: str, scenario: str
) -> None:
    result, heard, _ = turn(stack, code, scenario)
    assert (result["status"], result["end"], result["by"]) == ("timeout", "completed", None)
    prompt = without_last(heard)
    before, after = lab_sound.spans(prompt, gap_ms=100)
    assert before.length_ms + after.length_ms == pytest.approx(STAIRS_MS, abs=80)
    assert after.start_ms - before.end_ms > 100
    assert climbed(prompt) == list(range(STEPS)), "each step once, none left out"
    assert result["ms"] == pytest.approx(STAIRS_MS, abs=80)


@pytest.mark.parametrize("scenario", ["turn-words", "turn-words-file"])
def test_a_false_alarm_then_words(stack: Stack, scenario: str) -> None:
    """ "Uh-huh" is no answer; "no thank you" three seconds later is, and stops the prompt."""
    result, heard, said = turn(stack, "134", scenario)
    assert (result["status"], result["text"]) == ("recognized", "no thank you"), result
    assert (result["end"], result["by"]) == ("interrupted", "words")
    prompt = without_last(heard)
    first, second = lab_sound.spans(prompt, gap_ms=100)
    uh_huh, no = lab_sound.spans(said, gap_ms=500)
    assert -40 < first.end_ms - uh_huh.start_ms < 1000
    assert -40 < second.end_ms - no.start_ms < 1500
    steps = climbed(prompt)
    assert steps == list(range(len(steps)))
    assert result["ms"] == pytest.approx(first.length_ms + second.length_ms, abs=80)


def test_a_caller_who_talks_all_through_the_prompt_is_heard_as_a_whole(stack: Stack) -> None:
    result, heard, said = turn(stack, "135", "turn-off")
    assert (result["status"], result["end"]) == ("recognized", "completed"), result
    assert result["text"].startswith("wait a moment please")
    assert result["text"].endswith("let me say something first")
    (tone,) = lab_sound.spans(heard, gap_ms=200)
    (talk,) = lab_sound.spans(said, gap_ms=500)
    assert tone.length_ms == pytest.approx(3000, abs=60)
    assert talk.end_ms > tone.end_ms, "he goes on after it"


def test_words_stop_the_prompt_while_he_talks_on(stack: Stack) -> None:
    result, _, said = turn(stack, "135", "turn-long-tone")
    assert (result["status"], result["end"], result["by"]) == ("recognized", "interrupted", "words")
    assert result["text"].endswith("let me say something first")
    (talk,) = lab_sound.spans(said, gap_ms=500)
    assert result["ms"] < talk.end_ms, "before he has come to his end"


def test_a_caller_who_speaks_just_at_the_prompts_end(stack: Stack) -> None:
    for scenario in ("turn-voice", "turn-off"):
        result, heard, said = turn(stack, "130", scenario)
        assert (result["status"], result["text"]) == ("recognized", "yes"), result
        tone = lab_sound.spans(heard, gap_ms=200)[0]
        (yes,) = lab_sound.spans(said, gap_ms=500)
        assert yes.start_ms > 2000
        assert tone.end_ms < yes.end_ms + 500


def test_a_caller_who_pauses_is_heard_in_two_turns(stack: Stack) -> None:
    result, _, _ = turn(stack, "131", "turn-twice")
    assert [result["first"]["text"], result["second"]["text"]] == ["no", "thank you"], result


def test_a_patient_turn_hears_both_as_one(stack: Stack) -> None:
    result, _, _ = turn(stack, "131", "turn-patient")
    assert result["text"] == "no thank you", result


def test_a_cough_stops_the_prompt_where_any_voice_does(stack: Stack) -> None:
    result, heard, _ = turn(stack, "132", "turn-voice")
    assert (result["status"], result["end"], result["by"]) == ("timeout", "interrupted", "voice")
    (tone,) = lab_sound.spans(heard, gap_ms=200)
    assert tone.length_ms < 2600


# Keys


def test_keys_in_the_prompt_are_an_answer(stack: Stack) -> None:
    result, heard, _ = turn(stack, "136", "turn-digits")
    assert (result["status"], result["digits"]) == ("digits", "12"), result
    assert (result["end"], result["by"], result["after"]) == ("interrupted", "keys", "completed")
    tone, after = lab_sound.spans(heard, gap_ms=200)
    assert tone.length_ms < 3000
    assert after.length_ms == pytest.approx(SHORT_TONE_MS, abs=60)


def test_speech_after_the_first_key_does_not_count(stack: Stack) -> None:
    result, _, _ = turn(stack, "137", "turn-digits")
    assert (result["status"], result["digits"], result["text"]) == ("digits", "12", ""), result
    assert result["by"] == "keys"


def test_speech_before_the_first_key_counts(stack: Stack) -> None:
    result, _, _ = turn(stack, "138", "turn-digits")
    assert (result["status"], result["text"], result["digits"]) == ("recognized", "yes", ""), result
    assert result["by"] == "words"


def test_what_is_typed_ahead_is_the_next_readings(stack: Stack) -> None:
    result, heard, _ = turn(stack, "136", "read-digits")
    assert result["first"] == {
        "status": "complete",
        "digits": "1",
        "end": "interrupted",
        "ms": result["first"]["ms"],
        "by": "keys",
    }
    assert (result["second"]["status"], result["second"]["digits"]) == ("terminator", "2")
    assert lab_sound.spans(heard, gap_ms=200)[0].length_ms < 3000


def test_a_caller_who_stops_in_the_midst(stack: Stack) -> None:
    result, _, _ = turn(stack, "139", "read-slow-digits")
    assert (result["status"], result["digits"]) == ("between", "12"), result


def test_no_key_is_a_timeout(stack: Stack) -> None:
    result, _, _ = turn(stack, "103", "read-slow-digits")
    assert (result["status"], result["digits"], result["end"]) == ("timeout", "", "completed")


def test_a_key_ends_speech_and_is_still_to_be_read(stack: Stack) -> None:
    result, _, _ = turn(stack, "136", "keys-interrupt")
    assert (result["end"], result["by"], result["told"]) == ("interrupted", "keys", "12#")
    assert (result["status"], result["digits"]) == ("terminator", "12")


def test_a_callback_cancels_the_turn(stack: Stack) -> None:
    result, heard, _ = turn(stack, "136", "cancelled")
    assert (result["status"], result["reason"]) == ("cancelled", "key 2"), result
    assert (result["end"], result["by"]) == ("interrupted", "cancel")
    assert lab_sound.spans(heard, gap_ms=200)[0].length_ms < 3500


# Listening, and prompts of several parts


def test_listening_hears_all_beside_prompts_and_turns(stack: Stack) -> None:
    result, _, _ = turn(stack, "134", "listening")
    assert result["text"] == "no thank you", result
    assert result["finals"] == result["seen"] == ["uh-huh", "no thank you"]
    assert any("no thank" in text for text in result["partials"]), result
    assert result["why"] == "enough"


def test_several_parts_are_one_prompt_without_a_gap(stack: Stack) -> None:
    result, heard, _ = turn(stack, "103", "chained")
    assert [result[name]["ms"] for name in ("one", "two")] == [2 * LOW_MS] * 2
    assert result["three"]["ms"] == pytest.approx(2 * LOW_MS, abs=40)
    one, two, *three = lab_sound.spans(heard, gap_ms=15)
    assert one.length_ms == pytest.approx(2 * LOW_MS, abs=45)
    assert two.length_ms == pytest.approx(2 * LOW_MS, abs=45)
    low = lab_sound.pitch_hz(heard, lab_sound.Span(one.start_ms, one.start_ms + 600))
    high = lab_sound.pitch_hz(heard, lab_sound.Span(one.end_ms - 600, one.end_ms))
    assert low == pytest.approx(LOW_HZ, abs=15)
    assert high == pytest.approx(HIGH_HZ, abs=25)
    assert sum(span.length_ms for span in three) == pytest.approx(2 * LOW_MS, abs=60)
