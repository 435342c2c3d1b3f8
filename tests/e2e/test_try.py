"""``asterisk-dialog try --lab``: the script of a simulated caller, done by a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stack import ROOT

SCENARIO = """
from backend import Call, Digits, Hangup, scenario

QUESTIONS = (
    "Will you come tomorrow?",
    "And the day after tomorrow, will you come then, or on another day of this week?",
    "How many of you will come? Please press a key, or tell me the number.",
)


@scenario("survey")
def survey(call: Call) -> object:
    call.answer()
    answers = []
    for question in QUESTIONS:
        heard = call.hear(question, timeout_s=6, digits=Digits())
        answers.append(heard.text or heard.digits)
    try:
        call.speak("A long goodbye, which nobody needs to hear to its end. " * 3)
    except Hangup:
        return {"answers": answers, "stayed": False}
    return {"answers": answers, "stayed": True}
"""
SCRIPT = """\
silence
over 1 cough
say yes of course
over 1 press 2
over 1.5 hangup
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


FLOW = """
flow: code
start: ask
exits: {on_timeout: end, on_invalid: end}
variables: {code: null, word: null}
result: {code: "{code}", word: "{word}"}
nodes:
  ask: {type: input, prompt: Please enter your code., max: 4, save: code, next: inner}
  inner: {type: flow, flow: sure, save: word, next: thank}
  thank: {type: play, prompt: Thank you. Goodbye., next: bye}
  bye: {type: hangup}
"""
INNER = """
flow: sure
start: hear
variables: {word: null}
result: "{word}"
nodes:
  hear: {type: hear, prompt: Are you sure?, save: word, next: end, on_timeout: end}
"""


def test_one_script_of_a_flow(tmp_path: Path, asterisk: str) -> None:
    (tmp_path / "code.flow.yaml").write_text(FLOW)
    (tmp_path / "sure.flow.yaml").write_text(INNER)
    script = ["--press", "1234", "--say", "yes of course"]
    for options in ([], ["--lab", asterisk]):
        code, told = tried(tmp_path / "code.flow.yaml", *script, *options)
        assert code == 0, told
        assert told["result"] == {"code": "1234", "word": "yes of course"}
        said = [line["text"] for line in told["talk"] if line["what"] == "says"]
        assert said == [
            "Please enter your code.",
            "Are you sure?",
            "yes of course",
            "Thank you. Goodbye.",
        ]


def test_one_script_for_the_simulated_caller_and_the_labs(tmp_path: Path, asterisk: str) -> None:
    file, script = tmp_path / "survey.py", tmp_path / "script.txt"
    file.write_text(SCENARIO, encoding="utf-8")
    script.write_text(SCRIPT, encoding="utf-8")
    for options in ([], ["--lab", asterisk]):
        code, told = tried(file, "--script", str(script), *options)
        assert code == 0, told
        assert told["result"] == {"answers": ["", "yes of course", "2"], "stayed": False}
        said = [line["text"] for line in told["talk"] if line["what"] == "says"]
        assert said[0] == "Will you come tomorrow?"
        assert said[2] == "yes of course"
        assert said[-1].startswith("A long goodbye")
