"""What the settings and the scenario choose for a call, on its way: ``call.config``, and languages
to the recogniser, several at once, told by a speech service of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import lab_sound
import pytest
from lab_script import LabStep, write_script
from stack import Stack

from tests.e2e.conftest import probing_stack
from tests.fakes.stt_server import SttServer

SCENARIOS = """
from backend import Call, Sound, scenario

@scenario("config")
def config(call: Call) -> dict[str, object]:
    call.answer()
    before = dict(call.config["shop"])
    call.config["shop"]["called"] = call.called
    return {"before": before, "after": call.config}

@scenario("languages")
def languages(call: Call) -> list[list[object]]:
    call.answer()
    def turn(**more: object) -> list[object]:
        heard = call.hear(Sound("tone"), barge_in="off", timeout_s=30, **more)
        return [heard.text, heard.language]
    turns = [turn(), turn(language=["kk-KZ", "ru-RU"]), turn(language="de-DE"), turn()]
    with call.listen(language=["uz-UZ", "en-US"], partials=False) as listening:
        turns.append(turn())
        result = next(iter(listening))
    return [*turns, [result.text, result.language]]
"""
SHOP: dict[str, object] = {"opens": 9}
CONFIG: dict[str, object] = {"shop": SHOP, "голос": [1, None, "да"]}
TURNS = 5


@pytest.fixture(scope="module")
def speech() -> Iterator[SttServer]:
    with SttServer() as server:
        yield server


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, speech: SttServer, asterisk: str
) -> Iterator[Stack]:
    scenarios = tmp_path_factory.mktemp("scenarios")
    (scenarios / "own.py").write_text(SCENARIOS)
    settings = {
        "DIALOG_SCENARIOS_DIR": str(scenarios),
        "DIALOG_SCENARIO_CONFIG": json.dumps(CONFIG),
        "DIALOG_SPEECH": "speechkit",
        "DIALOG_SPEECHKIT_API_KEY": "none",
        "DIALOG_SPEECHKIT_INSECURE": "yes",
        "DIALOG_SPEECHKIT_STT": speech.address,
        "DIALOG_SPEECHKIT_TTS": speech.address,
    }
    with probing_stack(tmp_path_factory.mktemp("chosen"), asterisk, **settings) as stack:
        lab_sound.write(stack.lab.sounds / "tone.wav", lab_sound.tone(500))
        yield stack


def test_each_call_has_a_copy_of_the_config_of_its_own(stack: Stack) -> None:
    """What one call writes into it no other sees, in the same worker, one after the other."""
    for phone in ("1030001", "1030002"):
        task = stack.ended(stack.originate(phone, scenario="config")["id"])
        assert task["result"] == {
            "before": SHOP,
            "after": {**CONFIG, "shop": {**SHOP, "called": phone}},
        }, task


def test_the_recogniser_is_told_the_languages_of_each_turn(stack: Stack, speech: SttServer) -> None:
    """The text is the languages that the session allows, and the last of them was recognised. A
    turn without any has the call's, or those of the listening around it."""
    phone = "1500001"
    write_script(stack.lab, phone, [LabStep("after", 1, "say", "yes please")] * TURNS)
    begun = len(speech.sessions)
    task = stack.ended(stack.originate(phone, scenario="languages")["id"], 120)
    assert task["result"] == [
        ["en-US", "en-US"],
        ["kk-KZ ru-RU", "ru-RU"],
        ["de-DE", "de-DE"],
        ["en-US", "en-US"],
        ["uz-UZ en-US", "en-US"],
        ["uz-UZ en-US", "en-US"],
    ], task
    assert speech.sessions[begun:] == [
        ("en-US",),
        ("kk-KZ", "ru-RU"),
        ("de-DE",),
        ("en-US",),
        ("uz-UZ", "en-US"),
    ], "a new session only where they differ"
