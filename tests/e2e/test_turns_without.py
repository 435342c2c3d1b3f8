"""Turns where something is missing: recognition and synthesis, or a module that takes audio and
tells of keys."""

from __future__ import annotations

from collections.abc import Iterator

import lab_sound
import pytest

from tests.e2e.conftest import SHORT_TONE_MS, probing_stack
from tests.e2e.turn_calls import (
    LOW_HZ,
    LOW_MS,
    STAIRS_MS,
    STEPS,
    Calls,
    climbed,
    sounding_ms,
    write_sounds,
)

NOBODY = "127.0.0.1:9"  # discard: nothing listens there


@pytest.fixture(scope="module")
def deaf(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Calls]:
    """No speech service can be reached."""
    plan = (
        ("136", "turn-digits"),
        ("103", "turn-digits"),
        ("103", "turn-unanswered"),
        ("103", "instead"),
    )
    folder = tmp_path_factory.mktemp("deaf")
    with probing_stack(
        folder,
        asterisk,
        DIALOG_SPEECH="speechkit",
        DIALOG_SPEECHKIT_API_KEY="none",
        DIALOG_SPEECHKIT_INSECURE="yes",
        DIALOG_SPEECHKIT_STT=NOBODY,
        DIALOG_SPEECHKIT_TTS=NOBODY,
    ) as stack:
        write_sounds(stack.lab.sounds)
        yield Calls(stack, plan)


def test_keys_are_an_answer_though_nothing_is_recognised(deaf: Calls) -> None:
    result, _, _ = deaf.of("136", "turn-digits")
    assert (result["status"], result["digits"]) == ("digits", "12"), result


def test_a_turn_that_takes_keys_goes_on_without_recognition(deaf: Calls) -> None:
    result, _, _ = deaf.of("103", "turn-digits")
    assert (result["status"], result["end"]) == ("timeout", "completed"), result
    assert NOBODY in result["error"]


def test_a_turn_that_takes_words_alone_says_why_it_cannot(deaf: Calls) -> None:
    result, _, _ = deaf.of("103", "turn-unanswered")
    assert NOBODY in result["first"]
    assert NOBODY in result["second"], "at once, before the prompt"


def test_a_prompt_for_when_there_is_no_synthesis(deaf: Calls) -> None:
    result, heard, _ = deaf.of("103", "instead")
    assert (result["end"], result["ms"]) == ("completed", LOW_MS), result
    assert NOBODY in result["error"]
    (low,) = lab_sound.spans(heard, gap_ms=300)
    assert lab_sound.pitch_hz(heard, low) == pytest.approx(LOW_HZ, abs=15)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Calls]:
    """The fork has no option j: Asterisk plays files, and the fork tells of no keys."""
    plan = (
        ("132", "turn-words"),
        ("134", "turn-words"),
        ("136", "turn-digits"),
        ("138", "turn-digits"),
        ("136", "read-digits"),
        ("139", "read-slow-digits"),
        ("103", "told-of-keys"),
    )
    with probing_stack(tmp_path_factory.mktemp("old"), asterisk) as stack:
        write_sounds(stack.lab.sounds)
        dialplan = stack.lab.pbx.home / "etc" / "dialog-gosub.conf"
        text = dialplan.read_text()
        assert "D(read)ji" in text
        dialplan.write_text(text.replace("D(read)ji", "D(read)i"))
        stack.lab.pbx.cli("dialplan reload")
        yield Calls(stack, plan)


def test_a_file_goes_on_from_where_it_stopped(old: Calls) -> None:
    result, heard, _ = old.of("132", "turn-words")
    assert (result["status"], result["end"], result["by"]) == ("timeout", "completed", None)
    assert len(lab_sound.spans(heard, gap_ms=300)) == 3, "one pause, and the tone after the turn"
    assert sounding_ms(heard) == pytest.approx(STAIRS_MS + SHORT_TONE_MS, abs=100)
    assert climbed(heard)[:STEPS] == list(range(STEPS))


def test_words_stop_a_file(old: Calls) -> None:
    result, _, _ = old.of("134", "turn-words")
    assert (result["status"], result["text"], result["by"]) == (
        "recognized",
        "no thank you",
        "words",
    )


def test_keys_in_a_file(old: Calls) -> None:
    """The first one stops it by CONTROL STREAM FILE's own means, the others are waited for."""
    result, _, _ = old.of("136", "turn-digits")
    assert (result["status"], result["digits"], result["by"]) == ("digits", "12", "keys"), result


def test_words_in_a_turn_that_takes_keys(old: Calls) -> None:
    result, _, _ = old.of("138", "turn-digits")
    assert (result["status"], result["text"], result["by"]) == ("recognized", "yes", "words"), (
        result
    )


def test_digits_are_read_one_by_one(old: Calls) -> None:
    result, _, _ = old.of("136", "read-digits")
    assert (result["first"]["status"], result["first"]["digits"]) == ("complete", "1"), result


def test_digits_with_a_pause(old: Calls) -> None:
    result, _, _ = old.of("139", "read-slow-digits")
    assert (result["status"], result["digits"]) == ("between", "12"), result


def test_callbacks_for_keys_are_refused_in_clear_words(old: Calls) -> None:
    result = old.result("103", "told-of-keys")
    assert "older module" in result["error"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Calls]:
    """Not our silence ends utterances, but the service's own classifier."""
    plan = (
        ("132", "turn-words"),
        ("134", "turn-words"),
        ("131", "turn-twice"),
        ("131", "turn-patient"),
    )
    folder = tmp_path_factory.mktemp("service")
    with probing_stack(folder, asterisk, DIALOG_END_OF_UTTERANCE="speechkit") as stack:
        write_sounds(stack.lab.sounds)
        yield Calls(stack, plan)


def test_a_cough_in_which_the_service_finds_no_utterance(service: Calls) -> None:
    result, heard, _ = service.of("132", "turn-words")
    assert (result["status"], result["end"], result["ms"]) == ("timeout", "completed", STAIRS_MS)
    assert climbed(heard)[:STEPS] == list(range(STEPS))


def test_words_whose_end_the_service_finds(service: Calls) -> None:
    result, _, _ = service.of("134", "turn-words")
    assert (result["status"], result["text"], result["by"]) == (
        "recognized",
        "no thank you",
        "words",
    )


def test_the_service_is_told_how_long_a_pause_may_be(service: Calls) -> None:
    result, _, _ = service.of("131", "turn-patient")
    assert result["text"] == "no thank you", result
    result, _, _ = service.of("131", "turn-twice")
    assert [result["first"]["text"], result["second"]["text"]] == ["no", "thank you"], result
