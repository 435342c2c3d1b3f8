"""A call from its AGI session to its last record: outcomes, and what the dialplan is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from backend.ami_watch import EventWatch
from backend.call.call import Call, CallConfig
from backend.call.leg_desk import LegDesk
from backend.call.others import LegServices
from backend.call.runner import VARIABLES, Services, VoiceConfig, run_call
from backend.call.scenario import ScenarioFunction
from backend.call.streams import StreamListener
from backend.dialing.policy import Rules
from backend.errors import CommandTimeout, Hangup, RecognitionUnavailable, SynthesisUnavailable
from backend.model import CallEnded, CallStarted, Reason, Record, TaskState
from backend.protocol.agi import Reply
from backend.protocol.channels import TARGET_URI
from tests.fakes.channel import FakeChannel
from tests.fakes.prompts import FakePrompts
from tests.fakes.speech import FakeRecognizer

TASK = "0b7c1a52-6b0e-4b0e-8f5e-2f1f7a4d9c11"


class FakeAgi(FakeChannel):
    """A channel's AGI session with variables; keeps what was executed."""

    def __init__(self, **variables: str) -> None:
        super().__init__()
        self.variables = dict(variables)
        self.env = {
            "agi_channel": "PJSIP/x-1",
            "agi_uniqueid": "u-1",
            "agi_callerid": "100",
            "agi_extension": "s",
        }
        self.asterisk_lost = False
        self.aborted: str | None = None
        self.executed: list[tuple[str, str]] = []

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        if command == "GET FULL VARIABLE":
            self.poll_hangup()
            values = [self.variables.get(name, "") for name in VARIABLES]
            if TARGET_URI in str(args[0]):
                values.append(self.variables.get("target_uri", ""))
            return Reply(200, "", "1", "|".join(values))
        if command == "EXEC":
            self.poll_hangup()
            self.executed.append((str(args[0]), str(args[1])))
            if args[0] == "AudioFork":
                self.variables["DIALOG_FORK_ID"] = "own-fork"
        return super().command(command, *args, timeout_s=timeout_s)


@dataclass
class FakeStreams:
    claimed: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    def claim(self, key: str, listener: StreamListener) -> None:
        self.claimed.append(key)

    def release(self, key: str) -> None:
        self.released.append(key)


@dataclass
class Records:
    kept: list[Record] = field(default_factory=list)

    def append(self, *records: Record) -> None:
        self.kept.extend(records)


class Run:
    """One call through run_call; its records and its AGI session."""

    def __init__(
        self,
        function: ScenarioFunction,
        agi: FakeAgi | None = None,
        *,
        requested: str = "test",
        own_fork: bool = False,
        stopping: bool = False,
        route: str | None = None,
        published: Callable[[str], Mapping[str, ScenarioFunction]] = lambda _: {},
    ) -> None:
        self.agi = agi or FakeAgi(DIALOG_TASK=TASK, DIALOG_FORK_ID="fork-1")
        self.streams = FakeStreams()
        self.records = Records()
        scenarios: Mapping[str, ScenarioFunction] = {"test": function, "routed": function}
        services = Services(
            node="n",
            worker="voice-0",
            call=CallConfig(1, 1, 60, "/rec"),
            voice=VoiceConfig(2, 40, 600, own_end_of_utterance=True),
            default_scenario="test",
            language="ru-RU",
            fork_url="ws://127.0.0.1:8081/",
            own_fork=own_fork,
            ami=self.agi,
            streams=self.streams,
            recognizer=FakeRecognizer(),
            records=self.records,
            scenarios=lambda: scenarios,
            route=lambda number: route,
            prompts=FakePrompts(),
            stopping=lambda: stopping,
            legs=LegServices(LegDesk(), EventWatch(), Rules()),
            published=published,
        )
        run_call(self.agi, requested, services)

    @property
    def started(self) -> CallStarted:
        (found,) = [record for record in self.records.kept if isinstance(record, CallStarted)]
        return found

    @property
    def ended(self) -> CallEnded:
        (found,) = [record for record in self.records.kept if isinstance(record, CallEnded)]
        assert self.records.kept[-1] is found, "the last record of a call"
        return found


def raising(error: BaseException) -> ScenarioFunction:
    def function(call: Call) -> Any:
        raise error

    return function


def test_what_the_scenario_returns_is_the_result_and_the_dialplan_is_told() -> None:
    run = Run(lambda call: {"answer": 42})
    assert (run.ended.outcome.result, run.ended.result) == (TaskState.DONE, {"answer": 42})
    assert run.ended.task_id == UUID(TASK)
    assert run.agi.variables["DIALOG_DONE"] == "1"
    assert (run.streams.claimed, run.streams.released) == (["PJSIP/x-1"], ["PJSIP/x-1"])
    assert run.agi.executed == [("StopAudioFork", "fork-1")]


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (Hangup("gone"), Reason.CALLER_HANGUP, None),
        (ZeroDivisionError("x"), Reason.SCENARIO_ERROR, "ZeroDivisionError: x"),
        (SystemExit(3), Reason.SCENARIO_ERROR, "SystemExit: 3"),
        (CommandTimeout("t"), Reason.SCENARIO_ERROR, "CommandTimeout: t"),
        (RecognitionUnavailable("r"), Reason.RECOGNITION_UNAVAILABLE, "r"),
        (SynthesisUnavailable("s"), Reason.SYNTHESIS_UNAVAILABLE, "s"),
    ],
)
def test_what_it_raises_is_the_outcome_and_the_dialplan_is_not_told(
    error: BaseException, reason: Reason, text: str | None
) -> None:
    run = Run(raising(error))
    assert (run.ended.outcome.result, run.ended.outcome.reason) == (TaskState.FAILED, reason)
    assert (run.ended.error or "") == "" if text is None else text in (run.ended.error or "")
    assert "DIALOG_DONE" not in run.agi.variables
    assert run.streams.released == ["PJSIP/x-1"]


def test_a_hangup_because_asterisk_died() -> None:
    agi = FakeAgi(DIALOG_TASK=TASK)
    agi.asterisk_lost = True
    assert Run(raising(Hangup("eof")), agi).ended.outcome.reason is Reason.ASTERISK_LOST


@pytest.mark.parametrize(
    ("stopping", "reason"), [(True, Reason.BACKEND_LOST), (False, Reason.SCENARIO_ERROR)]
)
def test_a_call_that_we_ended_ourselves(stopping: bool, reason: Reason) -> None:
    agi = FakeAgi(DIALOG_TASK=TASK)
    agi.aborted = "why it was"
    run = Run(raising(Hangup("eof")), agi, stopping=stopping)
    assert (run.ended.outcome.reason, run.ended.error) == (reason, "why it was")


def test_the_scenarios_own_hangup_is_an_end_as_good_as_another() -> None:
    def function(call: Call) -> None:
        call.hangup()
        raise Hangup("the next command found the channel gone")

    assert Run(function).ended.outcome.result is TaskState.DONE


@pytest.mark.parametrize("result", [{1, 2}, float("nan"), object()])
def test_a_result_that_is_not_json(result: object) -> None:
    run = Run(lambda call: result)
    assert run.ended.outcome.reason is Reason.SCENARIO_ERROR
    assert "not JSON" in (run.ended.error or "")
    assert run.ended.result is None


def test_an_unknown_scenario_is_named_with_the_known_ones() -> None:
    run = Run(lambda call: None, requested="nonsense")
    assert "'nonsense'" in (run.ended.error or "")
    assert "routed, test" in (run.ended.error or "")


def test_an_inbound_call_takes_its_numbers_route() -> None:
    agi = FakeAgi(DIALOG_NUMBER="74950000000")
    run = Run(lambda call: call.called, agi, requested="", route="routed")
    assert (run.started.scenario, run.started.direction) == ("routed", "inbound")
    assert run.ended.result == "74950000000"
    assert run.started.task_id is None


def test_the_tasks_scenario_goes_before_the_default() -> None:
    agi = FakeAgi(DIALOG_TASK=TASK, DIALOG_SCENARIO="routed", DIALOG_FILE="promo")
    run = Run(lambda call: call.file, agi, requested="")
    assert (run.started.scenario, run.ended.result) == ("routed", "promo")


def test_a_task_id_that_is_none_is_an_inbound_call() -> None:
    assert Run(lambda call: None, FakeAgi(DIALOG_TASK="x'; --")).started.task_id is None


def test_without_a_fork_the_worker_starts_its_own() -> None:
    run = Run(lambda call: None, FakeAgi(DIALOG_TASK=TASK))
    key = f"call-{run.started.call_id}"
    assert run.agi.executed == [
        ("AudioFork", f"ws://127.0.0.1:8081/stream/{key},D(read)ji(DIALOG_FORK_ID)"),
        ("StopAudioFork", "own-fork"),
    ]
    assert (run.streams.claimed, run.streams.released) == ([key], [key])


def test_the_articles_fork_is_taken_as_it_is() -> None:
    agi = FakeAgi(DIALOG_TASK=TASK, WS_SOCKET_SESSION="article")
    assert Run(lambda call: None, agi).agi.executed == [("StopAudioFork", "article")]


def test_among_several_workers_the_dialplans_fork_is_replaced() -> None:
    agi = FakeAgi(DIALOG_TASK=TASK, DIALOG_FORK_ID="dialplan")
    run = Run(lambda call: None, agi, own_fork=True)
    assert [name for name, _ in run.agi.executed] == [
        "StopAudioFork",
        "AudioFork",
        "StopAudioFork",
    ]
    # Not by the channel: the one that was stopped may be the last to connect.
    assert run.streams.claimed == [f"call-{run.started.call_id}"]


def test_a_call_that_is_gone_before_it_began_leaves_no_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agi = FakeAgi()
    agi.hang_up()
    assert Run(lambda call: None, agi).records.kept == []
    assert "gone before its scenario began" in caplog.text


def test_a_tasks_call_that_is_gone_before_it_began_is_told_by_its_channel() -> None:
    agi = FakeAgi()
    agi.env["agi_uniqueid"] = f"dialog-{TASK}"
    agi.hang_up()
    started, ended = Run(lambda call: None, agi).records.kept
    assert isinstance(started, CallStarted)
    assert isinstance(ended, CallEnded)
    assert started.call_id == ended.call_id
    assert {str(started.task_id), str(ended.task_id)} == {TASK}
    assert (started.direction, ended.outcome.reason) == ("outbound", Reason.CALLER_HANGUP)


def test_every_call_has_an_id_of_its_own() -> None:
    ids = {Run(lambda call: str(call.id)).ended.result for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("channel", "target", "kind"),
    [
        ("PJSIP/x-1", "sip:7@h", "sip"),
        ("PJSIP/x-1", "sip:7@h;transport=ws", "webrtc"),
        ("Local/x-1", "sip:7@h;transport=ws", "local"),  # it is not asked
    ],
)
def test_the_kind_of_its_channel(channel: str, target: str, kind: str) -> None:
    agi = FakeAgi(DIALOG_FORK_ID="fork-1", target_uri=target)
    agi.env["agi_channel"] = channel
    assert Run(lambda call: None, agi).started.channel_kind == kind


@pytest.mark.parametrize(
    ("task", "caller_key"), [(TASK, "79161234567"), ("", "100")], ids=["outbound", "inbound"]
)
def test_a_published_flow_goes_before_a_file_and_is_chosen_by_the_other_side(
    task: str, caller_key: str
) -> None:
    asked: list[str] = []

    def published(key: str) -> Mapping[str, ScenarioFunction]:
        asked.append(key)
        return {"test": lambda _: "published", "other": lambda _: "entered"}

    agi = FakeAgi(DIALOG_TASK=task, DIALOG_FORK_ID="f", DIALOG_NUMBER="79161234567")
    assert Run(lambda _: "the file's", agi, published=published).ended.result == "published"
    assert asked == [caller_key], "once a call: what it enters later is of the same moment"


def test_what_the_files_hold_stays_where_nothing_is_published() -> None:
    def enter(call: Call) -> bool:
        return call.entering.knows("other")

    run = Run(enter, published=lambda _: {"other": lambda _: None})
    assert run.ended.result is True, "what is published can be entered by it"
