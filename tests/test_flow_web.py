"""The node http: what it asks, and what becomes of the answer."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from backend.errors import BadRequest
from backend.flow.load import load_flow
from backend.flow.run import flow_scenario
from backend.ports import HttpAnswer, HttpRequest
from backend.testing import FakeCall

FLOW = """
flow: asks
start: a
variables: {x: null, y: null, list: [1, {b: two}], way: ok}
result: {x: "{x}", y: "{y}", way: "{way}", kind: "{error.kind}", text: "{error.text}"}
nodes:
  a:
    type: http
    next: end
    on_error: error
    NODE
  error: {type: set, values: {way: error}, next: end}
  other: {type: set, values: {way: other}, next: end}
  late: {type: set, values: {way: late}, next: end}
  all: {type: branch, cases: [{when: x == 1, next: other}], next: late}
"""


def ask(node: str, http: Any = None, **options: Any) -> FakeCall:
    text = FLOW.replace("NODE", node.strip().replace("\n", "\n    ")).replace(
        "start: a", "start: zero"
    )
    text += "  zero: {type: branch, cases: [{when: caller == called, next: all}], next: a}\n"
    call = FakeCall(http=http, **options)
    ended = call.run(flow_scenario(load_flow(text, source="asks.flow.yaml")))
    assert ended.error is None, ended
    return call


def test_a_get() -> None:
    node = """
url: "http://1c/orders/{caller}?fixed=a b&v={list.0}"
query: {q: "{list.1.b} & more"}
headers: {X-Call: "{call_id}"}
secret_headers: {Authorization: key}
timeout: 2
save: {x: orders.0.sum, y: nothing.here}
"""
    call = ask(node, {"GET http://1c/orders": {"orders": [{"sum": 7}]}}, caller="+7 9/1?")
    (request,) = call.requests
    assert request.url == "http://1c/orders/%2B7%209%2F1%3F?fixed=a%20b&v=1&q=two+%26+more"
    assert request.headers["X-Call"] == str(call.id)
    assert request.secret_headers == {"Authorization": "key"}
    assert (request.timeout_s, request.max_bytes, request.body) == (2, 65536, None)
    assert (call.result["x"], call.result["y"], call.result["way"]) == (7, None, "ok")


def test_a_post() -> None:
    node = """
method: POST
url: http://1c/x
json: {list: "{list}", text: "is {list.0}", none: "{x}", plain: 5}
save: x
save_status: y
"""
    call = ask(node, {"http://1c/x": [[1, 2]]})
    (request,) = call.requests
    assert json.loads(request.body or b"") == {
        "list": [1, {"b": "two"}],
        "text": "is 1",
        "none": None,
        "plain": 5,
    }
    assert request.headers["Content-Type"] == "application/json"
    assert (call.result["x"], call.result["y"]) == ([1, 2], 200)


@pytest.mark.parametrize(
    ("answer", "more", "way"),
    [
        (404, 'on_status: {"404": other, 4xx: late}', "other"),
        (410, 'on_status: {"404": other, 4xx: late}', "late"),
        (500, 'on_status: {"404": other, 4xx: late}', "error"),
        (204, "", "ok"),
        (204, "on_status: {2xx: other}", "other"),
        ("timeout", "on_timeout: late", "late"),
        ("timeout", "", "error"),
        ("away", "on_timeout: late", "error"),
        (200, "save: x", "error"),
        (404, 'save: x\non_status: {"404": other}', "other"),
    ],
)
def test_ways(answer: object, more: str, way: str) -> None:
    call = ask(f"url: http://1c/\n{more}", {"http://1c/": answer})
    assert call.result["way"] == way
    if way == "error":
        assert call.result["kind"] == "http"


def test_the_flows_on_timeout_is_for_callers() -> None:
    text = FLOW.replace("NODE", "url: http://1c/").replace("start: a", "start: zero")
    text = text.replace("variables:", "exits: {on_timeout: late}\nvariables:", 1)
    text += "  zero: {type: branch, cases: [{when: caller == called, next: all}], next: a}\n"
    call = FakeCall(http={"http://1c/": "timeout"})
    call.run(flow_scenario(load_flow(text, source="x")))
    assert call.result["way"] == "error"


def test_attempts() -> None:
    call = ask("url: http://1c/\nretries: 2\nsave: x", {"http://1c/": ["away", 503, {"a": 1}]})
    assert len(call.requests) == 3
    assert call.result["x"] == {"a": 1}
    assert 0.9 <= call.now_s < 2, "with pauses between them"
    again = ask("url: http://1c/\nretries: 1\nsave: x", {"http://1c/": ["timeout", "away", 1]})
    assert (len(again.requests), again.result["way"]) == (2, "error")
    refused = ask("url: http://1c/\nretries: 5\nsave: x", {"http://1c/": 404})
    assert len(refused.requests) == 1, "an answer is an answer"


def test_the_error_says_enough_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        call = ask('url: "http://1c/clients/{caller}"', {"http://1c/": 500}, caller="79160000000")
    assert call.result["text"] == "HttpFailed: GET http://1c/clients/{caller} says 500"
    assert "node a: HttpFailed: GET http://1c/clients/{caller} says 500; on to error" in caplog.text
    assert "79160000000" not in caplog.text


def test_no_host_is_allowed_by_itself() -> None:
    call = ask("url: http://1c/")
    assert (call.result["way"], call.result["kind"]) == ("error", "value")


@pytest.mark.parametrize("caller", [".", ".."])
def test_a_value_is_no_place(caller: str) -> None:
    call = ask('url: "http://1c/a/{caller}/b"', {"http://1c/": {}}, caller=caller)
    assert (call.result["way"], call.requests) == ("error", [])


def test_a_value_is_no_second_header() -> None:
    node = 'url: http://1c/\nheaders: {X: "{caller}"}'
    call = ask(node, {"http://1c/": {}}, caller="1\r\nY: 2")
    assert (call.result["way"], call.requests) == ("error", [])


def test_an_answer_may_not_fill_the_memory() -> None:
    big = {"x": "y" * (1 << 20)}
    call = ask("url: http://1c/\nsave: x\nmax_bytes: 1048576", {"http://1c/": big})
    assert call.result["way"] == "error"
    assert "variables take more than" in call.result["text"]


class Door:
    """An HttpDoor whose answer is no JSON."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def send(self, request: HttpRequest) -> HttpAnswer:
        return HttpAnswer(200, self.body)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[" * 100_000, b"\xff\xfe", b'{"a":', b"NaN", b"[-Infinity]"]
)
def test_what_is_no_json(body: bytes) -> None:
    call = ask("url: http://1c/\nsave: x", Door(body))
    assert call.result["way"] == "error"
    assert call.result["text"].endswith("the answer is no JSON")


@pytest.mark.parametrize("body", [b"[1e999]", b'"\\u0000"', b'"\\ud800"'])
def test_what_postgresql_could_not_keep(body: bytes) -> None:
    call = ask("url: http://1c/\nsave: x", Door(body))
    assert (call.result["way"], call.result["kind"], call.result["x"]) == ("error", "value", None)


def test_a_text_about_a_nul_is_none() -> None:
    assert ask("url: http://1c/\nsave: x", Door(rb'"\\u0000"')).result["x"] == r"\u0000"


def test_answers_of_a_tried_call_are_checked() -> None:
    with pytest.raises(BadRequest, match="expected 'GET http://host/path'"):
        FakeCall(http={"1c": 1})
