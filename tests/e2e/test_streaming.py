"""Prompts by the module: no folder is shared with Asterisk; proved by what the subscriber heard."""

from __future__ import annotations

import itertools
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import lab_sound
import pytest
from lab_config import set_key
from stack import Stack

from backend.media.pcm import wav_bytes
from tests.e2e.conftest import SHORT_TONE_MS, probing_stack

CUT_TONE_MS = 5000
_suffix = itertools.count(1000)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    """The backend's sounds are where Asterisk cannot see them."""
    folder = tmp_path_factory.mktemp("streaming")
    sounds = folder / "private"
    (sounds / "own").mkdir(parents=True)
    lab_sound.write(sounds / "own" / "long-tone.wav", lab_sound.tone(30_000))
    lab_sound.write(sounds / "own" / "tone-5s.wav", lab_sound.tone(CUT_TONE_MS))
    wide = lab_sound.tone(SHORT_TONE_MS * 6, hz=167)  # 1002 Hz when it is played at 48 kHz
    (sounds / "own" / "short-tone.wav").write_bytes(wav_bytes(wide.tobytes(), 48_000))
    with probing_stack(folder / "stack", asterisk, DIALOG_SOUNDS_DIR=str(sounds)) as stack:
        assert not Path(f"/proc/{stack.lab.pbx.pid}/root{sounds}").exists()
        conf = stack.lab.pbx.home / "etc" / "audiofork.conf"
        conf.write_text(set_key(conf.read_text(), "reconnect", "yes"))
        stack.lab.pbx.cli("module reload app_audiofork.so")
        yield stack


def number(code: str) -> str:
    return f"{code}{next(_suffix)}"


def heard(stack: Stack, phone: str) -> array[int]:
    return lab_sound.read(stack.lab.heard(phone))


def test_a_talk_without_a_shared_folder(stack: Stack) -> None:
    phone = number("100")
    task = stack.ended(stack.originate(phone)["id"])
    assert (task["state"], task["result"]["decision"]) == ("done", "yes"), task
    (yes,) = lab_sound.spans(lab_sound.read(stack.lab.said(phone)), gap_ms=500)
    spoken = lab_sound.spans(heard(stack, phone), gap_ms=400)
    question = [span for span in spoken if span.end_ms < yes.start_ms]
    robot = [line for line in task["transcript"] if line["speaker"] == "robot"]
    length_ms = robot[0]["end_ms"] - robot[0]["start_ms"]
    # Speech begins and ends with silence of its own.
    assert length_ms - 800 < question[-1].end_ms - question[0].start_ms < length_ms + 60
    assert "prompts are streamed to fork" in stack.log_path.read_text()


def test_voice_stops_a_streamed_prompt_at_once_and_its_length_is_exact(stack: Stack) -> None:
    phones = [number("102") for _ in range(6)]
    tasks = [stack.originate(phone, scenario="own-tone") for phone in phones]
    for phone, task in zip(phones, tasks, strict=True):
        ended = stack.ended(task["id"])
        result = ended["result"]
        assert (result["prompt"], result["after"]) == ("interrupted", "completed"), ended
        assert "yes" in result["text"]
        said = lab_sound.spans(lab_sound.read(stack.lab.said(phone)), gap_ms=300)
        tape = heard(stack, phone)
        cut, after = lab_sound.spans(tape, gap_ms=300)
        assert -40 < cut.end_ms - said[0].start_ms < 500, (said, cut)
        assert lab_sound.sound_ms(tape, cut) == pytest.approx(result["prompt_ms"], abs=25)
        assert lab_sound.sound_ms(tape, after) == pytest.approx(SHORT_TONE_MS, abs=20)
        assert result["after_ms"] == SHORT_TONE_MS
        assert lab_sound.pitch_hz(tape, after) == pytest.approx(1000, abs=15)


def test_the_first_word_is_heard_before_the_synthesis_has_ended(stack: Stack) -> None:
    """The subscriber hangs up a second after the first sound; the text is synthesised to its end
    all the same, and kept."""
    folder = Path(stack.environment()["DIALOG_SOUNDS_DIR"])
    before = set(folder.glob("*.sln"))
    phone = number("108")
    ended = stack.ended(stack.originate(phone, scenario="long-text")["id"])
    assert ended["reason"] == "caller_hangup", ended
    found = re.search(r"long-text began=([\d.]+)", stack.log_path.read_text())
    assert found is not None
    first = lab_sound.spans(heard(stack, phone))[0]
    (kept,) = stack.wait_for(
        "the whole text", lambda: set(folder.glob("*.sln")) - before or None, 120
    )
    synthesis_ms = (kept.stat().st_mtime - float(found[1])) * 1000
    assert kept.stat().st_size > 16_000 * 240, "four minutes"
    # The tape begins with the first packet, or half a second after the answer.
    assert first.start_ms + 500 < synthesis_ms, first


def test_a_broken_connection_costs_no_word(stack: Stack) -> None:
    """Not one that the backend cuts: the module comes back, and the prompt goes on."""
    phone = number("103")
    ended = stack.ended(stack.originate(phone, scenario="cut")["id"])
    tone, text = ended["result"]["ends"]
    assert tone == ["completed", CUT_TONE_MS], ended
    assert text[0] == "completed"
    assert text[1] > 6000
    tape = heard(stack, phone)
    tones = [s for s in lab_sound.spans(tape, gap_ms=60) if s.start_ms < CUT_TONE_MS]
    assert sum(lab_sound.sound_ms(tape, s) for s in tones) == pytest.approx(CUT_TONE_MS, abs=20)
    assert "the fork was lost" in stack.log_path.read_text()
