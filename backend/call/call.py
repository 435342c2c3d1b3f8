"""The scenario's view of a call."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from backend.call import check
from backend.call.dialogue import Agi, Dialogue
from backend.call.entering import Entering
from backend.call.guard_rules import Guarding, KeyGuard, check_guard
from backend.call.keys import Digits, DigitsRead
from backend.call.listening import Listening, ResultCallback
from backend.call.playback import Played
from backend.call.prompt import Interruptible, Prompts
from backend.call.recording import Recording, Recordings
from backend.call.shared import Shared, TaskHandle
from backend.call.steps import StepLog
from backend.call.store import Store
from backend.call.turn import BargeIn, Heard
from backend.errors import BadRequest, CommandRefused, Hangup
from backend.ports import HttpAnswer, HttpRequest
from backend.protocol.agi import Reply

if TYPE_CHECKING:
    from backend.call.bridge import BridgeEnd, TransferEnd
    from backend.call.conference import Conference
    from backend.call.legs import Leg
    from backend.call.others import OtherChannels

log = logging.getLogger(__name__)

NORMAL_CLEARING = 16  # Q.850
NO_RESULT_APP = "-2"  # EXEC: no such application (res_agi.c, handle_exec)


@dataclass(frozen=True, slots=True)
class CallInfo:
    """Who and what; fixed for the call's life."""

    id: UUID
    task_id: UUID | None
    channel: str
    uniqueid: str
    direction: Literal["inbound", "outbound"]
    caller: str
    called: str
    scenario: str
    file: str | None
    language: str


@dataclass(frozen=True, slots=True)
class CallConfig:
    """What of the settings a call needs."""

    command_s: float
    recognition_s: float
    max_call_s: float
    recordings_dir: str
    recordings_url: str = "/recordings"


class Call:
    """One call. Its methods block the scenario's thread only; each raises Hangup once the other
    side has hung up, and CommandTimeout when Asterisk does not answer.

    Not thread-safe: it belongs to the scenario's thread.
    """

    def __init__(
        self,
        info: CallInfo,
        config: CallConfig,
        agi: Agi,
        dialogue: Dialogue,
        *,
        on_recording: Callable[[str], None],
        shared: Shared | None = None,
        step_log: StepLog | None = None,
    ) -> None:
        self.info = info
        self._step_log = step_log or no_steps(info)
        self._shared = shared or Shared()
        self._settings: dict[str, Any] | None = None
        self._config = config
        self._agi = agi
        self._dialogue = dialogue
        self._recordings = Recordings(
            self._execute,
            self.get_variable,
            folder=config.recordings_dir,
            url=config.recordings_url,
            default_name=str(info.id),
            on_start=on_recording,
        )
        self._answered = False
        self._others: OtherChannels | None = None
        self.hung_up = False  # by the scenario itself
        self.entering = Entering()  # for the runner and flows

    def join_others(self, others: OtherChannels) -> None:
        """For the runner: what this call does with other channels. A leg has none."""
        self._others = others

    # Who and what

    @property
    def id(self) -> UUID:
        return self.info.id

    @property
    def file(self) -> str | None:
        """The sound the task named (``file=`` of the request)."""
        return self.info.file

    @property
    def caller(self) -> str:
        """The caller's number as Asterisk has it; not to be trusted."""
        return self.info.caller

    @property
    def called(self) -> str:
        return self.info.called

    @property
    def language(self) -> str:
        """BCP 47 tag."""
        return self.info.language

    @property
    def step_log(self) -> StepLog:
        """Where this call's steps go: for flows, which have some of their own."""
        return self._step_log

    # Beside the line

    @property
    def store(self) -> Store:
        """What all scenarios, workers and machines share; ``store.own``: this scenario's."""
        return Store(self._shared.values, self.info.scenario)

    @property
    def config(self) -> dict[str, Any]:
        """The table ``scenario_config`` of the settings; this call's own copy."""
        if self._settings is None:
            self._settings = deepcopy(dict(self._shared.config))
        return self._settings

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What a flow's node ``call`` gave the function (``with``); else empty."""
        return self.entering.arguments

    def run_flow(self, name: str, /, **variables: Any) -> Any:
        """Run the flow of that name on this call, and return its ``result``. ``variables``: some of
        those that it begins with. When it hangs up, or the caller does, Hangup is raised.

        Raises ScenarioError when there is no such flow, BadRequest for a variable that it does not
        have, and what ended the flow.
        """
        self._dialogue.check_thread()
        return self.entering.flow(self, name, variables)

    def request(self, request: HttpRequest) -> HttpAnswer:
        """For flows: ask another system, as the settings allow."""
        return self._shared.http.send(request)

    def originate(
        self,
        number: str,
        *,
        scenario: str | None = None,
        caller_id: str | None = None,
        variables: Mapping[str, str] | None = None,
        external_id: str | None = None,
        channel: str | None = None,
    ) -> TaskHandle:
        """Make another call with a scenario of its own, dialled when a line is free: a task like
        one that came by HTTP, under the same rules (docs/http.md, "Make a call"). Does not wait
        for it. ``scenario``: by the number's outbound route, or the default, if left out.
        ``external_id``: the same is the same task, for ever. ``channel``: a trunk's name.

        Raises BadRequest for what the settings do not allow, StorageUnavailable when PostgreSQL
        does not answer within 5 s: only with an ``external_id`` it is safe to try again.
        """
        return self._shared.originate(
            number,
            scenario=scenario,
            caller_id=caller_id,
            variables=variables,
            external_id=external_id,
            channel=channel,
        )

    # The line

    def answer(self, *, settle_s: float = 0.0) -> None:
        """Answer, if that has not been done, and begin to listen. ``settle_s``: let the audio
        path open before the first prompt."""
        if not self._answered:
            self._command("ANSWER")
            self._answered = True
            self._dialogue.begin()
        if settle_s > 0:
            self.wait(settle_s)

    def hangup(self, cause: int = 16) -> None:
        """End the call. The next command raises Hangup, but the talk came to its end. ``cause``:
        Q.850, what the other side is told (16: normal; before the answer 17: busy, 21: rejected,
        1: no such number). From a seat in a conference, too. Raises BadRequest."""
        check.cause(cause)
        if self._others is not None:
            self._others.leave_seats()
        self.hung_up = True
        if cause == NORMAL_CLEARING:
            self._command("HANGUP")
        else:  # AGI's HANGUP knows no cause (res_agi.c, handle_hangup)
            self._command("EXEC", "Hangup", str(cause))

    def wait(self, duration_s: float) -> None:
        """Do nothing for a while; raises Hangup as soon as the other side hangs up."""
        self._dialogue.wait(duration_s)

    def wait_for_hangup(self, timeout_s: float) -> bool:
        """Wait until the other side hangs up, at most ``timeout_s``; whether it did. Every later
        command raises Hangup then."""
        try:
            self.wait(timeout_s)
        except Hangup:
            return True
        return False

    def execute(self, application: str, *arguments: object) -> str:
        """Run a dialplan application; returns its AGI result. Raises BadRequest for a name or
        argument that cannot be sent, CommandRefused when there is no such application."""
        if not re.fullmatch(r"\w{1,64}", application):
            raise BadRequest("application", f"{application[:80]!r} is no application's name")
        texts = [str(argument) for argument in arguments]
        if bad := next((text for text in texts if "," in text or "${" in text), None):
            raise BadRequest("argument", f"{bad[:80]!r}: ',' and '${{' would change the command")
        self._dialogue.open_keys()  # it may be one that reads them
        return self._execute(application, ",".join(texts))

    def _execute(self, application: str, data: str) -> str:
        reply = self._command("EXEC", application, data)
        if reply.result == NO_RESULT_APP:
            raise CommandRefused(f"Asterisk has no application {application}: module not loaded?")
        return reply.result

    def get_variable(self, name: str) -> str | None:
        """A channel variable or function (``CALLERID(num)``); None when it is not set."""
        reply = self._command("GET VARIABLE", name)
        return reply.data if reply.result == "1" else None

    def set_variable(self, name: str, value: object) -> None:
        """Set a channel variable or function."""
        self._command("SET VARIABLE", name, value)

    def log(self, event: str, **fields: object) -> None:
        """A line in the backend's log with the call's id."""
        text = " ".join(f"{key}={value!r}" for key, value in fields.items())
        log.info("call %s: %s %s", self.id, event, text)

    # Speaking

    def speak(
        self,
        prompt: Prompts,
        *,
        repeat: int = 1,
        interruptible: Interruptible = "off",
        language: str | None = None,
        on_error: Prompts | None = None,
        guard: Guarding = "call",
    ) -> Played:
        """Play a text, a Sound, or a list of them as one prompt, to its end.

        ``repeat``: how often in all, 1 to 100. ``interruptible``: what ends it early: the caller's
        voice, a key (which stays to be read), any of the two. ``language``: BCP 47 tag of the texts
        (default: the call's; a Text has its own). ``on_error``: what is played, from its
        beginning, when synthesis fails; ``Played.error`` then says why. ``guard``: this prompt's
        own rules for keys, None: not guarded; default: what ``guard_keys`` has said. A guarded
        prompt is ended by a key only once keys count again.

        Raises SynthesisUnavailable (without ``on_error``), CommandRefused when Asterisk has no
        such sound, BadRequest when the backend's own cannot be played, or for a wrong argument.
        """
        return self._dialogue.speak(
            prompt,
            repeat=repeat,
            interruptible=interruptible,
            language=language,
            on_error=on_error,
            guard=guard,
        )

    def prepare(self, prompt: Prompts, *, language: str | None = None) -> None:
        """Begin to synthesise what will be spoken soon, and decode the backend's own sounds;
        returns at once, raises nothing of what goes wrong with that: it is told when it is spoken.
        Raises BadRequest for what is no prompt."""
        self._dialogue.prepare(prompt, language=language)

    # Hearing

    def hear(
        self,
        prompt: Prompts | None = None,
        *,
        timeout_s: float = 10.0,
        barge_in: BargeIn = "voice",
        language: str | Sequence[str] | None = None,
        hints: Sequence[str] = (),
        end_silence_s: float | None = None,
        digits: Digits | None = None,
        guard: Guarding = "call",
    ) -> Heard:
        """One turn: play the prompt, listen from its start, return at the utterance's end.

        ``timeout_s``: how long to wait for speech or a key, from the prompt's end. ``barge_in``:
        what stops the prompt: "voice": any voice, at once; "words": voice pauses it, words stop it,
        and after a noise or a back-channel word it goes on from where it stopped (such words are
        no answer); "off": nothing, but what is said meanwhile counts. ``language``: BCP 47 tag, or
        several, of which the one spoken is in the result; the first one is the prompt's.
        ``hints``: words and phrases that are likely (see docs/scenarios.md for who uses them).
        ``end_silence_s``: this much silence ends the utterance, 0.1 to 5. ``digits``: keys are an
        answer, too: the first one stops the prompt, and speech after it does not count. ``guard``:
        as in ``speak``, for this turn.

        What was said before ``hear`` began does not count; what is being said when it begins does.
        A noise without words counts as nothing said. Keys that were typed ahead do count.

        Raises RecognitionUnavailable when the recogniser or the fork fails, never waits for ever;
        with ``digits`` the turn goes on with the keys alone instead, and ``Heard.error`` says why.
        Raises what ``speak`` raises.
        """
        return self._dialogue.hear(
            prompt,
            timeout_s=timeout_s,
            barge_in=barge_in,
            language=language,
            hints=hints,
            end_silence_s=end_silence_s,
            digits=digits,
            guard=guard,
        )

    def cancel_hear(self, reason: str = "cancelled") -> bool:
        """End the ``hear`` or ``read_digits`` under way, its prompt, too; it returns with the
        status cancelled and this reason. From any thread, never blocks. Returns whether there was
        one: one that has not begun is not cancelled."""
        return self._dialogue.cancel_hear(reason)

    def listen(
        self,
        *,
        partials: bool = True,
        language: str | Sequence[str] | None = None,
        hints: Sequence[str] = (),
        on_result: ResultCallback | None = None,
        on_final: ResultCallback | None = None,
    ) -> Listening:
        """Recognise all that the caller says, from now on until ``stop`` or the call's end, beside
        whatever the scenario does: ``speak`` and ``hear`` work as ever, and both ``hear`` and the
        listening get what is said.

        ``partials``: also what the caller seems to be saying. ``on_result`` gets every result,
        ``on_final`` the final ones; see ``on_dtmf`` for the thread they run on. ``language``,
        ``hints``: as in ``hear``, for as long as it listens; a ``hear`` with its own has them for
        its turn. One at a time: raises BadRequest while another has not been stopped.
        """
        return self._dialogue.listen(
            partials=partials,
            language=language,
            hints=hints,
            on_result=on_result,
            on_final=on_final,
        )

    # Keys

    def guard_keys(self, rules: KeyGuard | None = KeyGuard()) -> None:  # noqa: B008  frozen
        """Keep keys from every prompt from now on: they are blocked, in Asterisk itself, from the
        order to play until shortly before the prompt's end, and between an input and the next
        prompt. None: no longer. Raises BadRequest. See docs/scenarios.md, "Keys during prompts".
        """
        check_guard("rules", rules, call=False)
        self._dialogue.guard_keys(rules)

    def on_dtmf(self, callback: Callable[[str], object] | None) -> None:
        """``callback`` gets each key from now on, one of 0-9 * # A-D; None: no longer. The keys can
        be read all the same.

        All callbacks of a call run one after the other, in order, on a thread of the call's own
        that the runtime starts and ends. There ``cancel_hear``, ``Listening.stop``, ``log`` and
        the properties are allowed, nothing else of the call. What a callback raises is logged.
        Raises CommandRefused where the fork does not tell of keys (a module before version 2)."""
        self._dialogue.on_dtmf(callback)

    def read_digits(
        self,
        max: int = 1,
        *,
        terminator: str | None = "#",
        timeout_s: float = 10.0,
        between_s: float = 3.0,
        prompt: Prompts | None = None,
        guard: Guarding = "call",
    ) -> DigitsRead:
        """Keys: ``max`` of them, or fewer and ``terminator``, or fewer and ``between_s`` without
        another. ``timeout_s``: for the first, from the prompt's end. The first key stops the
        prompt.

        Keys that were pressed before and that nobody has read count (64 at most are kept): when
        there are some the prompt is not played. ``guard``: as in ``speak``, for this input.
        Raises what ``speak`` raises, BadRequest."""
        return self._dialogue.read_digits(
            Digits(max, terminator, between_s), timeout_s=timeout_s, prompt=prompt, guard=guard
        )

    # Recording

    def start_recording(
        self, name: str | None = None, *, directory: str | None = None
    ) -> Recording:
        """Record both sides, mixed, to ``<recordings_dir>/<directory>/<name>.wav``. Several may
        run at once. ``name``: default the call's id (then ``<id>-2``, …); an older file of that
        name is replaced. ``directory``: below recordings_dir, made by Asterisk when it is missing.

        Raises BadRequest for a name or a directory that is none, CommandRefused when Asterisk
        does not record.
        """
        return self._recordings.start(name, directory)

    # Other channels

    def dial(
        self,
        number: str,
        *,
        timeout_s: float = 30.0,
        caller_id: str | None = None,
        trunk: str = "default",
    ) -> Leg:
        """Dial a further number; returns when it is answered, then parked, or when it is not:
        ``leg.status`` says which. Checked as a task's request: ``trunk`` is a name of the setting
        ``channels``, ``caller_id`` one that the settings allow.

        Raises BadRequest, Hangup when this call is hung up meanwhile (the leg is, too).
        """
        return self._far().dial(number, timeout_s, caller_id, trunk)

    def dial_screened(
        self,
        number: str,
        *,
        timeout_s: float = 45.0,
        caller_id: str | None = None,
        trunk: str = "default",
        who_answered: bool = True,
    ) -> Leg:
        """As ``dial``, and listen before the answer: to tones, and to the carrier's announcement
        by its words. Where an answer is not needed any more the leg is hung up at once, before it
        could be paid for: ``leg.status`` is then ``screened``. ``leg.screening`` is the verdict.
        ``who_answered``: after the answer wait until it is told whether it is a person or a
        machine, some seconds at most; a fax is hung up.
        """
        return self._far().dial_screened(number, timeout_s, caller_id, trunk, who_answered)

    def bridge(self, leg: Leg, *, keep_after: bool = False) -> BridgeEnd:
        """Connect the caller with a parked leg until one of them hangs up; says who. Then the
        scenario goes on: with its caller when the leg ended it. ``keep_after``: when the caller
        ended it, the leg is parked again; else it is hung up. A leg that has hung up before
        has ended it.

        Raises BadRequest, Hangup when the caller was gone before, CommandTimeout.
        """
        return self._far().bridge(leg, keep_after)

    def transfer(
        self,
        number: str,
        *,
        timeout_s: float = 30.0,
        caller_id: str | None = None,
        trunk: str = "default",
    ) -> TransferEnd:
        """Connect the caller with a further number; he hears it ring. Returns when nobody answered,
        or when the talk of the two is over. Arguments as ``dial``'s; without ``caller_id`` the
        other side is shown the caller's own number, if the trunk lets it through.

        Raises BadRequest, Hangup when the caller hung up before an answer, CommandTimeout.
        """
        return self._far().transfer(number, timeout_s, caller_id, trunk)

    def conference(self, id: str) -> Conference:
        """The conference of that name, 1 to 64 letters, digits, ``_`` and ``-``; the same object
        each time. Nothing happens yet. Raises BadRequest."""
        return self._far().conference(id)

    def _far(self) -> OtherChannels:
        if self._others is None:
            raise BadRequest("leg", "has no other channels of its own: ask the call")
        self._dialogue.open_keys()
        return self._others

    # Underneath

    def _command(self, command: str, *args: object) -> Reply:
        self._dialogue.check_thread()
        return self._agi.command(command, *args, timeout_s=self._config.command_s)


def no_steps(info: CallInfo) -> StepLog:
    """Of a channel whose steps nobody keeps."""
    return StepLog(info.id, info.task_id, lambda _: None, lambda: 0)


__all__ = ["Call", "CallConfig", "CallInfo", "Recording"]
