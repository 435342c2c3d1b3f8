from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import BadRequest
from backend.protocol import agi


def asterisk_parse_arguments(line: str) -> list[str]:
    """What Asterisk's parse_args makes of a line: words, double quotes, backslash escapes."""
    arguments: list[str] = []
    word, quoted, begun, escaped = "", False, False, False
    for char in line:
        if escaped:
            word, escaped, begun = word + char, False, True
        elif char == "\\":
            escaped = True
        elif char == '"':
            quoted, begun = not quoted, True
        elif char == " " and not quoted:
            if begun:
                arguments.append(word)
            word, begun = "", False
        else:
            word, begun = word + char, True
    if begun:
        arguments.append(word)
    return arguments


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))))
def test_arguments_arrive_as_they_were(arguments: list[str]) -> None:
    try:
        line = agi.command_line("SET VARIABLE", *arguments).decode()
    except BadRequest:
        assert sum(len(a.encode()) for a in arguments) > 500
        return
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert asterisk_parse_arguments(line[:-1]) == ["SET", "VARIABLE", *arguments]


@pytest.mark.parametrize("bad", ["a\nHANGUP", "a\rb", "a\0b"])
def test_line_breaks_are_refused(bad: str) -> None:
    with pytest.raises(BadRequest, match="AGI argument"):
        agi.command_line("VERBOSE", bad)


@pytest.mark.parametrize("command", ["", "EXEC;", "EXEC\nHANGUP", " EXEC"])
def test_command_must_be_words(command: str) -> None:
    with pytest.raises(BadRequest, match="AGI command"):
        agi.command_line(command)


def test_too_long_a_line_is_refused_not_cut() -> None:
    with pytest.raises(BadRequest, match="2047"):
        agi.command_line("VERBOSE", "x" * 3000)


@pytest.mark.parametrize(
    ("line", "result", "data", "extra"),
    [
        ("200 result=0", "0", None, {}),
        ("200 result=1 (value)", "1", "value", {}),
        ("200 result=1 (a (b) c)", "1", "a (b) c", {}),
        ("200 result=1 ()", "1", "", {}),
        ("200 result=0 endpos=1234", "0", None, {"endpos": "1234"}),
        ("200 result=49 (dtmf) endpos=16000", "49", "dtmf", {"endpos": "16000"}),
        ("200 result=-1", "-1", None, {}),
        ("200 result= (timeout)", "", "timeout", {}),
        ("200 result=1 (key=value)", "1", "key=value", {}),
    ],
)
def test_results(line: str, result: str, data: str | None, extra: dict[str, str]) -> None:
    reply = agi.parse_reply([line])
    assert (reply.code, reply.result, reply.data, dict(reply.extra)) == (200, result, data, extra)


def test_value_of_several_lines() -> None:
    lines = ["200 result=1 (first"]
    assert agi.continues(lines)
    lines += ["second", "third)"]
    assert not agi.continues(lines)
    assert agi.parse_reply(lines).data == "first\nsecond\nthird"


def test_usage_text() -> None:
    lines = ["520-Invalid command syntax.  Proper usage follows:"]
    assert agi.continues(lines)
    lines += ["Usage: ANSWER", "520 End of proper usage."]
    assert not agi.continues(lines)
    assert agi.parse_reply(lines).code == 520


@pytest.mark.parametrize("line", ["", "hello", "20 result=0", "200"])
def test_garbage_is_refused(line: str) -> None:
    with pytest.raises(BadRequest, match="AGI reply"):
        agi.parse_reply([line])


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        ("agi_channel: PJSIP/x", ("agi_channel", "PJSIP/x")),
        ("agi_calleridname: a: b", ("agi_calleridname", "a: b")),
        ("agi_rdnis:", ("agi_rdnis", "")),
    ],
)
def test_environment(line: str, pair: tuple[str, str]) -> None:
    assert agi.parse_environment_line(line) == pair


@pytest.mark.parametrize("line", ["channel: x", "agi_channel", "GET / HTTP/1.1", "agi_ x: 1"])
def test_environment_garbage(line: str) -> None:
    with pytest.raises(BadRequest, match="AGI environment"):
        agi.parse_environment_line(line)
