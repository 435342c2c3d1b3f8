"""storage.flow_book: what a worker knows of the published flows at any time."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from psycopg2 import extensions
from sqlalchemy import Engine, text

from backend.errors import FlowError, FlowProblem
from backend.flow.published import FlowVersion
from backend.flow.rollout import Order
from backend.storage.changes import FLOWS_CHANNEL
from backend.storage.deadline import keep_deadlines
from backend.storage.embedded import EmbeddedPostgres
from backend.storage.engine import make_engine
from backend.storage.flow_book import REFRESH_S, FlowBook
from backend.storage.flows import Flows
from backend.storage.migrate import migrate
from backend.storage.waiting import Waiter
from backend.storage.watching import BookWatch

TESTER = "79160000001"
AWAY = "postgresql://x@127.0.0.1:17998/x"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the flows are kept."""
    return tmp_path / "flows.json"


@pytest.fixture
def flows(engine: Engine) -> Flows:
    return Flows(engine)


@pytest.fixture
def deadlines() -> Iterator[None]:
    """As in a worker."""
    keep_deadlines()
    yield
    extensions.set_wait_callback(None)


def load(given: FlowVersion) -> str:
    """A flow that is ready to run: here, its text."""
    if "too new" in given.text:
        raise FlowError([FlowProblem(given.flow, 7, "ask", "no such type of node")])
    if "mistake" in given.text:
        raise ZeroDivisionError("of ours")
    return given.text


def book(flows: Flows, kept: Path) -> FlowBook[str]:
    found = FlowBook(flows, kept, load)
    found.refresh()
    return found


def put(flows: Flows, version: str, content: str = "", flow: str = "menu") -> None:
    flows.put(FlowVersion(flow, version, content or version, "yaml"), by="ann")


def order(flows: Flows, given: Order, flow: str = "menu") -> None:
    assert flows.change(flow, given, by="ann") is not None


def candidate(flows: Flows, content: str = "new") -> None:
    """``old`` for all, ``new`` for the test number."""
    put(flows, "old")
    order(flows, Order("all"))
    put(flows, "new", content)
    order(flows, Order("test", numbers=(TESTER,)))


def chosen(found: FlowBook[str], caller: str = "1", flow: str = "menu") -> tuple[str, ...] | None:
    one = found.view.choose(flow, caller)
    return None if one is None else (one.flow, one.version, one.cohort)


def test_each_caller_gets_his_version(flows: Flows, kept: Path) -> None:
    candidate(flows)
    found = book(flows, kept)
    assert chosen(found) == ("old", "old", "stable")
    assert chosen(found, "+" + TESTER) == ("new", "new", "test")
    assert chosen(found, flow="nosuch") is None
    assert list(found.view.names()) == ["menu"]
    assert list(found.view.stable()) == [("menu", "old")]


def test_what_is_only_put_is_nobodys(flows: Flows, kept: Path) -> None:
    put(flows, "new")
    found = book(flows, kept)
    assert chosen(found) is None
    assert list(found.view.names()) == []
    order(flows, Order("test", numbers=(TESTER,)))
    found.refresh()
    assert (chosen(found), chosen(found, TESTER)) == (None, ("new", "new", "test"))
    assert (list(found.view.names()), list(found.view.stable())) == (["menu"], [])


def test_a_call_keeps_the_view_it_began_with(flows: Flows, kept: Path) -> None:
    candidate(flows)
    found = book(flows, kept)
    running = found.view
    order(flows, Order("back"))
    found.refresh()
    assert chosen(found, TESTER) == ("old", "old", "stable")
    kept_one = running.choose("menu", TESTER)
    assert kept_one is not None
    assert kept_one.version == "new"


def test_a_candidate_that_cannot_be_loaded_here_is_passed_over(
    flows: Flows, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    candidate(flows, "too new")
    found = book(flows, kept)
    found.refresh()
    assert chosen(found, TESTER) == ("old", "old", "stable")
    why = "menu:7: node ask: no such type of node"
    assert found.refused == {("menu", "new"): why}
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 1, "once"
    assert lines[0].startswith("flows: menu version new cannot be loaded here, the stable")
    order(flows, Order("back"))
    found.refresh()
    assert found.refused == {}


@pytest.mark.parametrize("content", ["too new", "mistake"])
def test_a_stable_version_that_cannot_be_loaded_leaves_the_former(
    flows: Flows, kept: Path, content: str
) -> None:
    put(flows, "old")
    order(flows, Order("all"))
    found = book(flows, kept)
    for version in ("new", "newer"):
        put(flows, version, content)
        order(flows, Order("all"))
        found.refresh()
        begins = chosen(book(flows, kept))
        assert begins == (("old", "old", "stable") if version == "new" else None)
        assert chosen(found) == ("old", "old", "stable")
        assert ("menu", version) in found.refused
    put(flows, "newest")
    order(flows, Order("all"))
    found.refresh()
    assert chosen(found) == ("newest", "newest", "stable")


def test_a_text_that_is_gone_is_said(
    flows: Flows, engine: Engine, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    candidate(flows)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM flow_versions WHERE version = 'new'"))
    assert chosen(book(flows, kept), TESTER) == ("old", "old", "stable")
    assert "its text is not in table flow_versions" in caplog.text


def test_a_row_that_sql_has_spoiled_is_said_once_and_left_out(
    flows: Flows, engine: Engine, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(flows, "old", flow="other")
    order(flows, Order("all"), flow="other")
    candidate(flows)
    with engine.begin() as connection:
        connection.execute(text("UPDATE rollouts SET state = 'half' WHERE flow = 'menu'"))
    found = book(flows, kept)
    found.refresh()
    assert chosen(found, flow="other") == ("old", "old", "stable")
    assert [r.getMessage() for r in caplog.records] == [
        "flows: menu: its row in table rollouts cannot be read: 'half': expected one of stable,"
        " put, test, share, all; it is left out"
    ]


def test_texts_are_read_once(flows: Flows, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate(flows)
    asked: list[set[tuple[str, str]]] = []
    read = flows.texts

    def texts(wanted: set[tuple[str, str]]) -> list[FlowVersion]:
        asked.append(set(wanted))
        return read(wanted)

    monkeypatch.setattr(flows, "texts", texts)
    found = book(flows, kept)
    order(flows, Order("share", percent=5))
    found.refresh()
    found.refresh()
    assert asked == [{("menu", "old"), ("menu", "new")}]


# --- Watched -------------------------------------------------------------------------------------


def watch(engine: Engine, kept: Path, every_s: float = 3600.0) -> tuple[FlowBook[str], BookWatch]:
    found = FlowBook(Flows(engine), kept, load)
    return found, BookWatch(found, Waiter(engine, FLOWS_CHANNEL), "flows", every_s)


def wait_until(holds: Callable[[], bool]) -> None:
    ends = monotonic() + 60
    while not holds():
        assert monotonic() < ends
        threading.Event().wait(0.005)


@pytest.mark.usefixtures("deadlines")
def test_every_step_is_told_to_every_worker(flows: Flows, engine: Engine, kept: Path) -> None:
    books = [watch(engine, kept) for _ in range(2)]
    for _, watcher in books:
        watcher.start()
    try:
        candidate(flows)
        for found, _ in books:
            wait_until(lambda f=found: chosen(f, TESTER) == ("new", "new", "test"))  # type: ignore[misc]
        order(flows, Order("all"))
        for found, _ in books:
            wait_until(lambda f=found: chosen(f) == ("new", "new", "stable"))  # type: ignore[misc]
        order(flows, Order("back"))
        for found, _ in books:
            wait_until(lambda f=found: chosen(f) == ("old", "old", "stable"))  # type: ignore[misc]
    finally:
        for _, watcher in books:
            watcher.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "flows"]
    assert REFRESH_S == 2.0


def test_a_change_by_sql_is_seen_too(flows: Flows, engine: Engine, kept: Path) -> None:
    candidate(flows)
    found, watcher = watch(engine, kept, every_s=0.01)
    watcher.start()
    try:
        with engine.begin() as connection:
            connection.execute(text("UPDATE rollouts SET stable = 'new', state = 'stable'"))
        wait_until(lambda: chosen(found) == ("new", "new", "stable"))
    finally:
        watcher.stop()


@pytest.mark.usefixtures("deadlines")
def test_the_flows_known_last_count_while_postgresql_is_away(
    tmp_path_factory: pytest.TempPathFactory, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("pg"), {"fsync": "off"})
    engine = make_engine(server.start(), name="test")
    found, watcher = watch(engine, kept, every_s=0.01)
    try:
        migrate(engine)
        candidate(Flows(engine))
        watcher.start()
        server.pause()
        wait_until(lambda: "those known last count" in caplog.text)
        assert chosen(found, TESTER) == ("new", "new", "test")
        server.restart()
        wait_until(lambda: "flows: they can be read again" in caplog.text)
        order(Flows(engine), Order("all"))
        wait_until(lambda: chosen(found) == ("new", "new", "stable"))
    finally:
        watcher.stop()
        engine.dispose()
        server.stop()
    said = [r for r in caplog.records if r.name == "backend.storage.flow_book"]
    assert len(said) == 2, "once each"
    assert max(r.levelno for r in said) == logging.WARNING


# --- Kept on disk --------------------------------------------------------------------------------


def test_who_begins_while_postgresql_is_away_knows_them_too(
    flows: Flows, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    candidate(flows, "меню: \N{GRINNING FACE}")
    before = book(flows, kept)
    away = make_engine(AWAY, name="test")
    found = book(Flows(away), kept)
    assert found.view.rollouts == before.view.rollouts
    assert chosen(found, TESTER) == ("меню: \N{GRINNING FACE}", "new", "test")
    assert chosen(found) == ("old", "old", "stable")
    assert chosen(book(Flows(away), kept.with_name("none"))) is None
    assert sorted(kept.parent.iterdir()) == [kept], "no draft is left"
    assert "cannot be read" not in caplog.text
    away.dispose()


BAD_FILES = [
    "",
    "{}[",
    "[]",
    "{}",
    '{"rollouts": [{}], "texts": []}',
    '{"rollouts": [], "texts": [["a"]]}',
    "\udc80",
]


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_damaged_file_is_said_and_that_is_all(
    kept: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept.write_bytes(content.encode("utf-8", "surrogateescape"))
    away = make_engine(AWAY, name="test")
    assert chosen(book(Flows(away), kept)) is None
    assert f"flows: {kept} cannot be read" in caplog.text
    away.dispose()


def test_a_folder_that_cannot_be_written(
    flows: Flows, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    candidate(flows)
    found = book(flows, tmp_path / "none" / "flows.json")
    assert chosen(found) == ("old", "old", "stable")
    assert "cannot be written" in caplog.text


def test_the_file_is_written_when_something_changed(flows: Flows, kept: Path) -> None:
    candidate(flows)
    found = book(flows, kept)
    whole = json.loads(kept.read_text(encoding="utf-8"))
    assert [one["flow"] for one in whole["rollouts"]] == ["menu"]
    kept.unlink()
    found.refresh()
    assert not kept.exists(), "nothing changed"
