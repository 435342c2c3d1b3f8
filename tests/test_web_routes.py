"""backend.web over a real PostgreSQL: the HTTP contract, request by request."""

from __future__ import annotations

import json
import logging
import re
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from backend.dialing.policy import Rules
from backend.http_api import (
    OUTBOUND_NAMES,
    ErrorAnswer,
    Health,
    RouteAnswer,
    RouteAnswers,
    TaskAnswer,
    TaskChanges,
    TaskList,
)
from backend.http_figures import ALIVE_S
from backend.http_openapi import openapi
from backend.model import (
    CallEnded,
    CallSaid,
    CallStarted,
    Outcome,
    Reason,
    Record,
    TaskState,
    Utterance,
)
from backend.storage.apply import RecordStore
from backend.storage.engine import make_engine
from backend.storage.flows import Flows
from backend.storage.routes import Routes
from backend.storage.tasks import Tasks
from backend.storage.upkeep import Instance, Instances, Overview
from backend.web import Door, create_app

TOKEN = "s3cret-token"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
RULES = Rules(
    channels={"default": "PJSIP/{phone}@trunk", "beeline": "PJSIP/{phone}@beeline"},
    contexts=("dialog-outbound", "other"),
    caller_ids=("74951234567",),
    variables=("order", "name"),
    scenarios=("article", "survey"),
)
DOOR = Door(RULES, {"1c": TOKEN, "robot": "another"}, node="here")


def whole(door: Door, engine: Engine) -> Flask:
    """The application over this database."""
    return create_app(door, Tasks(engine), Overview(engine), Routes(engine), Flows(engine))


@pytest.fixture
def tasks(engine: Engine) -> Tasks:
    return Tasks(engine)


@pytest.fixture
def app(engine: Engine, tasks: Tasks) -> Flask:
    return whole(DOOR, engine)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def away() -> Iterator[FlaskClient]:
    """The application while PostgreSQL is away."""
    engine = make_engine("postgresql://x@127.0.0.1:17998/x", name="test")
    yield create_app(
        DOOR, Tasks(engine), Overview(engine), Routes(engine), Flows(engine)
    ).test_client()
    engine.dispose()


def get(client: FlaskClient, address: str) -> TestResponse:
    return client.get(address, headers=HEADERS)


def body(response: TestResponse) -> Any:
    assert response.content_type.startswith("application/json")
    return json.loads(response.data)


def count(tasks: Tasks) -> int:
    return sum(tasks.count_by_state().values())


# --- To dial -------------------------------------------------------------------------------------


def test_originate_queues_a_task(client: FlaskClient, tasks: Tasks) -> None:
    answer = get(
        client,
        "/originate?phone=%2B79161234567&file=hello&scenario=survey&context=other&channel=beeline"
        "&caller_id=74951234567&external_id=A-17&timeout=20&var_order=%D0%96",
    )
    assert answer.status_code == 200
    assert answer.headers["Idempotent-Replayed"] == "false"
    found = body(answer)
    assert found == {"id": found["id"], "state": "queued", "external_id": "A-17"}
    task = tasks.get(UUID(found["id"]))
    assert task is not None
    assert task.request.variables == {"order": "Ж"}
    assert (task.request.phone, task.request.dial_timeout_s) == ("+79161234567", 20.0)


def test_outbound_calls_queues_a_task(client: FlaskClient, tasks: Tasks) -> None:
    given = {
        "destinationNumber": "79161234567",
        "bizId": "B 1",
        "callerIdNumber": "74951234567",
        "variables": {"order": "17"},
        "file": None,
    }
    answer = client.post("/outbound-calls", json=given, headers=HEADERS)
    assert answer.status_code == 202
    task = tasks.get(UUID(body(answer)["id"]))
    assert task is not None
    assert task.request.external_id == "B 1"
    assert task.request.caller_id == "74951234567"
    assert task.request.variables == {"order": "17"}
    again = get(client, "/originate?phone=79161234567&external_id=B%201")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert body(again) == body(answer)


def test_fifty_identical_requests_make_one_task_and_fifty_equal_answers(
    app: Flask, tasks: Tasks
) -> None:
    def ask(_: int) -> tuple[int, bytes]:
        address = "/originate?phone=79161234567&file=hello&external_id=same"
        answer = app.test_client().get(address, headers=HEADERS)
        return answer.status_code, answer.data

    with ThreadPoolExecutor(25) as pool:
        answers = set(pool.map(ask, range(50)))
    assert len(answers) == 1
    assert {status for status, _ in answers} == {200}
    assert count(tasks) == 1


def test_the_answer_is_the_same_when_the_task_has_gone_on(
    client: FlaskClient, tasks: Tasks
) -> None:
    first = get(client, "/originate?phone=79161234567&external_id=x")
    tasks.claim("here", uuid4(), 1)
    again = get(client, "/originate?phone=79161234567&external_id=x")
    assert again.data == first.data


BAD_QUERIES = [
    ("phone", ""),
    ("phone", "phone="),
    ("phone", "phone=12"),
    ("phone", "phone=7916123456789012"),
    ("phone", "phone=8(916)123"),
    ("phone", "phone=7916%0D%0AAction:%20Logoff"),
    ("phone", "phone=7916,1"),
    ("phone", "phone=7916%26Local/1"),
    ("phone", "phone=${EXTEN}"),
    ("phone", "phone=%D9%A1%D9%A2%D9%A3"),  # digits, but Arabic ones
    ("phone", "phone=123456&phone=123456"),
    ("phone", "phone=+79161234567"),
    ("file", "phone=123456&file=../etc/passwd"),
    ("file", "phone=123456&file=/etc/passwd"),
    ("file", "phone=123456&file=http://x/y"),
    ("file", "phone=123456&file=a%00b"),
    ("file", "phone=123456&file=a,b"),
    ("file", "phone=123456&file=a%26b"),
    ("file", "phone=123456&file=hello.wav"),
    ("file", "phone=123456&file=" + "a" * 200),
    ("file", "phone=123456&file="),
    ("scenario", "phone=123456&scenario=nosuch"),
    ("scenario", "phone=123456&scenario=a/b"),
    ("context", "phone=123456&context=from-internal"),
    ("channel", "phone=123456&channel=Local/1@x"),
    ("channel", "phone=123456&channel=PJSIP/1@trunk"),
    ("caller_id", "phone=123456&caller_id=70000000000"),
    ("caller_id", "phone=123456&caller_id=7%0A8"),
    ("external_id", "phone=123456&external_id=a%0Ab"),
    ("external_id", "phone=123456&external_id=%E6%EF"),  # windows-1251
    ("external_id", "phone=123456&external_id=\udce6"),
    ("external_id", "phone=123456&external_id=" + "a" * 200),
    ("external_id", "phone=123456&external_id=a&external_id=b"),
    ("timeout", "phone=123456&timeout=0"),
    ("timeout", "phone=123456&timeout=abc"),
    ("timeout", "phone=123456&timeout=1e3"),
    ("var_secret", "phone=123456&var_secret=1"),
    ("var_order", "phone=123456&var_order=a,b"),
    ("var_order", "phone=123456&var_order=%24%7BSHELL(id)%7D"),
    ("var_order", "phone=123456&var_order=a%0D%0Ab"),
    ("nonsense", "phone=123456&nonsense=1"),
    ("token", "phone=123456&token=x"),  # not switched on
    ("query", "phone=123456&file=" + "a" * 9000),
    ("query", "&".join(f"a{n}=1" for n in range(100))),
]


@pytest.mark.parametrize(("parameter", "query"), BAD_QUERIES)
def test_each_bad_parameter_is_named_and_nothing_is_queued(
    client: FlaskClient, tasks: Tasks, parameter: str, query: str
) -> None:
    raw = query.encode("utf-8", "surrogateescape").decode("latin-1")
    answer = client.get("/originate", headers=HEADERS, environ_overrides={"QUERY_STRING": raw})
    assert answer.status_code == 400, answer.data
    error = ErrorAnswer.model_validate(body(answer)).error
    assert (error.code, error.parameter) == ("bad_request", parameter)
    assert len(error.why) > 8
    assert count(tasks) == 0


BAD_BODIES: list[tuple[str, str]] = [
    ("destinationNumber", "{}"),
    ("destinationNumber", '{"destinationNumber": 79161234567}'),
    ("destinationNumber", '{"destinationNumber": "1,2"}'),
    ("destinationNumber", '{"destinationNumber": "123456", "destinationNumber": "123456"}'),
    ("destinationNumber", '{"destinationNumber": ["123456"]}'),
    ("bizId", '{"destinationNumber": "123456", "bizId": "a\\nb"}'),
    ("bizId", '{"destinationNumber": "123456", "bizId": "\\ud800"}'),
    ("bizId", '{"destinationNumber": "123456", "bizId": {}}'),
    ("callerIdNumber", '{"destinationNumber": "123456", "callerIdNumber": "1"}'),
    ("variables", '{"destinationNumber": "123456", "variables": "order=1"}'),
    ("variables.secret", '{"destinationNumber": "123456", "variables": {"secret": "1"}}'),
    ("variables.order", '{"destinationNumber": "123456", "variables": {"order": 1}}'),
    ("phone", '{"phone": "123456"}'),
    ("body", "[]"),
    ("body", "{"),
    ("body", '{"destinationNumber": NaN}'),
    ("body", "\xff"),
    ("body", "[" * 50_000),
]


@pytest.mark.parametrize(("parameter", "text"), BAD_BODIES)
def test_each_bad_field_is_named_and_nothing_is_queued(
    client: FlaskClient, tasks: Tasks, parameter: str, text: str
) -> None:
    answer = client.post(
        "/outbound-calls",
        data=text.encode("latin-1"),
        content_type="application/json",
        headers=HEADERS,
    )
    assert answer.status_code == 400, answer.data
    assert body(answer)["error"]["parameter"] == parameter
    assert count(tasks) == 0


def test_head_does_not_dial(client: FlaskClient, tasks: Tasks) -> None:
    assert client.head("/originate?phone=123456", headers=HEADERS).status_code == 405
    assert count(tasks) == 0


# --- To ask --------------------------------------------------------------------------------------


def play(engine: Engine, task_id: UUID) -> None:
    """A whole call of the task, as its records tell."""
    call, at = uuid4(), datetime(2026, 11, 20, 12, tzinfo=UTC)
    said = (Utterance("robot", "Да или нет?", 0, 900), Utterance("caller", "да", 950, 1300, 0.8))
    outcome = Outcome(TaskState.DONE, Reason.COMPLETED)
    records: list[Record] = [
        CallStarted(
            call, task_id, at, "here", "voice-0", "article", "outbound", "c", "u", "1", "2"
        ),
        *(CallSaid(call, task_id, n, at, item) for n, item in enumerate(said)),
        CallEnded(call, task_id, at, outcome, {"coming": True}, None),
    ]
    RecordStore(engine).store(records)
    Tasks(engine).settle(task_id, outcome, at=at)


def test_a_task_tells_all(client: FlaskClient, engine: Engine) -> None:
    task_id = UUID(body(get(client, "/originate?phone=123456&external_id=e"))["id"])
    fresh = TaskAnswer.model_validate(body(get(client, f"/tasks/{task_id}")))
    assert (fresh.state, fresh.final, fresh.reason) == (TaskState.QUEUED, False, None)
    play(engine, task_id)
    found = body(get(client, f"/tasks/{task_id}"))
    TaskAnswer.model_validate(found)
    assert (found["state"], found["reason"], found["final"]) == ("done", "completed", True)
    assert found["answered_at"] == "2026-11-20T12:00:00Z"
    assert found["created_at"].endswith("Z")
    assert found["result"] == {"coming": True}
    assert found["text"] == "да"
    assert [item["speaker"] for item in found["transcript"]] == ["robot", "caller"]


def test_many_tasks_by_id(client: FlaskClient) -> None:
    ids = [body(get(client, "/originate?phone=123456"))["id"] for _ in range(2)]
    other = str(uuid4())
    found = TaskList.model_validate(
        body(get(client, f"/tasks?ids={ids[1]},{other},{ids[0].replace('-', '')}"))
    )
    assert [str(task.id) for task in found.tasks] == [ids[1], ids[0]]
    assert [str(one) for one in found.unknown] == [other]


def test_polling_pages_through_all_changes(client: FlaskClient, tasks: Tasks) -> None:
    ids = [body(get(client, "/originate?phone=123456"))["id"] for _ in range(5)]
    seen, cursor, more = [], 0, True
    while more:
        page = TaskChanges.model_validate(
            body(get(client, f"/tasks?changed_since={cursor}&limit=2"))
        )
        seen += [str(task.id) for task in page.tasks]
        cursor, more = page.cursor, page.more
    assert seen == ids
    tasks.claim("here", uuid4(), 1)
    page = TaskChanges.model_validate(body(get(client, f"/tasks?changed_since={cursor}")))
    assert [str(task.id) for task in page.tasks] == ids[:1]
    assert not page.more


@pytest.mark.parametrize(
    ("parameter", "address"),
    [
        ("id", "/tasks/17"),
        ("id", "/tasks/zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"),
        ("ids", "/tasks?ids="),
        ("ids", "/tasks?ids=1,2"),
        ("ids", "/tasks?ids=" + ",".join(["0" * 8] * 600)),
        ("changed_since", "/tasks"),
        ("changed_since", "/tasks?limit=5"),
        ("changed_since", "/tasks?changed_since=-1"),
        ("changed_since", "/tasks?changed_since=9223372036854775808"),
        ("changed_since", "/tasks?changed_since=%D9%A1"),
        ("changed_since", "/tasks?changed_since=1&changed_since=2"),
        ("changed_since", "/tasks?changed_since=0&ids=1"),
        ("limit", "/tasks?changed_since=0&limit=0"),
        ("limit", "/tasks?changed_since=0&limit=1001"),
        ("state", "/tasks?state=done"),
    ],
)
def test_a_bad_question_is_refused(client: FlaskClient, parameter: str, address: str) -> None:
    answer = get(client, address)
    assert answer.status_code == 400
    assert body(answer)["error"]["parameter"] == parameter


def test_an_unknown_task_is_404(client: FlaskClient) -> None:
    answer = get(client, f"/tasks/{uuid4()}")
    assert answer.status_code == 404
    assert body(answer)["error"]["code"] == "not_found"


# --- Who asks ------------------------------------------------------------------------------------


def basic(name: str, token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{name}:{token}".encode()).decode()}


@pytest.mark.parametrize("headers", [HEADERS, basic("1c", TOKEN), basic("robot", "another")])
def test_a_token_opens(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get("/tasks?changed_since=0", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \xff"},
        {"Authorization": f"Digest {TOKEN}"},
        {"Authorization": "Basic !!!"},
        basic("robot", TOKEN),
        basic("nobody", ""),
        basic("1c", ""),
        {"X-Auth-Token": TOKEN},
    ],
)
@pytest.mark.parametrize(
    "address", ["/originate?phone=123456", "/tasks?changed_since=0", "/metrics", "/docs", "/no"]
)
def test_without_a_token_nothing_is_told_or_dialled(
    client: FlaskClient, tasks: Tasks, address: str, headers: dict[str, str]
) -> None:
    answer = client.get(address, headers=headers)
    assert answer.status_code == 401
    assert ErrorAnswer.model_validate(body(answer)).error.code == "unauthorized"
    assert "Basic" in answer.headers["WWW-Authenticate"]
    assert count(tasks) == 0


def test_a_token_in_the_query_only_where_switched_on(
    client: FlaskClient, engine: Engine, tasks: Tasks
) -> None:
    address = f"/originate?phone=123456&token={TOKEN}"
    assert client.get(address).status_code == 401
    door = Door(RULES, {"1c": TOKEN}, token_in_query=True)
    old = whole(door, engine).test_client()
    assert old.get(address).status_code == 200
    assert old.get(f"{address}&token={TOKEN}").status_code == 401
    assert old.get(address.replace(TOKEN, "x")).status_code == 401


def test_no_clients_no_entry(engine: Engine, tasks: Tasks) -> None:
    client = create_app(
        Door(RULES, {}), tasks, Overview(engine), Routes(engine), Flows(engine)
    ).test_client()
    assert get(client, "/docs").status_code == 401
    assert client.get("/docs", headers=basic("", "")).status_code == 401


def test_the_access_log_holds_no_secret_and_no_number(
    engine: Engine, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(RULES, {"1c": TOKEN}, token_in_query=True)
    client = whole(door, engine).test_client()
    with caplog.at_level(logging.DEBUG):
        client.get(f"/originate?phone=79161234567&token={TOKEN}")
        client.get("/a%0Ab")
    assert "GET /originate 200" in caplog.text
    assert "client=1c" in caplog.text
    assert TOKEN not in caplog.text
    assert "79161234567" not in caplog.text
    assert "a\\nb" in caplog.text
    assert TOKEN not in repr(door)


# --- Errors, operators ---------------------------------------------------------------------------


def test_errors_have_one_shape(client: FlaskClient) -> None:
    large = {"bizId": "a" * 70_000}
    for answer, status, code in (
        (get(client, "/nowhere"), 404, "not_found"),
        (client.post("/originate", headers=HEADERS), 405, "method_not_allowed"),
        (
            client.post("/outbound-calls", data="x", headers=HEADERS),
            415,
            "unsupported_media_type",
        ),
        (
            client.post("/outbound-calls", json=large, headers=HEADERS),
            413,
            "request_entity_too_large",
        ),
    ):
        assert answer.status_code == status
        assert ErrorAnswer.model_validate(body(answer)).error.code == code


def test_a_mistake_of_ours_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    client = create_app(DOOR, object(), object(), object(), object()).test_client()  # type: ignore[arg-type]
    answer = get(client, "/tasks?changed_since=0")
    assert answer.status_code == 500
    assert ErrorAnswer.model_validate(body(answer)).error.code == "internal"
    assert "AttributeError" in caplog.text


def test_without_postgresql_it_is_503(away: FlaskClient) -> None:
    answer = get(away, "/originate?phone=123456")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert body(answer)["error"]["code"] == "unavailable"
    assert get(away, "/originate?phone=x").status_code == 400
    assert b"dialog_database_up 0.0" in get(away, "/metrics").data
    assert body(get(away, "/health"))["parts"]["database"]["ok"] is False


def test_health_needs_control_workers_and_asterisk(client: FlaskClient, engine: Engine) -> None:
    def parts() -> dict[str, bool]:
        answer = get(client, "/health")
        found = Health.model_validate(body(answer))
        assert found.parts is not None
        assert (answer.status_code == 200) == (found.status == "ok")
        return {name: part.ok for name, part in found.parts.items()}

    instances = Instances(engine)
    control, voice = Instance("here", "control"), Instance("here", "voice-0")
    instances.beat(Instance("elsewhere", "control"), {"ami_connected": True})
    assert parts() == {"database": True, "control": False, "workers": False}
    instances.beat(control, {"ami_connected": False})
    instances.beat(voice, {"calls": 2})
    assert parts() == {"database": True, "control": False, "workers": True}
    instances.beat(control, {"ami_connected": True})
    assert parts() == {"database": True, "control": True, "workers": True}
    assert body(client.get("/health")) == {"status": "ok"}
    why = "/s/a.py: SyntaxError: invalid syntax"
    instances.beat(voice, {"calls": 2, "scenarios": 3, "scenarios_refused_why": [why]})
    assert parts() == {"database": True, "control": True, "workers": True, "scenarios": False}
    answer = body(get(client, "/health"))
    assert (answer["status"], answer["parts"]["scenarios"]["why"]) == ("ok", f"refused: {why}")
    instances.beat(voice, {"calls": 2, "scenarios": 3, "scenarios_refused_why": []})
    assert parts()["scenarios"] is True
    instances.leave(voice)
    assert client.get("/health").status_code == 503
    assert ALIVE_S > 0


def test_metrics(client: FlaskClient, engine: Engine) -> None:
    task_id = UUID(body(get(client, "/originate?phone=123456"))["id"])
    play(engine, task_id)
    stats = {"journal_backlog_bytes": 17, "ami_connected": True, "Bad-Name": 1, "text": "x"}
    Instances(engine).beat(Instance("here", "control"), stats)
    text = get(client, "/metrics").data.decode()
    for line in (
        'dialog_tasks{state="done"} 1.0',
        'dialog_tasks{state="queued"} 0.0',
        'dialog_calls_ended_total{reason="completed",state="done"} 1.0',
        'dialog_process_journal_backlog_bytes{node="here",process="control"} 17.0',
        'dialog_process_ami_connected{node="here",process="control"} 1.0',
        'dialog_http_requests_total{method="GET",route="/originate",status="200"} 1.0',
        "dialog_database_up 1.0",
    ):
        assert line in text.splitlines()


def described_as(rule: str) -> str:
    """``/tasks/<task_id>`` as OpenAPI writes it."""
    return re.sub(r"<(?:path:)?(?:task_)?(\w+)>", r"{\1}", rule)


def test_every_route_is_described_and_every_description_is_a_route(
    app: Flask, client: FlaskClient
) -> None:
    described = body(get(client, "/openapi.json"))
    assert described == json.loads(json.dumps(openapi("0.1.0")))
    routes = {
        (described_as(rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {
        (path, method) for path, methods in described["paths"].items() for method in methods
    }
    text = json.dumps(described)
    for ref in set(text.split('"#/components/schemas/')[1:]):
        assert ref.split('"')[0] in described["components"]["schemas"]


def test_the_page_stands_alone(client: FlaskClient) -> None:
    html = get(client, "/docs").data.decode()
    assert "/outbound-calls" in html
    assert "http://" not in html
    assert "https://" not in html
    assert "<script" not in html


def test_the_document_names_every_route_field_reason_and_error(app: Flask) -> None:
    text = (Path(__file__).parents[1] / "docs" / "http.md").read_text(encoding="utf-8")
    for path in openapi("0")["paths"]:
        assert path in text, path
    for reason in Reason:
        assert f"`{reason}`" in text, reason
    for name in (
        *TaskAnswer.model_fields,
        *RouteAnswer.model_fields,
        *OUTBOUND_NAMES,
        *OUTBOUND_NAMES.values(),
    ):
        assert f"`{name}`" in text, name


KNOWN = ["phone", "file", "ids", "limit", "var_order", "number"]
ODD = st.text(st.characters(exclude_categories=[]), max_size=20)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(
        [
            "/originate",
            "/tasks",
            "/tasks/x",
            "/routes",
            "/health",
            "/docs",
            "/metrics",
        ]
    ),
    pairs=st.lists(
        st.tuples(
            st.sampled_from(["phone", "file", "ids", "limit", "var_order", "number"]) | ODD, ODD
        ),
        max_size=4,
    ),
    raw=st.binary(max_size=10),
)
def test_no_query_is_a_mistake_of_ours(
    client: FlaskClient, path: str, pairs: list[tuple[str, str]], raw: bytes
) -> None:
    query = urlencode(pairs, errors="surrogatepass") + raw.decode("latin-1")
    answer = client.get(path, headers=HEADERS, environ_overrides={"QUERY_STRING": query})
    assert answer.status_code in (200, 400, 503), query
    if answer.status_code == 400:
        assert ErrorAnswer.model_validate(body(answer)).error.parameter is not None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | ODD,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(list(OUTBOUND_NAMES)) | ODD, inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_no_body_is_a_mistake_of_ours(client: FlaskClient, value: object) -> None:
    answer = client.post(
        "/outbound-calls",
        data=json.dumps(value),
        content_type="application/json",
        headers=HEADERS,
    )
    assert answer.status_code == 400
    assert ErrorAnswer.model_validate(body(answer)).error.parameter is not None


# --- Numbers to scenarios ------------------------------------------------------------------------


def put_route(client: FlaskClient, **fields: object) -> TestResponse:
    return client.put("/routes", json=fields, headers=HEADERS)


def named(answer: TestResponse) -> list[tuple[str, str, str]]:
    assert answer.status_code == 200, answer.data
    routes = RouteAnswers.model_validate(body(answer)).routes
    return [(route.direction, route.pattern, route.scenario) for route in routes]


def test_routes_are_added_changed_listed_and_removed(client: FlaskClient) -> None:
    assert named(get(client, "/routes")) == []
    added = body(put_route(client, pattern="7495*", scenario="article"))
    assert added == {
        "pattern": "7495*",
        "direction": "inbound",
        "scenario": "article",
        "changed_at": added["changed_at"],
    }
    put_route(client, pattern="7495*", scenario="survey")
    put_route(client, pattern="_7X.", scenario="article", direction="outbound")
    inbound, outbound = ("inbound", "7495*", "survey"), ("outbound", "_7X.", "article")
    assert named(get(client, "/routes")) == [inbound, outbound]
    assert named(get(client, "/routes?direction=outbound")) == [outbound]
    removed = client.delete("/routes?pattern=7495*", headers=HEADERS)
    assert (removed.status_code, body(removed)["scenario"]) == (200, "survey")
    again = client.delete("/routes?pattern=7495*", headers=HEADERS)
    assert (again.status_code, body(again)["error"]["code"]) == (404, "not_found")
    assert named(get(client, "/routes")) == [outbound]


def test_which_route_a_number_takes(client: FlaskClient) -> None:
    for pattern, scenario in (("*", "article"), ("_7495XXX", "survey"), ("8*", "survey")):
        put_route(client, pattern=pattern, scenario=scenario)
    assert named(get(client, "/routes?number=7495123")) == [
        ("inbound", "_7495XXX", "survey"),
        ("inbound", "*", "article"),
    ]
    assert named(get(client, "/routes?number=7495123&direction=outbound")) == []


@pytest.mark.parametrize(
    ("parameter", "fields"),
    [
        ("pattern", {"scenario": "article"}),
        ("pattern", {"scenario": "article", "pattern": "7*5"}),
        ("pattern", {"scenario": "article", "pattern": 7}),
        ("scenario", {"pattern": "1"}),
        ("scenario", {"pattern": "1", "scenario": "none"}),
        ("scenario", {"pattern": "1", "scenario": ["article"]}),
        ("direction", {"pattern": "1", "scenario": "article", "direction": "both"}),
        ("other", {"pattern": "1", "scenario": "article", "other": "x"}),
    ],
)
def test_a_route_that_is_none(
    client: FlaskClient, parameter: str, fields: dict[str, object]
) -> None:
    answer = put_route(client, **fields)
    assert (answer.status_code, body(answer)["error"]["parameter"]) == (400, parameter)
    assert named(get(client, "/routes")) == []


@pytest.mark.parametrize(
    "address",
    [
        "/routes?number=",
        "/routes?number=1%0A",
        "/routes?number=1&number=2",
        "/routes?direction=both",
        "/routes?pattern=1",
    ],
)
def test_a_question_that_is_none(client: FlaskClient, address: str) -> None:
    assert get(client, address).status_code == 400


def test_deleting_asks_for_a_pattern(client: FlaskClient) -> None:
    for query in ("", "?pattern=%00", "?pattern=1&direction=both", "?pattern=1&scenario=x"):
        assert client.delete(f"/routes{query}", headers=HEADERS).status_code == 400


def test_only_admins_change_routes_where_there_are_some(tasks: Tasks, engine: Engine) -> None:
    door = Door(RULES, {"1c": TOKEN, "admin": "another"}, admins=("admin",))
    client = whole(door, engine).test_client()
    fields = {"pattern": "1", "scenario": "article"}
    refused = put_route(client, **fields)
    assert (refused.status_code, body(refused)["error"]["code"]) == (403, "forbidden")
    assert client.delete("/routes?pattern=1", headers=HEADERS).status_code == 403
    assert named(get(client, "/routes")) == [], "everybody may look"
    admin = {"Authorization": "Bearer another"}
    assert client.put("/routes", json=fields, headers=admin).status_code == 200
    assert client.put("/routes", json=fields).status_code == 401


def test_routes_without_postgresql(away: FlaskClient) -> None:
    assert get(away, "/routes").status_code == 503
    assert put_route(away, pattern="1", scenario="article").status_code == 503
    assert away.delete("/routes?pattern=1", headers=HEADERS).status_code == 503


def test_a_task_without_a_scenario_gets_that_of_its_numbers_route(
    tasks: Tasks, engine: Engine
) -> None:
    known = {"123": "survey", "456": "gone"}
    door = Door(replace(RULES, route=known.get), {"1c": TOKEN})
    client = whole(door, engine).test_client()

    def scenario(address: str) -> str:
        task = tasks.get(UUID(body(get(client, address))["id"]))
        assert task is not None
        return task.request.scenario

    assert scenario("/originate?phone=123") == "survey"
    assert scenario("/originate?phone=123&scenario=article") == "article"
    assert scenario("/originate?phone=789") == "article", "no route: the default"
    answer = body(get(client, "/originate?phone=456"))
    assert answer["error"]["parameter"] == "scenario"
    assert "the route of 456 names gone" in answer["error"]["why"]
