"""The door: admitted whole, or refused with the parameter's name and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.config import Settings
from backend.dialing.policy import Rules, admit
from backend.errors import BadRequest
from backend.model import TaskRequest
from backend.protocol.ami import serialize

RULES = Rules(
    channels={"default": "PJSIP/{phone}@trunk", "second": "PJSIP/{phone}@second"},
    contexts=("dialog-outbound", "dialog-night"),
    caller_ids=("74950000000",),
    caller_id="74951111111",
    variables=("MOOD", "order_id"),
    default_scenario="article",
    scenarios=("article", "survey"),
    dial_timeout_s=25.0,
)


def refused(**params: object) -> BadRequest:
    with pytest.raises(BadRequest) as error:
        admit({"phone": "100", **params}, RULES)
    assert error.value.why
    return error.value


def test_the_least() -> None:
    assert admit({"phone": "+79991234567"}, RULES) == TaskRequest(
        phone="+79991234567",
        scenario="article",
        caller_id="74951111111",
        dial_timeout_s=25.0,
    )


def test_everything() -> None:
    params = {
        "phone": "100",
        "file": "ru/article-1.2",
        "scenario": "survey",
        "context": "dialog-night",
        "channel": "second",
        "caller_id": "74950000000",
        "external_id": "Заказ №17/б",
        "timeout": "12.5",
        "var_MOOD": "merry & bright".replace("&", "and"),
        "variables": {"order_id": "17"},
    }
    assert admit(params, RULES) == TaskRequest(
        phone="100",
        scenario="survey",
        file="ru/article-1.2",
        context="dialog-night",
        channel="second",
        caller_id="74950000000",
        external_id="Заказ №17/б",
        variables={"MOOD": "merry and bright", "order_id": "17"},
        dial_timeout_s=12.5,
    )


def test_the_phone_is_needed() -> None:
    with pytest.raises(BadRequest) as error:
        admit({}, RULES)
    assert error.value.parameter == "phone"


INJECTIONS = [
    "\r\nAction: Command",
    "a\nb",
    "a\rb",
    "a\0b",
    "1,2",
    "1&PJSIP/2@trunk",
    "${SHELL(id)}",
    "$[1+1]",
    "../../etc/passwd",
    "http://evil/x",
    "ftp://x",
    "x" * 5000,
    "",
    "a|b;c",
    "'",
    '"',
    "\\",
    "\ud800",
]


@pytest.mark.parametrize("value", INJECTIONS)
@pytest.mark.parametrize(
    "name", ["phone", "file", "scenario", "context", "channel", "caller_id", "timeout"]
)
def test_what_means_something_to_asterisk_is_refused(name: str, value: str) -> None:
    assert refused(**{name: value}).parameter == name


@pytest.mark.parametrize(
    "value",
    ["\r\nx", "a,b", "a&b", "${X}", "$[1]", "..", "a://b", "\0", "\t", '"', "\\", "x" * 257],
)
def test_in_a_variable_too(value: str) -> None:
    assert refused(var_MOOD=value).parameter == "var_MOOD"
    assert refused(variables={"MOOD": value}).parameter == "variables.MOOD"


@pytest.mark.parametrize(
    "phone",
    [
        "12",
        "1" * 16,
        "+",
        "++123",
        "12a",
        "1 2 3",
        "7(999)123",
        "8-800",
        "١٢٣",
        "123\n",
        "100@trunk",
    ],
)
def test_no_phone(phone: str) -> None:
    assert refused(phone=phone).parameter == "phone"


def test_a_plus_that_a_url_made_a_space() -> None:
    assert "%2B" in refused(phone=" 79991234567").why


@pytest.mark.parametrize(
    "file",
    [
        "/etc/passwd",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "-x",
        "a b",
        "привет",
        "a.wav",
        "a.GSM",
        "a/b.alaw",
        "x.sln16",
        "http:x",
        "a" * 129,
    ],
)
def test_no_file(file: str) -> None:
    assert refused(file=file).parameter == "file"


@pytest.mark.parametrize("file", ["hello-world", "ru/vm-intro", "custom/v1.2/a_b", "digits/1"])
def test_a_file(file: str) -> None:
    assert admit({"phone": "100", "file": file}, RULES).file == file


def test_only_known_scenarios_when_they_are_known() -> None:
    assert "article, survey" in refused(scenario="other").why
    loose = Rules(scenarios=None)
    assert admit({"phone": "100", "scenario": "other"}, loose).scenario == "other"


@pytest.mark.parametrize(
    ("params", "rules"),
    [
        ({"scenario": "trial"}, {}),
        ({}, {"route": lambda _number: "trial"}),
        ({}, {"default_scenario": "trial"}),
    ],
)
def test_a_flow_on_trial_is_admitted_for_those_it_answers(
    params: dict[str, object], rules: dict[str, Any]
) -> None:
    def answers(scenario: str, number: str) -> bool:
        return scenario != "trial" or number == "79161234567"

    door = Rules(scenarios=("article", "trial"), answers=answers, **rules)
    assert admit({**params, "phone": "79161234567"}, door).scenario == "trial"
    assert admit({"scenario": "article", "phone": "100"}, door).scenario == "article"
    with pytest.raises(BadRequest, match="trial is a flow on trial") as error:
        admit({**params, "phone": "100"}, door)
    assert error.value.parameter == "scenario"
    assert "100" in error.value.why


def test_lists_say_what_is_allowed() -> None:
    assert "dialog-outbound, dialog-night" in refused(context="default").why
    assert "default, second" in refused(channel="PJSIP/1@x").why
    assert "74950000000" in refused(caller_id="112").why
    assert "MOOD, order_id" in refused(var_OTHER="1").why


def test_every_caller_id_with_a_star() -> None:
    rules = Rules(caller_ids=("*",))
    assert admit({"phone": "100", "caller_id": "+7495"}, rules).caller_id == "+7495"
    with pytest.raises(BadRequest):
        admit({"phone": "100", "caller_id": "Bank <1>"}, rules)


@pytest.mark.parametrize("value", ["x" * 129, "a\nb", " a", "a ", "", "\u200b", "ж" * 65])
def test_no_external_id(value: str) -> None:
    assert refused(external_id=value).parameter == "external_id"


@pytest.mark.parametrize(
    "value", ["0", "0.5", "301", "-1", "nan", "inf", "1e2", "", "x", True, None, [5], float("nan")]
)
def test_no_timeout(value: object) -> None:
    assert refused(timeout=value).parameter == "timeout"


@pytest.mark.parametrize("value", ["30", "30.0", 30, 30.0])
def test_a_timeout(value: object) -> None:
    assert admit({"phone": "100", "timeout": value}, RULES).dial_timeout_s == 30.0


@pytest.mark.parametrize("name", ["Phone", "application", "var", "x\r\ny", "Channel"])
def test_unknown_parameters_are_refused(name: str) -> None:
    assert "no such parameter" in refused(**{name: "1"}).why


@pytest.mark.parametrize("name", ["phone", "file", "external_id", "context"])
def test_a_parameter_comes_once_and_is_text(name: str) -> None:
    assert "more than once" in refused(**{name: ["1", "2"]}).why
    assert "must be text" in refused(**{name: 5}).why
    assert refused(**{name: None}).parameter == name


def test_variables_one_way_or_the_other() -> None:
    assert refused(variables="MOOD=1").parameter == "variables"
    assert refused(variables={"MOOD": 5}).parameter == "variables.MOOD"
    assert refused(variables={"MOOD": "1"}, var_MOOD="2").parameter == "var_MOOD"
    many = Rules(variables=tuple(f"V{n}" for n in range(40)))
    with pytest.raises(BadRequest, match="at most 32"):
        admit({"phone": "100", "variables": {f"V{n}": "1" for n in range(33)}}, many)


@pytest.mark.parametrize("name", ["SHELL(x)", "__MOOD", "DIALOG_TASK", "MOOD\r\nx", ""])
def test_variable_names_come_from_the_list(name: str) -> None:
    assert refused(variables={name: "1"})


def test_a_refusal_is_one_short_line() -> None:
    error = refused(phone="1\n" * 500)
    assert "\n" not in str(error)
    assert len(str(error)) < 300
    assert "\n" not in str(refused(**{"x\ny" * 50: "1"}))


def test_from_the_settings() -> None:
    settings = Settings(contexts=("a", "b"), variables=("MOOD",), dial_timeout_s=7)
    rules = Rules.of(settings, scenarios=["article"])
    request = admit({"phone": "100", "var_MOOD": "1"}, rules)
    assert (request.context, request.dial_timeout_s) == ("a", 7.0)


@given(
    st.fixed_dictionaries(
        {"phone": st.text(max_size=20)},
        optional={
            "file": st.text(max_size=20),
            "caller_id": st.text(max_size=20),
            "external_id": st.text(max_size=20),
            "var_MOOD": st.text(max_size=20),
        },
    )
)
def test_what_is_admitted_can_be_written(params: dict[str, str]) -> None:
    """Whatever passes the door passes the serializer, too."""
    try:
        request = admit(params, RULES)
    except BadRequest as error:
        assert error.parameter in params
        return
    variables = [f"{name}={value}" for name, value in request.variables.items()]
    serialize("Originate", {"Exten": request.phone, "Variable": variables}, "1")
