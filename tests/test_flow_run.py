"""The interpreter, node by node, on a simulated call."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from backend.call.call import Call
from backend.call.prompt import Prompt, Sound, Text
from backend.call.scenario import ScenarioFunction
from backend.errors import BadRequest, CommandRefused, Hangup, ScenarioError
from backend.flow.load import load_flow
from backend.flow.run import flow_scenario
from backend.model import Reason
from backend.testing import FakeCall, Troubles, dialled, hangup, participant, press, say, silence
from backend.trying.script import Step

HEAD = """
flow: tried
start: a
exits: {on_timeout: timeout, on_invalid: invalid, on_no_match: no_match, on_failed: failed}
variables: {x: null, y: null, z: null}
result: {x: "{x}", y: "{y}", z: "{z}"}
nodes:
"""
ENDS = ["timeout", "invalid", "no_match", "failed", "one", "two"]


def flow(nodes: str, head: str = HEAD) -> ScenarioFunction:
    """``nodes``, with a node that sets z for each of ENDS that they lead to."""
    text = head + nodes
    for name in ENDS:
        text += f"\n  {name}: {{type: set, values: {{z: {name}}}, next: end}}"
    links = "".join(f'{{when: "x == null", next: {name}}}, ' for name in ENDS)
    text += f"\n  all: {{type: branch, cases: [{links[:-2]}], next: end}}"
    text = text.replace("start: a", "start: zero")
    text += "\n  zero: {type: branch, cases: [{when: caller == called, next: all}], next: a}\n"
    return flow_scenario(load_flow(text, source="tried.flow.yaml"))


def run(nodes: str, *script: Step | str, **options: Any) -> FakeCall:
    call = FakeCall(*script, **options)
    call.run(flow(nodes))
    return call


def result(nodes: str, *script: Step | str, **options: Any) -> dict[str, Any]:
    call = run(nodes, *script, **options)
    assert call.ended is not None
    assert call.ended.outcome.reason is Reason.COMPLETED, call.ended
    assert isinstance(call.result, dict)
    return {name: value for name, value in call.result.items() if value is not None}


# Speaking


def test_play() -> None:
    nodes = '  a: {type: play, prompt: ["For {caller}.", {sound: beep}], repeat: 2, next: end}'
    call = run(nodes, caller="79160000001")
    assert call.answered
    assert call.spoken == ["For 79160000001. [beep] For 79160000001. [beep]"]


def test_a_text_that_is_empty_is_not_spoken() -> None:
    nodes = '  a: {type: play, prompt: ["{x}", Hello.], next: end}\n'
    call = run(nodes.replace("{x}", "{file}"), file=" ")
    assert call.spoken == ["Hello."]
    call = run(nodes.replace('"{x}", Hello.', '"{file}"'), file=" ")
    assert (call.spoken, call.ended and call.ended.error) == ([], None)


def test_a_key_interrupts() -> None:
    nodes = """
  a: {type: play, prompt: A long prompt that nobody hears out., interruptible: keys, next: one,
      on_interrupted: b}
  b: {type: input, save: x, next: end}"""
    assert result(nodes, press("5", over_prompt=True)) == {"x": "5"}
    assert result(nodes, silence())["z"] == "one"


def test_the_prompt_for_when_there_is_no_synthesis() -> None:
    nodes = "  a: {type: TYPE, prompt: Hello., instead: {sound: hello}, next: end, save: x}"
    troubles = Troubles(synthesis="away")
    play = nodes.replace("TYPE", "play").replace(", save: x", "")
    assert run(play, troubles=troubles).spoken == ["[hello]"]
    call = run(nodes.replace("TYPE", "input"), press("1"), troubles=troubles)
    assert (call.spoken, call.result["x"]) == (["[hello]"], "1")


# Keys


INPUT = """
  a:
    type: input
    prompt: Enter it.
    min: 2
    max: 4
    timeout: 3
    retries: 1
    timeout_prompt: Nothing came.
    invalid_prompt: Too few.
    save: x
    next: one
"""


@pytest.mark.parametrize(
    ("script", "found", "spoken"),
    [
        ([press("1234")], {"x": "1234", "z": "one"}, ["Enter it."]),
        ([press("12#")], {"x": "12", "z": "one"}, ["Enter it."]),
        ([press("12")], {"x": "12", "z": "one"}, ["Enter it."]),
        (
            [press("1#"), press("123#")],
            {"x": "123", "z": "one"},
            ["Enter it.", "Too few. Enter it."],
        ),
        (
            [silence(), press("12#")],
            {"x": "12", "z": "one"},
            ["Enter it.", "Nothing came. Enter it."],
        ),
        ([silence(), silence()], {"x": "", "z": "timeout"}, None),
        ([silence(), press("1#")], {"x": "1", "z": "invalid"}, None),
    ],
)
def test_input(script: list[Step], found: dict[str, str], spoken: list[str] | None) -> None:
    call = run(INPUT, *script)
    assert {name: value for name, value in call.result.items() if value is not None} == found
    if spoken is not None:
        assert call.spoken == spoken


def test_choices() -> None:
    nodes = "  a: {type: input, prompt: Which?, choices: {1: one, '22': two}, save: x}"
    assert result(nodes, press("1")) == {"x": "1", "z": "one"}
    assert result(nodes, press("22")) == {"x": "22", "z": "two"}
    assert result(nodes, press("3")) == {"x": "3", "z": "invalid"}


def test_choices_and_others() -> None:
    nodes = "  a: {type: input, max: 2, choices: {1: one}, save: x, next: two}"
    assert result(nodes, press("1#")) == {"x": "1", "z": "one"}
    assert result(nodes, press("37")) == {"x": "37", "z": "two"}
    assert result(nodes, press("#")) == {"x": "", "z": "invalid"}


def test_a_prompt_that_no_key_ends() -> None:
    nodes = """
  a: {type: input, prompt: Wait until you have heard all of this out., interruptible: "off",
      save: x, next: one}"""
    call = run(nodes, press("7", over_prompt=True))
    assert call.result["x"] == "7"
    told = {line.who: line for line in call.talk if line.what in ("says", "presses")}
    assert told["caller"].start_ms < told["robot"].end_ms
    assert told["robot"].end_ms == run(nodes).talk[0].end_ms


# Speech


HEAR = """
  a:
    type: hear
    prompt: Well?
    timeout: 3
    retries: 1
    no_match_prompt: Again.
    branches:
      - {words: ["yes", sure], next: one}
      - {words: "operat*", next: two}
    choices: {"1": one, "0": two}
    save: x
    save_digits: y
"""


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ([say("Yes, please")], {"x": "Yes, please", "y": "", "z": "one"}),
        ([say("the operator")], {"x": "the operator", "y": "", "z": "two"}),
        ([press("0")], {"x": "", "y": "0", "z": "two"}),
        ([say("perhaps"), say("sure")], {"x": "sure", "y": "", "z": "one"}),
        ([say("perhaps"), say("maybe")], {"x": "maybe", "y": "", "z": "no_match"}),
        ([press("5"), press("1")], {"x": "", "y": "1", "z": "one"}),
        ([silence(), silence()], {"x": "", "y": "", "z": "timeout"}),
    ],
)
def test_hear(script: list[Step], found: dict[str, str]) -> None:
    assert result(HEAR, *script) == found


def test_whatever_is_said() -> None:
    nodes = "  a: {type: hear, prompt: Speak., save: x, save_confidence: y, next: one}"
    found = result(nodes, say("forty two"))
    assert (found["x"], found["z"]) == ("forty two", "one")
    assert 0 <= found["y"] <= 1


# Without the line


def test_set_and_branch() -> None:
    nodes = """
  a: {type: set, values: {x: [1, 2]}, compute: {y: length(x) + 1}, from_channel: {z: order},
      to_channel: {SUM: "{y} for {z}"}, next: b}
  b: {type: branch, cases: [{when: y == 3 and z == "A1", next: end}], next: two}"""
    call = FakeCall(variables={"order": "A1"})
    call.run(flow(nodes))
    assert call.result == {"x": [1, 2], "y": 3, "z": "A1"}
    assert call.variables["SUM"] == "3 for A1"


def test_a_goto_that_counts() -> None:
    nodes = """
  a: {type: set, compute: {y: x}, values: {x: 0}, next: b}
  b: {type: set, compute: {x: x + 1}, next: c}
  c: {type: goto, to: b, max: 3, on_max: end}"""
    assert result(nodes)["x"] == 4


def test_steps_are_bounded() -> None:
    nodes = """
  a: {type: set, values: {x: 0}, next: b}
  b: {type: branch, cases: [{when: x > 5, next: end}], next: c}
  c: {type: goto, to: b}"""
    call = FakeCall()
    ended = call.run(flow(nodes, HEAD.replace("start:", "max_steps: 50\nstart:")))
    assert ended.outcome.reason is Reason.SCENARIO_ERROR
    assert "more than max_steps 50 nodes, at node 'c'" in str(ended.error) or "'b'" in str(
        ended.error
    )
    assert [step.kind for step in call.steps].count("node") == 50


def test_a_result_that_is_not_complete_is_one() -> None:
    head = HEAD.replace('x: "{x}",', 'x: ["{y}", "of {y}", "{y.a}"],')
    call = FakeCall()
    ended = call.run(flow("  a: {type: set, values: {z: 1}, next: end}", head))
    assert (ended.error, ended.result) == (None, {"x": [None] * 3, "y": None, "z": 1})


def test_built_in_variables() -> None:
    nodes = """
  a: {type: set, values: {x: "{caller} {called} {direction} {language} {config.shop.opens}"},
      next: end}"""
    call = run(nodes, caller="1", called="2", config={"shop": {"opens": 9}})
    assert call.result["x"] == "1 2 inbound en-US 9"


# Errors


def test_an_error_is_an_exit(caplog: pytest.LogCaptureFixture) -> None:
    nodes = """
  a: {type: set, compute: {x: number("much")}, next: end, on_error: b}
  b: {type: set, values: {y: "{error.kind} at {error.node}"}, next: end}"""
    with caplog.at_level(logging.WARNING):
        assert result(nodes)["y"] == "value at a"
    assert "flow tried" in caplog.text
    assert "node a: FlowValueError" in caplog.text
    assert "; on to b" in caplog.text


def test_without_an_exit_it_is_the_calls_end() -> None:
    nodes = '  a: {type: set, compute: {x: number("much")}, next: end}'
    call = run(nodes)
    assert call.ended is not None
    assert call.ended.outcome.reason is Reason.SCENARIO_ERROR
    assert "number" in str(call.ended.error)
    assert call.steps[-1].kind == "flow_end"
    assert call.steps[-1].node == "a"
    assert call.steps[-1].body["ok"] is False
    assert call.steps[-1].body["reason"] == "value"


def test_an_error_exit_that_fails_itself_is_the_end() -> None:
    head = HEAD.replace("exits: {", "exits: {on_error: sorry, ")
    nodes = """
  a: {type: play, prompt: Hello., next: end}
  sorry: {type: play, prompt: Sorry., next: end}"""
    call = FakeCall(troubles=Troubles(synthesis="away"))
    ended = call.run(flow(nodes, head))
    assert ended.outcome.reason is Reason.SYNTHESIS_UNAVAILABLE
    nodes_passed = [step.node for step in call.steps if step.kind == "node"]
    assert nodes_passed == ["zero", "a", "sorry"]


def test_a_functions_fault_in_an_inner_flow_is_an_exit_of_the_outer_ones() -> None:
    inner = INNER.replace("type: set, compute: {m: n + m}", "type: call, scenario: failing")
    scenarios = others(inner=flow_scenario(load_flow(inner, source="inner")))
    nodes = "  a: {type: flow, flow: inner, next: end, on_error: one}"
    assert result(nodes, scenarios=scenarios)["z"] == "one"


# Hangup


def test_the_caller_hangs_up() -> None:
    call = run(INPUT, hangup())
    assert call.ended is not None
    assert call.ended.outcome.reason is Reason.CALLER_HANGUP
    assert call.steps[-1].body == {"ok": True, "reason": "caller_hangup"}


def test_after_a_hangup_there_are_nodes_without_a_line() -> None:
    nodes = """
  a: {type: input, prompt: Hello., next: end, on_hangup: gone}
  gone: {type: http, method: POST, url: "http://1c/gone", json: {who: "{caller}"}, next: end}"""
    call = run(nodes, hangup(), http={"POST http://1c/gone": 204})
    assert call.ended is not None
    assert call.ended.outcome.reason is Reason.CALLER_HANGUP
    assert [request.body for request in call.requests] == [b'{"who": "79161234567"}']
    passed = [step.node for step in call.steps if step.kind == "node"]
    assert passed == ["zero", "a", "gone"]


@pytest.mark.parametrize("next_", ["b", "c"])
def test_after_a_hangup_nobody_is_spoken_to(next_: str) -> None:
    nodes = f"""
  a: {{type: input, next: b, on_hangup: gone}}
  gone: {{type: set, values: {{x: 1}}, next: {next_}, on_error: c}}
  b: {{type: play, prompt: Hello., next: c, on_hangup: gone}}
  c: {{type: hangup}}"""
    call = run(nodes, hangup())
    assert call.ended is not None
    assert call.ended.outcome.reason is Reason.CALLER_HANGUP
    assert not call.spoken


def test_the_flow_hangs_up() -> None:
    call = run("  a: {type: set, values: {x: 1}, next: b}\n  b: {type: hangup, cause: 17}")
    assert call.ended is not None
    assert call.ended.outcome.reason is Reason.COMPLETED
    assert (call.hung_up_by, call.cause, call.result["x"]) == ("robot", 17, 1)
    assert call.steps[-1].body == {"ok": True, "reason": "completed"}


def test_a_flow_that_does_not_answer() -> None:
    call = FakeCall()
    call.run(
        flow("  a: {type: hangup, cause: 21}", HEAD.replace("start:", "answer: false\nstart:"))
    )
    assert (call.answered, call.cause) == (False, 21)


# Recording, transfer, conference


def test_record() -> None:
    nodes = """
  a: {type: record, name: "{call_id}", directory: shop, save: x, save_url: y, next: b}
  b: {type: record, action: pause, next: c}
  c: {type: record, action: resume, next: d}
  d: {type: record, action: stop, next: end}"""
    call = run(nodes)
    assert call.result["x"] == f"/recordings/shop/{call.id}.wav"
    assert call.result["y"].endswith(f"/shop/{call.id}.wav")
    applications = [name for name, _ in call.applications]
    assert applications == ["MixMonitor", "StopMixMonitor", "MixMonitor", "StopMixMonitor"]


def test_a_recording_that_never_began() -> None:
    nodes = "  a: {type: record, action: stop, next: end, on_error: one}"
    assert result(nodes)["z"] == "one"


TRANSFER = """
  a: {type: transfer, number: "{called}9", timeout: 5, save: x, next: one, on_busy: two}"""


@pytest.mark.parametrize(
    ("plan", "status", "leads_to"),
    [
        (dialled(hangup()), "completed", "one"),
        ("busy", "busy", "two"),
        ("no_answer", "no_answer", "failed"),
        ("rejected", "rejected", "failed"),
    ],
)
def test_transfer(plan: Any, status: str, leads_to: str) -> None:
    found = result(TRANSFER, dials={"749512345679": plan}, called="74951234567"[:10] + "7")
    assert (found["x"]["status"], found["z"]) == (status, leads_to)


def test_a_number_that_cannot_be_dialled_is_an_error() -> None:
    nodes = '  a: {type: transfer, number: "{x}", next: end, on_error: one}'
    assert result(nodes)["z"] == "one"


def test_conference() -> None:
    nodes = "  a: {type: conference, id: room, timeout: 5, next: one}"
    call = run(nodes, conferences={"room": [participant("Anna", say("hello"))]}, patience_s=60)
    assert call.result["z"] == "one"
    assert 5 <= call.now_s < 8


# Flows and functions


def double(call: Call) -> dict[str, Any]:
    call.speak("Doubling.")
    return {"twice": call.arguments["n"] * 2}


def failing(call: Call) -> None:
    raise ValueError("no luck")


INNER = """
flow: inner
start: a
answer: false
variables: {n: 1, m: 2}
result: {sum: "{m}"}
nodes:
  a: {type: set, compute: {m: n + m}, next: end}
"""


def others(**more: ScenarioFunction) -> Mapping[str, ScenarioFunction]:
    inner = flow_scenario(load_flow(INNER, source="inner"))
    return {"double": double, "failing": failing, "inner": inner, **more}


def test_a_flow_runs_a_function() -> None:
    nodes = "  a: {type: call, scenario: double, with: {n: 4}, save: x, next: end}"
    call = run(nodes, scenarios=others())
    assert (call.result["x"], call.spoken) == ({"twice": 8}, ["Doubling."])
    assert call.arguments == {}


def test_a_functions_fault_is_an_exit() -> None:
    nodes = """
  a: {type: call, scenario: failing, next: end, on_error: b}
  b: {type: set, values: {y: "{error.kind}: {error.text}"}, next: end}"""
    assert result(nodes, scenarios=others())["y"] == "exception: ValueError: no luck"


def test_a_function_runs_a_flow() -> None:
    call = FakeCall(scenarios=others())

    def outer(of: Call) -> Any:
        of.answer()
        return [of.run_flow("inner", n=5), of.run_flow("inner")]

    assert call.run(outer).result == [{"sum": 7}, {"sum": 3}]
    assert [(s.kind, s.flow) for s in call.steps if s.kind != "node"] == [
        ("flow", "inner"),
        ("flow_end", "inner"),
    ] * 2


def test_a_flow_enters_a_flow() -> None:
    nodes = """
  a: {type: set, values: {x: 5}, next: b}
  b: {type: flow, flow: inner, with: {n: "{x}"}, save: y, next: c}
  c: {type: set, values: {z: after}, next: end}"""
    call = run(nodes, scenarios=others())
    assert call.result == {"x": 5, "y": {"sum": 7}, "z": "after"}
    told = [(step.flow, step.node, step.kind) for step in call.steps]
    assert told == [
        ("tried", None, "flow"),
        ("tried", "zero", "node"),
        ("tried", "a", "node"),
        ("tried", "b", "node"),
        ("inner", None, "flow"),
        ("inner", "a", "node"),
        ("inner", None, "flow_end"),
        ("tried", "c", "node"),
        ("tried", None, "flow_end"),
    ]
    assert [step.n for step in call.steps] == list(range(9))


def test_a_flow_that_is_found_elsewhere_stays_what_it_is_for_the_call() -> None:
    """``flows`` is asked once."""
    texts = iter([INNER, INNER.replace("n + m", "n * 100")])

    def find(name: str) -> Any:
        return load_flow(next(texts), source=name)

    text = """
flow: outer
start: a
variables: {x: null, y: null}
result: ["{x}", "{y}"]
nodes:
  a: {type: flow, flow: inner, save: x, next: b}
  b: {type: flow, flow: inner, save: y, next: end}
"""
    outer = flow_scenario(load_flow(text, source="x"), flows=find, cohort="candidate", version="v9")
    call = FakeCall()
    assert call.run(outer).result == [{"sum": 3}, {"sum": 3}]
    assert call.steps[0].version == "v9"
    assert call.steps[0].body == {"cohort": "candidate", "caller_key": "79161234567"}
    assert FakeCall().run(outer).result == [{"sum": 100}, {"sum": 100}]


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ("  a: {type: flow, flow: iner, next: end}", "there is no flow 'iner'; did you mean"),
        ("  a: {type: flow, flow: double, next: end}", "is no flow, but a scenario function: use"),
        ("  a: {type: call, scenario: inner, next: end}", "is no scenario function, but a flow"),
        ("  a: {type: flow, flow: inner, with: {k: 1}, next: end}", "begins with no such variable"),
        ("  a: {type: flow, flow: tried, next: end}", "flows enter flows deeper than 10"),
    ],
)
def test_what_cannot_be_entered(nodes: str, why: str) -> None:
    function = flow(nodes)
    call = FakeCall(scenarios=others(tried=function))
    ended = call.run(function)
    assert ended.outcome.reason is Reason.SCENARIO_ERROR
    assert why in str(ended.error)
    assert {step.kind for step in call.steps[-1:]} == {"flow_end"}


def test_an_inner_hangup_ends_all() -> None:
    inner = INNER.replace("next: end}", "next: b}\n  b: {type: hangup}")
    scenarios = {"inner": flow_scenario(load_flow(inner, source="inner"))}
    nodes = "  a: {type: flow, flow: inner, next: one, on_hangup: two, on_error: two}"
    call = FakeCall(scenarios=scenarios)
    ended = call.run(flow(nodes))
    assert (ended.outcome.reason, call.result["z"]) == (Reason.COMPLETED, None)
    ends = [step.body for step in call.steps if step.kind == "flow_end"]
    assert [end["ok"] for end in ends] == [True, True]

    def outer(of: Call) -> None:
        of.run_flow("inner")

    call = FakeCall(scenarios=scenarios)
    assert call.run(outer).outcome.reason is Reason.COMPLETED
    assert isinstance(call.ended and call.ended.raised, Hangup)


def test_variables_of_one_call_are_no_other_calls() -> None:
    text = """
flow: own
start: a
variables: {list: [1, {a: 1}]}
result: "{list}"
nodes:
  a: {type: call, scenario: spoil, with: {list: "{list}"}, next: end}
"""
    function = flow_scenario(load_flow(text, source="own"))

    def spoil(call: Call) -> None:
        call.arguments["list"].append("more")

    FakeCall(scenarios={"spoil": spoil}).run(function)
    call = FakeCall(scenarios={"spoil": lambda call: None})
    assert call.run(function).result == [1, {"a": 1}]


def test_run_flow_takes_json_alone() -> None:
    call = FakeCall(scenarios=others())
    with pytest.raises(BadRequest, match="n: expected what JSON can say"):
        call.run_flow("inner", n=object())
    with pytest.raises(ScenarioError, match="there is no flow 'other'"):
        call.run_flow("other")


# Ahead


def test_what_may_come_next_is_prepared() -> None:
    """The silence of a first synthesis is not the caller's."""
    prepared: list[Prompt] = []

    class Watched(FakeCall):
        def prepare(self, prompt: Any, *, language: str | None = None) -> None:
            prepared.append(prompt)

    nodes = """
  a: {type: play, prompt: "A {caller}", next: b}
  b: {type: play, prompt: "B {x}", next: c}
  c: {type: play, prompt: ["C {called}", {sound: beep}, {text: Да, language: ru-RU}], next: end}
  d: {type: play, prompt: Never., next: end}"""
    call = Watched(caller="1", called="2")
    call.run(flow(nodes.replace("next: c}", "next: c, on_error: d}")))
    assert prepared[:4] == ["A 1", "C 2", Sound("beep"), Text("Да", "ru-RU")]
    assert "Never." in prepared
    assert not any("B" in str(part) for part in prepared), "it has no value yet"


def test_constant_texts_are_prepared_little_by_little() -> None:
    prepared: list[list[str]] = []

    class Watched(FakeCall):
        def prepare(self, prompt: Any, *, language: str | None = None) -> None:
            prepared[-1].append(prompt)

    chain = "".join(
        f"\n  n{n}: {{type: play, prompt: Text {n}., next: n{n + 1}}}" for n in range(40)
    )
    text = f"flow: long\nstart: n0\nnodes:{chain}\n  n40: {{type: hangup}}\n"
    function = flow_scenario(load_flow(text, source="long"))
    for script in (hangup(over_prompt=True), silence(), silence()):
        prepared.append([])
        Watched(script, patience_s=600).run(function)
    assert len(set(prepared[0])) < 30, "a call that ends early asks for little"
    assert {f"Text {n}." for n in range(40)} <= set(prepared[0]) | set(prepared[1])


def test_asterisk_refuses() -> None:
    nodes = '  a: {type: play, prompt: {sound: "none"}, next: end, on_error: b}\n'
    nodes += '  b: {type: set, values: {y: "{error.kind}"}, next: end}'
    call = FakeCall(troubles=Troubles(asterisk=CommandRefused("no such sound")))
    ended = call.run(flow(nodes))
    assert ended.outcome.reason is Reason.SCENARIO_ERROR, "ANSWER was refused already"
