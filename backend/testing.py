"""Trying a scenario without a telephone, from pytest: a call whose caller is simulated.

    def test_yes():
        call = FakeCall(say("Yes, please."))
        assert confirm(call) == {"coming": "Yes, please."}
        assert call.spoken[-1] == "Thank you, see you tomorrow."

What a scenario sees is the real ``Call`` with its turns, barge-in and keys; the line, the audio,
the speech services and the time below it are simulated: an hour of waiting costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal
from uuid import uuid4

from backend.call import backchannel as backchannel_lists
from backend.call.backchannel import BackchannelBook
from backend.call.call import Call, CallConfig, CallInfo
from backend.call.ending import COMPLETED, checked, outcome_of
from backend.call.legs import Leg
from backend.call.memory_store import MemoryStore
from backend.call.scenario import ScenarioFunction
from backend.call.shared import Shared
from backend.call.steps import StepLog
from backend.dialing.policy import Rules
from backend.errors import BadRequest
from backend.model import CallStep, Task, TaskRequest
from backend.ports import HttpDoor, HttpRequest, KeyValues
from backend.trying.channel import Troubles
from backend.trying.ended import Ended
from backend.trying.flows import flow_of
from backend.trying.others import Dialled, SimulatedOthers, dialled, joined
from backend.trying.person import PATIENCE_S, TalkLine
from backend.trying.room import Room, Seat
from backend.trying.script import Do, Step, cough, do, hangup, press, say, silence
from backend.trying.side import COMMAND_S, MAX_CALL_S, RECOGNITION_S, Setting, open_side
from backend.trying.tasks import TaskList
from backend.trying.web import SimulatedHttp
from backend.trying.world import World

__all__ = [
    "Dialled",
    "Ended",
    "FakeCall",
    "Room",
    "Seat",
    "Step",
    "TalkLine",
    "Troubles",
    "cough",
    "dialled",
    "do",
    "flow_of",
    "hangup",
    "participant",
    "press",
    "say",
    "silence",
]


def participant(name: str, *script: Step | str, number: str = "", comes_s: float = 0.0) -> Seat:
    """Somebody in a conference, for ``FakeCall(conferences={"room": [participant("Anna", …)]})``.
    He does his steps as the caller does his: a prompt that he hears, or a ``hear`` of the
    conference, is his turn. ``comes_s``: he comes so long after the scenario first has to do with
    the conference."""
    if not name or not 0 <= comes_s <= 3600:
        raise BadRequest("participant", f"{name!r}, {comes_s!r}: a name, and 0 to 3600 seconds")
    return Seat(name, joined(script), number, comes_s)


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
    backchannel      words that are no answer (``barge_in="words"``), instead of the backend's own
                     lists: {"en": ["uh-huh"], …}
    config           ``call.config``
    values           what ``call.store`` stands on: give one MemoryStore to several calls
    rules            what may be dialled and handed in, as the settings say (dialing.policy.Rules)
    dials            what becomes of a number: ``dialled(…)``, or a status such as "busy"; "*": of
                     all others, which else are answered by somebody who is silent
    conferences      who is in a conference, by its id: a list of ``participant(…)``, or a ``Room``
    scenarios        what ``call.run_flow`` and flows may enter, by name: functions, ``flow_of(…)``
    http             what other systems answer to a flow: see ``trying.web.SimulatedHttp``

    Afterwards:

    talk             who said and did what, in order: ``TalkLine``
    spoken           what the robot said to the caller, prompt by prompt; a sound is its name in
                     brackets; ``spoken_to(who)``: to a leg's number, to a participant's name
    applications     what ``execute`` ran: (name, arguments joined by commas)
    logged           what ``log`` was given: (event, fields)
    recordings       paths
    legs             every leg that was dialled, transfers' too
    originated       what ``originate`` handed in: TaskRequest
    variables        the channel's
    left             steps that the caller did not come to
    steps            CallStep: what the keys' guard and flows did, in order
    requests         what flows asked other systems: HttpRequest
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
        config: Mapping[str, Any] | None = None,
        values: KeyValues | None = None,
        rules: Rules | None = None,
        dials: Mapping[str, Dialled | str] | None = None,
        conferences: Mapping[str, Sequence[Seat] | Room] | None = None,
        scenarios: Mapping[str, ScenarioFunction] | None = None,
        http: Mapping[str, Any] | HttpDoor | None = None,
    ) -> None:
        self.world = World()
        self.troubles = troubles or Troubles()
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.recordings: list[str] = []
        self.steps: list[CallStep] = []
        self.hung_up_by: Literal["caller", "robot"] | None = None
        self.cause: int | None = None
        self.ended: Ended | None = None
        self._lost = False
        self._talk: list[TalkLine] = []
        setting = Setting(
            self.world,
            self.troubles,
            language,
            self._do,
            self._talk.append,
            dict(sounds or {}),
            own_backchannel() if backchannel is None else BackchannelBook(backchannel),
            patience_s,
        )
        self._http: HttpDoor
        if http is None or isinstance(http, Mapping):
            self._http = SimulatedHttp(http)
        else:
            self._http = http
        info = CallInfo(
            id=uuid4(),
            task_id=uuid4() if direction == "outbound" else None,
            channel="Simulated/caller",
            uniqueid="simulated",
            direction=direction,
            caller=caller,
            called=called,
            scenario=scenario,
            file=file,
            language=language,
        )
        steps = StepLog(info.id, info.task_id, self.steps.append, lambda: self.world.now_ms)
        self._side = open_side(
            setting,
            "caller",
            (*joined(script), *_said(says)),
            on_caller_hangup=lambda cause, why: self._hang_up("caller", cause, why),
            on_robot_hangup=lambda cause: self._hang_up("robot", cause, ""),
            variables=variables,
            results=results,
            steps=steps,
        )
        self._side.channel.answered = direction == "outbound"
        self._desk = TaskList()
        rules = rules or Rules(caller_ids=("*",))
        super().__init__(
            info,
            CallConfig(COMMAND_S, RECOGNITION_S, MAX_CALL_S, "/recordings"),
            self._side.channel,
            self._side.dialogue,
            on_recording=self.recordings.append,
            shared=Shared(
                values if values is not None else MemoryStore(self.world.clock),
                dict(config or {}),
                rules,
                self._desk,
                self._http,
            ),
            step_log=steps,
        )
        self._far_side = SimulatedOthers(
            setting, self._side, info, rules, _dials(dials), _rooms(conferences)
        )
        self.join_others(self._far_side)
        self.entering.know(scenarios or {})
        self.world.after(MAX_CALL_S, lambda: self._hang_up("caller", 16, "DIALOG_MAX_S is over"))
        self._side.person.begins()

    # What became of it

    @property
    def talk(self) -> list[TalkLine]:
        """Who said and did what, by its beginning."""
        missed = {(said.start_ms, said.text) for said in self._side.ear.missed}
        stopped = [
            step for step in self.steps if step.body.get("verdict") in ("blocked", "conflict")
        ]
        lines = [
            _missed(line) if line.what == "says" and (line.start_ms, line.text) in missed else line
            for line in self._talk
        ]
        lines = [_blocked(line, stopped) if line.what == "presses" else line for line in lines]
        return sorted(lines, key=lambda line: line.start_ms)

    @property
    def spoken(self) -> list[str]:
        """What the robot said to the caller, prompt by prompt."""
        return self.spoken_to("caller")

    def spoken_to(self, who: str) -> list[str]:
        """What the robot said to the caller, to a leg (its number), to a participant (his name)."""
        said = [line for line in self.talk if (line.who, line.what) == ("robot", "says")]
        return [line.text for line in said if who in line.to.split(", ")]

    @property
    def applications(self) -> list[tuple[str, str]]:
        return self._side.channel.applications

    @property
    def variables(self) -> dict[str, str]:
        return self._side.channel.variables

    @property
    def legs(self) -> list[Leg]:
        """Every leg that was dialled, transfers' too, in order."""
        return list(self._far_side.every)

    @property
    def originated(self) -> list[TaskRequest]:
        """What was handed in by ``originate``."""
        return [task.request for task in self._desk.tasks]

    @property
    def requests(self) -> list[HttpRequest]:
        """What flows asked other systems; with an HttpDoor of your own: what it tells."""
        return list(getattr(self._http, "requests", []))

    @property
    def tasks(self) -> list[Task]:
        return list(self._desk.tasks)

    @property
    def answered(self) -> bool:
        return self._side.channel.answered

    @property
    def left(self) -> tuple[Step, ...]:
        return self._side.person.left

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
            self.ended = Ended(COMPLETED, checked(scenario(self)))
        except (Exception, SystemExit) as raised:  # noqa: BLE001  a call begins and ends here
            outcome, error = outcome_of(raised, by_robot=self.hung_up, lost=self._lost)
            self.ended = Ended(outcome, None, error, raised)
        self.close()
        return self.ended

    def close(self) -> None:
        """The scenario has ended: seats are left, legs hung up. ``run`` does this."""
        self._far_side.close()
        self._side.close()

    def lose_asterisk(self) -> None:
        """The connection to Asterisk breaks, as when it dies: for a ``do`` step."""
        if not self._side.channel.over:
            self._lost = True
            now_ms = self.world.now_ms
            self._talk.append(TalkLine("Asterisk", "does", "is lost", now_ms, now_ms))
            self._side.over()

    # Of the call

    def log(self, event: str, **fields: object) -> None:
        """Kept in ``logged``, too."""
        self.logged.append((event, fields))
        super().log(event, **fields)

    # Underneath

    def _do(self, step: Do) -> object:
        with self._side.callbacks.another_thread():
            return step.function(self)

    def _hang_up(self, by: Literal["caller", "robot"], cause: int, why: str) -> None:
        if self._side.channel.over:
            return
        self.hung_up_by, self.cause = by, cause
        now_ms = self.world.now_ms
        text = f"cause {cause}" if cause != 16 else ""
        self._talk.append(TalkLine(by, "hangs up", text, now_ms, now_ms, why))
        self._side.over()


@cache
def own_backchannel() -> BackchannelBook:
    """The lists that a backend has without the setting backchannel_file."""
    return backchannel_lists.load()


def _said(says: Sequence[str]) -> list[Step]:
    if isinstance(says, str):
        raise BadRequest("says", f"{says!r:.80}: expected a list of texts")
    return [say(text) for text in says]


def _dials(dials: Mapping[str, Dialled | str] | None) -> dict[str, Dialled]:
    """A text is a status: "busy"."""
    found = (dials or {}).items()
    return {n: dialled(status=plan) if isinstance(plan, str) else plan for n, plan in found}


def _rooms(rooms: Mapping[str, Sequence[Seat] | Room] | None) -> dict[str, Room]:
    found = (rooms or {}).items()
    return {name: one if isinstance(one, Room) else Room(tuple(one)) for name, one in found}


def _blocked(line: TalkLine, stopped: Sequence[CallStep]) -> TalkLine:
    """Which of the keys were kept from a prompt."""
    keys = [step.body["key"] for step in stopped if line.start_ms <= step.at_ms <= line.end_ms]
    return replace(line, note=f"blocked: {''.join(keys)}") if keys else line


def _missed(line: TalkLine) -> TalkLine:
    note = "not heard: no hear was waiting"
    return TalkLine(line.who, line.what, line.text, line.start_ms, line.end_ms, note)
