"""Scenarios that change while calls run: call.shelf and call.modules."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.call import modules
from backend.call import shelf as module
from backend.call.shelf import Folder, Names, Shelf
from backend.errors import ScenarioError

ONE = "from backend import scenario\n@scenario('{name}')\ndef run(call):\n    return {value}\n"
_times = itertools.count(10**18, 10**9)


class Desk:
    """A folder that an author edits, and its scenarios."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder: Folder | None = None

    @property
    def folder(self) -> Folder:
        if self._folder is None:
            self._folder = Folder(self.path)
        return self._folder

    def write(self, name: str, text: str) -> None:
        """Never with the times of the version before, however fast the test is."""
        file = self.path / name
        file.write_text(text)
        at_ns = next(_times)
        os.utime(file, ns=(at_ns, at_ns))

    def look(self) -> None:
        """Twice: what two looks saw counts."""
        self.folder.look()
        self.folder.look()

    def scenario(self, file: str, value: object, name: str = "one") -> None:
        self.write(file, ONE.format(name=name, value=repr(value)))

    def run(self, name: str = "one") -> Any:
        return self.folder.scenarios[name](None)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        return sorted(self.folder.scenarios)

    def errors(self) -> dict[str, str]:
        return {name: refused.error for name, refused in self.folder.refused.items()}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_new_calls_take_the_new_version_and_running_ones_keep_theirs(desk: Desk) -> None:
    desk.scenario("a.py", 1)
    running = desk.folder.scenarios["one"]
    desk.scenario("a.py", 2)
    assert desk.run() == 1, "not before a look"
    desk.look()
    assert desk.run() == 2
    assert running(None) == 1  # type: ignore[arg-type]


def test_files_come_and_go(desk: Desk) -> None:
    desk.scenario("a.py", 1)
    assert desk.names() == ["one"]
    desk.scenario("b.py", 2, "two")
    desk.look()
    assert desk.names() == ["one", "two"]
    (desk.path / "a.py").unlink()
    desk.folder.look()
    assert desk.names() == ["one", "two"], "gone for one look: an editor at work"
    desk.folder.look()
    assert desk.names() == ["two"]
    assert "dialog_scenario_a" not in sys.modules
    desk.scenario("a.py", 3)
    desk.look()
    assert desk.run() == 3


def test_an_editor_that_moves_the_file_away_and_writes_it_anew(desk: Desk) -> None:
    desk.scenario("a.py", 1)
    assert desk.run() == 1
    (desk.path / "a.py").rename(desk.path / "a.py~")
    desk.folder.look()
    desk.scenario("a.py", 2)
    desk.look()
    assert desk.run() == 2
    (desk.path / "a.py").rename(desk.path / "a.py~")
    desk.folder.look()
    assert desk.run() == 2, "it was there in between"


def test_an_editor_that_empties_the_file_and_writes_it_anew(desk: Desk) -> None:
    desk.scenario("a.py", 1)
    assert desk.run() == 1
    desk.write("a.py", "")
    desk.folder.look()
    desk.scenario("a.py", 2)
    desk.folder.look()
    assert desk.run() == 1
    desk.folder.look()
    assert desk.run() == 2


def test_a_file_that_is_written_while_it_is_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.scenario("a.py", 1)
    desk.scenario("b.py", 1, "two")
    assert desk.run() == 1
    desk.write("a.py", "")
    desk.folder.look()
    read = modules.read

    def slowly(path: Path) -> Any:
        source = read(path)
        monkeypatch.undo()
        desk.scenario("a.py", 2)
        return source

    monkeypatch.setattr(module, "read", slowly)
    desk.folder.look()
    assert desk.run() == 1
    desk.look()
    assert desk.run() == 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def (", "SyntaxError: invalid syntax (a.py, line 1)"),
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero (line 2)"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module' (line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3 (line 1)"),
        ("\0", "SyntaxError: source code string cannot contain null bytes"),
        ("# coding: klingon", "SyntaxError: unknown encoding: klingon"),
        (ONE.format(name="one", value=1) * 2, "ScenarioError: scenario 'one' is defined twice"),
        ("from backend import scenario\nscenario('a b')", "ScenarioError: scenario name 'a b'"),
        ("raise ValueError('two\\nlines ' + 'x' * 1000)", "ValueError: two lines xxx"),
    ],
)
def test_a_broken_version_is_refused_and_the_old_one_goes_on(
    desk: Desk, text: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    desk.scenario("a.py", 1)
    assert desk.run() == 1
    desk.write("a.py", text)
    desk.look()
    assert desk.run() == 1
    found = desk.folder.refused["a"]
    assert found.former
    assert found.error.startswith(error) or error in found.error
    assert len(found.error) < 350
    assert "\n" not in str(found)
    desk.look()
    desk.scenario("b.py", 2, "two")  # something else is loaded, and the broken one tried again
    desk.look()
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert said == [f"scenarios: refused, its former version goes on: {found}"], "once"
    assert "dialog_scenario_a" in sys.modules
    desk.scenario("a.py", 3)
    desk.look()
    assert (desk.run(), desk.errors()) == (3, {})


def test_a_file_that_was_never_good_is_left_out(desk: Desk) -> None:
    desk.write("a.py", "1 / 0")
    desk.scenario("b.py", 2, "two")
    assert (desk.names(), list(desk.errors())) == (["two"], ["a"])
    assert not desk.folder.refused["a"].former
    assert "dialog_scenario_a" not in sys.modules
    (desk.path / "a.py").unlink()
    desk.look()
    desk.look()
    assert desk.errors() == {}


def test_an_unreadable_file_is_refused(desk: Desk) -> None:
    desk.scenario("a.py", 1)
    assert desk.run() == 1
    (desk.path / "a.py").unlink()
    (desk.path / "a.py").mkdir()  # no file any more
    (desk.path / "b.py").symlink_to("nowhere")
    for _ in range(2):
        desk.look()
    assert desk.names() == []
    assert desk.errors() == {}


# --- Helper modules ------------------------------------------------------------------------------


def with_helper(desk: Desk, value: object = 1) -> None:
    desk.write("texts.py", f"VALUE = {value!r}\n")
    desk.write(
        "a.py",
        "import texts\nfrom texts import VALUE\nfrom backend import scenario\n"
        "@scenario('one')\ndef run(call):\n"
        "    from texts import VALUE as late\n    return [VALUE, texts.VALUE, late]\n",
    )


def test_helpers_are_reloaded_with_the_scenarios_that_import_them(desk: Desk) -> None:
    with_helper(desk)
    desk.scenario("b.py", "kept", "two")
    running, other = desk.folder.scenarios["one"], desk.folder.scenarios["two"]
    assert desk.run() == [1, 1, 1]
    desk.write("texts.py", "VALUE = 2")
    desk.look()
    assert desk.run() == [2, 2, 2]
    assert running(None) == [1, 1, 1], "also where it imports in mid-call"  # type: ignore[arg-type]
    assert desk.folder.scenarios["two"] is other, "what is not concerned is not loaded again"


def test_helpers_of_helpers_too(desk: Desk) -> None:
    desk.write("deep.py", "VALUE = 1")
    desk.write("texts.py", "import deep")
    desk.write(
        "a.py",
        "import texts\nfrom backend import scenario\n"
        "@scenario('one')\ndef run(call):\n    return texts.deep.VALUE\n",
    )
    assert desk.run() == 1
    desk.write("deep.py", "VALUE = 2")
    desk.look()
    assert desk.run() == 2


def test_a_broken_helper_keeps_the_old_pair_together(desk: Desk) -> None:
    with_helper(desk)
    assert desk.run() == [1, 1, 1]
    desk.write("texts.py", "VALUE = ")
    desk.look()
    assert desk.run() == [1, 1, 1]
    assert desk.errors()["a"] == "ImportError: texts.py cannot be loaded (line 1)"
    assert desk.errors()["texts"].startswith("SyntaxError")
    desk.write("texts.py", "VALUE = 3")
    desk.look()
    assert (desk.run(), desk.errors()) == ([3, 3, 3], {})


def test_a_helper_that_is_gone_or_comes_later(desk: Desk) -> None:
    desk.scenario("b.py", 2, "two")
    desk.write("a.py", "import texts_of_mine\n" + ONE.format(name="one", value=1))
    assert desk.names() == ["two"]
    desk.write("texts_of_mine.py", "")
    desk.look()
    assert (desk.run(), desk.errors()) == (1, {})
    (desk.path / "texts_of_mine.py").unlink()
    for _ in range(2):
        desk.look()
    assert desk.run() == 1, "the old one goes on"
    assert "No module named 'texts_of_mine'" in desk.errors()["a"]


def test_files_that_import_each_other(desk: Desk) -> None:
    desk.write("x.py", "import y\nVALUE = 1\ndef get():\n    return y.VALUE")
    desk.write("y.py", "import x\nVALUE = 2\n" + ONE.format(name="one", value="x.VALUE + x.get()"))
    assert desk.run() == 3
    desk.write("x.py", "import y\nVALUE = 10\ndef get():\n    return y.VALUE")
    desk.look()
    assert desk.run() == 12


def test_a_file_takes_no_librarys_place(desk: Desk) -> None:
    desk.write("json.py", "VALUE = 1")
    desk.write("backend.py", "VALUE = 1")
    text = "import json\nimport json.decoder\nfrom backend.errors import Hangup\n"
    desk.write("a.py", text + ONE.format(name="one", value="json.loads('[1]')"))
    assert desk.run() == [1]
    assert not hasattr(sys.modules["json"], "VALUE")


def test_a_file_has_nothing_inside(desk: Desk) -> None:
    desk.write("texts.py", "")
    desk.write("a.py", "import texts.more")
    assert "texts.py has no module 'more' in it" in desk.folder.refused["a"].error


def test_dataclasses_with_postponed_annotations(desk: Desk) -> None:
    """dataclasses looks its class's module up in sys.modules."""
    desk.write(
        "a.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from typing import ClassVar\n@dataclass\nclass Answer:\n"
        "    kind: ClassVar[int] = 1\n    text: str = ''\n"
        + ONE.format(name="one", value="Answer('x').text"),
    )
    assert desk.run() == "x"


# --- The same name twice -------------------------------------------------------------------------


def test_a_newcomer_with_anothers_name_is_refused(desk: Desk) -> None:
    desk.scenario("b.py", "old", "one")
    assert desk.run() == "old"
    desk.scenario("a.py", "new", "one")
    desk.look()
    assert desk.run() == "old"
    assert desk.errors() == {"a": "scenario 'one' is also in b.py"}
    (desk.path / "b.py").unlink()  # it was renamed, in two steps
    for _ in range(2):
        desk.look()
    assert (desk.run(), desk.errors()) == ("new", {})


def test_names_that_change_places(desk: Desk) -> None:
    desk.scenario("a.py", "of a", "one")
    desk.scenario("b.py", "of b", "two")
    assert desk.names() == ["one", "two"]
    desk.scenario("a.py", "of a", "two")
    desk.scenario("b.py", "of b", "one")
    desk.look()
    assert (desk.run("one"), desk.run("two"), desk.errors()) == ("of b", "of a", {})
    desk.scenario("a.py", "broken", "three")
    desk.scenario("b.py", "broken", "three")
    desk.look()
    assert desk.errors() == {"b": "scenario 'three' is also in a.py"}
    assert desk.names() == ["one", "three"], "b goes on as it was"


# --- Whatever the author does --------------------------------------------------------------------

FILES = ("a", "b", "c", "d")
Edit = tuple[str, str, frozenset[str]]  # file, what becomes of it, what it imports
EDITS = st.lists(
    st.tuples(
        st.sampled_from(FILES),
        st.sampled_from(["good", "good", "good", "broken", "raises", "gone"]),
        st.frozensets(st.sampled_from(FILES), max_size=2),
    ),
    max_size=12,
)


def edit(desk: Desk, number: int, file: str, what: str, imports: frozenset[str]) -> None:
    if what == "gone":
        (desk.path / f"{file}.py").unlink(missing_ok=True)
        return
    others = sorted(imports - {file})
    lines = [f"VERSION = {number}", *(f"import {other}" for other in others)]
    lines += {"broken": ["def ("], "raises": ["1 / 0"]}.get(what, [])
    values = ", ".join(["VERSION", *(f"{other}.VERSION" for other in others)])
    desk.write(f"{file}.py", "\n".join(lines) + "\n" + ONE.format(name=file, value=f"[{values}]"))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(EDITS, st.sets(st.integers(0, 11)))
def test_what_can_be_loaded_is_what_is_served(edits: list[Edit], looks: set[int]) -> None:
    """However it came about: what a fresh start could load is what is served, as it is now, and
    what it could not is refused."""
    with TemporaryDirectory() as path:
        desk = Desk(Path(path))
        assert desk.names() == []
        for number, (file, what, imports) in enumerate(edits):
            edit(desk, number, file, what, imports)
            if number in looks:
                desk.folder.look()
        desk.look()
        fresh = Folder(desk.path, "dialog_fresh_")
        assert desk.folder.refused.keys() == fresh.refused.keys()
        assert desk.folder.scenarios.keys() >= fresh.scenarios.keys()
        for name, function in fresh.scenarios.items():
            assert desk.run(name) == function(None)  # type: ignore[arg-type]
        for name in FILES:
            for prefix in ("dialog_fresh_", "dialog_scenario_"):
                sys.modules.pop(prefix + name, None)


# --- Nothing is left -----------------------------------------------------------------------------


def test_old_versions_are_freed(desk: Desk) -> None:
    with_helper(desk)
    assert desk.run() == [1, 1, 1]
    before = len(sys.modules)
    old: list[weakref.ref[Any]] = []
    for n in range(30):
        old += [weakref.ref(sys.modules[f"dialog_scenario_{name}"]) for name in ("a", "texts")]
        desk.write("texts.py", f"VALUE = {n}")
        desk.look()
        assert desk.run() == [n] * 3
    gc.collect()
    assert [one for one in old if one() is not None] == []
    assert len(sys.modules) == before
    assert not (desk.path / "__pycache__").exists()


# --- The shelf -----------------------------------------------------------------------------------


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="there is no such folder"):
        Shelf([], [tmp_path / "none"])


def test_a_folder_that_goes_away_keeps_what_was_loaded(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.scenario("a.py", 1)
    assert desk.run() == 1
    desk.path.rename(desk.path.with_name("elsewhere"))
    for _ in range(3):
        desk.look()
    assert desk.run() == 1
    assert [r.levelno for r in caplog.records if r.levelno >= logging.ERROR] == [logging.ERROR]
    desk.path.with_name("elsewhere").rename(desk.path)
    desk.scenario("a.py", 2)
    desk.look()
    assert desk.run() == 2


def test_own_scenarios_replace_the_ready_ones_and_give_them_back(tmp_path: Path) -> None:
    ready, own = Desk(tmp_path / "ready"), Desk(tmp_path / "own")
    for desk, value in ((ready, "ready"), (own, "own")):
        desk.path.mkdir()
        desk.scenario("a.py", value)
    shelf = Shelf([ready.path], [own.path])
    names = Names(shelf)
    ready.scenario("b.py", 1, "late")  # an upgrade under way

    def run() -> Any:
        return shelf.current()["one"](None)  # type: ignore[arg-type]

    assert (run(), "late" in names) == ("own", False)
    own.scenario("b.py", 1, "two")
    shelf.look()
    shelf.look()
    assert "two" in names
    assert (sorted(names), len(names)) == (["one", "two"], 2)
    (own.path / "a.py").unlink()
    for _ in range(2):
        shelf.look()
    assert run() == "ready"
    assert shelf.current()["one"].__module__ in sys.modules, "of the same name, not the same module"
    own.write("b.py", "1 / 0")
    shelf.look()
    shelf.look()
    assert [refused.path.name for refused in shelf.refused()] == ["b.py"]


def test_a_thread_keeps_it_up_to_date(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    desk.scenario("a.py", 1)
    shelf = Shelf([], [desk.path])
    shelf.start()
    try:
        desk.scenario("a.py", 2)
        wait_for(lambda: shelf.current()["one"](None) == 2)  # type: ignore[arg-type]
        desk.write("a.py", "1 / 0")
        wait_for(lambda: bool(shelf.refused()))
        assert shelf.current()["one"](None) == 2  # type: ignore[arg-type]
    finally:
        shelf.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "scenarios"]


def wait_for(probe: Callable[[], bool]) -> None:
    ends = monotonic() + 60
    while not probe():
        assert monotonic() < ends
        threading.Event().wait(0.005)
