"""FakeCall: what its caller does reaches the scenario as it would over a line."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable

import pytest

from backend import (
    Call,
    CommandRefused,
    CommandTimeout,
    Digits,
    DigitsStatus,
    Hangup,
    HearStatus,
    KeyGuard,
    PlayEnd,
    RecognitionUnavailable,
    Result,
    Sound,
    SynthesisUnavailable,
)
from backend.call.conference import Conference
from backend.call.dialogue import Dialogue
from backend.call.ear import CallEar
from backend.call.entering import mark_flow
from backend.call.legs import Leg
from backend.call.others import OtherChannels
from backend.call.speaker import Speaker
from backend.errors import BadRequest, ScenarioError
from backend.model import Reason, TaskState
from backend.ports import HttpRequest
from backend.testing import FakeCall, Troubles, cough, do, hangup, press, say, silence
from backend.trying.hearing import SimulatedDialogue, SimulatedEar
from backend.trying.others import SimulatedLeg, SimulatedOthers
from backend.trying.room import SimulatedConference
from backend.trying.speaking import SimulatedSpeaker

LONG = "A long prompt, which takes its time and goes on and on until its very last word."


def whats(call: FakeCall) -> list[str]:
    """The talk in short."""
    return [f"{line.who} {line.what} {line.text}".strip() for line in call.talk]


# The surface


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_it_is_the_real_call_with_every_method_of_it() -> None:
    assert issubclass(FakeCall, Call)
    for name in public(Call):
        real, fake = getattr(Call, name), getattr(FakeCall, name)
        if inspect.isfunction(real):
            assert inspect.signature(fake) == inspect.signature(real), name


EVERY_METHOD: dict[str, Callable[[FakeCall], object]] = {
    "answer": lambda call: call.answer(settle_s=0.5),
    "hangup": lambda call: call.hangup(17),
    "wait": lambda call: call.wait(1),
    "execute": lambda call: call.execute("NoOp", "x"),
    "get_variable": lambda call: call.get_variable("x"),
    "set_variable": lambda call: call.set_variable("x", 1),
    "log": lambda call: call.log("x", y=1),
    "speak": lambda call: call.speak("Hello."),
    "prepare": lambda call: call.prepare("Hello."),
    "hear": lambda call: call.hear("Hello?", timeout_s=1),
    "cancel_hear": lambda call: call.cancel_hear("x"),
    "listen": lambda call: call.listen().stop(),
    "on_dtmf": lambda call: call.on_dtmf(print),
    "guard_keys": lambda call: call.guard_keys(KeyGuard()),
    "read_digits": lambda call: call.read_digits(1, timeout_s=1),
    "start_recording": lambda call: call.start_recording().stop(),
    "wait_for_hangup": lambda call: call.wait_for_hangup(1),
    "dial": lambda call: call.dial("79160000000").hangup(),
    "dial_screened": lambda call: call.dial_screened("79160000000").screening,
    "bridge": lambda call: call.bridge(call.dial("79160000000")),
    "transfer": lambda call: call.transfer("79160000000"),
    "conference": lambda call: call.conference("room").participants(),
    "join_others": lambda call: None,  # for the runner
    "originate": lambda call: call.originate("79160000000").status(),
    "run_flow": lambda call: call.run_flow("flow"),
    "arguments": lambda call: call.arguments,
    "request": lambda call: call.request(HttpRequest("GET", "http://1c/")),
    "step_log": lambda call: call.step_log.at_node(None),
    "store": lambda call: call.store.own.set("x", 1),
    "config": lambda call: call.config.get("x"),
    "info": lambda call: call.info,
    "hung_up": lambda call: call.hung_up,
    "id": lambda call: call.id,
    "file": lambda call: call.file,
    "caller": lambda call: call.caller,
    "called": lambda call: call.called,
    "language": lambda call: call.language,
}


def test_every_method_is_tried_here() -> None:
    assert public(Call) | {"info", "hung_up"} == EVERY_METHOD.keys()


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (Leg, SimulatedLeg),
        (Conference, SimulatedConference),
        (OtherChannels, SimulatedOthers),
        (Dialogue, SimulatedDialogue),
        (Speaker, SimulatedSpeaker),
        (CallEar, SimulatedEar),
    ],
)
def test_nothing_that_is_simulated_falls_through(real: type, fake: type) -> None:
    """A method of the real one that needs Asterisk, and is not made anew, must be known here."""
    same = {
        name
        for name in public(real)
        if getattr(real, name) is getattr(fake, name) and not isinstance(getattr(real, name), str)
    }
    assert same <= UNCHANGED.get(real, set()), same - UNCHANGED.get(real, set())


UNCHANGED: dict[type, set[str]] = {
    Leg: {"status", "parked", "over", "reason", "cause", "channel", "speak", "hear", "hangup"}
    # between the real leg and Asterisk; nobody calls them here
    | {"await_answer", "await_channel", "come_back", "is_ending", "leave_for_bridge", "open"}
    | {"refuse", "screen_out", "send_hangup", "serve", "judged", "await_verdict", "await_held"},
    Conference: {"create"},
    OtherChannels: {"dial_string", "leave_seats"},
    Dialogue: {"begin", "cancel_hear", "check_thread", "close", "on_dtmf", "prepare", "speak"}
    | {"guard_keys", "open_keys"}
    | {"wait"},
    Speaker: set(),
    # of the audio loop
    CallEar: {"figures", "wait_closed", "on_open", "on_close", "on_audio", "on_dropped", "on_tick"},
}


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_every_method_works(name: str) -> None:
    call = FakeCall(
        scenarios={"flow": mark_flow(lambda call: call.id, "flow")}, http={"http://1c/": 1}
    )
    EVERY_METHOD[name](call)


def test_it_needs_no_time_and_leaves_no_thread() -> None:
    threads = set(threading.enumerate())
    call = FakeCall(says=["yes"] * 3, patience_s=3600)
    with call.listen(on_final=lambda _: None):
        call.hear("Well?")
        call.on_dtmf(lambda _: None)
        call.wait(1700)
    assert call.now_s > 1700  # in real time this test would be cut off
    assert set(threading.enumerate()) <= threads


# Answers


def test_the_caller_answers_when_the_prompt_is_over() -> None:
    call = FakeCall(says=["yes", "no"])
    first = call.hear("Will you come?")
    second = call.hear("Really?")
    assert (first.status, first.text, first.language) == (HearStatus.RECOGNIZED, "yes", "en-US")
    assert first.prompt is not None
    assert first.prompt.end is PlayEnd.COMPLETED
    assert second.text == "no"
    assert call.spoken == ["Will you come?", "Really?"]
    assert whats(call) == [
        "robot says Will you come?",
        "caller says yes",
        "robot says Really?",
        "caller says no",
    ]
    robot, caller = call.talk[:2]
    assert caller.start_ms - robot.end_ms == 700


def test_who_is_silent_says_nothing_until_the_robot_speaks_again() -> None:
    call = FakeCall(silence(), say("yes"))
    assert call.hear("Well?", timeout_s=5).status is HearStatus.TIMEOUT
    assert call.hear("Well?!", timeout_s=5).text == "yes"
    assert call.left == ()


def test_silence_of_some_seconds_is_only_a_delay() -> None:
    call = FakeCall(silence(3), say("yes"))
    heard = call.hear("Well?", timeout_s=5)
    assert heard.text == "yes"
    assert heard.start_ms == call.talk[0].end_ms + 700 + 3000 + 700


def test_speech_over_the_prompt_stops_it() -> None:
    call = FakeCall(say("stop it", over_prompt=True, after_s=1.5))
    heard = call.hear(LONG)
    assert heard.text == "stop it"
    assert heard.prompt is not None
    assert (heard.prompt.end, heard.prompt.by, heard.prompt.end_ms) == (
        PlayEnd.INTERRUPTED,
        "voice",
        1500,
    )
    assert "stopped" in call.talk[0].note


def test_a_cough_is_no_answer() -> None:
    call = FakeCall(cough(over_prompt=True), say("yes"))
    assert call.hear(LONG).text == "yes"


@pytest.mark.parametrize(
    ("word", "lists"), [("uh-huh", None), ("okay", None), ("fine", {"en": ["fine"]})]
)
def test_back_channel_words_pause_the_prompt_and_it_goes_on(
    word: str, lists: dict[str, list[str]] | None
) -> None:
    call = FakeCall(say(word, over_prompt=True), say("yes"), backchannel=lists)
    heard = call.hear(LONG, barge_in="words")
    assert heard.text == "yes"
    assert heard.prompt is not None
    assert heard.prompt.end is PlayEnd.COMPLETED
    prompt = call.talk[0]
    assert prompt.end_ms - prompt.start_ms > heard.prompt.end_ms, "it stood still meanwhile"


def test_a_pause_for_words_that_do_not_come_is_short() -> None:
    """Nothing is recognised: the prompt goes on by its time."""
    call = FakeCall(
        say("well and so on and on", over_prompt=True),
        press("1"),
        troubles=Troubles(recognition="away"),
    )
    heard = call.hear(LONG, barge_in="words", digits=Digits())
    assert heard.digits == "1"
    assert heard.prompt is not None
    assert heard.prompt.end is PlayEnd.COMPLETED
    prompt = call.talk[0]
    stood_ms = prompt.end_ms - prompt.start_ms - heard.prompt.end_ms
    assert 900 <= stood_ms <= 1300


@pytest.mark.parametrize(
    ("pause_s", "texts"), [(0.1, ["well yes", ""]), (0.5, ["well yes", ""]), (1.0, ["well", "yes"])]
)
def test_a_pause_ends_an_utterance_when_it_is_long(pause_s: float, texts: list[str]) -> None:
    call = FakeCall(say("well"), say("yes", then=True, after_s=pause_s))
    assert [call.hear("Will you?").text, call.hear(timeout_s=3).text] == texts


def test_the_silence_that_ends_an_utterance_is_the_turns() -> None:
    call = FakeCall(say("one"), say("two", then=True, after_s=1.0))
    assert call.hear("Count.", end_silence_s=1.5).text == "one two"


def test_who_speaks_when_nobody_listens_is_not_heard_and_the_talk_says_so() -> None:
    call = FakeCall(say("yes"))
    call.answer()
    call.speak("Hello.")
    call.wait(5)
    assert call.hear("Well?", timeout_s=2).status is HearStatus.TIMEOUT
    (line,) = [line for line in call.talk if line.who == "caller"]
    assert line.note.startswith("not heard")


def test_language_and_confidence_are_the_scripts() -> None:
    call = FakeCall(say("иә", language="kk-KZ", confidence=0.5), say("да"))
    heard = call.hear("?", language=["ru-RU", "kk-KZ"])
    assert (heard.language, heard.confidence) == ("kk-KZ", 0.5)
    assert call.hear("?", language=["ru-RU", "kk-KZ"]).language == "ru-RU"


# Keys


def test_keys_are_read() -> None:
    call = FakeCall(press("12#"))
    read = call.read_digits(5, prompt="Your number?")
    assert (read.status, read.digits) == (DigitsStatus.TERMINATOR, "12")


def test_a_key_stops_a_prompt_that_it_may_and_stays_to_be_read() -> None:
    call = FakeCall(press("7", over_prompt=True))
    played = call.speak(LONG, interruptible="keys")
    assert (played.end, played.by, played.end_ms) == (PlayEnd.INTERRUPTED, "keys", 1000)
    assert call.read_digits().digits == "7"


def test_keys_are_an_answer_to_hear_where_they_may() -> None:
    call = FakeCall(press("1"))
    heard = call.hear("Say yes, or press 1.", digits=Digits())
    assert (heard.status, heard.digits) == (HearStatus.DIGITS, "1")


def test_each_key_is_told() -> None:
    told: list[str] = []
    call = FakeCall(press("12"))
    call.on_dtmf(told.append)
    call.speak("Press.")
    call.wait(5)
    assert told == ["1", "2"]


# Listening


def test_listening_gets_all_that_is_said_partials_first() -> None:
    results: list[Result] = []
    call = FakeCall(say("one two"), say("three"))
    with call.listen(on_result=results.append):
        call.wait(30)
    assert [(r.text, r.final) for r in results] == [
        ("one", False),
        ("one two", False),
        ("one two", True),
        ("three", False),
        ("three", True),
    ]
    assert all(not line.note for line in call.talk), "it was heard"


def test_an_iteration_ends_with_the_call() -> None:
    call = FakeCall(say("one"), say("two"), hangup())
    texts = []
    with pytest.raises(Hangup):
        for result in call.listen(partials=False):
            texts.append(result.text)
    assert texts == ["one", "two"]


def test_an_iteration_ends_when_it_is_stopped() -> None:
    call = FakeCall(says=["one", "two"])
    texts = []
    with call.listen(partials=False) as listening:
        for result in listening:
            texts.append(result.text)
            listening.stop()
    assert texts == ["one"]


# Endings


@pytest.mark.parametrize("over_prompt", [True, False])
def test_hangup_ends_every_command_from_then_on(over_prompt: bool) -> None:
    call = FakeCall(hangup(over_prompt=over_prompt, cause=17))
    with pytest.raises(Hangup):
        call.hear(LONG)
    for again in (lambda: call.speak("Hello?"), lambda: call.wait(1), lambda: call.execute("NoOp")):
        with pytest.raises(Hangup):
            again()
    assert (call.hung_up_by, call.cause) == ("caller", 17)
    assert call.talk[-1].what == "hangs up"


def test_the_robot_hangs_up() -> None:
    def scenario(call: Call) -> str:
        call.hangup(21)
        return "done"

    call = FakeCall(says=["yes"])
    ended = call.run(scenario)
    assert (ended.outcome.result, ended.result) == (TaskState.DONE, "done")
    assert (call.hung_up_by, call.cause) == ("robot", 21)


def test_a_caller_with_nothing_to_do_hangs_up_in_the_end() -> None:
    call = FakeCall(patience_s=60)
    with pytest.raises(Hangup):
        while True:
            call.wait(1)
    assert 60 <= call.now_s < 62
    assert "nothing happened" in call.talk[-1].note


def test_a_talk_without_end_is_ended() -> None:
    call = FakeCall()
    with pytest.raises(Hangup):
        while True:
            call.speak("And another thing.")
    assert 1800 <= call.now_s < 1810


def test_a_loop_of_commands_ends_too() -> None:
    call = FakeCall()
    with pytest.raises(Hangup):
        while True:
            call.get_variable("x")


def raising(error: Exception) -> Callable[[Call], None]:
    def scenario(_: Call) -> None:
        raise error

    return scenario


@pytest.mark.parametrize(
    ("scenario", "state", "reason"),
    [
        (lambda call: {"x": 1}, TaskState.DONE, Reason.COMPLETED),
        (lambda call: call.hear(LONG), TaskState.FAILED, Reason.CALLER_HANGUP),
        (lambda call: {1, 2}, TaskState.FAILED, Reason.SCENARIO_ERROR),
        (lambda call: float("nan"), TaskState.FAILED, Reason.SCENARIO_ERROR),
        (raising(ValueError("x")), TaskState.FAILED, Reason.SCENARIO_ERROR),
        (raising(RecognitionUnavailable("x")), TaskState.FAILED, Reason.RECOGNITION_UNAVAILABLE),
        (raising(SynthesisUnavailable("x")), TaskState.FAILED, Reason.SYNTHESIS_UNAVAILABLE),
        (raising(CommandTimeout("x")), TaskState.FAILED, Reason.SCENARIO_ERROR),
    ],
)
def test_a_run_ends_as_the_task_would(
    scenario: Callable[[Call], object], state: TaskState, reason: Reason
) -> None:
    call = FakeCall(hangup(over_prompt=True))
    ended = call.run(scenario)
    assert (ended.outcome.result, ended.outcome.reason) == (state, reason)
    assert call.ended is ended
    assert call.result == ({"x": 1} if state is TaskState.DONE else None)


def test_asterisk_is_lost_in_the_middle() -> None:
    ended = FakeCall(do(FakeCall.lose_asterisk, over_prompt=True)).run(lambda call: call.hear(LONG))
    assert ended.outcome.reason is Reason.ASTERISK_LOST


def test_scenarios_that_exit_fail() -> None:
    ended = FakeCall().run(raising(ScenarioError("no")))
    assert ended.error == "ScenarioError: no"

    def leave(_: Call) -> None:
        raise SystemExit(3)

    assert FakeCall().run(leave).outcome.reason is Reason.SCENARIO_ERROR


# Troubles


def test_recognition_is_away() -> None:
    call = FakeCall(press("1"), troubles=Troubles(recognition="quota exceeded"))
    with pytest.raises(RecognitionUnavailable, match="quota"):
        call.hear("Well?")
    heard = call.hear("Say it, or press it.", digits=Digits())
    assert (heard.digits, heard.error) == ("1", "quota exceeded")
    with pytest.raises(RecognitionUnavailable, match="quota"):
        list(call.listen())


def test_synthesis_is_away_and_files_still_play() -> None:
    call = FakeCall(troubles=Troubles(synthesis="quota exceeded"), sounds={"sorry": 1.5})
    with pytest.raises(SynthesisUnavailable, match="quota"):
        call.speak("Hello.")
    played = call.speak("Hello.", on_error=Sound("sorry"))
    assert (played.error, played.end_ms) == ("quota exceeded", 1500)
    assert call.spoken == ["[sorry]"]


def test_it_can_go_wrong_in_the_middle() -> None:
    def fail(call: FakeCall) -> None:
        call.troubles.recognition = "gone"

    call = FakeCall(do(fail))
    with pytest.raises(RecognitionUnavailable, match="gone"):
        call.hear("Well?")


def test_asterisk_does_not_answer() -> None:
    call = FakeCall(troubles=Troubles(asterisk=CommandTimeout("30 s without an answer")))
    with pytest.raises(CommandTimeout, match="30 s"):
        call.answer()


def test_what_asterisk_does_not_have_is_refused() -> None:
    call = FakeCall(troubles=Troubles(missing={"Transfer", "nowhere"}))
    with pytest.raises(CommandRefused, match="Transfer"):
        call.execute("Transfer", "x")
    with pytest.raises(CommandRefused, match="nowhere"):
        call.speak(Sound("nowhere"))


def test_a_hear_is_cancelled_at_a_moment() -> None:
    call = FakeCall(do(lambda call: call.cancel_hear("enough"), after_s=3))
    heard = call.hear("Well?")
    assert (heard.status, heard.reason) == (HearStatus.CANCELLED, "enough")
    assert call.now_s < 5


def test_things_happen_to_who_only_waits() -> None:
    call = FakeCall(do(lambda call: call.variables.update(x="1")), hangup(after_s=10))
    assert call.wait_for_hangup(60)
    assert call.variables == {"x": "1"}
    assert not FakeCall().wait_for_hangup(60)


def test_only_the_scenarios_thread_may_use_the_call() -> None:
    call = FakeCall(do(lambda call: call.speak("Hello?")))
    with pytest.raises(ScenarioError, match="callback"):
        call.hear("Well?")


def test_an_outbound_call_is_answered_already() -> None:
    assert FakeCall(direction="outbound").answered
    assert not FakeCall().answered


# What is recorded


def test_what_the_scenario_did_can_be_seen() -> None:
    call = FakeCall(variables={"client": "7"}, results={"Playback": "5"}, file="hello")
    assert call.get_variable("client") == "7"
    assert call.get_variable("other") is None
    call.set_variable("done", 1)
    assert call.execute("Playback", "beep") == "5"
    recording = call.start_recording("one")
    recording.stop()
    call.log("event", x=1)
    assert call.file == "hello"
    assert call.variables["done"] == "1"
    assert [name for name, _ in call.applications] == ["Playback", "MixMonitor", "StopMixMonitor"]
    assert call.recordings == [recording.path]
    assert call.logged == [("event", {"x": 1})]


def test_wrong_arguments_are_refused_as_by_the_real_call() -> None:
    call = FakeCall()
    wrong: list[Callable[[], object]] = [
        lambda: call.hear(timeout_s=0),
        lambda: call.hangup(0),
        lambda: call.execute("No Op"),
        lambda: call.set_variable("x", "a\nb"),
        lambda: call.start_recording("../x"),
        lambda: call.speak([]),
    ]
    for one in wrong:
        with pytest.raises(BadRequest):
            one()


def test_a_script_may_be_a_text() -> None:
    call = FakeCall("say yes\nover 1.5 press 1", says=["no"])
    assert call.hear("?").text == "yes"
    assert call.speak(LONG, interruptible="keys").end_ms == 1500
    assert call.hear("?").text == "no"
    with pytest.raises(BadRequest, match="says"):
        FakeCall(says="yes")
