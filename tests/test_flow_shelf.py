"""Flows beside Python files: loaded, loaded anew, refused."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from backend.call.shelf import Folder, Shelf, load
from backend.errors import ScenarioError
from backend.testing import FakeCall, flow_of

FLOW = """
flow: NAME
title: A flow.
start: a
variables: {x: null}
result: VALUE
nodes:
  a: {type: set, values: {x: 1}, next: end}
"""
ENTERS = FLOW.replace("type: set, values: {x: 1}", "type: flow, flow: OTHER, save: x")
FUNCTION = "from backend import scenario\n@scenario('NAME')\ndef run(call):\n    return VALUE\n"
_times = itertools.count(10**18, 10**9)


class Desk:
    """A folder that an author edits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder: Folder | None = None

    @property
    def folder(self) -> Folder:
        if self._folder is None:
            self._folder = Folder(self.path)
        return self._folder

    def write(self, file: str, text: str, name: str = "one", value: object = 1) -> None:
        """Never with the times of the version before, however fast the test is."""
        path = self.path / file
        path.write_text(text.replace("NAME", name).replace("VALUE", repr(value)))
        at_ns = next(_times)
        os.utime(path, ns=(at_ns, at_ns))

    def look(self) -> None:
        """Twice: what two looks saw counts."""
        self.folder.look()
        self.folder.look()

    def run(self, name: str = "one") -> Any:
        call = FakeCall(scenarios=self.folder.scenarios)
        ended = call.run(self.folder.scenarios[name])
        assert ended.error is None, ended
        return ended.result

    def errors(self) -> dict[str, str]:
        return {name: refused.error for name, refused in self.folder.refused.items()}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("suffix", [".flow.yaml", ".flow.yml", ".FLOW.YAML"])
def test_a_flow_is_a_scenario_of_its_name(desk: Desk, suffix: str) -> None:
    desk.write(f"any{suffix}", FLOW)
    desk.write("two.py", FUNCTION, "two", 2)
    assert (desk.run(), desk.run("two")) == (1, 2)
    assert desk.folder.scenarios["one"].__doc__ == "A flow."
    assert not desk.errors()


def test_json_is_one_too(desk: Desk) -> None:
    desk.write("a.flow.json", '{"flow": "one", "start": "a", "nodes": {"a": {"type": "hangup"}}}')
    assert list(desk.folder.scenarios) == ["one"]


def test_other_files_are_none_of_ours(desk: Desk) -> None:
    for file in ("one.yaml", "one.json", "flow.yaml", ".hidden.flow.yaml", "one.flow.yaml~"):
        desk.write(file, FLOW)
    assert (dict(desk.folder.scenarios), desk.errors()) == ({}, {})


def test_new_calls_take_the_new_version_and_running_ones_keep_theirs(desk: Desk) -> None:
    desk.write("a.flow.yaml", FLOW)
    running = desk.folder.scenarios["one"]
    desk.write("a.flow.yaml", FLOW, value=2)
    assert desk.run() == 1, "not before a look"
    desk.look()
    assert desk.run() == 2
    assert FakeCall().run(running).result == 1


def test_a_call_keeps_the_version_of_what_it_enters_later(desk: Desk) -> None:
    desk.write("outer.flow.yaml", ENTERS.replace("OTHER", "inner"), "outer", "{x}")
    desk.write("inner.flow.yaml", FLOW, "inner", 1)
    old = dict(desk.folder.scenarios)
    desk.write("inner.flow.yaml", FLOW, "inner", 2)
    desk.look()
    assert desk.run("outer") == 2
    assert FakeCall(scenarios=old).run(old["outer"]).result == 1


def test_a_broken_version_is_refused_and_the_old_one_goes_on(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.write("a.flow.yaml", FLOW)
    assert desk.run() == 1
    wrong = FLOW.replace("next: end", "next: ende, nxt: 1").replace("start: a", "strat: a")
    with caplog.at_level(logging.ERROR):
        desk.write("a.flow.yaml", wrong, value=2)
        desk.look()
    assert desk.run() == 1
    assert desk.errors() == {
        "a.flow.yaml": "line 1: lacks 'start'; line 4: unknown field 'strat'; did you mean "
        "'start'?; line 8: node a: unknown field 'nxt'; did you mean 'next'?"
    }
    assert "refused, its former version goes on" in caplog.text
    assert "a.flow.yaml: line 1: lacks 'start'" in caplog.text
    desk.write("a.flow.yaml", FLOW, value=3)
    desk.look()
    assert (desk.run(), desk.errors()) == (3, {})


def test_many_problems_are_told_in_short(desk: Desk) -> None:
    nodes = "".join(f"\n  n{n}: {{type: sing}}" for n in range(9))
    desk.write("a.flow.yaml", f"flow: a\nstart: a\nnodes:{nodes}\n")
    (why,) = desk.errors().values()
    assert why.count("found 'sing'") == 3
    assert why.endswith("; 6 more, see: asterisk-dialog flow check")
    assert "\n" not in why


def test_what_is_no_text(desk: Desk) -> None:
    (desk.path / "a.flow.yaml").write_bytes(b"flow: \xff\n")
    assert desk.errors() == {"a.flow.yaml": "is no UTF-8 text: byte 6"}


@pytest.mark.parametrize(
    ("first", "second"), [("a.flow.yaml", "b.py"), ("b.py", "a.flow.yaml"), ("b.py", "a.flow.yml")]
)
def test_of_two_with_one_name_the_newcomer_is_refused(desk: Desk, first: str, second: str) -> None:
    texts = {name: FUNCTION if name.endswith(".py") else FLOW for name in (first, second)}
    desk.write(first, texts[first], value=1)
    assert desk.run() == 1
    desk.write(second, texts[second], value=2)
    desk.look()
    assert desk.run() == 1
    key = second.removesuffix(".py")
    assert desk.errors() == {key: f"scenario 'one' is also in {first}"}
    (desk.path / first).unlink()
    desk.look()
    assert (desk.run(), desk.errors()) == (2, {})


def test_a_file_that_is_gone(desk: Desk) -> None:
    desk.write("a.flow.yaml", FLOW)
    assert desk.run() == 1
    (desk.path / "a.flow.yaml").unlink()
    desk.look()
    assert dict(desk.folder.scenarios) == {}


def test_flows_that_enter_each_other_are_refused(desk: Desk) -> None:
    desk.write("a.flow.yaml", ENTERS.replace("OTHER", "two"), "one")
    desk.write("b.flow.yaml", FLOW, "two")
    assert desk.run() == 1
    desk.write("b.flow.yaml", ENTERS.replace("OTHER", "one"), "two")
    desk.look()
    assert desk.run() == 1, "the one before goes on"
    (why,) = desk.errors().values()
    assert why.startswith("line 8: node a: enters flow 'one', which leads back here: one, two")
    desk.write("c.flow.yaml", ENTERS.replace("OTHER", "own"), "own")
    desk.look()
    assert "leads back here: own" in desk.errors()["c.flow.yaml"]
    desk.write("a.flow.yaml", FLOW, "one", 5)
    desk.look()
    assert list(desk.errors()) == ["c.flow.yaml"], "what was refused is tried again"
    assert desk.run() == 5


def test_a_shelf_of_ready_and_own(tmp_path: Path) -> None:
    for name in ("ready", "own"):
        (tmp_path / name).mkdir()
        desk = Desk(tmp_path / name)
        desk.write("a.flow.yaml", FLOW, "one", name)
    shelf = Shelf([tmp_path / "ready"], [tmp_path / "own"])
    assert FakeCall().run(shelf.current()["one"]).result == "own"


def test_loading_says_all(tmp_path: Path) -> None:
    Desk(tmp_path).write("a.flow.yaml", "flow: a\n")
    with pytest.raises(ScenarioError, match=r"a\.flow\.yaml: line 1: lacks 'start' and 'nodes'"):
        load([tmp_path])


def test_flow_of_takes_what_is_beside(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("inner.flow.yaml", FLOW, "inner", 7)
    desk.write("outer.flow.yaml", ENTERS.replace("OTHER", "inner"), "outer", "{x}")
    assert FakeCall().run(flow_of(tmp_path / "outer.flow.yaml")).result == 7
    desk.write("outer.flow.yaml", ENTERS.replace("OTHER", "iner"), "outer", "{x}")
    with pytest.raises(ScenarioError, match=r"there is no flow 'iner'; did you mean 'inner'\?"):
        flow_of(tmp_path / "outer.flow.yaml")


def test_what_is_entered_and_not_there_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path)
    desk.write("outer.flow.yaml", ENTERS.replace("OTHER", "inner"), "outer", "{x}")
    shelf = Shelf([], [tmp_path])
    for _ in range(3):
        shelf.look()
    told = "outer.flow.yaml:8: node a: there is no flow 'inner'; calls that come there take"
    assert caplog.text.count(told) == 1
    call = FakeCall(scenarios=shelf.current())
    assert "there is no flow 'inner'" in str(call.run(shelf.current()["outer"]).error)
    desk.write("inner.flow.yaml", FLOW, "inner", 7)
    for _ in range(3):
        shelf.look()
    assert FakeCall(scenarios=shelf.current()).run(shelf.current()["outer"]).result == 7
    assert caplog.text.count(told) == 1
