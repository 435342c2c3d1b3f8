"""One AGI session from its first line to its last record: a scenario runs between."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol
from uuid import UUID, uuid4

from backend.call.backchannel import BackchannelBook
from backend.call.call import NO_RESULT_APP, CallConfig, CallInfo
from backend.call.dialogue import Agi
from backend.call.ending import COMPLETED, checked, outcome_of
from backend.call.lent import LentAgi
from backend.call.line import open_line
from backend.call.others import LegServices, OtherChannels
from backend.call.scenario import ScenarioFunction
from backend.call.shared import Shared
from backend.call.streams import Streams, keyed_url
from backend.dialing.progress import task_of_channel
from backend.errors import (
    AsteriskError,
    DialogError,
    Hangup,
    ScenarioError,
)
from backend.model import (
    CallEnded,
    CallRecording,
    CallSaid,
    CallStarted,
    CallStep,
    ChannelKind,
    Outcome,
    Reason,
    TaskState,
    Utterance,
)
from backend.ports import Ami, CallRecognizer, Prompts, RecordSink
from backend.protocol.channels import TARGET_URI, asks_target, channel_kind

log = logging.getLogger(__name__)

STREAM_REST_S = 0.5  # the rest of the audio, after the fork was told to stop
LAST_WORDS_S = 2.0  # after the call's end, for the text of what was said last
VARIABLES = (
    "DIALOG_TASK",
    "DIALOG_SCENARIO",
    "DIALOG_FILE",
    "DIALOG_NUMBER",
    "DIALOG_FORK_ID",
    "WS_SOCKET_SESSION",  # the fork's id in the article's dialplan
)


class AgiSession(Agi, Protocol):
    """agi_server.ThreadedAgi."""

    env: dict[str, str]
    asterisk_lost: bool
    aborted: str | None


@dataclass(frozen=True, slots=True)
class VoiceConfig:
    """Voice detection and the end of an utterance."""

    mode: int
    onset_ms: int
    end_silence_ms: int
    own_end_of_utterance: bool
    decide_ms: int = 1000  # see dialogue.TalkConfig
    backchannel: BackchannelBook = field(default_factory=lambda: BackchannelBook({}))


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a worker's calls share."""

    node: str
    worker: str
    call: CallConfig
    voice: VoiceConfig
    default_scenario: str
    language: str
    fork_url: str
    own_fork: bool  # the dialplan's fork may end in another worker: start our own
    ami: Ami
    streams: Streams
    recognizer: CallRecognizer
    records: RecordSink
    scenarios: Callable[[], Mapping[str, ScenarioFunction]]
    route: Callable[[str], str | None]  # dialled number → scenario
    prompts: Prompts
    stopping: Callable[[], bool]  # the worker ends
    legs: LegServices
    shared: Shared = field(default_factory=Shared)
    steps: Callable[[CallStep], None] = lambda _: None  # must not block, nor raise
    # Published flows for a caller (the other side's number): they go before those of scenarios.
    published: Callable[[str], Mapping[str, ScenarioFunction]] = lambda _: {}


def run_call(agi: AgiSession, requested: str, services: Services) -> None:
    """Run one call's scenario to its end; never raises for anything that happens in the call.

    ``requested``: the scenario of the AGI URL, may be empty.
    """
    try:
        variables = _read_variables(agi, services.call.command_s)
    except (Hangup, AsteriskError) as error:
        log.warning("%s: gone before its scenario began: %s", agi.env.get("agi_channel"), error)
        _tell_gone(agi, requested, services, error)
        return
    _Session(agi, _describe(agi.env, variables, requested, services), variables, services).run()


def _tell_gone(
    agi: AgiSession, requested: str, services: Services, error: Hangup | AsteriskError
) -> None:
    """The records of a task's call that was over before anything could be asked: its channel's id
    tells the task, which would else be waited for, and counted as lost."""
    task_id = task_of_channel(agi.env.get("agi_uniqueid"))
    if task_id is None:
        return
    info = _describe(agi.env, {"DIALOG_TASK": str(task_id)}, requested, services)
    outcome, text = outcome_of(error, by_robot=False, lost=agi.asterisk_lost)
    services.records.append(_started(info, services, channel_kind(info.channel, "")))
    services.records.append(
        CallEnded(info.id, task_id, datetime.now(UTC), outcome, result=None, error=text)
    )


def _started(info: CallInfo, services: Services, kind: ChannelKind) -> CallStarted:
    return CallStarted(
        call_id=info.id,
        task_id=info.task_id,
        at=datetime.now(UTC),
        node=services.node,
        worker=services.worker,
        scenario=info.scenario,
        direction=info.direction,
        channel=info.channel,
        uniqueid=info.uniqueid,
        caller=info.caller,
        called=info.called,
        channel_kind=kind,
    )


def _read_variables(agi: AgiSession, timeout_s: float) -> dict[str, str]:
    """The call's DIALOG_ variables, in one round trip."""
    names: tuple[str, ...] = VARIABLES
    wanted = "|".join(f"${{{name}}}" for name in names)
    if asks_target(agi.env.get("agi_channel", "")):
        names, wanted = (*names, "target_uri"), f"{wanted}|{TARGET_URI}"
    reply = agi.command("GET FULL VARIABLE", wanted, timeout_s=timeout_s)
    values = (reply.data or "").split("|")
    return dict(zip(names, values, strict=False))


def _describe(
    env: Mapping[str, str], variables: Mapping[str, str], requested: str, services: Services
) -> CallInfo:
    called = variables.get("DIALOG_NUMBER") or env.get("agi_dnid") or env.get("agi_extension", "")
    try:
        task_id = UUID(variables["DIALOG_TASK"]) if variables.get("DIALOG_TASK") else None
    except ValueError:
        log.error("%s: DIALOG_TASK is no id: %.80r", env.get("agi_channel"), variables)
        task_id = None
    scenario = (
        requested
        or variables.get("DIALOG_SCENARIO")
        or (services.route(called) if task_id is None else None)
        or services.default_scenario
    )
    return CallInfo(
        id=uuid4(),
        task_id=task_id,
        channel=env.get("agi_channel", ""),
        uniqueid=env.get("agi_uniqueid", ""),
        direction="inbound" if task_id is None else "outbound",
        caller=env.get("agi_callerid", ""),
        called=called,
        scenario=scenario,
        file=variables.get("DIALOG_FILE") or None,
        language=services.language,
    )


class _Session:
    """What one call owns, and its end."""

    def __init__(
        self, agi: AgiSession, info: CallInfo, variables: Mapping[str, str], services: Services
    ) -> None:
        self._agi = LentAgi(agi)
        self._info = info
        self._fork_id = variables.get("DIALOG_FORK_ID") or variables.get("WS_SOCKET_SESSION", "")
        self._target_uri = variables.get("target_uri", "")
        self._services = services
        # The dialplan's fork is known by its channel. Our own has a key, for where it comes beside
        # the dialplan's, that one may be the later of the two to connect.
        self._theirs = bool(self._fork_id) and not services.own_fork
        self._stream_key = info.channel if self._theirs else f"call-{info.id}"
        self._numbers = count()
        self._line = open_line(
            self._agi,
            info,
            services,
            on_said=self._said,
            on_recorded=self._recorded,
            keep_step=services.steps,
        )
        self._ear, self._stream = self._line.ear, self._line.stream
        self._call = self._line.call
        self._others = OtherChannels(self._agi, info, services)
        self._call.join_others(self._others)

    def run(self) -> None:
        info = self._info
        log.info(
            "call %s: %s scenario %s task %s", info.id, info.channel, info.scenario, info.task_id
        )
        kind = channel_kind(info.channel, self._target_uri)
        self._services.records.append(_started(info, self._services, kind))
        self._services.streams.claim(self._stream_key, self._line.fork)
        result: Any = None
        error: str | None = None
        try:
            self._fork()
            result = checked(self._scenario()(self._call))
            outcome = COMPLETED
        except (Exception, SystemExit) as raised:  # noqa: BLE001  a call begins and ends here
            outcome, error = self._settle(raised)
        self._close(outcome, result, error)

    def _scenario(self) -> ScenarioFunction:
        info = self._info
        other_side = info.caller if info.direction == "inbound" else info.called
        known = {**self._services.scenarios(), **self._services.published(other_side)}
        self._call.entering.know(known)  # the call keeps these, whatever is loaded later
        function = known.get(self._info.scenario)
        if function is None:
            names = ", ".join(sorted(known))
            raise ScenarioError(f"there is no scenario {self._info.scenario!r}; known: {names}")
        return function

    def _fork(self) -> None:
        """Make sure the audio comes to this worker."""
        if self._theirs:
            return
        if self._fork_id:
            self._exec("StopAudioFork", self._fork_id)
        url = keyed_url(self._services.fork_url, self._stream_key)
        result = self._exec("AudioFork", f"{url},D(read)ji(DIALOG_FORK_ID)")
        if result == NO_RESULT_APP:
            log.error(
                "%s: no audio: Asterisk has no AudioFork; is app_audiofork.so loaded?",
                self._info.channel,
            )
            self._stream.expect_none()
            return
        self._fork_id = self._call.get_variable("DIALOG_FORK_ID") or ""
        if not self._fork_id:
            self._stream.expect_none()

    def _stop_fork(self) -> None:
        """Let the module send the stream's rest and close it, while the channel is there."""
        try:
            self._agi.poll_hangup()
            if self._fork_id:
                self._exec("StopAudioFork", self._fork_id)
        except (Hangup, AsteriskError) as error:
            log.debug("call %s: its fork ends with the channel: %s", self._info.id, error)
        self._ear.wait_closed(STREAM_REST_S)

    def _exec(self, application: str, data: str) -> str:
        timeout_s = self._services.call.command_s
        return self._agi.command("EXEC", application, data, timeout_s=timeout_s).result

    def _settle(self, raised: BaseException) -> tuple[Outcome, str | None]:
        """The outcome of a scenario that did not return."""
        info = self._info
        if isinstance(raised, Hangup) and self._agi.aborted is not None:
            stopped = self._services.stopping()
            reason = Reason.BACKEND_LOST if stopped else Reason.SCENARIO_ERROR
            return Outcome(TaskState.FAILED, reason), self._agi.aborted
        lost = self._agi.asterisk_lost
        outcome, error = outcome_of(raised, by_robot=self._call.hung_up, lost=lost)
        if isinstance(raised, DialogError):
            if error is not None:
                log.error("call %s: scenario %s: %s", info.id, info.scenario, error)
        else:
            log.error("call %s: scenario %s raised", info.id, info.scenario, exc_info=raised)
        return outcome, error

    def _close(self, outcome: Outcome, result: Any, error: str | None) -> None:
        """Last words, last record; then, and only then, the dialplan is told all was well."""
        info = self._info
        self._line.dialogue.close()
        self._others.close()
        self._stop_fork()
        self._services.streams.release(self._stream_key)
        self._ear.close(LAST_WORDS_S)
        figures = self._ear.figures
        self._services.records.append(
            CallEnded(
                call_id=info.id,
                task_id=info.task_id,
                at=datetime.now(UTC),
                outcome=outcome,
                result=result,
                error=error,
                figures={
                    "audio_ms": figures.audio_ms,
                    "messages": figures.messages,
                    "connections": figures.connections,
                    "dropped_ms": figures.dropped_ms,
                },
            )
        )
        log.info("call %s: %s %s", info.id, outcome, error or "")
        if outcome.result is TaskState.DONE:
            self._tell_dialplan()

    def _tell_dialplan(self) -> None:
        """DIALOG_DONE=1: the dialplan plays its apology when this is missing."""
        timeout_s = self._services.call.command_s
        try:
            self._agi.command("SET VARIABLE", "DIALOG_DONE", "1", timeout_s=timeout_s)
        except (Hangup, AsteriskError) as error:
            log.debug("call %s: hung up before DIALOG_DONE: %s", self._info.id, error)

    def _said(self, utterance: Utterance) -> None:
        number = next(self._numbers)
        log.info("call %s: %s: %s", self._info.id, utterance.speaker, utterance.text)
        self._services.records.append(
            CallSaid(self._info.id, self._info.task_id, number, datetime.now(UTC), utterance)
        )

    def _recorded(self, path: str) -> None:
        self._services.records.append(
            CallRecording(self._info.id, self._info.task_id, datetime.now(UTC), path)
        )
