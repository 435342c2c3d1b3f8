"""A script on its way to the lab's subscriber."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from lab import Lab
from lab_config import LabError
from lab_script import LabStep, write_script

from backend.errors import BadRequest
from backend.testing import Step, cough, dialled, do, hangup, press, say, silence
from backend.trying.lab import LabCall, lab_steps, phrases


def test_steps_as_the_subscriber_has_them() -> None:
    steps: list[Step] = [
        say("yes, please"),
        say("stop", over_prompt=True, after_s=1.5),
        press("12#", then=True),
        silence(),
        cough(over_prompt=True),
        hangup(cause=17),
    ]
    assert lab_steps(steps) == [
        ("after", 0.7, "say", "yes, please"),
        ("over", 1.5, "say", "stop"),
        ("then", 1.0, "press", "12#"),
        ("after", 0.7, "silence", ""),
        ("over", 1.0, "cough", ""),
        ("after", 0.7, "hangup", "17"),
    ]


def test_after_some_seconds_of_silence_he_goes_on_in_the_same_turn() -> None:
    assert lab_steps([silence(3), say("yes")]) == [
        ("after", 0.7, "silence", "3"),
        ("then", 0.7, "say", "yes"),
    ]


def test_what_the_lab_cannot_do_is_refused() -> None:
    with pytest.raises(BadRequest, match="English only"):
        lab_steps([say("да")])
    with pytest.raises(BadRequest, match="cannot do that"):
        lab_steps([do(lambda call: None)])
    for number, plan in (("1", dialled()), ("1501", dialled(status="busy"))):
        with pytest.raises(BadRequest, match="150 and more digits"):
            LabCall(
                Path("x.py"),
                "x",
                [],
                asterisk="16",
                variables={},
                config={},
                dials={number: plan},
                conferences={},
            )


def test_the_recogniser_is_told_of_the_words() -> None:
    steps = lab_steps([say("Yes, of course!"), press("1"), say("yes of course"), say("I'm in")])
    assert phrases(steps) == ["yes of course", "i'm in"]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """As much of a lab as is written to."""
    (tmp_path / "scripts").mkdir()
    return cast(Lab, SimpleNamespace(subscriber=SimpleNamespace(home=tmp_path)))


def test_a_script_is_a_file_for_its_number(lab: Lab, tmp_path: Path) -> None:
    steps = [LabStep("over", 1.5, "press", "12#"), LabStep("then", 2, "silence")]
    write_script(lab, "1500001", [*steps, LabStep("after", 0.7, "hangup", "17")])
    assert (tmp_path / "scripts" / "1500001").read_text() == (
        "over:1.500:press:12#:then:2.000:silence:-:after:0.700:hangup:17"
    )


@pytest.mark.parametrize(
    "step",
    [
        LabStep("before", 1, "cough"),
        LabStep("after", -1, "cough"),
        LabStep("after", 1, "shout"),
        LabStep("after", 1, "press", "1:hangup"),
        LabStep("after", 1, "press", ""),
        LabStep("after", 1, "silence", "long"),
        LabStep("after", 1, "say", ""),
        LabStep("after", 1, "say", "да"),
        LabStep("after", 1, "hangup", "x"),
    ],
)
def test_what_he_cannot_do_is_refused(lab: Lab, tmp_path: Path, step: LabStep) -> None:
    with pytest.raises(LabError):
        write_script(lab, "1500001", [step])
    assert not list((tmp_path / "scripts").iterdir())


@pytest.mark.parametrize("number", ["150", "1510001", "150x", "../1500001"])
def test_scripts_are_for_their_numbers_alone(lab: Lab, number: str) -> None:
    with pytest.raises(LabError, match="a script is for a number of 150"):
        write_script(lab, number, [LabStep("after", 0.7, "cough")])


def test_too_long_a_script_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="too long"):
        write_script(lab, "1500001", [LabStep("after", 0.7, "cough")] * 300)
