"""Turns on a real Asterisk, with callers who cough, talk over the prompt, pause, press keys; proved
by what the subscriber heard, and by which words and keys came."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from pathlib import Path

import lab_sound
import pytest

from tests.e2e.conftest import SHORT_TONE_MS, probing_stack
from tests.e2e.turn_calls import (
    HIGH_HZ,
    LOW_HZ,
    LOW_MS,
    STAIRS_MS,
    STEPS,
    Calls,
    climbed,
    sounding_ms,
    write_sounds,
)

PAUSE_MS = 300  # shorter than a pause for a false alarm, longer than a late packet's gap
HUNG_UP = (
    "turn-words",
    "turn-words-file",
    "turn-digits",
    "read-digits",
    "keys-interrupt",
    "cancelled",
    "listening",
)
PLAN = (
    *(("108", scenario) for scenario in HUNG_UP),
    *itertools.product(("132", "133", "134"), ("turn-words", "turn-words-file")),
    ("135", "turn-off"),
    ("135", "turn-long-tone"),
    ("130", "turn-voice"),
    ("130", "turn-off"),
    ("131", "turn-twice"),
    ("131", "turn-patient"),
    ("132", "turn-voice"),
    ("136", "turn-digits"),
    ("137", "turn-digits"),
    ("138", "turn-digits"),
    ("136", "read-digits"),
    ("139", "read-slow-digits"),
    ("103", "read-slow-digits"),
    ("136", "keys-interrupt"),
    ("136", "cancelled"),
    ("134", "listening"),
    ("103", "chained"),
)  # fmt: skip


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Calls]:
    """All of them, at the same time."""
    with probing_stack(tmp_path_factory.mktemp("turns"), asterisk) as stack:
        write_sounds(stack.lab.sounds)
        yield Calls(stack, PLAN)


def without_last(tape: array[int]) -> array[int]:
    """Without the short tone that the scenario plays after the turn."""
    spans = lab_sound.spans(tape, gap_ms=PAUSE_MS)
    assert sounding_ms(tape[round(spans[-1].start_ms * 8) :]) == pytest.approx(
        SHORT_TONE_MS, abs=60
    )
    return tape[: round(spans[-1].start_ms * 8) - 80]


@pytest.mark.parametrize("scenario", ["turn-words", "turn-words-file"])
@pytest.mark.parametrize("code", ["132", "133"], ids=["cough", "okay"])
def test_a_false_alarm_resumes_the_prompt_from_the_exact_place(
    calls: Calls, code: str, scenario: str
) -> None:
    result, heard, _ = calls.of(code, scenario)
    assert (result["status"], result["end"], result["by"]) == ("timeout", "completed", None)
    prompt = without_last(heard)
    assert len(lab_sound.spans(prompt, gap_ms=PAUSE_MS)) == 2, "one pause"
    assert sounding_ms(prompt) == pytest.approx(STAIRS_MS, abs=80)
    assert climbed(prompt) == list(range(STEPS)), "each step once, none left out"
    # To a file's own end it is our clock that counts.
    assert result["ms"] == STAIRS_MS if scenario == "turn-words" else result["ms"] > STAIRS_MS - 80


@pytest.mark.parametrize("scenario", ["turn-words", "turn-words-file"])
def test_a_false_alarm_then_words(calls: Calls, scenario: str) -> None:
    """ "Uh-huh" is no answer; "no thank you" three seconds later is, and stops the prompt."""
    result, heard, said = calls.of("134", scenario)
    assert (result["status"], result["text"]) == ("recognized", "no thank you"), result
    assert (result["end"], result["by"]) == ("interrupted", "words")
    prompt = without_last(heard)
    first, second = lab_sound.spans(prompt, gap_ms=PAUSE_MS)
    uh_huh, no = lab_sound.spans(said, gap_ms=500)
    assert -40 < first.end_ms - uh_huh.start_ms < 1000
    assert -40 < second.end_ms - no.start_ms < 1500
    steps = climbed(prompt)
    assert steps == list(range(len(steps)))
    assert result["ms"] == pytest.approx(sounding_ms(prompt), abs=80)


def test_a_caller_who_talks_all_through_the_prompt_is_heard_as_a_whole(calls: Calls) -> None:
    result, heard, said = calls.of("135", "turn-off")
    assert (result["status"], result["end"]) == ("recognized", "completed"), result
    assert result["text"].startswith("wait a moment please")
    assert result["text"].endswith("let me say something first")
    (tone,) = lab_sound.spans(heard, gap_ms=PAUSE_MS)
    (talk,) = lab_sound.spans(said, gap_ms=500)
    assert sounding_ms(heard) == pytest.approx(3000, abs=60)
    assert talk.end_ms > tone.end_ms, "he goes on after it"


def test_words_stop_the_prompt_while_he_talks_on(calls: Calls) -> None:
    result, _, said = calls.of("135", "turn-long-tone")
    assert (result["status"], result["end"], result["by"]) == ("recognized", "interrupted", "words")
    assert result["text"].endswith("let me say something first")
    (talk,) = lab_sound.spans(said, gap_ms=500)
    assert result["ms"] < talk.end_ms, "before he has come to his end"


def test_a_caller_who_speaks_just_at_the_prompts_end(calls: Calls) -> None:
    for scenario in ("turn-voice", "turn-off"):
        result, heard, said = calls.of("130", scenario)
        assert (result["status"], result["text"]) == ("recognized", "yes"), result
        tone = lab_sound.spans(heard, gap_ms=PAUSE_MS)[0]
        (yes,) = lab_sound.spans(said, gap_ms=500)
        assert yes.start_ms > 2000
        assert tone.end_ms < yes.end_ms + 500


def test_a_caller_who_pauses_is_heard_in_two_turns(calls: Calls) -> None:
    result, _, _ = calls.of("131", "turn-twice")
    assert [result["first"]["text"], result["second"]["text"]] == ["no", "thank you"], result


def test_a_patient_turn_hears_both_as_one(calls: Calls) -> None:
    result, _, _ = calls.of("131", "turn-patient")
    assert result["text"] == "no thank you", result


def test_a_cough_stops_the_prompt_where_any_voice_does(calls: Calls) -> None:
    result, heard, _ = calls.of("132", "turn-voice")
    assert (result["status"], result["end"], result["by"]) == ("timeout", "interrupted", "voice")
    (tone,) = lab_sound.spans(heard, gap_ms=PAUSE_MS)
    assert tone.length_ms < 2600


@pytest.mark.parametrize("scenario", HUNG_UP)
def test_a_hangup_in_the_midst_of_a_turn_ends_the_scenario(calls: Calls, scenario: str) -> None:
    task = calls.task("108", scenario)
    assert (task["state"], task["reason"]) == ("failed", "caller_hangup"), task


# Keys


def test_keys_in_the_prompt_are_an_answer(calls: Calls) -> None:
    result, heard, _ = calls.of("136", "turn-digits")
    assert (result["status"], result["digits"]) == ("digits", "12"), result
    assert (result["end"], result["by"], result["after"]) == ("interrupted", "keys", "completed")
    tone, after = lab_sound.spans(heard, gap_ms=PAUSE_MS)
    assert tone.length_ms < 3000
    assert after.length_ms > SHORT_TONE_MS - 60


def test_speech_after_the_first_key_does_not_count(calls: Calls) -> None:
    result, _, _ = calls.of("137", "turn-digits")
    assert (result["status"], result["digits"], result["text"]) == ("digits", "12", ""), result
    assert result["by"] == "keys"


def test_speech_before_the_first_key_counts(calls: Calls) -> None:
    result, _, _ = calls.of("138", "turn-digits")
    assert (result["status"], result["text"], result["digits"]) == ("recognized", "yes", ""), result
    assert result["by"] == "words"


def test_what_is_typed_ahead_is_the_next_readings(calls: Calls) -> None:
    result, heard, _ = calls.of("136", "read-digits")
    assert result["first"] == {
        "status": "complete",
        "digits": "1",
        "end": "interrupted",
        "ms": result["first"]["ms"],
        "by": "keys",
    }
    assert (result["second"]["status"], result["second"]["digits"]) == ("terminator", "2")
    assert lab_sound.spans(heard, gap_ms=PAUSE_MS)[0].length_ms < 3000


def test_a_caller_who_stops_in_the_midst(calls: Calls) -> None:
    result, _, _ = calls.of("139", "read-slow-digits")
    assert (result["status"], result["digits"]) == ("between", "12"), result


def test_no_key_is_a_timeout(calls: Calls) -> None:
    result, _, _ = calls.of("103", "read-slow-digits")
    assert (result["status"], result["digits"], result["end"]) == ("timeout", "", "completed")


def test_a_key_ends_speech_and_is_still_to_be_read(calls: Calls) -> None:
    result, _, _ = calls.of("136", "keys-interrupt")
    assert (result["end"], result["by"], result["told"]) == ("interrupted", "keys", "12#")
    assert (result["status"], result["digits"]) == ("terminator", "12")


def test_a_callback_cancels_the_turn(calls: Calls) -> None:
    result, heard, _ = calls.of("136", "cancelled")
    assert (result["status"], result["reason"]) == ("cancelled", "key 2"), result
    assert (result["end"], result["by"]) == ("interrupted", "cancel")
    assert lab_sound.spans(heard, gap_ms=PAUSE_MS)[0].length_ms < 3500


# Listening, and prompts of several parts


def test_listening_hears_all_beside_prompts_and_turns(calls: Calls) -> None:
    result, _, _ = calls.of("134", "listening")
    assert result["text"] == "no thank you", result
    assert result["finals"] == result["seen"] == ["uh-huh", "no thank you"]
    assert any("no thank" in text for text in result["partials"]), result
    assert result["why"] == "enough"


def test_several_parts_are_one_prompt_without_a_gap(calls: Calls) -> None:
    result, heard, _ = calls.of("103", "chained")
    assert [result[name]["ms"] for name in ("one", "two")] == [2 * LOW_MS] * 2
    assert result["three"]["ms"] > 2 * LOW_MS - 40, "of a file's end our clock tells"
    one, two, three = lab_sound.spans(heard, gap_ms=PAUSE_MS)
    for span in (one, two, three):
        part = heard[round(span.start_ms * 8) : round(span.end_ms * 8)]
        assert sounding_ms(part) == pytest.approx(2 * LOW_MS, abs=60)
    low = lab_sound.pitch_hz(heard, lab_sound.Span(one.start_ms, one.start_ms + 600))
    high = lab_sound.pitch_hz(heard, lab_sound.Span(one.end_ms - 600, one.end_ms))
    assert low == pytest.approx(LOW_HZ, abs=15)
    assert high == pytest.approx(HIGH_HZ, abs=25)


def test_afterwards_nothing_is_left(calls: Calls) -> None:
    """No channel; and calls with callbacks leave as many threads in the worker as were there."""
    stack = calls.stack
    for code, scenario in PLAN:
        calls.task(code, scenario)
    stack.wait_for("the channels to go", lambda: not stack.lab.pbx.channels() or None)
    tasks = Path("/proc", str(stack.info["pids"]["voice-0"]), "task")
    before = len(list(tasks.iterdir()))
    more = [("136", "keys-interrupt"), ("108", "keys-interrupt"), ("134", "listening")]
    again = Calls(stack, more)
    for code, scenario in more:
        again.task(code, scenario)
    stack.wait_for(
        "the threads of calls to end", lambda: len(list(tasks.iterdir())) <= before or None
    )
