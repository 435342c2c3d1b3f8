"""docs/flows.md: what it shows is loaded, drawn, tried and run as it stands there, and its tables
are the schema's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from backend import cli
from backend.call.shelf import load
from backend.flow import expression, schema
from backend.flow.load import load_flow
from backend.flow.model import BUILT_IN
from backend.flow.run import engine
from backend.model import Reason
from backend.testing import FakeCall, flow_of, press, say
from tests.test_docs_scenarios import blocks

ROOT = Path(__file__).parents[1]
DOC = ROOT / "docs" / "flows.md"
GOOD = ROOT / "tests" / "vectors" / "flows" / "good"
TEXT = DOC.read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's flows and its function, as an author would have them."""
    for text in blocks(DOC, "yaml"):
        (found,) = re.findall(r"^flow: (\S+)", text, re.M)
        (tmp_path / f"{found}.flow.yaml").write_text(text, encoding="utf-8")
    (code,) = blocks(DOC, "python")
    (tmp_path / "night.py").write_text(code, encoding="utf-8")
    return tmp_path


def test_the_example_is_the_one_that_real_calls_run(folder: Path) -> None:
    names = ["identify.flow.yaml", "order.flow.yaml"]
    assert sorted(path.name for path in folder.glob("*.yaml")) == names
    for name in names:
        assert (folder / name).read_text() == (GOOD / name).read_text()


def test_the_picture_is_what_draw_draws(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["flow", "draw", str(folder / "order.flow.yaml")]) == 0
    assert blocks(DOC, "mermaid") == [capsys.readouterr().out]


def test_the_talk_that_it_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (commands,) = blocks(DOC, "sh")
    command = commands.replace("\\\n", " ").splitlines()[-1]
    assert command.startswith("asterisk-dialog flow try order.flow.yaml ")
    words = re.findall(r"'[^']*'|\S+", command)[4:]
    arguments = [word.strip("'") for word in words]
    assert cli.main(["flow", "try", str(folder / "order.flow.yaml"), *arguments]) == 0
    told = capsys.readouterr().out.splitlines()[1:]
    (shown,) = (block for block in blocks(DOC, "") if block.startswith("order ("))
    own = re.compile(r"/recordings/\S+")  # the call's id
    assert [own.sub("", line) for line in told] == [
        own.sub("", line) for line in shown.splitlines()[1:]
    ]


def test_its_test_passes(folder: Path) -> None:
    (code,) = blocks(DOC, "py")
    (folder / "test_order.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_order.py"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_its_function_runs_the_flow(folder: Path) -> None:
    scenarios = load([folder])
    assert scenarios.keys() == {"order", "identify", "night"}
    client = {"id": 7, "name": "Anna", "manager": "15077"}
    call = FakeCall(
        press("1234"),
        press("0"),
        scenarios=scenarios,
        http={"http://1c.example.com/clients/1234": client},
        dials={"15077": "busy"},
    )
    ended = call.run(scenarios["night"])
    assert ended.error is None, ended
    assert call.spoken[-2] == "All operators are busy. We will call you back."


def table(heading: str) -> set[str]:
    """The fields that the section's tables name in their first column."""
    (section,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", TEXT, re.M | re.S)
    rows = re.findall(r"^\| (`.*?) \|", section, re.M)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


COMMON = {"type", "note", "next", "on_error", "on_hangup"}


@pytest.mark.parametrize("kind", sorted(schema.node_fields()))
def test_every_field_of_every_node_is_in_its_table(kind: str) -> None:
    prompt = table("Prompts") if kind in ("play", "input", "hear") else set()
    told = table(kind) | prompt | COMMON
    fields = schema.node_fields()[kind]
    assert not fields - told
    assert not table(kind) - fields


def test_every_field_of_the_file_is_in_its_table() -> None:
    published = json.loads(schema.text())
    assert table("The file") == set(published["properties"])
    assert set(published["$defs"]["prompt_defaults"]["properties"]) <= table("Prompts")
    for name in published["$defs"]["exits"]["properties"]:
        assert f"`{name}`" in TEXT


def test_what_it_says_of_conditions_and_variables() -> None:
    (shown,) = (block for block in blocks(DOC, "") if block.startswith("tries"))
    written = [part for part in re.split(r"\n|\s{3,}", shown) if part]
    assert len(written) == 6
    for one in written:
        expression.parse(one)
    for name in (*BUILT_IN, *expression.FUNCTIONS, *(kind for _, kind in engine._KINDS)):
        assert re.search(rf"`{name}(\(…\))?`", TEXT), name


def test_the_errors_that_it_shows_are_ours() -> None:
    (shown,) = (block for block in blocks(DOC, "") if "did you mean" in block)
    vectors = "".join(path.read_text() for path in (GOOD.parent / "bad").glob("*.yaml"))
    for line in shown.splitlines():
        said = line.split(": ", 2)[2]
        assert said in vectors, line


def test_links_of_the_editor(folder: Path) -> None:
    """A file with the line for editors is a flow, too."""
    text = (folder / "order.flow.yaml").read_text()
    load_flow(f"# yaml-language-server: $schema=schema.json\n{text}", source="x")


CLIENT = {"id": 7, "name": "Anna", "manager": "15077"}
READY = {"orders": [{"number": "A5", "state": "ready", "sum": 300}]}


@pytest.mark.parametrize("at_s", [n / 2 for n in range(44)])
def test_a_hangup_at_any_moment_is_clean(at_s: float) -> None:
    """1C is told of it once, whatever was under way; every flow has its end."""
    call = FakeCall(
        press("1234"),
        say("delivery"),
        say("yes"),
        http={
            "GET http://1c.example.com/clients/1234": CLIENT,
            "GET http://1c.example.com/orders": READY,
            "POST http://1c.example.com/": {"id": 77},
        },
    )
    call.world.after(at_s, lambda: call._hang_up("caller", 16, ""))
    ended = call.run(flow_of(GOOD / "order.flow.yaml"))
    lost = [request for request in call.requests if request.url.endswith("/lost")]
    if call.hung_up_by == "robot":
        assert at_s > 18
        assert (ended.outcome.reason, lost) == (Reason.COMPLETED, [])
    else:
        assert ended.outcome.reason is Reason.CALLER_HANGUP
        begun = any(step.kind == "node" for step in call.steps)
        assert len(lost) == begun
    begins = [step.flow for step in call.steps if step.kind == "flow"]
    ends = [step for step in call.steps if step.kind == "flow_end"]
    assert Counter(begins) == Counter(step.flow for step in ends)
    assert all(step.body["ok"] for step in ends)
