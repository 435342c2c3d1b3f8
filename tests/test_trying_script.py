"""Scripts of a caller: the author's words, and the same as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.errors import BadRequest
from backend.trying.script import (
    Moment,
    Step,
    cough,
    do,
    hangup,
    parse,
    parse_step,
    press,
    say,
    silence,
    steps_of,
    text_of,
)

TEXTS: dict[str, Step] = {
    "say yes please": say("yes please"),
    "over say stop": say("stop", over_prompt=True),
    "over 1.5 say stop": say("stop", over_prompt=True, after_s=1.5),
    "then 2 say again": say("again", then=True, after_s=2),
    "after 3 say да, конечно": say("да, конечно", after_s=3),
    "press 12#": press("12#"),
    "over press *": press("*", over_prompt=True),
    "silence": silence(),
    "silence 2.5": silence(2.5),
    "over cough": cough(over_prompt=True),
    "hangup": hangup(),
    "then 0 hangup 17": hangup(cause=17, then=True, after_s=0),
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_and_words_are_the_same(text: str) -> None:
    assert parse_step(text) == TEXTS[text]
    assert text_of(TEXTS[text]) == text


def test_a_script_has_lines_and_comments() -> None:
    script = "# how it goes\n\n  say  yes   please \n\t\nhangup\n"
    assert parse(script) == (say("yes please"), hangup())
    assert steps_of(script) == parse(script)
    assert steps_of([silence()]) == (silence(),)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("shout yes", "expected say, press, silence, cough, hangup"),
        ("", "expected say"),
        ("say", "text: "),
        ("press 12x", "keys: '12x'"),
        ("press", "keys: ''"),
        ("silence long", "silence: 'long': expected seconds"),
        ("cough loudly", "cough: takes nothing"),
        ("hangup busy", "hangup: 'busy': expected a Q.850 cause"),
        ("hangup 200", "cause: 200"),
        ("over -1 say x", "expected say"),
        ("over 9999 say x", "expected 0 to 3600 seconds"),
        ("before say x", "expected say"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(line: str, why: str) -> None:
    with pytest.raises(BadRequest) as raised:
        parse_step(line)
    assert why in str(raised.value)
    if line:
        with pytest.raises(BadRequest, match="line 2: "):
            parse(f"say yes\n{line}\n")


def test_words_refuse_what_is_none() -> None:
    wrong: list[Callable[[], object]] = [
        lambda: say(""),
        lambda: say(1),  # type: ignore[arg-type]
        lambda: say("x" * 1001),
        lambda: say("x", after_s=-1),
        lambda: say("x", over_prompt=True, then=True),
        lambda: press(""),
        lambda: press("1 2"),
        lambda: silence(-1),
        lambda: hangup(cause=0),
        lambda: do("x"),  # type: ignore[arg-type]
        lambda: steps_of(["say yes"]),  # type: ignore[list-item]
        lambda: steps_of([cough()] * 1001),
    ]
    for one in wrong:
        with pytest.raises(BadRequest):
            one()


def test_the_usual_moments() -> None:
    assert [Moment(when).delay_s for when in ("after", "over", "then")] == [0.7, 1.0, 1.0]
    assert Moment("over", 0.0).delay_s == 0.0
