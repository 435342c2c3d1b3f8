"""The scenario's view of a call."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Any, Literal, Protocol
from uuid import UUID

from backend.call.ear import CallEar
from backend.call.playback import Played, PlayEnd
from backend.call.recording import Recording, Recordings
from backend.call.shared import Shared, TaskHandle
from backend.call.speaker import Speaker
from backend.call.store import Store
from backend.errors import BadRequest, CommandRefused, Hangup, RecognitionUnavailable
from backend.model import Utterance, Word
from backend.ports import Prompts
from backend.protocol.agi import Reply

log = logging.getLogger(__name__)

HANGUP_POLL_S = 0.2  # Asterisk tells of a hangup on the AGI connection; nobody reads it meanwhile
STREAM_S = 3.0  # the fork connects within this, or there is nothing to recognise
MAX_UTTERANCE_S = 60.0
NO_RESULT_APP = "-2"  # EXEC: no such application (res_agi.c, handle_exec)


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound file by its name, no extension: the backend's own, in ``sounds_dir``, or else
    Asterisk's, relative to its sounds folder."""

    name: str


Prompt = str | Sound  # a plain string is text to synthesise


class HearStatus(StrEnum):
    """How a turn ended."""

    RECOGNIZED = "recognized"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Heard:
    """What ``hear`` returns. Times in ms of the call's audio; text is empty on timeout."""

    status: HearStatus
    text: str = ""
    confidence: float | None = None
    language: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    words: tuple[Word, ...] = ()
    prompt: Played | None = None

    @property
    def recognized(self) -> bool:
        return self.status is HearStatus.RECOGNIZED


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


class Agi(Protocol):
    """The AGI session as the call needs it: agi_server.ThreadedAgi."""

    def command(self, command: str, *args: object, timeout_s: float) -> Reply: ...
    def poll_hangup(self) -> None: ...


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
        speaker: Speaker,
        ear: CallEar,
        *,
        prompts: Prompts,
        on_spoken: Callable[[Utterance], None],
        on_recording: Callable[[str], None],
        shared: Shared | None = None,
    ) -> None:
        self.info = info
        self._shared = shared or Shared()
        self._settings: dict[str, Any] | None = None
        self._config = config
        self._agi = agi
        self._speaker = speaker
        self._ear = ear
        self._prompts = prompts
        self._on_spoken = on_spoken
        self._recordings = Recordings(
            self._execute,
            self.get_variable,
            folder=config.recordings_dir,
            url=config.recordings_url,
            default_name=str(info.id),
            on_start=on_recording,
        )
        self._ends_at = monotonic() + config.max_call_s
        self._answered = False
        self.hung_up = False  # by the scenario itself

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
            self._ear.listen()
        if settle_s > 0:
            self.wait(settle_s)

    def hangup(self) -> None:
        """End the call. The next command raises Hangup, but the talk came to its end."""
        self.hung_up = True
        self._command("HANGUP")

    def wait(self, duration_s: float) -> None:
        """Do nothing for a while; raises Hangup as soon as the other side hangs up."""
        ends = monotonic() + duration_s
        while (left := ends - monotonic()) > 0:
            seen = self._ear.changes
            self._agi.poll_hangup()
            self._ear.wait(seen, min(left, HANGUP_POLL_S))
        self._agi.poll_hangup()

    def execute(self, application: str, *arguments: object) -> str:
        """Run a dialplan application; returns its AGI result. Raises BadRequest for a name or
        argument that cannot be sent, CommandRefused when there is no such application."""
        if not re.fullmatch(r"\w{1,64}", application):
            raise BadRequest("application", f"{application[:80]!r} is no application's name")
        texts = [str(argument) for argument in arguments]
        if bad := next((text for text in texts if "," in text or "${" in text), None):
            raise BadRequest("argument", f"{bad[:80]!r}: ',' and '${{' would change the command")
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

    def speak(self, prompt: Prompt) -> Played:
        """Play a text or a Sound to its end.

        Raises SynthesisUnavailable, CommandRefused when Asterisk has no such sound, BadRequest
        when the backend's own cannot be played.
        """
        return self._play(prompt)

    def _play(self, prompt: Prompt) -> Played:
        if isinstance(prompt, Sound):
            sound, text = self._prompts.sound(prompt.name), f"[{prompt.name}]"
        else:
            sound, text = self._prompts.text(prompt, self.language), prompt
        start_ms = self._ear.position_ms
        try:
            played = self._speaker.play(sound, timeout_s=self._left_s())
        except Hangup:  # what was heard of it is in the transcript all the same
            self._on_spoken(Utterance("robot", text, start_ms, self._ear.position_ms))
            raise
        self._on_spoken(Utterance("robot", text, start_ms, start_ms + played.end_ms))
        return played

    # Hearing

    def hear(
        self,
        prompt: Prompt | None = None,
        *,
        timeout_s: float = 10.0,
        barge_in: Literal["voice", "off"] = "voice",
    ) -> Heard:
        """One turn: play the prompt, listen from its start, return at the utterance's end.

        ``timeout_s``: how long to wait for speech, from the prompt's end. ``barge_in="voice"``:
        speech stops the prompt. What was said before ``hear`` began does not count; what is being
        said when it begins does. A noise without words counts as nothing said.

        Raises RecognitionUnavailable when the recogniser or the fork fails, never waits for ever.
        """
        if timeout_s <= 0:
            raise BadRequest("timeout_s", f"{timeout_s!r}: expected seconds, more than 0")
        if barge_in not in ("voice", "off"):
            raise BadRequest("barge_in", f"{barge_in!r}: expected 'voice' or 'off'")
        self._ear.listen()
        since_ms = self._ear.position_ms
        played = None
        if prompt is not None:
            played = self._play_over(prompt, interruptible=barge_in == "voice")
        utterance = self._await_utterance(since_ms, timeout_s)
        if utterance is None:
            return Heard(HearStatus.TIMEOUT, prompt=played)
        return Heard(
            HearStatus.RECOGNIZED,
            utterance.text,
            utterance.confidence,
            utterance.language,
            utterance.start_ms,
            utterance.end_ms,
            utterance.words,
            played,
        )

    def _play_over(self, prompt: Prompt, *, interruptible: bool) -> Played:
        if interruptible:
            self._ear.on_voice(self._speaker.stop)
        try:
            return self._play(prompt)
        finally:
            self._ear.on_voice(None)

    def _await_utterance(self, since_ms: int, timeout_s: float) -> Utterance | None:
        began = monotonic()
        quiet_until = began + timeout_s  # no speech by then: timeout
        spoken_since: float | None = None
        while True:
            seen = self._ear.changes  # before looking: what comes meanwhile ends the wait
            self._agi.poll_hangup()
            if (utterance := self._ear.take(since_ms)) is not None:
                return utterance
            self._check_recognition(began)
            now = monotonic()
            if self._ear.speaking:
                spoken_since = spoken_since or now
                if now - spoken_since > MAX_UTTERANCE_S:
                    self._ear.end_utterance()
                    spoken_since = now
            else:
                spoken_since = None
                if self._ear.owed_s() is None and now >= quiet_until:
                    return self._ear.take(since_ms)
            left = quiet_until - now
            self._ear.wait(seen, min(left, HANGUP_POLL_S) if left > 0 else HANGUP_POLL_S)

    def _check_recognition(self, began: float) -> None:
        if self._ear.failure is not None:
            raise RecognitionUnavailable(self._ear.failure)
        owed_s = self._ear.owed_s() if self._ear.own_end else None
        if owed_s is not None and owed_s > self._config.recognition_s:
            raise RecognitionUnavailable(
                f"no result within {self._config.recognition_s:g} s of the utterance's end"
            )
        if not self._ear.connected and monotonic() - began > STREAM_S:
            raise RecognitionUnavailable(
                f"no audio stream from Asterisk within {STREAM_S:g} s: is app_audiofork loaded, "
                "and can Asterisk reach the frame sink (asterisk-dialog doctor)?"
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

    # Underneath

    def _left_s(self) -> float:
        return max(self._ends_at - monotonic(), 0.0) + self._config.command_s

    def _command(self, command: str, *args: object) -> Reply:
        return self._agi.command(command, *args, timeout_s=self._config.command_s)


__all__ = ["Call", "CallConfig", "CallInfo", "HearStatus", "Heard", "PlayEnd", "Recording", "Sound"]
