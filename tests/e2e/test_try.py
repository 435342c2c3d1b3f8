"""``asterisk-dialog try --lab``: the script of a simulated caller, done by a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stack import ROOT

SCENARIO = """
from backend import Call, Digits, scenario


@scenario("survey")
def survey(call: Call) -> object:
    call.answer()
    answers = []
    for question in ("Will you come tomorrow?", "And the day after tomorrow, will you come then?"):
        heard = call.hear(question, timeout_s=8, digits=Digits())
        answers.append(heard.text or heard.digits)
    played = call.speak("A long goodbye, which nobody needs to hear to its end. " * 3)
    return {"answers": answers, "goodbye_ms": played.end_ms}
"""


def tried(file: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and what was told."""
    done = subprocess.run(
        [sys.executable, "-m", "backend", "try", str(file), *arguments, "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=240,
    )
    return done.returncode, json.loads(done.stdout)


def test_one_script_for_the_simulated_caller_and_the_labs(tmp_path: Path, asterisk: str) -> None:
    file = tmp_path / "survey.py"
    file.write_text(SCENARIO, encoding="utf-8")
    script = ["--say", "yes of course", "--over", "1", "--press", "2", "--over", "1.5", "--hangup"]
    simulated = tried(file, *script)
    real = tried(file, *script, "--lab", asterisk)
    for code, told in (simulated, real):
        assert code == 3
        assert (told["state"], told["reason"]) == ("failed", "caller_hangup")
        said = [line["text"] for line in told["talk"] if line["what"] == "says"]
        assert said[0] == "Will you come tomorrow?"
        assert "yes of course" in said
        assert said[-1].startswith("A long goodbye")
        goodbye = told["talk"][-1] if told["talk"][-1]["what"] == "says" else told["talk"][-2]
        assert goodbye["end_ms"] - goodbye["start_ms"] < 8000, "he hung up in the middle"


def test_silence_a_cough_and_an_answer(tmp_path: Path, asterisk: str) -> None:
    file = tmp_path / "survey.py"
    file.write_text(SCENARIO, encoding="utf-8")
    script = ["--cough", "--silence", "--then", "0.5", "--say", "no thank you"]
    code, told = tried(file, *script, "--lab", asterisk)
    assert code == 0
    assert told["result"]["answers"] == ["", "no thank you"]
    assert told["result"]["goodbye_ms"] > 5000
