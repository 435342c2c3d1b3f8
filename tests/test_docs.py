"""The documents against the tree: links lead somewhere, settings and reasons are the code's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from backend import config
from backend.model import Reason, TaskState

ROOT = Path(__file__).parents[1]
PAGES = [page for page in (ROOT / "README.md", ROOT / "CHANGELOG.md") if page.exists()]
PAGES += sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BACKTICKED = re.compile(r"`([^`]+)`")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.strip().replace(" ", "-") for head in plain}


def tables(page: Path) -> Iterator[tuple[str, str]]:
    """(first cell of the table's head, first cell of the row) of every row."""
    head = ""
    for line in prose(page).splitlines():
        cells = line.split("|")
        if len(cells) < 3:
            head = ""
        elif not head:
            head = cells[1].strip()
        else:
            yield head, cells[1].strip()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_exist(page: Path) -> None:
    named = {item for head, cell in tables(page) if head == "setting" for item in ticked(cell)}
    named |= set(re.findall(r"\b(?:settings?|настройк[аеи]|настройку) `(\w+)`", prose(page)))
    assert named <= set(config.Settings.model_fields), name(page)


def ticked(cell: str) -> list[str]:
    return BACKTICKED.findall(cell)


def test_the_example_of_settings_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "admin.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "asterisk-dialog.toml"
    file.write_text(example, encoding="utf-8")
    settings = config.load(file)
    assert settings.speech == "speechkit"
    assert settings.http_tokens.keys() == {"1c", "monitoring"}


def test_the_log_lines_of_the_night_are_the_codes() -> None:
    files = [*(ROOT / "backend").rglob("*.py"), *(ROOT / "asterisk").glob("*.c")]
    files += (ROOT / "asterisk" / "dialplan").glob("*.conf")
    sources = "".join(file.read_text(encoding="utf-8") for file in files)
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # texts that go over several lines
    for head, cell in tables(ROOT / "docs" / "admin.md"):
        if head == "the line says":
            pieces = (piece for line in ticked(cell) for piece in line.split("…"))
            for piece in pieces:  # … stands for what differs
                assert piece.strip(" :;,.()") in sources, f"admin.md: no such log line: {piece}"


@pytest.mark.parametrize("page", ["1c.md", "http.md"])
def test_every_state_and_reason_is_explained(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    missing = [str(value) for value in (*Reason, *TaskState) if f"`{value}`" not in text]
    assert not missing


def test_the_scenarios_of_the_docs_load(tmp_path: Path) -> None:
    from backend.call.shelf import load

    text = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)):
        assert len(code.splitlines()) <= 12
        (tmp_path / f"scenario_{number}.py").write_text(code, encoding="utf-8")
    names = {"confirm", "menu", "minutes", "ask", "limited", "dial-for-me", "board", "pin"}
    assert load([tmp_path]).keys() == names


def test_the_unit_names_what_exists() -> None:
    unit = (ROOT / "docs" / "systemd" / "asterisk-dialog.service").read_text(encoding="utf-8")
    assert "--config /etc/asterisk-dialog.toml serve" in unit
    assert config.DEFAULT_FILE == "/etc/asterisk-dialog.toml"
