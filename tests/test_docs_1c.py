"""docs/1c/AsteriskDialog.bsl against the HTTP contract: what it names exists, and the requests
that it makes are answered as it expects. 1C itself is not run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from backend.dialing.policy import Rules
from backend.http_openapi import openapi
from backend.model import Outcome, Reason, TaskState
from backend.storage.flows import Flows
from backend.storage.routes import Routes
from backend.storage.tasks import Tasks
from backend.storage.upkeep import Overview
from backend.web import Door, create_app

MODULE = Path(__file__).parents[1] / "docs" / "1c" / "AsteriskDialog.bsl"
SOURCE = MODULE.read_text(encoding="utf-8")
API = openapi("test")
SCHEMAS = API["components"]["schemas"]
KEY = "5f1c2b9e-7d3a-11ee-9c6b-0242ac120002"
TOKEN = "a-token-of-1c"

# Blocks of the language: how each begins and ends. A call of a type (Новый …) is no block.
BLOCKS = (
    (r"Процедура\s", "КонецПроцедуры"),
    (r"Функция\s", "КонецФункции"),
    (r"Если\s", "КонецЕсли"),
    (r"(?:Пока|Для Каждого)\s", "КонецЦикла"),
    (r"Попытка", "КонецПопытки"),
)
LATIN = {"HTTP", "JSON", "AsteriskDialog", "URL", "OpenSSL"}


def code() -> str:
    """The module without comments and texts."""
    without_texts = re.sub(r'"[^"]*"', '""', SOURCE)
    return re.sub(r"//.*", "", without_texts)


def query(**params: str) -> str:
    """As КодироватьСтроку(…, КодировкаURL, "UTF-8") and the module write it."""
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in params.items())


@pytest.fixture
def client(engine: Engine) -> FlaskClient:
    rules = Rules(variables=("client",), scenarios=("article",))
    door = Door(rules, {"1c": TOKEN})
    return create_app(
        door, Tasks(engine), Overview(engine), Routes(engine), Flows(engine)
    ).test_client()


def get(client: FlaskClient, path: str, **params: str) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
    answer = client.get(f"{path}?{query(**params)}", headers=headers)
    return answer.status_code, json.loads(answer.data)


def test_the_addresses_and_parameters_exist() -> None:
    paths = set(re.findall(r'ВыполнитьЗапрос\(Настройки, "([^"]+)"', SOURCE))
    assert paths == {"/originate", "/tasks"}
    known = {item["name"] for path in paths for item in API["paths"][path]["get"]["parameters"]}
    used = set(re.findall(r'Параметры\.Вставить\("(\w+)"', SOURCE))
    assert {name for name in used if not name.startswith("var_")} <= known
    assert {"phone", "external_id", "changed_since", "limit"} <= used


def test_the_fields_exist() -> None:
    in_task = set(re.findall(r'Задача\["(\w+)"\]', SOURCE))
    assert in_task <= set(SCHEMAS["TaskAnswer"]["properties"])
    in_answer = set(re.findall(r'Ответ\.Данные\["(\w+)"\]', SOURCE))
    answers = ("Accepted", "TaskChanges", "ErrorAnswer")
    assert in_answer <= {name for answer in answers for name in SCHEMAS[answer]["properties"]}
    in_error = set(re.findall(r'Описание\["(\w+)"\]', SOURCE))
    assert in_error <= set(SCHEMAS["Problem"]["properties"])


def test_blocks_are_closed() -> None:
    for begin, end in BLOCKS:
        opened = len(re.findall(rf"^\s*{begin}", code(), re.MULTILINE))
        assert opened == len(re.findall(rf"^\s*{end}\b", code(), re.MULTILINE)), end


def test_no_latin_letter_hides_in_a_cyrillic_name() -> None:
    for word in re.findall(r"\w+", code()):
        if re.search(r"[а-яёА-ЯЁ]", word):
            assert set(re.findall(r"[A-Za-z]+", word)) <= LATIN, word


def test_every_procedure_that_is_called_is_there() -> None:
    defined = set(re.findall(r"^(?:Процедура|Функция) (\w+)", code(), re.MULTILINE))
    ours = re.findall(r"(?<![.\w])((?:Записать|Заполнить|Заблокировать|Сообщить)\w+)\(", code())
    assert set(ours) - {"ЗаписатьJSON"} <= defined


def test_a_task_is_handed_in_once(client: FlaskClient) -> None:
    wanted = {"external_id": KEY, "phone": "+79161234567", "var_client": "Иван Петрович"}
    status, first = get(client, "/originate", **wanted)
    assert (status, first["external_id"]) == (200, KEY)
    assert get(client, "/originate", **wanted) == (200, first)


def test_a_refusal_names_the_parameter(client: FlaskClient) -> None:
    status, answer = get(client, "/originate", external_id=KEY, phone="8 (916) 123-45-67")
    assert (status, answer["error"]["parameter"]) == (400, "phone")
    assert answer["error"]["why"]


def test_changes_are_read_to_the_end(client: FlaskClient, engine: Engine) -> None:
    task = get(client, "/originate", external_id=KEY, phone="79161234567")[1]["id"]
    status, page = get(client, "/tasks", changed_since="0", limit="500")
    assert (status, page["more"], page["tasks"][0]["external_id"]) == (200, False, KEY)
    assert Tasks(engine).settle(task, Outcome(TaskState.FAILED, Reason.BUSY))
    page = get(client, "/tasks", changed_since=str(page["cursor"]), limit="500")[1]
    (changed,) = page["tasks"]
    assert (changed["state"], changed["reason"], changed["final"]) == ("failed", "busy", True)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$", changed["ended_at"])
    assert get(client, "/tasks", changed_since=str(page["cursor"]), limit="500")[1] == {
        "tasks": [],
        "cursor": page["cursor"],
        "more": False,
    }


def test_the_token_may_be_a_password(client: FlaskClient) -> None:
    """For platforms that cannot send headers: user and password of HTTPСоединение."""
    assert client.get("/tasks?changed_since=0", auth=("1c", TOKEN)).status_code == 200
    assert client.get("/tasks?changed_since=0", auth=("1c", "wrong")).status_code == 401
