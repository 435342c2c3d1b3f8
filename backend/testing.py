"""Trying a scenario without a telephone, from pytest: a call whose caller is simulated.

    def test_yes():
        call = FakeCall(say("Yes, please."))
        assert confirm(call) == {"coming": "Yes, please."}
        assert call.spoken[-1] == "Thank you, see you tomorrow."

What a scenario sees is the real ``Call`` with its turns, barge-in and keys; the line, the audio,
the speech services and the time below it are simulated: an hour of waiting costs milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from uuid import uuid4

from backend.call.backchannel import BackchannelBook
from backend.call.call import Call, CallConfig, CallInfo
from backend.call.dialogue import TalkConfig
from backend.call.keys import Keys
from backend.errors import BadRequest
from backend.model import Outcome, Reason, TaskState, Utterance
from backend.trying.ended import Ended, settle
from backend.trying.line import (
    Channel,
    SimulatedCallbacks,
    SimulatedDialogue,
    SimulatedEar,
    SimulatedPrompts,
    SimulatedSpeaker,
    Troubles,
)
from backend.trying.person import PATIENCE_S, Person, Surroundings, TalkLine
from backend.trying.script import (
    Do,
    Step,
    cough,
    do,
    hangup,
    press,
    say,
    silence,
    steps_of,
)
from backend.trying.world import World

MAX_CALL_S = 1800.0  # as DIALOG_MAX_S: the dialplan ends an endless talk

__all__ = [
    "Ended",
    "FakeCall",
    "TalkLine",
    "Troubles",
    "cough",
    "do",
    "hangup",
    "press",
    "say",
    "silence",
]


class FakeCall(Call):
    """A call whose caller does ``script``: steps (``say``, ``press``, ``silence``, ``cough``,
    ``hangup``, ``do``), or a text of them, one a line (docs/scenarios.md). ``says``: the same for
    the plain case, one answer for each of the robot's turns.

    The caller answers 0.7 s after the robot has ended its prompt; what he says while no ``hear``
    waits is not heard. After his last step he stays silent, and hangs up when nothing has happened
    for ``patience_s``.

    caller, called, direction, language, file, variables   what the scenario finds
    sounds           lengths of sound files in seconds, by name; others last 2 s
    results          what dialplan applications return, by name; others "0"
    troubles         what goes wrong: see ``Troubles``
    backchannel      words that are no answer (``barge_in="words"``): {"en": ["uh-huh"], …}

    Afterwards:

    talk             who said and did what, in order: ``TalkLine``
    spoken           what the robot said, prompt by prompt; a sound is its name in brackets
    applications     what ``execute`` ran: (name, arguments joined by commas)
    logged           what ``log`` was given: (event, fields)
    recordings       paths
    variables        the channel's
    left             steps that the caller did not come to
    now_s            the time since the call began
    hung_up_by       "caller", "robot", or None; ``cause``: Q.850
    ended, result    of ``run``
    """

    def __init__(
        self,
        *script: Step | str,
        says: Sequence[str] = (),
        caller: str = "79161234567",
        called: str = "74951234567",
        direction: Literal["inbound", "outbound"] = "inbound",
        language: str = "en-US",
        scenario: str = "tried",
        file: str | None = None,
        variables: Mapping[str, str] | None = None,
        sounds: Mapping[str, float] | None = None,
        results: Mapping[str, str] | None = None,
        troubles: Troubles | None = None,
        backchannel: Mapping[str, Sequence[str]] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.world = World()
        self.troubles = troubles or Troubles()
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.recordings: list[str] = []
        self.hung_up_by: Literal["caller", "robot"] | None = None
        self.cause: int | None = None
        self.ended: Ended | None = None
        self._talk: list[TalkLine] = []
        steps = _steps(script, says)
        channel = Channel(
            self.world,
            "Simulated/caller",
            self.troubles,
            dict(variables or {}),
            dict(results or {}),
            lambda cause: self._hang_up("robot", cause, ""),
        )
        self.ear = SimulatedEar(self.world, self.troubles, language, lambda _: None)
        keys = Keys(self.world.clock)
        self.person = Person(
            self.world,
            "caller",
            steps,
            Surroundings(
                self.ear,
                keys.press,
                lambda cause, why: self._hang_up("caller", cause, why),
                self._do,
                self._talk.append,
            ),
            patience_s=patience_s,
        )
        speaker = SimulatedSpeaker(self.world, channel, self._talk.append)
        speaker.listener = self.person
        dialogue = SimulatedDialogue(
            channel.name,
            TalkConfig(language, 30.0, 5.0, MAX_CALL_S, 1000, _book(backchannel)),
            channel,
            speaker,
            self.ear,
            keys,
            prompts=SimulatedPrompts(self.troubles, sounds or {}),
            on_spoken=_nothing,
            clock=self.world.clock,
        )
        dialogue.join(self.person, SimulatedCallbacks(self.ear))
        self._channel = channel
        super().__init__(
            CallInfo(
                id=uuid4(),
                task_id=uuid4() if direction == "outbound" else None,
                channel=channel.name,
                uniqueid="simulated.1",
                direction=direction,
                caller=caller,
                called=called,
                scenario=scenario,
                file=file,
                language=language,
            ),
            CallConfig(30.0, 5.0, MAX_CALL_S, "/recordings"),
            channel,
            dialogue,
            on_recording=self.recordings.append,
        )
        self.world.after(MAX_CALL_S, lambda: self._hang_up("caller", 16, "DIALOG_MAX_S is over"))
        self.person.begins()

    # What became of it

    @property
    def talk(self) -> list[TalkLine]:
        """Who said and did what, by its beginning."""
        missed = {(said.start_ms, said.text) for said in self.ear.missed}
        lines = [
            _missed(line) if line.what == "says" and (line.start_ms, line.text) in missed else line
            for line in self._talk
        ]
        return sorted(lines, key=lambda line: line.start_ms)

    @property
    def spoken(self) -> list[str]:
        """What the robot said to the caller, prompt by prompt."""
        return [line.text for line in self.talk if (line.who, line.what) == ("robot", "says")]

    @property
    def applications(self) -> list[tuple[str, str]]:
        return self._channel.applications

    @property
    def variables(self) -> dict[str, str]:
        return self._channel.variables

    @property
    def answered(self) -> bool:
        return self._channel.answered

    @property
    def left(self) -> tuple[Step, ...]:
        return self.person.left

    @property
    def now_s(self) -> float:
        return self.world.now_s

    @property
    def result(self) -> Any:
        """What the scenario returned to ``run``."""
        return self.ended.result if self.ended is not None else None

    def run(self, scenario: Callable[[Call], Any]) -> Ended:
        """Run it as the runtime does: whatever it raises is an ending."""
        try:
            result = scenario(self)
            json.dumps(result, allow_nan=False)
            self.ended = Ended(Outcome(TaskState.DONE, Reason.COMPLETED), result)
        except (Exception, SystemExit) as raised:  # noqa: BLE001  a call begins and ends here
            self.ended = settle(raised, by_robot=self.hung_up)
        self.close()
        return self.ended

    def close(self) -> None:
        """The scenario has ended; ``run`` does this."""
        self._dialogue.close()
        self.ear.close(0)
        self.person.goes()

    # Of the call

    def log(self, event: str, **fields: object) -> None:
        """Kept in ``logged``, too."""
        self.logged.append((event, fields))
        super().log(event, **fields)

    # Underneath

    def _do(self, step: Do) -> object:
        return step.function(self)

    def _hang_up(self, by: Literal["caller", "robot"], cause: int, why: str) -> None:
        if self._channel.over:
            return
        self._channel.over = True
        self.hung_up_by, self.cause = by, cause
        now_ms = self.world.now_ms
        text = f"cause {cause}" if cause != 16 else ""
        self._talk.append(TalkLine(by, "hangs up", text, now_ms, now_ms, why))
        self.person.goes()
        self.ear.poke()


def _steps(script: Sequence[Step | str], says: Sequence[str]) -> tuple[Step, ...]:
    if isinstance(says, str):
        raise BadRequest("says", f"{says!r:.80}: expected a list of texts")
    steps: list[Step] = []
    for item in script:
        steps += steps_of(item) if isinstance(item, str) else steps_of([item])
    return (*steps, *(say(text) for text in says))


def _book(lists: Mapping[str, Sequence[str]] | None) -> BackchannelBook:
    return BackchannelBook(lists or {})


def _missed(line: TalkLine) -> TalkLine:
    note = "not heard: no hear was waiting"
    return TalkLine(line.who, line.what, line.text, line.start_ms, line.end_ms, note)


def _nothing(_: Utterance) -> None:
    """The speaker tells what is said."""
