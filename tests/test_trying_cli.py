"""``asterisk-dialog try``: what it prints, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backend import cli
from backend.trying.load import load

ROOT = Path(__file__).parents[1]
SCENARIO = """
from backend import Call, scenario


@scenario("confirm")
def confirm(call: Call) -> object:
    call.answer()
    heard = call.hear("Will you come?", timeout_s=5)
    call.log("heard", text=heard.text)
    if heard.text == "crash":
        return 1 / 0
    if heard.text == "bye":
        call.hangup()
    call.speak("Thank you.")
    return {"coming": heard.text, "client": call.get_variable("client"), "number": call.caller}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "my_scenario.py"
    path.write_text(SCENARIO, encoding="utf-8")
    return str(path)


def tried(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """Exit code and what was printed."""
    code = cli.main(["try", *arguments])
    return code, capsys.readouterr().out.splitlines()


def test_a_talk_is_printed(capsys: pytest.CaptureFixture[str], file: str) -> None:
    code, lines = tried(capsys, file, "--say", "yes, of course")
    assert code == 0
    assert lines[0].startswith(f"confirm ({file}), tried in ")
    assert [line.split("ms  ")[1].split(maxsplit=1) for line in lines[1:4]] == [
        ["robot", "Will you come?"],
        ["caller", "yes, of course"],
        ["robot", "Thank you."],
    ]
    assert lines[4:] == [
        "logged   heard text='yes, of course'",
        'result   {"coming": "yes, of course", "client": null, "number": "79161234567"}',
        "ended    done/completed, 4.0 s after the call began",
    ]


def test_steps_come_in_their_order_with_their_moments(
    capsys: pytest.CaptureFixture[str], file: str
) -> None:
    words = "over 0.2, cough, after 1, say yes, over 0.1, hangup 17"
    script = f"--{words.replace(', ', ' --')}".split()
    code, lines = tried(capsys, file, *script)
    assert code == 3
    assert [line.split("ms  ")[1].split()[:2] for line in lines[1:6]] == [
        ["robot", "Will"],
        ["caller", "coughs"],
        ["caller", "yes"],
        ["robot", "Thank"],
        ["caller", "hangs"],
    ]
    assert lines[5].endswith("hangs up cause 17")


def test_what_the_scenario_finds(capsys: pytest.CaptureFixture[str], file: str) -> None:
    code, lines = tried(
        capsys, file, "--say", "yes", "--caller", "100", "--variable", "client=a=b", "--json"
    )
    told = json.loads("\n".join(lines))
    assert code == 0
    assert told["result"] == {"coming": "yes", "client": "a=b", "number": "100"}
    assert (told["state"], told["reason"], told["error"]) == ("done", "completed", None)
    assert [line["who"] for line in told["talk"]] == ["robot", "caller", "robot"]
    assert told["duration_ms"] >= told["talk"][-1]["end_ms"]


@pytest.mark.parametrize(
    ("script", "code", "last"),
    [
        (["--say", "bye"], 0, "ended    done/completed"),
        ([], 0, "ended    done/completed"),
        (["--hangup"], 3, "raised"),
        (["--say", "crash"], 1, "raised"),
    ],
)
def test_the_exit_code_tells_how_it_ended(
    capsys: pytest.CaptureFixture[str], file: str, script: list[str], code: int, last: str
) -> None:
    found, lines = tried(capsys, file, *script)
    assert found == code
    assert lines[-1].startswith(last)


def test_an_error_names_file_and_line(capsys: pytest.CaptureFixture[str], file: str) -> None:
    _, lines = tried(capsys, file, "--say", "crash")
    assert lines[-2:] == [
        f"raised   {file}:11: ZeroDivisionError: division by zero",
        "raised       return 1 / 0",
    ]


def test_what_the_caller_did_not_come_to_is_said(
    capsys: pytest.CaptureFixture[str], file: str
) -> None:
    _, lines = tried(capsys, file, "--say", "yes", "--over", "2", "--say", "wait")
    assert "not done over 2 say wait" in lines


def test_whom_the_scenario_meets(capsys: pytest.CaptureFixture[str]) -> None:
    meets = ["--dial", "79160000001=say yes; hangup", "--dial", "*=busy"]
    code, lines = tried(capsys, "dial-for-me", "--press", "79160000001#", *meets)
    assert code == 0
    assert any("79160000001  yes" in line for line in lines)
    assert any("bridges caller and 79160000001  (ended by other)" in line for line in lines)
    _, lines = tried(capsys, "dial-for-me", "--press", "79160000002#", *meets)
    assert any("dials 79160000002  (busy)" in line for line in lines)
    _, lines = tried(capsys, "to-person", "--press", "0", "--config-value", "operator=100", *meets)
    assert 'result   {"asked": "0", "transfer": "busy", "talk_s": 0.0}' in lines
    people = ["--participant", "meeting/Anna=say hello", "--participant", "meeting/Boris="]
    _, lines = tried(capsys, "conference-host", "--silence", "--silence", "--say", "stop", *people)
    assert any("(to Boris) Hello! You are participant number 2." in line for line in lines)
    assert any("Anna    hello" in line for line in lines)


def test_settings_that_are_named_are_those_of_the_call(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(
        'speech_language = "ru-RU"\n[scenario_config]\noperator = "7999"\n', encoding="utf-8"
    )
    code = cli.main(
        ["--config", str(settings), "try", "to-person", "--press", "0", "--dial", "7999=busy"]
    )
    told = capsys.readouterr().out
    assert code == 0
    assert "dials 7999  (busy)" in told
    assert "Все операторы заняты" in told


def test_a_script_comes_from_a_file(
    capsys: pytest.CaptureFixture[str], file: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.txt"
    script.write_text("# yes\nsay yes\n", encoding="utf-8")
    code, lines = tried(capsys, file, "--script", str(script))
    assert (code, 'result   {"coming": "yes"' in "\n".join(lines)) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--press", "x"], "keys: 'x'"),
        (["--over"], "--over: no step stands behind it"),
        (["--over", "--then", "--say", "x"], "a step must stand between"),
        (["--script", "/nowhere"], "No such file"),
        (["--say"], "expected one argument"),
        (["--variable", "x"], "--variable: 'x': expected NAME=VALUE"),
        (["--dial", "100=sleepy"], "'sleepy': expected say"),
        (["--participant", "Anna=say x"], "expected ROOM/NAME=STEPS"),
        (["--lab", "--say", "да"], "the lab speaks English only"),
        (["--lab", "--language", "ru-RU"], "--language: is the lab's own"),
        (["--lab", "--dial", "7=say x"], "in the lab a number of 150"),
    ],
)
def test_wrong_usage_is_2(
    capsys: pytest.CaptureFixture[str], file: str, arguments: list[str], why: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["try", file, *arguments])
    assert raised.value.code == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "arguments", "why"),
    [
        ("x = (", [], "SyntaxError"),
        (
            "import nowhere_at_all",
            [],
            "ModuleNotFoundError: No module named 'nowhere_at_all' (line 1)",
        ),
        ("x = 1", [], "defines no scenario: is @scenario(…) missing?"),
        (SCENARIO, ["--scenario", "other"], "has no scenario 'other', but confirm"),
        (
            SCENARIO + SCENARIO.replace('"confirm"', '"again"'),
            [],
            "choose --scenario of again, confirm",
        ),
    ],
)
def test_what_cannot_be_tried_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, arguments: list[str], why: str
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text, encoding="utf-8")
    assert cli.main(["try", str(path), *arguments]) == 1
    assert why in capsys.readouterr().err


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["try", "nowhere.py"]) == 1
    assert "nowhere.py: there is no such file" in capsys.readouterr().err


def test_ready_scenarios_are_tried_by_name() -> None:
    assert load("article")[1] == "article"
    assert load("no-such-number")[1] == "no-such-number"


def test_files_beside_it_are_found_and_no_others_are_run(tmp_path: Path) -> None:
    (tmp_path / "texts_of_mine.py").write_text("HELLO = 'Hello.'\n", encoding="utf-8")
    (tmp_path / "stranger.py").write_text("raise SystemExit(9)\n", encoding="utf-8")
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from texts_of_mine import HELLO\nfrom backend import scenario\n\n"
        "@scenario('mine')\ndef mine(call):\n    return HELLO\n",
        encoding="utf-8",
    )
    _, name, function = load(str(mine))
    assert (name, function(None)) == ("mine", "Hello.")  # type: ignore[arg-type]


def test_it_works_as_a_command(file: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backend", "try", file, "--say", "yes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "caller  yes" in done.stdout
