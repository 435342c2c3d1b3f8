"""Flow files: what is read, what is refused, and how well the errors say it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from backend.errors import FlowError
from backend.flow import schema
from backend.flow.document import MAX_CHARS, read
from backend.flow.load import load_flow
from backend.flow.model import HearNode, InputNode, PlayNode, SetNode
from backend.keying.rules import KeyGuard

VECTORS = Path(__file__).parent / "vectors" / "flows"
GOOD = sorted((VECTORS / "good").iterdir())
BAD = sorted((VECTORS / "bad").glob("*.yaml"))
HELLO = """
flow: hello
start: hello
nodes:
  hello: {type: play, prompt: Hello, next: end}
"""


def problems(text: str, source: str = "x.flow.yaml") -> list[str]:
    with pytest.raises(FlowError) as raised:
        load_flow(text, source=source)
    assert raised.value.problems
    return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_the_good_ones_load(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    flow = load_flow(text, source=path.name)
    assert flow.name == path.name.partition(".")[0]
    assert re.fullmatch("[0-9a-f]{12}", flow.version)
    assert flow == load_flow(text, source=path.name)
    assert load_flow(text + "\n", source=path.name).version != flow.version


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_the_bad_ones_say_where_and_why(path: Path) -> None:
    """Each has comments "# expect LINE: part of the message", for all that is wrong with it."""
    text = path.read_text(encoding="utf-8")
    expected = re.findall(r"^# expect (\d+): (.*)$", text, re.M)
    assert expected
    found = [told.removeprefix(f"{path.name}:") for told in problems(text, path.name)]
    for line, part in expected:
        assert [f for f in found if f.startswith(f"{line}: ") and part in f], (line, part, found)
    for told in found:
        line = told.partition(":")[0]
        assert [1 for where, part in expected if where == line and part in told], told
    assert [int(told.partition(":")[0]) for told in found] == sorted(
        int(told.partition(":")[0]) for told in found
    )


def test_json_has_lines_too() -> None:
    text = (VECTORS / "bad" / "lines.flow.json").read_text(encoding="utf-8")
    assert problems(text, "lines.flow.json") == [
        "lines.flow.json:8: the key 'prompt' is there twice, first in line 7",
        "lines.flow.json:9: node hello: repeat: expected how often the prompt is played in all "
        "(default 1) (a whole number, 1 to 100), found 0",
    ]
    comma = (VECTORS / "bad" / "comma.flow.json").read_text(encoding="utf-8")
    (told,) = problems(comma, "comma.flow.json")
    assert told == "comma.flow.json:4: no JSON: expected a key in double quotes"


def test_the_schema_is_one_and_every_field_is_described() -> None:
    published = json.loads(schema.text())
    Draft202012Validator.check_schema(published)
    assert published["$schema"].endswith("2020-12/schema")
    every = json.dumps(yaml.safe_load((VECTORS / "good" / "every-field.flow.yaml").read_text()))
    for kind, fields in schema.node_fields().items():
        for field in fields:
            assert f'"{field}"' in every, f"{kind}.{field} is in no example"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("No", "No"),
        ("off", "off"),
        ("true", True),
        ("0123", "0123"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-11-28", "2026-11-28"),
        ("-7", -7),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        ("~", None),
        ("", None),
        ('"1"', "1"),
        ("'#'", "#"),
        ("|\n  two\n  lines", "two\nlines\n"),
    ],
)
def test_plain_words_are_as_in_json(written: str, value: object) -> None:
    found = read(f"a: {written}\n", source="x.yaml").value["a"]
    assert (found, type(found)) == (value, type(value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, 0, 2]))
@settings(deadline=None)
def test_json_is_read_as_json(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert read(text, source="x.json").value == json.loads(text)


@given(JSON)
@settings(deadline=None)
def test_yaml_of_any_values_is_read_back(value: Any) -> None:
    plain = yaml.safe_dump({"top": value}, default_style='"', allow_unicode=False)
    if not re.search("!!(null|bool|int)", plain):
        assert read(plain, source="x.yaml").value == {"top": value}


@given(st.text(max_size=60), st.sampled_from(["x.flow.yaml", "x.flow.json"]))
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_flow_or_a_flow_error(text: str, source: str) -> None:
    with pytest.raises(FlowError):
        load_flow(text, source=source)


@given(st.lists(st.integers(0, 400), max_size=4), st.sampled_from(GOOD))
@settings(deadline=None, max_examples=150)
def test_a_damaged_file_is_a_flow_or_a_flow_error(places: list[int], path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for place in places:
        if lines:
            del lines[place % len(lines)]
    try:
        load_flow("\n".join(lines), source=path.name)
    except FlowError as error:
        assert all(0 < problem.line <= len(lines) + 1 for problem in error.problems)


def test_bounds() -> None:
    assert "characters: expected at most" in problems("#" * (MAX_CHARS + 1))[0]
    assert "nested deeper than 30 levels" in problems("[" * 100 + "]" * 100)[0]
    assert "nested deeper than 30 levels" in problems("[" * 5000, "x.json")[0]
    assert problems("")[0] == "x.flow.yaml:1: the file is empty: expected a flow"


def test_half_a_sign_is_no_text() -> None:
    text = HELLO.replace("prompt: Hello", r'prompt: "\x00"')
    assert "5: a text with a NUL" in problems(text)[0]
    text = '{"flow": "x", "start": "a",\n"nodes": {"a": {"type": "play", "next": "end", "prompt":'
    assert "2: a text with a NUL, or with half of" in problems(text + r' "\ud800"}}}', "x.json")[0]


def test_what_a_node_becomes() -> None:
    text = (VECTORS / "good" / "every-field.flow.yaml").read_text(encoding="utf-8")
    nodes = load_flow(text, source="every-field.flow.yaml").nodes
    play, asked, heard, plain = nodes["play"], nodes["input"], nodes["hear"], nodes["count"]
    assert isinstance(play, PlayNode)
    assert play.saying.guard is None, "block_input: false"
    assert isinstance(asked, InputNode)
    assert asked.saying.guard == KeyGuard("buffer", 1.5, 2, True)
    assert asked.choices == ("1", "0", "42", "*1")
    assert isinstance(heard, HearNode)
    assert heard.keys is not None
    assert heard.keys.terminator is None
    assert isinstance(plain, InputNode)
    assert plain.saying.guard == KeyGuard("drop", 0, 60, False), "the flow's defaults"
    assert (plain.keys.min, plain.keys.max) == (4, 4)
    assert isinstance(nodes["set"], SetNode)
    assert list(nodes["set"].sets()) == ["name", "list", "tries", "low", "task_order"]


def test_without_defaults_the_call_decides_about_keys() -> None:
    node = load_flow(HELLO, source="x").nodes["hello"]
    assert isinstance(node, PlayNode)
    assert node.saying.guard == "call"


def test_a_loop_that_waits_for_the_caller_is_none() -> None:
    load_flow(
        """
flow: menu
start: ask
exits: {on_timeout: ask, on_invalid: ask}
nodes:
  ask: {type: input, choices: {1: news, 2: count}}
  news: {type: play, prompt: News., next: ask}
  count: {type: branch, cases: [{when: caller == "", next: ask}], next: again}
  again: {type: goto, to: count, max: 3, on_max: ask}
""",
        source="x",
    )


def test_a_way_out_for_faults_alone_is_none() -> None:
    (told,) = problems(
        """
flow: round
start: a
nodes:
  a: {type: play, prompt: A, next: b, on_error: end}
  b: {type: http, url: "http://x/", next: a, on_timeout: a, on_hangup: end}
"""
    )
    assert told.endswith("node a: a loop without an exit: a → b → a")


def test_a_prompt_is_not_endless() -> None:
    told = problems(HELLO.replace("prompt: Hello", "repeat: 60, prompt: [a, b]"))
    assert told == ["x.flow.yaml:5: node hello: 120 parts with its repetitions: at most 100"]
