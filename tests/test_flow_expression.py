"""Conditions, texts with variables, and phrases of flows."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import FlowValueError
from backend.flow import expression, text, words

VARIABLES: dict[str, Any] = {
    "n": 3,
    "half": 0.5,
    "name": "Anna",
    "digits": "12",
    "yes": True,
    "none": None,
    "huge": 10**4000,
    "client": {"name": "Anna", "orders": [{"sum": 5}, {"sum": 7}], "vip": False},
}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("n == 3", True),
        ("n + 1", 4),
        ("n * 2 - 1 / 2", 5.5),
        ("-n", -3),
        ("n / 3", 1),
        ('name == "Anna" and not client.vip', True),
        ("client.orders[1].sum > client.orders[0].sum", True),
        ('client["name"]', "Anna"),
        ("client.phone == null", True),
        ("client.orders[9] == null", True),
        ("none == null or none.x > 5", True),
        ("none != null and none.x > 5", False),
        ("n in [1, 2, 3]", True),
        ('"3" in [1, 2, 3]', False),
        ('"nn" in name', True),
        ('"vip" in client', True),
        ("not (n < 3)", True),
        ("n >= 3 and n <= 3", True),
        ('"a" < "b"', True),
        ("number(digits) + 1", 13),
        ('number(" 1,5 ")', 1.5),
        ("text(n) + name", "3Anna"),
        ("length(client.orders)", 2),
        ('lower("ДА")', "да"),
        ("half == 0.5", True),
        ("[n, name]", [3, "Anna"]),
        ("yes", True),
        ("true", True),
    ],
)
def test_values(written: str, value: object) -> None:
    found = expression.parse(written).value(VARIABLES)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("digits == 12", "compares a text with a number: number(…) and text(…) change one"),
        ("n > name", "> compares two numbers or two texts, not a number and a text"),
        ("n + name", "+ takes two numbers, not a number and a text"),
        ("n / 0", "divides by 0"),
        ("n and yes", "a number is neither true nor false"),
        ("unset == 1", "unset has no value"),
        ("number(name)", "the text is no number"),
        ("number(yes)", "expected a text of digits, not true or false"),
        ("number('nan')", "the text is no number"),
        ("length(n)", "expected a text, a list or an object, not a number"),
        ("n in n", "'in' looks into a text, a list or an object, not a number"),
        ("1000000000000000 * 1000", "a number beyond 1e+15"),
        ("huge / 2", "a number beyond 1e+15"),
        ("n - huge", "a number beyond 1e+15"),
        ("number(huge)", "the text is no number"),
    ],
)
def test_what_does_not_fit_is_said_without_the_values(written: str, why: str) -> None:
    with pytest.raises(FlowValueError) as raised:
        expression.parse(written).value(VARIABLES)
    assert why in str(raised.value)
    assert "Anna" not in str(raised.value)


def test_a_condition_is_true_or_false() -> None:
    with pytest.raises(FlowValueError, match="expected true or false, it is a number"):
        expression.parse("n").holds(VARIABLES)


@pytest.mark.parametrize(
    "written",
    [
        "n = 3",
        "n == ",
        "f(n)",
        "n.x()",
        "open('/etc/passwd')",
        "lambda: 1",
        "[x for x in client]",
        "{1: 2}",
        "f'{n}'",
        "n if n else n",
        "n ** 9",
        "n << 9",
        "n[name]",
        "n[1:2]",
        "(1).x",
        "b'x'",
        "1j",
        "...",
        "number()",
        "number(1, 2)",
        "text(x=1)",
        "None",
        "n := 3",
        "'\\n' == name",
        "1 < n < 3",
        "(" * 300 + "1" + ")" * 300,
        "not " * 60 + "yes",
        "n" * 501,
        "",
    ],
)
def test_what_is_no_condition_is_refused(written: str) -> None:
    with pytest.raises(FlowValueError):
        expression.parse(written)


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_any_text_is_an_expression_or_a_value_error(written: str) -> None:
    with suppress(FlowValueError):
        expression.parse(written).value(VARIABLES)


def test_names() -> None:
    found = expression.parse('a.b > 1 and not c in [d, "e"] or number(f) == -g[0]').names
    assert found == {"a", "c", "d", "f", "g"}


# Texts


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("Hello", "Hello"),
        ("Hello {name}!", "Hello Anna!"),
        ("{client.name} {client.orders.1.sum}", "Anna 7"),
        ("{{name}}", "{name}"),
        ("{n} {half} {yes}", "3 0.5 true"),
        ("", ""),
    ],
)
def test_texts(written: str, filled: str) -> None:
    assert text.fill(text.parse(written), VARIABLES) == filled


@pytest.mark.parametrize(
    "written", ["{", "}", "a { b", "{}", "{a b}", "{a..b}", "{a-b}", "{1}", "{{}"]
)
def test_texts_that_are_none(written: str) -> None:
    with pytest.raises(FlowValueError):
        text.parse(written)


@pytest.mark.parametrize(
    "written", ["{unset}", "{none}", "{client}", "{client.orders.5}", "{name.x}"]
)
def test_a_text_needs_plain_values(written: str) -> None:
    with pytest.raises(FlowValueError, match=r"\{.*\}"):
        text.fill(text.parse(written), VARIABLES)


def test_data_keeps_what_a_variable_is() -> None:
    data = text.parse_data(
        {"all": "{client.orders}", "n": "{n}", "s": "n{n}", "no": "{no}", "x": 1}
    )
    assert text.fill_data(data, VARIABLES) == {
        "all": [{"sum": 5}, {"sum": 7}],
        "n": 3,
        "s": "n3",
        "no": None,
        "x": 1,
    }
    assert {name for one in text.templates_in(data) for name in one.names} == {"client", "n", "no"}


@given(st.text())
def test_a_text_with_doubled_brackets_is_itself(written: str) -> None:
    doubled = written.replace("{", "{{").replace("}", "}}")
    assert text.parse(doubled).constant == written


# Phrases


@pytest.mark.parametrize(
    ("phrase", "said", "fits"),
    [
        ("yes", "Yes, please.", True),
        ("yes", "yesterday", False),
        ("my order", "Where is my order?", True),
        ("my order", "order my", False),
        ("operat*", "the operator", True),
        ("where * order", "where is my big order", True),
        ("where * order", "where order", True),
        ("where * order", "order where", False),
        ("ещё", "еще раз", True),
        ("don't", "I don’t know", True),
        ("* no", "no", True),
        ("24", "24", True),
        ("no no", "no", False),
    ],
)
def test_phrases(phrase: str, said: str, fits: bool) -> None:
    assert words.phrase(phrase).within(words.words_of(said)) is fits


@pytest.mark.parametrize("written", ["", "  ", "*", "* *", "yes!", "*yes", "a**", "y?s"])
def test_phrases_that_are_none(written: str) -> None:
    with pytest.raises(FlowValueError):
        words.phrase(written)


@given(st.lists(st.sampled_from(["a", "b", "*", "a*"]), min_size=1), st.text("ab ", max_size=500))
def test_a_phrase_is_looked_for_in_time(parts: list[str], said: str) -> None:
    if any(part != "*" for part in parts):
        words.phrase(" ".join(parts)).within(words.words_of(said))
