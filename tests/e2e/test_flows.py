"""Flows on a real Asterisk: the example of docs/flows.md, ten calls at once, with a web server that
stands for 1C; flows and scenario functions that run each other; a version that is broken.

Proved as the ready scenarios are: by both tapes of each call, by the task's result, and by what
1C was asked.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest
from lab_script import LabStep, write_script
from stack import Stack

from backend.speech.local_process import LocalSpeechServer
from tests.e2e.conftest import probing_stack
from tests.e2e.spoken import SETTINGS, Line, Tape, Voices, prove_talk
from tests.e2e.waiting_calls import finish, loaded

GOOD = Path(__file__).parents[1] / "vectors" / "flows" / "good"
TEN = range(10)
ENDS_S = 240.0  # for all of them: on a busy machine
SECRET = "Bearer s3cr3t"
CALL_AGAIN = LabStep("after", 0.7, "silence")
KEYS = LabStep("after", 0.7, "press", "")
FUNCTIONS = """
from backend import Call, scenario

@scenario("counted")
def counted(call: Call) -> dict[str, object]:
    call.speak("Counting.")
    return {"number": call.arguments["number"], "calls": call.store.add("counted")}

@scenario("outer")
def outer(call: Call) -> dict[str, object]:
    call.answer()
    return {"first": call.run_flow("inner", number=7), "second": call.run_flow("inner")}
"""
INNER = """
flow: inner
start: count
variables: {number: 1, counted: null}
result: {number: "{counted.number}", calls: "{counted.calls}"}
nodes:
  count: {type: call, scenario: counted, with: {number: "{number}"}, save: counted, next: end}
"""
VERSIONED = """
flow: versioned
start: say
variables: {said: null}
result: {version: VERSION, said: "{said}"}
nodes:
  say: {type: set, values: {said: VERSION}, next: wait}
  wait: {type: call, scenario: patient, next: last}
  last: {type: flow, flow: late, save: said, next: end}
"""
LATE = """
flow: late
start: a
answer: false
result: VERSION
nodes:
  a: {type: set, values: {x: 1}, next: end}
"""
PATIENT = """
from backend import Call, scenario

@scenario("patient")
def patient(call: Call) -> None:
    while call.store.get("go on") != call.called:
        call.wait(0.1)
"""


@dataclass
class OneC:
    """Clients 1000 … 1009, and their orders. ``asked``: (method, path, query or body, key)."""

    server: ThreadingHTTPServer
    asked: list[tuple[str, str, Any, str | None]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def answer(self, path: str) -> tuple[int, Any]:
        if found := re.fullmatch(r"/clients/(100\d)", path):
            n = int(found[1]) - 1000
            manager = "105333" if n == 5 else f"15033{n}"
            return 200, {"id": int(found[1]), "name": "Anna", "manager": manager}
        if path == "/orders":
            return 200, None  # by its client: see handle
        return (200, {"id": 77}) if path in ("/deliveries", "/lost") else (404, {"error": path})

    def orders(self, client: str) -> tuple[int, Any]:
        n = int(client) - 1000
        if n == 7:
            return 500, {"error": "out of order"}
        state = "waits" if n == 6 else "ready"
        return 200, {"orders": [{"number": f"A{n}", "state": state, "sum": 300}]}


@pytest.fixture(scope="module")
def one_c() -> Iterator[OneC]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(where.query).items()}
            self._told("GET", where.path, query)
            if where.path == "/orders":
                self._answer(*one.orders(query["client"]))
            else:
                self._answer(*one.answer(where.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._told("POST", self.path, body)
            self._answer(*one.answer(self.path))

        def _told(self, method: str, path: str, what: Any) -> None:
            one.asked.append((method, path, what, self.headers.get("Authorization")))

        def _answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        one = OneC(server)
        thread = threading.Thread(target=server.serve_forever, name="1c")
        thread.start()
        yield one
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' folder."""
    return tmp_path_factory.mktemp("flows")


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory,
    folder: Path,
    asterisk: str,
    speech_server: LocalSpeechServer,
    one_c: OneC,
) -> Iterator[Stack]:
    one_c.asked.clear()  # it stays for the next Asterisk
    for old in folder.iterdir():
        if old.is_file():
            old.unlink()
    for name in ("order", "identify"):
        text = (GOOD / f"{name}.flow.yaml").read_text(encoding="utf-8")
        (folder / f"{name}.flow.yaml").write_text(text.replace("1c.example.com", one_c.host))
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "patient.py").write_text(PATIENT)
    (folder / "inner.flow.yml").write_text(INNER)
    save(folder, "one")
    settings = {
        **SETTINGS,
        "DIALOG_SCENARIOS_DIR": str(folder),
        "DIALOG_WORKERS": "2",
        "DIALOG_RECOGNITION_S": "20",  # the local recogniser is one process, for all these calls
        "DIALOG_SPEECH_LOCAL_PHRASES": "delivery",
        "DIALOG_FLOW_HTTP_HOSTS": one_c.host,
        "DIALOG_FLOW_HTTP_SECRETS": f"order-key={SECRET}",
    }
    with probing_stack(tmp_path_factory.mktemp("stack"), asterisk, **settings) as stack:
        yield stack


def save(folder: Path, version: str) -> None:
    for name, text in (("late.flow.yaml", LATE), ("versioned.flow.yaml", VERSIONED)):
        (folder / name).write_text(text.replace("VERSION", version))


# --- The example ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a caller does, and what must come of it."""

    steps: Sequence[LabStep]
    talk: Sequence[Line]
    result: Mapping[str, object] | None
    passed: Sequence[str]
    """The nodes of flow order."""
    asked: Sequence[str] = ()
    """Of 1C, behind the client."""
    manager: Sequence[LabStep] = ()


def robot(text: str, *, cut: bool = False) -> Line:
    return Line("robot", text, cut)


def say(text: str) -> LabStep:
    return LabStep("after", 0.7, "say", text)


def press(keys: str) -> LabStep:
    return LabStep("after", 0.7, "press", keys)


WELCOME = robot("Hello. This call is recorded.")
ASK = robot("First enter the four digits of your contract.")
MENU = robot("Anna, say delivery or operator, or press one or zero.")
BYE = robot("Goodbye.")
BEGIN = ["record", "welcome", "who", "known"]
END = ["goodbye", "bye"]


def ready(n: int) -> Line:
    return robot(f"Your order A{n} is ready. Shall we deliver it today?")


def delivered(n: int) -> Plan:
    """By keys; by words, and with a key in the welcome, which is blocked: none of the four."""
    by_key = n == 0
    early = [] if by_key else [LabStep("over", 0.3, "press", "9")]
    menu = [press("1")] if by_key else [say("delivery")]
    said = [] if by_key else [Line("caller", "delivery")]
    return Plan(
        [*early, press(str(1000 + n)), *menu, say("yes please")],
        [
            *(WELCOME, ASK, MENU, *said, ready(n), Line("caller", "yes please")),
            *(robot("Thank you, it will come today."), BYE),
        ],
        {"client": 1000 + n, "order": f"A{n}", "delivery": 77, "transfer": None},
        [*BEGIN, "menu", "fetch", "found", "ready", "deliver", "thanks", *END],
        ["GET /orders", "POST /deliveries"],
    )


def later(n: int) -> Plan:
    return Plan(
        [press(str(1000 + n)), press("1"), say("no thank you")],
        [WELCOME, ASK, MENU, ready(n), Line("caller", "no thank you"), BYE],
        {"client": 1000 + n, "order": f"A{n}", "delivery": None, "transfer": None},
        [*BEGIN, "menu", "fetch", "found", "ready", *END],
        ["GET /orders"],
    )


def connected(n: int) -> Plan:
    """By a word or a key; the manager speaks, and hangs up."""
    by_key = n == 3
    said = [] if by_key else [Line("caller", "operator")]
    return Plan(
        [press(str(1000 + n)), press("0") if by_key else say("operator"), CALL_AGAIN],
        [
            *(WELCOME, ASK, MENU, *said, robot("I am connecting you.")),
            *(Line("other", "yes please"), BYE),
        ],
        {"client": 1000 + n, "order": None, "delivery": None, "transfer": "completed"},
        [*BEGIN, "menu", "connecting", "operator", *END],
        manager=[LabStep("then", 3.0, "say", "yes please"), LabStep("then", 1.0, "hangup")],
    )


def busy(n: int) -> Plan:
    return Plan(
        [press(str(1000 + n)), press("0")],
        [
            *(WELCOME, ASK, MENU, robot("I am connecting you.")),
            *(robot("All operators are busy. We will call you back."), BYE),
        ],
        {"client": 1000 + n, "order": None, "delivery": None, "transfer": "busy"},
        [*BEGIN, "menu", "connecting", "operator", "busy", *END],
    )


def mistaken(n: int) -> Plan:
    """A number that 1C does not know; then his own."""
    wrong = robot("There is no such contract.")
    return Plan(
        [press("9999"), press(str(1000 + n)), press("1")],
        [WELCOME, ASK, wrong, ASK, MENU, robot(f"Your order A{n} is not ready."), BYE],
        {"client": 1000 + n, "order": f"A{n}", "delivery": None, "transfer": None},
        [*BEGIN, "menu", "fetch", "found", "waiting", *END],
        ["GET /orders"],
    )


def away(n: int) -> Plan:
    """1C has a fault, and is asked twice."""
    return Plan(
        [press(str(1000 + n)), press("1")],
        [WELCOME, ASK, MENU, robot("We cannot help you now. Please call later.")],
        {"client": 1000 + n, "order": None, "delivery": None, "transfer": None},
        [*BEGIN, "menu", "fetch", "sorry", "bye"],
        ["GET /orders", "GET /orders"],
    )


def gone(n: int) -> Plan:
    return Plan(
        [press(str(1000 + n)), LabStep("over", 1.0, "hangup")],
        [WELCOME, ASK, robot(MENU.text, cut=True)],
        None,
        [*BEGIN, "menu", "gone"],
        ["POST /lost"],
    )


def stranger(n: int) -> Plan:
    return Plan(
        [press("88#"), press("9#")],
        [
            *(WELCOME, ASK, robot("These are not four digits."), ASK),
            *(robot("We do not know this contract."), BYE),
        ],
        {"client": None, "order": None, "delivery": None, "transfer": None},
        [*BEGIN, "stranger", *END],
    )


PLANS = [
    *(delivered(0), delivered(1), later(2), connected(3), connected(4)),
    *(busy(5), mistaken(6), away(7), gone(8), stranger(9)),
]


@pytest.fixture(scope="module")
def voices(stack: Stack, speech_server: LocalSpeechServer) -> Iterator[Voices]:
    with Voices(stack.lab, speech_server.address) as voices:
        yield voices


@pytest.fixture(scope="module")
def calls(stack: Stack, voices: Voices) -> dict[int, str]:
    """Task ids; all calls are under way together."""
    voices.prepare([line for plan in PLANS for line in plan.talk])
    found = {}
    for n, plan in enumerate(PLANS):
        write_script(stack.lab, f"15032{n}", plan.steps)
        if plan.manager:
            write_script(stack.lab, f"15033{n}", plan.manager)
        found[n] = str(stack.originate(f"15032{n}", scenario="order")["id"])
    return found


@pytest.mark.parametrize("n", TEN)
def test_ten_calls_of_the_example_at_once(
    stack: Stack, voices: Voices, calls: dict[int, str], one_c: OneC, n: int
) -> None:
    plan = PLANS[n]
    task = stack.ended(calls[n], ENDS_S)
    state = "done/completed" if plan.result is not None else "failed/caller_hangup"
    assert f"{task['state']}/{task['reason']}" == state, task
    assert task["result"] == plan.result
    assert task["recording"]
    number = f"15032{n}"
    heard, said = Tape(stack.lab.heard(number)), Tape(stack.lab.said(number))
    prove_talk(voices, {"robot": heard, "other": heard, "caller": said}, plan.talk, number)
    stack.wait_for("its steps", lambda: good_end(stack, calls[n]))
    nodes = [node for flow, node in passed(stack, calls[n]) if flow == "order"]
    assert nodes == list(plan.passed)
    # What it asked 1C once the client was known. The steps name the flow that asked.
    mine = [one for one in one_c.asked if belongs(one, n, task)]
    assert [f"{method} {path}" for method, path, _, _ in mine] == list(plan.asked)
    assert all(key == SECRET for _, _, _, key in mine)


def belongs(asked: tuple[str, str, Any, str | None], n: int, task: Mapping[str, Any]) -> bool:
    _, path, what, _ = asked
    return not path.startswith("/clients/") and str(what.get("client")) == str(1000 + n)


def steps(stack: Stack, task_id: str, *kinds: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    """(kind, flow, node, body) of the steps of these kinds that are stored by now."""
    query = (
        "SELECT kind, flow, node, body FROM steps WHERE task_id = %s AND kind = ANY(%s) ORDER BY n"
    )
    connection = psycopg2.connect(stack.dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, (task_id, list(kinds)))
            return cursor.fetchall()
    finally:
        connection.close()


def passed(stack: Stack, task_id: str) -> list[tuple[str, str]]:
    """(flow, node)."""
    return [(flow, node) for _, flow, node, _ in steps(stack, task_id, "node")]


def good_end(stack: Stack, task_id: str) -> bool | None:
    """Whether all flows of the call have ended well; None: the outer one has not."""
    ends = [(flow, body) for _, flow, _, body in steps(stack, task_id, "flow_end")]
    if not ends or ends[-1][0] != "order":
        return None
    assert all(body["ok"] for _, body in ends), ends
    return True


def test_keys_are_blocked_by_the_nodes_rules_and_secret_ones_are_dots(
    stack: Stack, calls: dict[int, str]
) -> None:
    for n in (0, 1):
        stack.ended(calls[n], ENDS_S)
        stack.wait_for("its steps", partial(good_end, stack, calls[n]))
        early = [("order", "welcome", "9", "blocked")] if n == 1 else []
        contract = [("identify", "ask", "•", "taken")] * 4
        menu = [("order", "menu", "1", "taken")] if n == 0 else []
        assert keys(stack, calls[n]) == [*early, *contract, *menu]


def keys(stack: Stack, task_id: str) -> list[tuple[str, str, str, str]]:
    """(flow, node, key, verdict) of each."""
    found = steps(stack, task_id, "key")
    return [(flow, node, body["key"], body["verdict"]) for _, flow, node, body in found]


def test_no_secret_and_no_contract_is_in_the_log(stack: Stack, calls: dict[int, str]) -> None:
    for task in calls.values():
        stack.ended(task, ENDS_S)
    log = stack.log_path.read_text()
    assert SECRET not in log
    assert "s3cr3t" not in log
    assert "/clients/100" not in log
    assert "node fetch: HttpFailed: GET http://" in log, "but which node failed, and why"


# --- Functions and flows -------------------------------------------------------------------------


def test_a_flow_runs_a_function_and_a_function_a_flow(stack: Stack) -> None:
    inner = stack.ended(stack.originate("103601", scenario="inner")["id"])
    assert (inner["state"], inner["result"]["number"]) == ("done", 1), inner
    outer = stack.ended(stack.originate("103602", scenario="outer")["id"])
    assert outer["state"] == "done", outer
    first, second = outer["result"]["first"], outer["result"]["second"]
    assert (first["number"], second["number"]) == (7, 1)
    assert second["calls"] == first["calls"] + 1


# --- Versions ------------------------------------------------------------------------------------


def test_a_broken_version_is_refused_while_calls_run(stack: Stack, folder: Path) -> None:
    old = begun(stack, "1036101")
    save(folder, "two")
    loaded(stack, "versioned.flow.yaml loaded: versioned", 6)
    loaded(stack, "late.flow.yaml loaded: late", 6)
    new = begun(stack, "1036102")
    broken = VERSIONED.replace("next: wait", "next: wiat").replace("VERSION", "three")
    (folder / "versioned.flow.yaml").write_text(broken)
    told = "node say: next: there is no node 'wiat'; did you mean 'wait'?"
    loaded(stack, told, 3)
    kept = begun(stack, "1036103")
    assert finish(stack, *kept) == {"version": "two", "said": "two"}
    assert finish(stack, *new) == {"version": "two", "said": "two"}
    assert finish(stack, *old) == {"version": "one", "said": "one"}, "its sub-flow's, too"
    health = stack.wait_for("the news", lambda: refused(stack))
    assert f"versioned.flow.yaml: line 7: {told}" in health


def refused(stack: Stack) -> str | None:
    part = stack.health()["parts"]["scenarios"]
    return None if part["ok"] else str(part["why"])


def begun(stack: Stack, phone: str) -> tuple[str, str]:
    """A call that has passed its first node, and waits."""
    task = str(stack.originate(phone, scenario="versioned")["id"])
    stack.wait_for("its steps", lambda: ("versioned", "wait") in passed(stack, task) or None)
    return task, phone
