"""The ready scenarios, each of their ways, with a simulated caller."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from backend import Call, scenarios
from backend.call.legs import LegStatus
from backend.model import Reason, TaskState
from backend.testing import (
    Dialled,
    FakeCall,
    Room,
    Step,
    Troubles,
    cough,
    dialled,
    hangup,
    participant,
    press,
    say,
    silence,
)
from backend.trying.load import READY, load

ANNA = "79160000001"
Script = list[Step]


def run(name: str, *script: Step, **options: Any) -> FakeCall:
    """The call, after the ready scenario has run."""
    call = FakeCall(*script, **options)
    call.run(load(name)[2])
    return call


def outcome(call: FakeCall) -> tuple[TaskState, Reason]:
    assert call.ended is not None
    return call.ended.outcome.result, call.ended.outcome.reason


DONE = (TaskState.DONE, Reason.COMPLETED)
HUNG_UP = (TaskState.FAILED, Reason.CALLER_HANGUP)
FILES = sorted(path.stem for path in READY.glob("*.py") if path.stem != "__init__")
OPTIONS: dict[str, dict[str, Any]] = {
    "to_person": {"variables": {"operator": ANNA}},
    "screened": {"variables": {"to": ANNA}, "dials": {ANNA: dialled(hangup(after_s=5))}},
}


def test_all_of_the_specification_are_here() -> None:
    assert FILES == [
        "article",
        "conference_guest",
        "conference_host",
        "dial_for_me",
        "echo",
        "keys",
        "no_such_number",
        "once",
        "screened",
        "to_person",
        "transcribe",
        "verbose",
    ]
    assert Path(scenarios.__path__[0]) == READY


@pytest.mark.parametrize("file", FILES)
def test_each_is_a_model_to_copy(file: str) -> None:
    text = (READY / f"{file}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 90
    name = file.replace("_", "-")
    assert load(file)[1] == name
    assert re.search(rf'^@scenario\("{name}"\)$', text, re.M)
    assert {"ru", "en"} <= set(re.findall(r'^    "(\w\w)": ', text, re.M)), "texts in both"


@pytest.mark.parametrize("language", ["ru-RU", "en-US", "kk-KZ"])
@pytest.mark.parametrize("file", FILES)
def test_each_speaks_its_languages_to_a_silent_caller(file: str, language: str) -> None:
    call = run(file, language=language, **OPTIONS.get(file, {}))
    assert outcome(call) == DONE
    (said,) = {bool(re.search("[а-яё]", text)) for text in call.spoken}
    assert said is (language == "ru-RU"), "English where there is nothing better"


@pytest.mark.parametrize("over_prompt", [True, False])
@pytest.mark.parametrize("file", FILES)
def test_each_ends_with_a_hangup_at_any_moment(file: str, over_prompt: bool) -> None:
    for after_s in (0.0, 0.5, 2.0, 4.5):
        call = run(file, hangup(over_prompt=over_prompt, after_s=after_s), **OPTIONS.get(file, {}))
        assert outcome(call) in (DONE, HUNG_UP), call.ended
        assert all(leg.over for leg in call.legs)


@pytest.mark.parametrize("file", FILES)
def test_none_goes_on_when_speech_is_away(file: str) -> None:
    options = OPTIONS.get(file, {})
    call = run(file, say("yes"), troubles=Troubles(synthesis="away"), **options)
    assert outcome(call) == (TaskState.FAILED, Reason.SYNTHESIS_UNAVAILABLE)


@pytest.mark.parametrize("file", FILES)
def test_none_is_put_out_by_any_caller(file: str) -> None:
    """Fixed seeds: whatever callers, those dialled and participants do, each ends with a reason."""
    threads = set(threading.enumerate())
    for seed in range(60):
        dice = Random(f"{file} {seed}")
        call = FakeCall(
            *steps(dice),
            direction=dice.choice(("inbound", "outbound")),
            language=dice.choice(("ru-RU", "en-US")),
            variables={"operator": ANNA, "to": ANNA},
            dials={"*": dialled(*steps(dice), hears=dice.choice((None, "machine", "blocked")))},
            conferences={"meeting": [participant("Anna", *steps(dice)), participant("Boris")]},
            patience_s=30,
        )
        ended = call.run(load(file)[2])
        assert outcome(call) in (DONE, HUNG_UP), (seed, ended, call.talk)
        assert all(leg.over for leg in call.legs)
        assert call.now_s < 1800
        lines = call.talk
        assert all(line.start_ms <= line.end_ms for line in lines)
        spoken = [line for line in lines if (line.who, line.what) == ("robot", "says")]
        for before, after in pairwise(spoken):
            assert before.end_ms <= after.start_ms, "one thing at a time"
    assert set(threading.enumerate()) <= threads


def steps(dice: Random) -> Script:
    """What somebody may do."""
    made: list[Callable[[], Step]] = [
        lambda: say(dice.choice(("yes", "no", "stop", "operator", "да", "one two three"))),
        lambda: say("wait a moment", over_prompt=True, after_s=dice.random() * 4),
        lambda: say("again", then=True, after_s=dice.random() * 2),
        lambda: press(dice.choice(("1", "0", "79160000009#", "*", "123456")), then=True),
        lambda: press("5", over_prompt=True, after_s=dice.random() * 4),
        lambda: silence(dice.choice((None, 3.0))),
        lambda: cough(over_prompt=dice.random() < 0.5),
        lambda: hangup(then=dice.random() < 0.3, after_s=dice.random() * 5),
    ]
    return [dice.choice(made)() for _ in range(dice.randrange(7))]


# Article


@pytest.mark.parametrize(
    ("script", "decision"),
    [
        ([say("yes, I will")], "yes"),
        ([say("no, I will not")], "no"),
        ([say("an operator please")], "operator"),
        ([silence(), say("yes")], "yes"),
        ([say("maybe"), say("maybe")], "unclear"),
        ([silence(), silence()], "silence"),
        ([say("yes please", over_prompt=True)], "yes"),
    ],
)
def test_article(script: Script, decision: str) -> None:
    call = run("article", *script)
    assert call.result["decision"] == decision
    assert len(call.recordings) == 1


def test_article_plays_the_tasks_file() -> None:
    assert run("article", say("yes"), file="question").spoken[0] == "[question]"


# Echo, once, verbose


def test_echo_repeats_until_it_is_told_to_stop() -> None:
    call = run("echo", say("one"), say("two three"), say("stop"))
    assert call.result == {"turns": 3, "said": ["one", "two three", "stop"]}
    assert call.spoken[1:] == ["You said: one", "You said: two three", "Goodbye!"]


def test_echo_ends_in_silence_or_after_enough() -> None:
    assert run("echo", say("one"), silence()).result["turns"] == 1
    assert run("echo", says=["again"] * 30).result["turns"] == 20


def test_once() -> None:
    call = run("once", say("hello there"))
    assert call.result == {"heard": "hello there", "confidence": 0.95}
    assert call.spoken[-1] == "I heard: hello there"
    assert run("once", cough()).spoken[-1] == "I heard nothing."


def test_verbose_tells_all_it_knows() -> None:
    call = run("verbose", say("one two", language="en-GB", confidence=0.8))
    result = call.result
    assert (result["text"], result["language"], result["confidence"]) == ("one two", "en-GB", 0.8)
    assert [word[0] for word in result["words"]] == ["one", "two"]
    assert result["guesses"] == ["one", "one two", "one two"]
    assert "confidence 80 percent" in call.spoken[-1]
    assert [event for event, _ in call.logged] == ["guess"] * 3
    assert run("verbose").result == {"status": "timeout", "guesses": []}


# Keys


def test_keys_interrupt_the_news_and_are_the_beginning_of_the_number() -> None:
    call = run("keys", press("4", over_prompt=True), press("56#"))
    assert call.result == {"number": "456", "status": "terminator", "news_ms": 1000}
    assert call.spoken[1] == "Thank you, your number is 4 5 6."


def test_keys_are_asked_for_twice() -> None:
    call = run("keys", silence(), press("123456"))
    assert (call.result["number"], call.result["status"]) == ("123456", "complete")
    assert call.spoken[2].startswith("No number was entered.")
    assert run("keys", silence(), silence(), silence()).result["status"] == "timeout"


# A carrier's announcement


def test_no_such_number_is_said_without_an_answer() -> None:
    call = run("no-such-number")
    assert not call.answered
    assert ("Progress", "") in call.applications
    assert call.spoken[0].count("does not exist") == 2
    assert (call.hung_up_by, call.cause) == ("robot", 1)


# Transcription


def test_all_is_taken_down_until_the_hangup() -> None:
    call = run("transcribe", say("over it", over_prompt=True), say("one"), say("two"), hangup())
    assert [line["text"] for line in call.result["lines"]] == ["over it", "one", "two"]
    assert call.recordings == [call.result["recording"]]
    assert outcome(call) == DONE


# Legs


@pytest.mark.parametrize("script", [[say("an operator, please")], [press("0")], [silence()]])
def test_the_caller_is_connected_with_a_person(script: Script) -> None:
    talk = dialled(say("hello"), hangup(after_s=5))
    call = run("to-person", *script, variables={"operator": ANNA}, dials={ANNA: talk})
    assert call.result["transfer"] == "completed"
    assert call.result["talk_s"] > 1
    assert call.spoken[-1].startswith("The talk with the operator is over")


@pytest.mark.parametrize("status", ["busy", "no_answer", "rejected", "unreachable", "congestion"])
def test_no_caller_is_lost_when_nobody_answers(status: str) -> None:
    call = run("to-person", say("operator"), config={"operator": ANNA}, dials={ANNA: status})
    assert call.result["transfer"] == status
    assert call.spoken[-1].startswith("All operators are busy")


def test_what_is_said_otherwise_is_noted() -> None:
    call = run("to-person", say("my invoice is wrong"), config={"operator": ANNA})
    assert call.result == {"asked": "my invoice is wrong", "transfer": None}
    assert not call.legs


def test_the_caller_may_hang_up_while_he_is_connected() -> None:
    script: Script = [say("operator"), hangup(after_s=3)]
    call = run("to-person", *script, variables={"operator": ANNA}, dials={ANNA: dialled()})
    assert outcome(call) == HUNG_UP
    assert [leg.status for leg in call.legs] == [LegStatus.ENDED]


@pytest.mark.parametrize("name", ["to-person", "screened"])
def test_who_is_to_be_dialled_must_be_said(name: str) -> None:
    assert outcome(run(name)) == (TaskState.FAILED, Reason.SCENARIO_ERROR)


@pytest.mark.parametrize(
    ("plan", "result", "spoken"),
    [
        (dialled(hangup()), ("ended", "person"), "Goodbye!"),
        (dialled(hears="switched_off"), ("screened", "switched_off"), "answered: switched_off."),
        (dialled(hears="machine"), ("ended", "machine"), "answered: machine."),
        (dialled(hears="fax"), ("ended", "fax"), "answered: fax."),
        (dialled(status="busy"), ("busy", "busy"), "answered: busy."),
        (dialled(status="unreachable"), ("unreachable", "unavailable"), "answered: unavailable."),
    ],
)
def test_screened(plan: Dialled, result: tuple[str, str | None], spoken: str) -> None:
    call = run("screened", variables={"to": ANNA}, dials={ANNA: plan})
    assert (call.result["status"], call.result["heard"]) == result
    assert spoken in " ".join(call.spoken[1:])
    assert bool(call.spoken_to(ANNA)) is (result[1] == "person")
    assert all(leg.over for leg in call.legs)


def dial_for_me(*answers: Step) -> FakeCall:
    plan = dialled(*answers, hangup(after_s=4))
    return run("dial-for-me", press(f"{ANNA}#"), dials={ANNA: plan})


@pytest.mark.parametrize("answer", [say("yes, please"), say("Yes!"), press("1")])
def test_who_agrees_is_connected(answer: Step) -> None:
    call = dial_for_me(answer)
    assert call.result == {"number": ANNA, "status": "ended", "agreed": True}
    assert call.spoken[-1].startswith("The talk is over")
    assert [line.text for line in call.talk if line.text.startswith("bridges")]


@pytest.mark.parametrize("answer", [say("no"), press("2"), silence()])
def test_who_does_not_agree_is_left_alone(answer: Step) -> None:
    call = dial_for_me(answer)
    assert (call.result["agreed"], call.result["status"]) == (False, "ended")
    assert call.spoken[-1] == "They do not want to talk."
    assert not [line for line in call.talk if line.text.startswith("bridges")]


def test_who_hangs_up_in_the_question_does_not_agree() -> None:
    plan = {ANNA: dialled(hangup(over_prompt=True, after_s=0.5))}
    call = run("dial-for-me", press(f"{ANNA}#"), dials=plan)
    assert call.result == {"number": ANNA, "status": "ended", "agreed": False}
    assert call.spoken[-1] == "They do not want to talk."


def test_dial_for_me_without_an_answer_or_a_number() -> None:
    call = run("dial-for-me", press(f"{ANNA}#"), dials={"*": "busy"})
    assert (call.result["agreed"], call.result["status"]) == (None, "busy")
    assert call.spoken[-1] == "Nobody answers."
    assert run("dial-for-me", press("1#")).result["status"] is None


# Conferences


def test_the_host_welcomes_each_and_hears_who_said_what() -> None:
    call = run(
        "conference-host",
        silence(),
        silence(),
        say("stop"),
        variables={"room": "sales"},
        conferences={
            "sales": [
                participant("Anna", say("hello everybody"), number="101"),
                participant("Boris", number="102", comes_s=5),
            ]
        },
    )
    assert call.result["participants"] == 2
    assert {"who": "101", "text": "hello everybody"} in call.result["said"]
    assert call.result["said"][-1] == {"who": call.caller, "text": "stop"}
    end = "The conference is over. Goodbye!"
    assert call.spoken_to("Anna") == ["Hello! You are participant number 1.", end]
    assert call.spoken_to("Boris") == ["Hello! You are participant number 2.", end]
    assert call.spoken[-1] == end


def test_a_host_who_hangs_up_leaves_the_others_to_themselves() -> None:
    call = run("conference-host", hangup(), conferences={"meeting": [participant("Anna")]})
    assert outcome(call) == DONE
    assert not [line for line in call.talk if line.text.startswith("kicks")]


def test_a_guest_stays_until_he_goes() -> None:
    call = run("conference-guest", hangup())
    assert call.result == {"joined": True, "left": "hangup"}


def test_a_guest_is_shown_out() -> None:
    def kick(call: FakeCall) -> None:
        call.conference("meeting").kick(call.info.uniqueid)

    from backend.testing import do

    call = run("conference-guest", do(kick, after_s=5))
    assert call.result == {"joined": True, "left": "shown out"}
    assert call.spoken[-1].startswith("You have left")


def test_a_full_conference_lets_nobody_in() -> None:
    call = run("conference-guest", conferences={"meeting": Room(full=True)})
    assert call.result == {"joined": False, "left": None}
    assert call.spoken[-1].startswith("The conference is full")


def test_the_functions_can_be_called_themselves() -> None:
    from backend.scenarios.once import once

    function: Callable[[Call], Any] = once
    assert function(FakeCall(says=["hi"]))["heard"] == "hi"
