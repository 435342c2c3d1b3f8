"""app.flows: published flows and files together, as calls and the door see them."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import Engine, text

from backend.app.bus import ProcessBus
from backend.app.flows import FlowDesk, Published, ready, tell_fall_back, watch_flows
from backend.app.home import Home, SpeechAddress
from backend.bus.publisher import NoBus
from backend.call.shelf import Names, Shelf
from backend.config import Settings
from backend.errors import FlowError
from backend.flow.load import load_flow
from backend.flow.published import FlowVersion
from backend.flow.rollout import FellBack, Order
from backend.ports import BusEvent
from backend.storage.engine import make_engine
from backend.storage.flow_book import FlowBook
from backend.storage.flow_review import FlowReview
from backend.storage.flows import Flows

TESTER = "79160000001"
PLAIN = "flow: {name}\nstart: bye\nnodes:\n  bye: {{type: hangup}}\nresult: {word}\n"
ENTERS = (
    "flow: {name}\nstart: go\nnodes:\n"
    "  go: {{type: flow, flow: {other}, next: bye}}\n  bye: {{type: hangup}}\n"
)


class Held(NoBus):
    def __init__(self) -> None:
        self.events: list[BusEvent] = []

    def publish(self, event: BusEvent) -> None:
        self.events.append(event)


class HeldBus(ProcessBus):
    """Keeps what is published."""

    def __init__(self, tmp_path: Path) -> None:
        settings = Settings(bus="off", data_dir=tmp_path, node="here")
        super().__init__(Home(settings, "", SpeechAddress("", "", local=True)), "web", ExitStack())
        self.out = held = Held()
        self.events = held.events


def version(content: str) -> FlowVersion:
    flow = load_flow(content, source="x.yaml")
    return FlowVersion(flow.name, flow.version, content, "yaml")


def plain(word: str, name: str = "menu") -> FlowVersion:
    return version(PLAIN.format(name=name, word=word))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "menu.flow.yaml").write_text(PLAIN.format(name="menu", word="file"))
    (folder / "spare.flow.yaml").write_text(PLAIN.format(name="spare", word="file"))
    return folder


@pytest.fixture
def book(engine: Engine, tmp_path: Path) -> FlowBook[Any]:
    return FlowBook(Flows(engine), tmp_path / "flows.json", ready)


@pytest.fixture
def bus(tmp_path: Path) -> HeldBus:
    return HeldBus(tmp_path)


@pytest.fixture
def desk(engine: Engine, book: FlowBook[Any], bus: HeldBus) -> FlowDesk:
    return FlowDesk(engine, book, bus)


@pytest.fixture
def published(book: FlowBook[Any], files: Path) -> Published:
    return Published(book, Shelf([files]))


def order(desk: FlowDesk, given: Order, name: str = "menu") -> None:
    assert desk.change(name, given, by="ann") is not None


def test_a_published_flow_replaces_a_file_of_its_name_for_those_who_get_it(
    desk: FlowDesk, published: Published
) -> None:
    assert dict(published.for_caller(TESTER)) == {}
    desk.put(plain("new"), by="ann")
    assert dict(published.for_caller(TESTER)) == {}, "put: no call gets it"
    order(desk, Order("test", numbers=(TESTER,)))
    assert list(published.for_caller(TESTER)) == ["menu"], "seen at once by the next request"
    assert dict(published.for_caller("1")) == {}, "the file goes on"
    assert published.told()["scenarios_refused_why"] == []
    order(desk, Order("all"))
    assert list(published.for_caller("1")) == ["menu"]


def test_the_names_are_those_of_both(desk: FlowDesk, published: Published) -> None:
    names = Names(published)
    assert set(names) == {"menu", "spare"}
    desk.put(plain("new", "pay"), by="ann")
    assert "pay" not in names
    order(desk, Order("test", numbers=(TESTER,)), "pay")
    assert set(names) == {"menu", "spare", "pay"}
    assert len(names) == 3


def test_a_flow_that_no_file_holds_answers_its_part_of_the_callers(
    desk: FlowDesk, published: Published
) -> None:
    first = plain("first", "pay")
    desk.put(first, by="ann")
    desk.put(plain("new"), by="ann")
    for name in ("pay", "menu"):
        order(desk, Order("test", numbers=(TESTER,)), name)
    assert published.answers("pay", TESTER)
    assert not published.answers("pay", "1")
    assert published.answers("menu", "1"), "by its file"
    assert published.answers("unheard_of", "1"), "of names others judge"
    order(desk, Order("share", percent=50.0), "pay")
    told = [number for number in map(str, range(100, 200)) if published.answers("pay", number)]
    assert told == [n for n in map(str, range(100, 200)) if published.for_caller(n).get("pay")]
    assert 20 < len(told) < 80
    order(desk, Order("all"), "pay")
    assert published.answers("pay", "1")


def test_a_file_that_counts_no_more_is_told_once_and_in_health(
    desk: FlowDesk, published: Published, caplog: pytest.LogCaptureFixture
) -> None:
    new = plain("new")
    desk.put(new, by="ann")
    order(desk, Order("all"))
    caplog.clear()
    told = published.told()
    assert published.told() == told
    words = (
        "scenario menu of the files: calls get the published flow of that name instead,"
        f" version {new.version}"
    )
    assert told["scenarios_refused_why"] == [words]
    assert (told["scenarios"], told["scenarios_refused"], told["flows"]) == (2, 1, 1)
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        f"flows: {words}"
    ]


def test_a_version_that_cannot_be_loaded_is_told_in_health(
    desk: FlowDesk, published: Published, engine: Engine, book: FlowBook[Any]
) -> None:
    desk.put(plain("old"), by="ann")
    order(desk, Order("all"))
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO flow_versions SELECT flow, 'ffffffffffff', 'flow: 5', format, note,"
                " created_at, created_by FROM flow_versions"
            )
        )
        connection.execute(text("UPDATE rollouts SET candidate = 'ffffffffffff', state = 'test'"))
    book.refresh()
    why = published.told()["scenarios_refused_why"][0]
    assert why.startswith("flow menu, version ffffffffffff: menu-ffffffffffff.yaml:1: ")
    assert "\n" not in why
    assert list(published.for_caller("1")) == ["menu"]


def test_flows_that_would_enter_each_other_without_end_are_refused(desk: FlowDesk) -> None:
    desk.put(version(ENTERS.format(name="one", other="two")), by="ann")
    order(desk, Order("all"), "one")
    with pytest.raises(FlowError) as caught:
        desk.put(version(ENTERS.format(name="two", other="one")), by="ann")
    (problem,) = caught.value.problems
    assert (problem.line, problem.node) == (4, "go")
    assert "leads back here" in problem.text
    assert desk.report("two") is None


def test_other_systems_are_told_of_every_step(desk: FlowDesk, bus: HeldBus) -> None:
    old, new = plain("old"), plain("new")
    desk.put(old, by="ann")
    order(desk, Order("all"))
    desk.put(new, by="ann")
    order(desk, Order("share", percent=5))
    tell_fall_back(bus, FellBack("menu", new.version, old.version, "why", 3, ("c1",)))
    events = [(e.kind, e.flow, e.version, e.body["action"]) for e in bus.events]
    assert events == [
        ("rollout", "menu", old.version, "put"),
        ("rollout", "menu", old.version, "all"),
        ("rollout", "menu", new.version, "put"),
        ("rollout", "menu", new.version, "share"),
        ("rollout", "menu", new.version, "fall_back"),
    ]
    assert bus.events[3].body["share_percent"] == 5.0
    assert bus.events[4].body["hurt"] == 3


# --- Several processes ---------------------------------------------------------------------------


def worker(dsn: str, folder: str, begin: Any, results: Any) -> None:
    """A process of its own, with all the others at once: reviews twenty times; then waits until
    it is told that nothing is under way any more. What it took back."""
    engine = make_engine(dsn, name="worker")
    with ExitStack() as rooms:
        rooms.callback(engine.dispose)
        found = watch_flows(Settings(data_dir=Path(folder)), engine, Shelf([]), rooms)
        assert found.book.view.rollouts["menu"].state == "share"
        begin.wait(120)
        review = FlowReview(engine)
        fell = sum(len(review.review()) for _ in range(20))
        wait_until(lambda: found.book.view.rollouts["menu"].state == "stable")
        results.put((fell, list(found.for_caller("1"))))


def wait_until(holds: Callable[[], bool]) -> None:
    ends = monotonic() + 60
    while not holds():
        assert monotonic() < ends
        threading.Event().wait(0.01)


@pytest.fixture
def processes() -> Iterator[list[Any]]:
    """Of the test; ended with it."""
    started: list[Any] = []
    yield started
    for process in started:
        if process.is_alive():
            process.kill()
        process.join(30)


def test_two_processes_know_the_same_and_one_takes_it_back(
    dsn: str, engine: Engine, tmp_path: Path, processes: list[Any]
) -> None:
    flows = Flows(engine)
    new = plain("new")
    flows.put(plain("old"), by="ann")
    flows.change("menu", Order("all"), by="ann")
    flows.put(new, by="ann")
    flows.change("menu", Order("share", percent=5), by="ann")
    with engine.begin() as connection:
        statement = text("INSERT INTO flow_figures VALUES ('menu', :version, :name, 9)")
        for name in ("calls", "calls_failed"):
            connection.execute(statement, {"version": new.version, "name": name})
    context = multiprocessing.get_context("spawn")
    begin, results = context.Barrier(2), context.Queue()
    for _ in range(2):
        arguments = dsn, str(tmp_path), begin, results
        process = context.Process(target=worker, args=arguments, name="flows-worker")
        process.start()
        processes.append(process)
    told = [results.get(timeout=240) for _ in range(2)]
    assert sorted(fell for fell, _ in told) == [0, 1]
    assert [names for _, names in told] == [["menu"], ["menu"]]
    report = flows.report("menu")
    assert report is not None
    assert [entry.action for entry in report.history].count("fall_back") == 1
