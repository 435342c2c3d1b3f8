"""Tables of an admin's: what is wrong with the file is told with its name, and its setting's."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend import tables
from backend.errors import ConfigError


def test_a_parser_gets_the_text_and_the_name(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("a = 'я'", encoding="utf-8")
    assert tables.load(file, tables.entries) == {"a": "я"}
    assert tables.load(file, lambda text, name: name) == str(file)
    assert tables.load(file, lambda text, name: name, setting="own_file") == f"own_file {file}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: .*No such file"),
        (b"\xff\xfe", "cannot be read: .*utf-8"),
        (b"a = 1\na = 2\n", r"not valid TOML: Cannot overwrite a value \(at line 2"),
    ],
)
def test_what_is_wrong_is_told_with_the_name(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "own.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^own_file /.*/own\.toml: {why}"):
        tables.load(file, tables.entries, setting="own_file")
