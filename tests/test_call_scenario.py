from __future__ import annotations

from pathlib import Path

import pytest

import backend
from backend.call.shelf import load
from backend.errors import ScenarioError

ONE = """
from backend import Call, scenario

@scenario("{name}")
def function(call: Call) -> str:
    return "{text}"
"""


def write(folder: Path, file: str, name: str = "one", text: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(ONE.format(name=name, text=text))


def test_a_folder_is_loaded_by_name(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "one", "1")
    write(tmp_path, "b.py", "two", "2")
    found = load([tmp_path])
    assert sorted(found) == ["one", "two"]
    assert found["two"](None) == "2"  # type: ignore[arg-type]


def test_the_ready_scenarios_load() -> None:
    folder = Path(backend.__file__).parent / "scenarios"
    assert "article" in load([folder])


def test_a_later_folder_replaces(tmp_path: Path) -> None:
    write(tmp_path / "first", "a.py", "one", "old")
    write(tmp_path / "second", "b.py", "one", "new")
    found = load([tmp_path / "first", tmp_path / "second"])
    assert found["one"](None) == "new"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def (", "SyntaxError"),
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("from backend import scenario\n@scenario('a b')\ndef f(c): ...", "'a b'"),
        (ONE.format(name="x", text="") * 2, "'x' is defined twice"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ScenarioError, match=message) as caught:
        load([tmp_path])
    assert "bad.py" in str(caught.value)


def test_the_same_name_in_two_files(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    write(tmp_path, "b.py")
    with pytest.raises(ScenarioError, match=r"b\.py: scenario 'one' is also in a\.py"):
        load([tmp_path])


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no such folder"):
        load([tmp_path / "nowhere"])
