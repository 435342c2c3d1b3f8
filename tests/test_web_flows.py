"""backend.web_flows over a real PostgreSQL: /flows, and the command line that asks it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from backend import cli, cli_flows, config
from backend.cli_http import Answered
from backend.dialing.policy import Rules
from backend.http_api import ErrorAnswer
from backend.http_flows import (
    ACTIONS,
    ORDER_FIELDS,
    PUT_FIELDS,
    EntryAnswer,
    FlowAnswer,
    FlowErrorAnswer,
    FlowFigures,
    FlowText,
    RolloutAnswer,
    RolloutAnswers,
    VersionAnswer,
)
from backend.storage.engine import make_engine
from backend.storage.flows import Flows
from backend.storage.routes import Routes
from backend.storage.tasks import Tasks
from backend.storage.upkeep import Overview
from backend.web import Door, create_app

TOKEN = "s3cret-token"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
DOOR = Door(Rules(scenarios=("article", "survey", "menu")), {"ann": TOKEN, "bob": "another"})

FLOW = """
flow: {name}
priority: {priority}
start: hello
nodes:
  hello: {{type: play, prompt: "{words}", next: bye}}
  bye: {{type: hangup}}
"""


def flow_text(words: str = "Hello", name: str = "menu", priority: str = "normal") -> str:
    return FLOW.format(words=words, name=name, priority=priority)


@pytest.fixture
def client(engine: Engine) -> FlaskClient:
    return open_door(engine, DOOR)


def open_door(engine: Engine, door: Door) -> FlaskClient:
    app = create_app(door, Tasks(engine), Overview(engine), Routes(engine), Flows(engine))
    return app.test_client()


@pytest.fixture
def away() -> Iterator[FlaskClient]:
    """The door while PostgreSQL is away."""
    engine = make_engine("postgresql://x@127.0.0.1:17998/x", name="test")
    yield open_door(engine, DOOR)
    engine.dispose()


def get(client: FlaskClient, address: str) -> TestResponse:
    return client.get(address, headers=HEADERS)


def put(client: FlaskClient, content: str, **fields: object) -> TestResponse:
    return client.put("/flows", json={"text": content, **fields}, headers=HEADERS)


def order(client: FlaskClient, name: str = "menu", **fields: object) -> TestResponse:
    return client.post(f"/flows/{name}", json=fields, headers=HEADERS)


def answer(response: TestResponse) -> FlowAnswer:
    assert response.status_code == 200, response.data
    return FlowAnswer.model_validate(json.loads(response.data))


def refused(response: TestResponse, status: int = 400) -> tuple[str, str | None]:
    assert response.status_code == status, response.data
    error = json.loads(response.data)["error"]
    return error["code"], error["parameter"]


def test_a_flow_is_handed_in_and_rolled_out(client: FlaskClient) -> None:
    first = answer(put(client, flow_text(), note="the first"))
    assert (first.rollout.flow, first.rollout.state, first.rollout.stable) == ("menu", "put", None)
    done = answer(order(client, action="all", reason="new line"))
    assert done.rollout.stable == first.rollout.candidate
    second = answer(put(client, flow_text("Good day")))
    tested = answer(order(client, action="test", numbers=["+79161234567"], min_calls=5))
    assert (tested.rollout.test_numbers, tested.rollout.min_calls) == (["79161234567"], 5)
    shared = answer(order(client, action="share", percent=5, version=second.rollout.candidate))
    assert (shared.rollout.state, shared.rollout.share_percent) == ("share", 5.0)
    assert shared.rollout.max_error_percent == 5.0
    back = answer(order(client, action="back", reason="too loud"))
    assert (back.rollout.stable, back.rollout.candidate) == (done.rollout.stable, None)
    assert [(e.by, e.action, e.reason) for e in back.history] == [
        ("ann", "back", "too loud"),
        ("ann", "share", "5 %"),
        ("ann", "test", "79161234567"),
        ("ann", "put", ""),
        ("ann", "all", "new line"),
        ("ann", "put", "the first"),
    ]
    assert [one.note for one in back.versions] == ["", "the first"]
    assert answer(get(client, "/flows/menu")) == back
    listed = RolloutAnswers.model_validate(json.loads(get(client, "/flows").data))
    assert listed.flows == [back.rollout]


def test_the_text_of_a_version_can_be_had(client: FlaskClient) -> None:
    content = flow_text("Привет \N{GRINNING FACE}")
    version = answer(put(client, content)).rollout.candidate
    found = json.loads(get(client, f"/flows/menu/versions/{version}").data)
    assert FlowText.model_validate(found).text == content
    assert (found["format"], found["created_by"]) == ("yaml", "ann")
    assert refused(get(client, "/flows/menu/versions/0123456789ab"), 404)[1] == "version"
    assert refused(get(client, "/flows/menu/versions/x"))[1] == "version"


def test_json_is_taken_too(client: FlaskClient) -> None:
    flow = {
        "flow": "menu",
        "start": "bye",
        "nodes": {"bye": {"type": "hangup"}},
    }
    done = answer(put(client, json.dumps(flow), format="json"))
    version = done.rollout.candidate
    found = json.loads(get(client, f"/flows/menu/versions/{version}").data)
    assert (found["format"], json.loads(found["text"])) == ("json", flow)
    assert refused(put(client, flow_text(), format="json"))[1] == "text"


def test_a_flow_that_cannot_be_used_is_refused_with_all_that_is_wrong(client: FlaskClient) -> None:
    wrong = """flow: menu
start: hello
nodes:
  hello: {type: play, prompt: "Hello", next: nowhere}
  stray: {type: play, prompt: "Never", next: bye}
  bye: {type: hangup}
"""
    response = put(client, wrong)
    assert response.status_code == 400
    error = FlowErrorAnswer.model_validate(json.loads(response.data)).error
    assert (error.code, error.parameter) == ("bad_request", "text")
    found = {(problem.line, problem.node) for problem in error.problems}
    assert (4, "hello") in found
    assert all(problem.why for problem in error.problems)
    ErrorAnswer.model_validate({"error": {**error.model_dump(exclude={"problems"})}})
    assert refused(get(client, "/flows/menu"), 404) == ("not_found", "name")


def test_what_it_calls_must_be_there(client: FlaskClient) -> None:
    content = """flow: menu
start: one
nodes:
  one: {type: call, scenario: survey, next: two}
  two: {type: call, scenario: nosuch, next: three}
  three: {type: flow, flow: later, next: four}
  four: {type: flow, flow: article, next: bye}
  bye: {type: hangup}
"""
    response = put(client, content)
    assert response.status_code == 400, response.data
    error = FlowErrorAnswer.model_validate(json.loads(response.data)).error
    assert [(one.line, one.node, one.why) for one in error.problems] == [
        (5, "two", "there is no scenario 'nosuch' here"),
        (6, "three", "there is no flow 'later' that calls get: publish it first"),
    ]


@pytest.mark.parametrize(
    ("parameter", "fields"),
    [
        ("action", {}),
        ("action", {"action": "explode"}),
        ("action", {"action": 5}),
        ("percent", {"action": "share"}),
        ("percent", {"action": "share", "percent": "5"}),
        ("percent", {"action": "share", "percent": True}),
        ("percent", {"action": "share", "percent": 0}),
        ("percent", {"action": "share", "percent": 1e400}),
        ("percent", {"action": "all", "percent": 5}),
        ("numbers", {"action": "test", "numbers": "7916"}),
        ("numbers", {"action": "test", "numbers": [7916]}),
        ("numbers", {"action": "test", "numbers": ["a\nb"]}),
        ("numbers", {"action": "share", "percent": 5, "numbers": ["1"]}),
        ("nodes", {"action": "pin", "nodes": ["a"]}),  # it is of normal priority
        ("nodes", {"action": "back", "nodes": ["a"]}),
        ("min_calls", {"action": "share", "percent": 5, "min_calls": 0}),
        ("min_calls", {"action": "back", "min_calls": 5}),
        ("error_percent", {"action": "share", "percent": 5, "error_percent": "x"}),
        ("loss_percent", {"action": "all", "loss_percent": 101}),
        ("version", {"action": "all", "version": "0123"}),
        ("version", {"action": "all", "version": 5}),
        ("reason", {"action": "all", "reason": "a\nb"}),
        ("reason", {"action": "all", "reason": "x" * 501}),
        ("version", {"action": "prune", "version": "0123"}),
        ("other", {"action": "all", "other": 1}),
    ],
)
def test_each_bad_field_of_an_order_is_named(
    client: FlaskClient, parameter: str, fields: dict[str, Any]
) -> None:
    before = answer(put(client, flow_text()))
    body = json.dumps(fields).replace("Infinity", "1e400")
    response = client.post(
        "/flows/menu", data=body, content_type="application/json", headers=HEADERS
    )
    assert refused(response) == ("bad_request", parameter)
    assert answer(get(client, "/flows/menu")) == before


@pytest.mark.parametrize(
    ("parameter", "fields"),
    [
        ("text", {}),
        ("text", {"text": 5}),
        ("text", {"text": ""}),
        ("text", {"text": "\ud800"}),
        ("text", {"text": flow_text() + "# \0"}),
        ("format", {"text": "x", "format": "xml"}),
        ("note", {"text": flow_text(), "note": "a\nb"}),
        ("note", {"text": flow_text(), "note": 5}),
        ("other", {"text": flow_text(), "other": 1}),
    ],
)
def test_each_bad_field_of_a_version_is_named(
    client: FlaskClient, parameter: str, fields: dict[str, Any]
) -> None:
    response = client.put("/flows", json=fields, headers=HEADERS)
    assert refused(response) == ("bad_request", parameter)
    assert json.loads(get(client, "/flows").data) == {"flows": []}


def test_large_texts_are_taken_and_larger_ones_refused(client: FlaskClient) -> None:
    answer(put(client, flow_text() + "# ж" * 100_000))
    assert refused(put(client, flow_text() + "# x" * 200_000))[1] == "text"
    response = put(client, "x" * 3_000_000)
    assert refused(response, 413)[0] == "request_entity_too_large"
    assert "at most 2097152 bytes" in json.loads(response.data)["error"]["why"]


@pytest.mark.parametrize("name", ["nosuch", "a"])
def test_a_flow_that_is_not_there(client: FlaskClient, name: str) -> None:
    assert refused(get(client, f"/flows/{name}"), 404) == ("not_found", "name")
    assert refused(order(client, name, action="all"), 404) == ("not_found", "name")
    assert refused(order(client, name, action="prune"), 404) == ("not_found", "name")


@pytest.mark.parametrize("name", ["5", "a%20b", "%D0%B6", "a" * 65])
def test_a_name_that_is_none(client: FlaskClient, name: str) -> None:
    assert refused(get(client, f"/flows/{name}")) == ("bad_request", "name")
    assert refused(order(client, name, action="all")) == ("bad_request", "name")


def test_only_admins_change_flows_where_there_are_some(engine: Engine) -> None:
    client = open_door(engine, replace(DOOR, admins=("bob",)))
    assert refused(put(client, flow_text()), 403) == ("forbidden", None)
    assert refused(order(client, action="all"), 403) == ("forbidden", None)
    assert get(client, "/flows").status_code == 200, "everybody may look"
    admin = {"Authorization": "Bearer another"}
    done = client.put("/flows", json={"text": flow_text()}, headers=admin)
    assert answer(done).history[0].by == "bob"
    assert client.put("/flows", json={"text": flow_text()}).status_code == 401
    assert client.get("/flows").status_code == 401


def test_without_postgresql_it_is_503(away: FlaskClient) -> None:
    assert put(away, flow_text()).status_code == 503
    assert order(away, action="all").status_code == 503
    for address in ("/flows", "/flows/menu", "/flows/menu/versions/0123456789ab"):
        assert get(away, address).status_code == 503


def test_the_figures_are_told(client: FlaskClient, engine: Engine) -> None:
    put(client, flow_text())
    order(client, action="all")
    candidate = answer(put(client, flow_text("Good day"))).rollout.candidate
    order(client, action="share", percent=5)
    figures = {"calls": 8, "calls_failed": 5, "keys_taken": 30, "keys_lost": 10, "conflicts": 7}
    with engine.begin() as connection:
        for name, value in figures.items():
            statement = text("INSERT INTO flow_figures VALUES ('menu', :version, :name, :value)")
            values = {"version": candidate, "name": name, "value": value}
            connection.execute(statement, values)
    found = answer(get(client, "/flows/menu"))
    current = found.rollout.current
    assert (current.calls, current.error_percent, current.loss_percent) == (8, 62.5, 25.0)
    assert found.verdict == "5 of 8 calls failed: 62.5 %, the limit is 5 %"
    assert found.versions[0].figures == current
    assert found.versions[1].figures.error_percent is None


# --- The command line ----------------------------------------------------------------------------


@pytest.fixture
def run(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs ``asterisk-dialog flow …`` against this door: exit code, output, errors."""

    def ask(_: object, path: str, method: str = "GET", body: object = None) -> Any:
        response = client.open(path, method=method, json=body, headers=HEADERS)
        if response.status_code >= 400:
            raise Answered(response.status_code, response.text.strip())
        return json.loads(response.data)

    monkeypatch.setattr(cli_flows, "ask", ask)
    monkeypatch.setattr(config, "load", lambda _: argparse.Namespace())

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["flow", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_way_of_an_operator(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, engine: Engine
) -> None:
    file = tmp_path / "menu.flow.yaml"
    file.write_text(flow_text(priority="high"), encoding="utf-8")
    assert run("status") == (0, "no flow was published: asterisk-dialog flow put FILE\n", "")
    code, said, _ = run("put", str(file), "--note", "the first")
    assert code == 0
    assert said.startswith("menu                 (files)       candidate ")
    assert said.endswith(": no calls yet\n")
    assert "for all since" in run("all", "menu")[1]
    file.write_text(flow_text("Good day", priority="high"), encoding="utf-8")
    run("put", str(file))
    assert ": 1 test number since" in run("test", "menu", "--number", "79161234567")[1]
    said = run("share", "menu", "5", "--max-errors", "2", "--min-calls", "10")[1]
    assert ": 5 % since" in said
    assert "0 calls, 0 failed" in said
    assert run("pin", "menu", "--node", "a", "--node", "b")[1].rstrip().endswith("on a, b")
    with engine.begin() as connection:
        connection.execute(
            text(
                'UPDATE rollout_history SET hurt = 2, calls = \'["c1", "c2"]\''
                " WHERE action = 'share'"
            )
        )
    code, said, _ = run("status", "menu")
    lines = said.splitlines()
    assert (
        "  taken back at more than 2 % failed calls or 1 % lost keys, of 10 calls or more" in lines
    )
    assert "  test numbers: 79161234567" in lines
    assert [line.split()[1] for line in lines if " ann" in line and "calls" in line] == [
        "candidate",
        "stable",
    ]
    assert "      2 calls were hurt: c1, c2" in lines
    history = lines[lines.index("  history:") + 1 :]
    assert [line.split()[3] for line in history if " ann " in line] == [
        "pin", "share", "test", "put", "all", "put",
    ]  # fmt: skip
    version = lines[lines.index("  versions, all their calls (times: UTC):") + 1].split()[0]
    assert run("show", "menu", version)[1] == file.read_text(encoding="utf-8")
    assert run("unpin", "menu")[0] == 0
    assert run("back", "menu", "--reason", "too loud")[0] == 0
    assert "too loud" in run("status", "menu")[1]
    assert len(run("status")[1].splitlines()) == 1
    assert run("prune", "menu")[0] == 0


def test_what_is_wrong_with_a_file_is_told_line_by_line(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    file = tmp_path / "menu.flow.yaml"
    file.write_text(
        "flow: menu\nstart: a\nnodes:\n"
        "  a: {type: call, scenario: x, next: b}\n  b: {type: hangup}\n"
    )
    code, said, errors = run("put", str(file))
    assert (code, said) == (1, "")
    assert errors == f"asterisk-dialog: {file}:4: node a: there is no scenario 'x' here\n"
    file.write_bytes(b"flow: \xff")
    assert "is no UTF-8 text: byte 6" in run("put", str(file))[2]
    assert run("put", str(tmp_path / "none"))[0] == 1


def test_an_order_that_is_refused_is_told(run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, errors = run("all", "nosuch")
    assert code == 1
    assert "no flow of the name nosuch was published" in errors
    assert "is no flow's name" in run("all", "a/b")[2]


def test_the_document_names_every_field() -> None:
    page = (Path(__file__).parents[1] / "docs" / "http.md").read_text(encoding="utf-8")
    models = (RolloutAnswer, FlowFigures, VersionAnswer, EntryAnswer, FlowText, FlowAnswer)
    names = {name for model in models for name in model.model_fields}
    for name in (*names, *ORDER_FIELDS, *PUT_FIELDS, *ACTIONS, "fall_back", "problems"):
        assert f"`{name}`" in page or f'"{name}"' in page, name
