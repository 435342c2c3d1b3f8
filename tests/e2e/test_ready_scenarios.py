"""The ready scenarios on a real Asterisk, ten calls of each at once.

Proved by the two tapes of each call: which prompts its caller heard and which words he said, in
which order, found by their waves; and that he heard nothing else. Then by the task's result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from lab_ami import Ami
from lab_script import LabStep, write_script
from stack import Stack

from backend.scenarios import (
    article,
    conference_guest,
    conference_host,
    dial_for_me,
    echo,
    keys,
    no_such_number,
    once,
    screened,
    to_person,
    transcribe,
    verbose,
)
from backend.speech.local_process import LocalSpeechServer
from tests.e2e.conftest import probing_stack
from tests.e2e.fixtures_legs import ANNOUNCEMENTS
from tests.e2e.plain_lab import observer
from tests.e2e.spoken import SETTINGS, Line, Spoken, Tape, Voices, prove_talk

TEN = range(10)
AT_ONCE = 24
ENDS_S = 240.0  # for all of them: on a busy machine
SAID = ("yes please", "no thank you", "yes please")
"""What the local recogniser understands best, also with a hole in it."""
CALL_AGAIN = LabStep("after", 0.7, "silence")
SILENT_NOW = LabStep("then", 0.3, "silence")
"""After words that have stopped a prompt: the next one is waited for, however late it comes."""
Json = Any
Talk = Sequence[Line]


@dataclass(frozen=True)
class Other:
    """Somebody else: a script of his own, and what must be on his tapes."""

    number: str
    steps: Sequence[LabStep]
    talk: Talk


@dataclass(frozen=True)
class Plan:
    """A call: what its caller does, and what must come of it. ``result`` None: it has none."""

    steps: Sequence[LabStep]
    talk: Callable[[Json], Talk]
    result: Mapping[str, object] | None
    state: str = "done/completed"
    variables: Mapping[str, str] = field(default_factory=dict)
    other: Other | None = None


@dataclass(frozen=True)
class Call:
    """A plan and the number that it was dialled at."""

    number: str
    plan: Plan
    task_id: str = ""


def robot(text: str, *, cut: bool = False) -> Line:
    return Line("robot", text, cut)


def caller(text: str) -> Line:
    return Line("caller", text)


def other(text: str) -> Line:
    return Line("other", text)


def say(text: str, when: str = "after", after_s: float = 0.7) -> LabStep:
    return LabStep(when, after_s, "say", text)


# -- the talks


def of_echo(n: int) -> Plan:
    """Two phrases and the word that ends it; two of ten speak over the greeting."""
    over = n >= 8
    first, second = SAID[n % 3], SAID[n // 3 % 3]
    texts = echo.TEXTS["en"]
    talk = [
        robot(texts["greeting"], cut=over),
        caller(first),
        robot(texts["you_said"].format(first)),
        caller(second),
        robot(texts["you_said"].format(second)),
        caller("operator"),
        robot(texts["bye"]),
    ]
    begin = [say(first, "over", 1.0), SILENT_NOW] if over else [say(first)]
    steps = [*begin, say(second), say("operator")]
    return Plan(steps, lambda _: talk, {"turns": 3, "said": [first, second, "operator"]})


def of_once(n: int) -> Plan:
    """Two of ten say nothing."""
    texts = once.TEXTS["en"]
    if n >= 8:
        silent = [robot(texts["ask"]), robot(texts["nothing"])]
        return Plan([], lambda _: silent, {"heard": "", "confidence": None})
    words = SAID[n % 3]
    talk = [robot(texts["ask"]), caller(words), robot(texts["heard"].format(words))]
    return Plan([say(words)], lambda _: talk, {"heard": words})


def of_keys(n: int) -> Plan:
    """Half of them enter their number in the news. Two forget it at first."""
    texts = keys.TEXTS["en"]
    number = str(1203 + 1010 * n)
    early, forgets = n < 5, n >= 8
    talk = [robot(texts["news"], cut=early)]
    talk += [] if early else [robot(texts["menu"])]
    talk += [robot(texts["again"]), robot(texts["menu"])] if forgets else []
    talk += [robot(texts["thanks"].format(" ".join(number))), robot(texts["bye"])]
    press = LabStep("over" if early else "after", 1.0, "press", f"{number}#")
    # Of news and menu he hears no end between them.
    steps = [CALL_AGAIN, press] if forgets else [press]
    return Plan(steps, lambda _: talk, {"number": number, "status": "terminator"})


def of_transcribe(n: int) -> Plan:
    """He speaks until he hangs up."""
    lines = [SAID[(n + place) % 3] for place in range(3)]
    talk = [robot(transcribe.TEXTS["en"]), *map(caller, lines)]
    steps = [say(lines[0]), say(lines[1], "then", 1.5), say(lines[2], "then", 1.5)]
    return Plan([*steps, LabStep("then", 2.0, "hangup")], lambda _: talk, None)


def of_verbose(n: int) -> Plan:
    """Two of ten say nothing."""
    texts, report = verbose.TEXTS["en"], verbose.REPORTS["en"]
    if n >= 8:
        silent = [robot(texts["ask"]), robot(texts["nothing"])]
        return Plan([], lambda _: silent, {"status": "timeout"})
    words = SAID[n % 3]

    def talk(result: Json) -> Talk:
        told = report.format(
            text=words,
            words=len(words.split()),
            seconds=round((result["end_ms"] - result["start_ms"]) / 1000),
            percent=round(result["confidence"] * 100),
        )
        return [robot(texts["ask"]), caller(words), robot(told)]

    return Plan([say(words)], talk, {"status": "recognized", "text": words})


def of_article(n: int) -> Plan:
    """Yes, no, operator; asked again after a silence; silent to the end; over the question."""
    texts = article.TEXTS["en"]
    words, decision = (("yes please", "yes"), ("no thank you", "no"), ("operator", "operator"))[
        n % 3
    ]
    question, over = texts["question"], n == 5
    if n == 9:
        silent = [robot(question), robot(texts["again"]), robot(texts["unclear"])]
        return Plan([], lambda _: silent, {"decision": "silence", "heard": ""})
    again = [CALL_AGAIN] if n in (6, 7) else []
    talk = [robot(question, cut=over)]
    talk += [robot(texts["again"])] if again else []
    talk += [caller(words), robot(texts[decision])]
    steps = [*again, say(words, "over", 1.0) if over else say(words)]
    return Plan(steps, lambda _: talk, {"decision": decision, "heard": words})


def of_to_person(n: int) -> Plan:
    """By a word or a key; the operator hangs up, is busy, rejects; the caller hangs up; one does
    not want a person."""
    texts = to_person.TEXTS["en"]
    if n == 9:
        talk = [robot(texts["ask"]), caller(SAID[1]), robot(texts["noted"])]
        return Plan(
            [say(SAID[1])],
            lambda _: talk,
            {"transfer": None, "asked": SAID[1]},
            variables={"operator": "1030000"},
        )
    by_key = n in (4, 5)
    begin = [
        robot(texts["ask"]),
        *([] if by_key else [caller("operator")]),
        robot(texts["connecting"]),
    ]
    ask = LabStep("after", 0.7, "press", "0") if by_key else say("operator")
    asked = "0" if by_key else "operator"
    if n in (6, 7):
        number, why = (f"10500{n}", "busy") if n == 6 else (f"10700{n}", "rejected")
        talk = [*begin, robot(texts["busy"])]
        return Plan(
            [ask], lambda _: talk, {"asked": asked, "transfer": why}, variables={"operator": number}
        )
    together = Together(n, f"15090{n}", caller_ends=n == 8)
    talk = [*begin, *together.talk]
    if n == 8:
        return together.plan([ask, CALL_AGAIN], talk, None, "operator")
    talk.append(robot(texts["back"]))
    return together.plan(
        [ask, CALL_AGAIN], talk, {"asked": asked, "transfer": "completed"}, "operator"
    )


NOBODY = {
    4: ("147000", "screened", "switched_off"),
    5: ("149000", "screened", "busy"),
    6: ("105001", "busy", "busy"),
    7: ("107001", "rejected", "rejected"),
}
"""An announcement, which an answer would follow; the busy tone; and what the network says."""


def of_screened(n: int) -> Plan:
    """The two are connected; or no answer is paid for."""
    texts = screened.TEXTS["en"]
    wait, bye = robot(texts["wait"]), robot(texts["bye"])
    if n in NOBODY:
        number, status, heard = NOBODY[n]
        talk = [wait, robot(texts["nobody"].format(heard)), bye]
        result = {"status": status, "heard": heard}
        return Plan([], lambda _: talk, result, variables={"to": number})
    greeting = say(SAID[0], "then", 1.0)
    hears = [other(SAID[0]), robot(texts["hello"])]
    together = Together(
        n, f"15091{n}", caller_ends=n == 8, hears=hears, does=[greeting], begins_when="after"
    )
    talk = [wait, *together.talk]
    if n == 8:
        return together.plan([CALL_AGAIN], talk, None, "to")
    result = {"status": "ended", "heard": "person"}
    return together.plan([CALL_AGAIN], [*talk, bye], result, "to")


def of_dial_for_me(n: int) -> Plan:
    """The one who is wanted agrees by a word or a key, refuses, is busy; no number is entered."""
    texts = dial_for_me.TEXTS["en"]
    number = f"10502{n}" if n == 7 else f"15092{n}"
    begin = [robot(texts["number"]), robot(texts["wait"])]
    enter = LabStep("after", 0.7, "press", f"{number}#")
    if n == 9:
        talk = [robot(texts["number"]), robot(texts["none"])]
        return Plan([], lambda _: talk, {"number": "", "status": None})
    if n == 7:
        talk = [*begin, robot(texts["nobody"])]
        return Plan([enter], lambda _: talk, {"status": "busy", "agreed": None})
    if n == 6:
        talk = [*begin, robot(texts["refused"])]
        refuses = Other(number, [say(SAID[1])], [robot(texts["ask"]), other(SAID[1])])
        return Plan([enter], lambda _: talk, {"agreed": False, "number": number}, other=refuses)
    by_key = n in (4, 5)
    agrees = LabStep("after", 0.7, "press", "1") if by_key else say(SAID[0])
    hears = [robot(texts["ask"]), *([] if by_key else [other(SAID[0])])]
    # They are connected when his answer is understood.
    together = Together(n, number, caller_ends=n == 8, hears=hears, does=[agrees], begins_s=8.0)
    talk = [*begin, *together.talk]
    if n == 8:
        return together.plan([enter, CALL_AGAIN], talk, None)
    result = {"agreed": True, "number": number, "status": "ended"}
    return together.plan([enter, CALL_AGAIN], [*talk, robot(texts["over"])], result)


class Together:
    """Two who are connected: the other speaks, the caller answers, one of them hangs up.

    ``hears``: what is on the other's tapes before that; ``does``: what he does before that."""

    def __init__(
        self,
        n: int,
        number: str,
        *,
        caller_ends: bool,
        hears: Talk = (),
        does: Sequence[LabStep] = (),
        begins_when: str = "then",
        begins_s: float = 3.0,
    ) -> None:
        begins, answers = SAID[n % 3], SAID[(n + 1) % 3]
        self.talk = [other(begins), caller(answers)]
        self._number = number
        self._ends = [LabStep("then", 1.0, "hangup")] if caller_ends else []
        self._says = say(answers)
        speaks = say(begins, begins_when, begins_s)
        hangs_up = [] if caller_ends else [LabStep("after", 0.7, "hangup")]
        self._other = Other(number, [*does, speaks, *hangs_up], [*hears, *self.talk])

    def plan(
        self, steps: Sequence[LabStep], talk: Talk, result: Json, variable: str | None = None
    ) -> Plan:
        """The caller's steps before they are together, and all that he hears and says."""
        return Plan(
            [*steps, self._says, *self._ends],
            lambda _: talk,
            result,
            "failed/caller_hangup" if self._ends else "done/completed",
            {} if variable is None else {variable: self._number},
            self._other,
        )


def of_host(n: int) -> Plan:
    """He hears what the guest says, and ends it."""
    texts = conference_host.TEXTS["en"]
    talk = [
        robot(texts["open"]),
        other(SAID[n % 3]),
        caller("operator"),
        robot(texts["end"]),
    ]
    steps = [CALL_AGAIN, say("operator", "after", 1.5)]
    return Plan(steps, lambda _: talk, {"participants": 1}, variables={"room": f"room-{n}"})


def of_guest(n: int) -> Plan:
    """He alone hears the welcome; the other is the host."""
    texts, host = conference_guest.TEXTS["en"], conference_host.TEXTS["en"]
    talk = [
        robot(texts["joining"]),
        robot(host["welcome"].format(1)),
        caller(SAID[n % 3]),
        other("operator"),
        robot(host["end"]),
        robot(texts["bye"]),
    ]
    result = {"joined": True, "left": "shown out"}
    # The host looks who is there every two seconds.
    steps = [say(SAID[n % 3], "after", 6.0)]
    return Plan(steps, lambda _: talk, result, variables={"room": f"room-{n}"})


PLANS: dict[str, Callable[[int], Plan]] = {
    "conference-host": of_host,
    "conference-guest": of_guest,
    "to-person": of_to_person,
    "dial-for-me": of_dial_for_me,
    "screened": of_screened,
    "echo": of_echo,
    "once": of_once,
    "keys": of_keys,
    "transcribe": of_transcribe,
    "verbose": of_verbose,
    "article": of_article,
}


# -- the calls


@dataclass
class Calls:
    """All calls of this file, under way together."""

    of: dict[str, list[Call]] = field(default_factory=dict)
    early: list[str] = field(default_factory=list)
    """Channels of the subscriber's calls to a number that does not exist."""


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, asterisk: str, speech_server: LocalSpeechServer
) -> Iterator[Stack]:
    announcements = tmp_path_factory.mktemp("tables") / "announcements.toml"
    announcements.write_text(ANNOUNCEMENTS)
    settings = {
        **SETTINGS,
        "DIALOG_ANNOUNCEMENTS_FILE": str(announcements),
        "DIALOG_WORKERS": "2",
        "DIALOG_RECOGNITION_S": "20",  # the local recogniser is one process, for all these calls
        "DIALOG_MAX_CALLS": str(AT_ONCE),
        "DIALOG_VARIABLES": "operator,room,to",
        "DIALOG_DEFAULT_SCENARIO": "no-such-number",  # of the inbound calls
    }
    with probing_stack(tmp_path_factory.mktemp("ready"), asterisk, **settings) as stack:
        yield stack


@pytest.fixture(scope="module")
def voices(stack: Stack, speech_server: LocalSpeechServer) -> Iterator[Voices]:
    with Voices(stack.lab, speech_server.address) as voices:
        yield voices


@pytest.fixture(scope="module")
def subscriber(stack: Stack) -> Iterator[Ami]:
    with observer(stack.lab.subscriber) as connection:
        yield connection


@pytest.fixture(scope="module")
def ami(stack: Stack) -> Iterator[Ami]:
    with observer(stack.lab.pbx) as connection:
        yield connection


@pytest.fixture(scope="module")
def calls(stack: Stack, voices: Voices, subscriber: Ami, ami: Ami) -> Calls:
    plans = {name: [plan(n) for n in TEN] for name, plan in PLANS.items()}
    voices.prepare(known_before(plans))
    found = Calls()
    for code, name in enumerate(plans, 10):
        found.of[name] = []
        for n, plan in enumerate(plans[name]):
            if name == "conference-guest":  # when the host has opened it
                ami.event("ConfbridgeJoin", ENDS_S, Conference=f"room-{n}")
            found.of[name].append(start(stack, name, f"150{code}{n}", plan))
    found.early = [
        subscriber.originate(
            f"7495404000{n}", "subscriber", exten=f"151{n}", trunk="pbx", early_media=True
        )
        for n in TEN
    ]
    return found


def known_before(plans: Mapping[str, Sequence[Plan]]) -> list[Line]:
    """The lines that do not depend on what comes out."""
    known = (plan for name in plans if name != "verbose" for plan in plans[name])
    lines = [line for plan in known for line in plan.talk({})]
    others = [plan.other for name in plans for plan in plans[name] if plan.other is not None]
    lines += [line for one in others for line in one.talk]
    texts = [*verbose.TEXTS["en"].values(), no_such_number.TEXTS["en"]]
    return [*lines, *map(robot, texts)]


def start(stack: Stack, scenario: str, number: str, plan: Plan) -> Call:
    write_script(stack.lab, number, plan.steps)
    if plan.other is not None:
        write_script(stack.lab, plan.other.number, plan.other.steps)
    given = {f"var_{name}": value for name, value in plan.variables.items()}
    return Call(number, plan, str(stack.originate(number, scenario=scenario, **given)["id"]))


def ended(stack: Stack, call: Call) -> Json:
    task = stack.ended(call.task_id, ENDS_S)
    assert f"{task['state']}/{task['reason']}" == call.plan.state, task
    return task


# -- the proof


def prove(stack: Stack, voices: Voices, number: str, talk: Talk) -> list[Spoken]:
    """What the one at NUMBER heard and said; the robot's and another's voice are both heard."""
    heard, said = Tape(stack.lab.heard(number)), Tape(stack.lab.said(number))
    return prove_talk(voices, {"robot": heard, "other": heard, "caller": said}, talk, number)


def prove_other(stack: Stack, voices: Voices, one: Other) -> None:
    heard, said = Tape(stack.lab.heard(one.number)), Tape(stack.lab.said(one.number))
    tapes = {"robot": heard, "caller": heard, "other": said}
    prove_talk(voices, tapes, one.talk, one.number)


@pytest.mark.parametrize("scenario", [name for name in PLANS if name != "transcribe"])
def test_ten_at_once(stack: Stack, voices: Voices, calls: Calls, scenario: str) -> None:
    for call in calls.of[scenario]:
        task = ended(stack, call)
        result = task["result"]
        if call.plan.result is None:
            assert result is None, task
        else:
            assert call.plan.result.items() <= result.items(), task
        prove(stack, voices, call.number, call.plan.talk(result))
        if call.plan.other is not None:
            prove_other(stack, voices, call.plan.other)


def test_ten_transcriptions_at_once(stack: Stack, voices: Voices, calls: Calls) -> None:
    """Who hangs up has been taken down, and is on the recording together with the robot."""
    for call in calls.of["transcribe"]:
        task = ended(stack, call)
        lines, path = task["result"]["lines"], task["result"]["recording"]
        talk = call.plan.talk({})
        assert [line["text"] for line in lines] == [line.text for line in talk[1:]], task
        found = prove(stack, voices, call.number, talk)
        recorded = Tape(Path(path))
        # MixMonitor leaves packets out when a busy machine brings several at once.
        holed = [replace(line, cut=True) for line in talk]
        prove_talk(voices, {"robot": recorded, "caller": recorded}, holed, path)
        for line, spoken in zip(lines, found[1:], strict=True):
            length_ms = line["end_ms"] - line["start_ms"]
            assert length_ms == pytest.approx(spoken.end_ms - spoken.start_ms, abs=400)


def test_ten_callers_of_a_number_that_does_not_exist(
    stack: Stack, voices: Voices, calls: Calls, subscriber: Ami, ami: Ami
) -> None:
    """They hear it twice, before any answer, and then their network is told why."""
    text = robot(no_such_number.TEXTS["en"])
    for n, channel in enumerate(calls.early):
        hangup = subscriber.event("Hangup", ENDS_S, Uniqueid=channel)
        assert hangup["Cause"] == "1", hangup
        prove(stack, voices, f"151{n}", [text, text])
        ours = ami.event("Newchannel", Exten=f"7495404000{n}")["Uniqueid"]
        mine = [event for event in ami.events if event.get("Uniqueid") == ours]
        assert {event.get("ChannelStateDesc") for event in mine} & {"Ring", "Up"} == {"Ring"}
    assert stack.wait_for("their records", lambda: inbound(stack) or None) == [
        ("no-such-number", "done", "completed")
    ] * len(TEN)


def inbound(stack: Stack) -> list[tuple[str, str, str]] | None:
    """The ten inbound calls as they are stored, once all have ended."""
    connection = psycopg2.connect(stack.dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT scenario, state, reason FROM calls"
                " WHERE direction = 'inbound' AND ended_at IS NOT NULL"
            )
            rows = cursor.fetchall()
            return rows if len(rows) == len(TEN) else None
    finally:
        connection.close()
