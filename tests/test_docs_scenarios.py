"""What README.md and docs/scenarios.md show of scenarios is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from backend import cli
from backend.call.call import Call
from backend.call.conference import Conference
from backend.call.store import Store
from backend.testing import FakeCall, Step, hangup, say, silence
from backend.trying.load import load

ROOT = Path(__file__).parents[1]
DOC = ROOT / "docs" / "scenarios.md"


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of that language."""
    found: list[tuple[str, list[str]]] = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("```"):
            inside = not inside
            if inside:
                found.append((line[3:].strip(), []))
        elif inside:
            found[-1][1].append(line)
    return ["".join(lines) for name, lines in found if name == language]


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """The README's scenario, in a file."""
    (code,) = blocks(ROOT / "README.md", "python")
    assert len(code.splitlines()) <= 12
    path = tmp_path / "my_scenario.py"
    path.write_text(code, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("script", "result", "thanked"),
    [
        ([say("yes")], {"coming": "yes"}, True),
        ([say("no")], {"coming": "no"}, False),
        ([silence()], {"coming": ""}, False),
        ([say("yes please", over_prompt=True)], {"coming": "yes please"}, True),
        ([hangup()], None, False),
    ],
)
def test_hello_world(
    hello: Path, script: list[Step], result: dict[str, str] | None, thanked: bool
) -> None:
    call = FakeCall(*script)
    call.run(load(str(hello))[2])
    assert call.result == result
    assert ("Thank you, see you tomorrow." in call.spoken) is thanked


def test_the_readmes_command(hello: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^asterisk-dialog (try .*?)\s+#", text, re.M)
    arguments = command.replace("my_scenario.py", str(hello)).split()
    assert cli.main(arguments) == 0
    assert 'result   {"coming": "yes"}' in capsys.readouterr().out


def test_the_talk_that_the_docs_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my_scenario.py"
    path.write_text(blocks(DOC, "python")[0], encoding="utf-8")
    (shown,) = (block for block in blocks(DOC, "") if block.startswith("confirm ("))
    assert cli.main(["try", str(path), "--say", "yes, please"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1:] == shown.splitlines()[1:]


def test_the_docs_tests_pass(tmp_path: Path) -> None:
    (tmp_path / "my_scenario.py").write_text(blocks(DOC, "python")[0], encoding="utf-8")
    (code,) = blocks(DOC, "py")
    (tmp_path / "test_my_scenario.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert f"{code.count('def test_')} passed" in done.stdout


def test_every_step_and_option_is_in_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    text = DOC.read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        cli.main(["try", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    missing = {option for option in options if option not in text}
    assert missing <= {"--help", "--scenario", "--caller", "--called"}


def test_every_ready_scenario_is_in_the_docs() -> None:
    text = DOC.read_text(encoding="utf-8")
    for path in sorted((ROOT / "backend" / "scenarios").glob("*.py")):
        if path.stem != "__init__":
            name = path.stem.replace("_", "-")
            assert f"[{name}](../backend/scenarios/{path.name})" in text


def proofs() -> list[tuple[str, str]]:
    """(call, tests) of each row of the table of what holds."""
    text = DOC.read_text(encoding="utf-8").partition("\n## What holds, and its test\n")[2]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert all(len(row) == 3 for row in rows)
    return [(call, tests) for _, call, tests in rows]


def test_every_test_that_the_docs_name_exists() -> None:
    for page in sorted((ROOT / "docs").glob("*.md")):
        for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8")):
            assert f"def {name}(" in (ROOT / file).read_text("utf-8"), (
                f"{page.name}: {file}::{name}"
            )
    assert all("::" in tests for _, tests in proofs())


PLAIN = {"id", "caller", "called", "file", "language", "name", "joined"}
RUNTIMES = {"info", "hung_up", "join_others", "close", "request", "step_log"}


@pytest.mark.parametrize("kind", [Call, Conference, Store])
def test_every_method_has_its_proof(kind: type) -> None:
    calls = " ".join(call for call, _ in proofs())
    names = {name for name in vars(kind) if not name.startswith("_")} - PLAIN - RUNTIMES
    assert not {name for name in names if not re.search(rf"\b{name}\b", calls)}
