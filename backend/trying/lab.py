"""The same script on a real Asterisk: the lab of the source tree (asterisk/lab), whose subscriber
says the caller's words by a synthesised voice over SIP and RTP."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from backend.errors import BadRequest, DialogError
from backend.model import CallStep, Outcome, Reason, TaskState
from backend.trying.ended import Ended
from backend.trying.load import files_of
from backend.trying.others import ANSWERED, Dialled
from backend.trying.person import TalkLine
from backend.trying.room import Seat
from backend.trying.script import Cough, HangUp, Moment, Press, Say, Silence, Step, text_of

LAB = Path(__file__).parents[2] / "asterisk" / "lab"
NUMBER = "1500001"
GUESTS = "15077"  # and two digits: those in conferences
CALL_S = 600.0


class LabCall:
    """A call that the lab has made; what ``asterisk-dialog try`` prints of it.

    Raises DialogError where there is no lab, or it does not start (needs root); BadRequest for a
    step that its subscriber cannot do."""

    def __init__(
        self,
        path: Path,
        scenario: str,
        steps: Sequence[Step],
        *,
        asterisk: str,
        file: str | None = None,
        variables: Mapping[str, str],
        config: Mapping[str, Any],
        dials: Mapping[str, Dialled],
        conferences: Mapping[str, Sequence[Seat]],
    ) -> None:
        if not LAB.is_dir():
            raise DialogError("--lab: the lab is in the source tree, and this is an installation")
        if str(LAB) not in sys.path:
            sys.path.insert(0, str(LAB))
        self._scripts = {NUMBER: lab_steps(steps)}
        for number, plan in dials.items():
            self._scripts[number] = _dialled_steps(number, plan)
        self._guests: list[tuple[str, str]] = []  # number, conference
        for room, seats in conferences.items():
            for seat in seats:
                number = f"{GUESTS}{len(self._guests):02}"
                self._guests.append((number, room))
                # The first prompt that he hears is conference-guest's own.
                self._scripts[number] = lab_steps([Silence(), *seat.steps])
        self._config = json.dumps(dict(config), ensure_ascii=False)
        self._path = path
        self._scenario = scenario
        self._asterisk = asterisk
        self._query = {f"var_{name}": value for name, value in variables.items()}
        if file is not None:
            self._query["file"] = file
        self.now_s = 0.0
        self.talk: list[TalkLine] = []
        self.recordings: list[str] = []
        self.steps: Sequence[CallStep] = ()  # its backend keeps them
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.left: tuple[Step, ...] = ()

    def run(self) -> Ended:
        """Start the lab, make the call, stop the lab."""
        lab_error = importlib.import_module("lab_config").LabError
        folder = Path(tempfile.mkdtemp(prefix="asterisk-dialog-try-"))
        try:
            return self._run_in(folder)
        except lab_error as error:
            raise DialogError(f"the lab: {error}") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run_in(self, folder: Path) -> Ended:
        stack_class = importlib.import_module("stack").Stack
        script = importlib.import_module("lab_script")
        scenarios = folder / "scenarios"
        scenarios.mkdir()
        for file in files_of(self._path.resolve()):
            shutil.copy(file, scenarios)
        names = [key.removeprefix("var_") for key in self._query if key.startswith("var_")]
        env = {
            "DIALOG_SCENARIOS_DIR": str(scenarios),
            "DIALOG_SPEECH_LOCAL_PHRASES": ",".join(phrases(chain(*self._scripts.values()))),
            "DIALOG_SCENARIO_CONFIG": self._config,
            "DIALOG_VARIABLES": ",".join(dict.fromkeys([*names, "room"])),
        }
        with stack_class(folder / "stack", env=env, asterisk=self._asterisk) as stack:
            for number, steps in self._scripts.items():
                script.write_script(stack.lab, number, [script.LabStep(*step) for step in steps])
            for number, room in self._guests:
                stack.originate(number, scenario="conference-guest", var_room=room)
            task = stack.originate(NUMBER, scenario=self._scenario, **self._query)
            task = stack.ended(task["id"], CALL_S)
            log = stack.log_path.read_text(errors="replace")
        return self._ended(task, log, scenarios)

    def _ended(self, task: Mapping[str, Any], log: str, scenarios: Path) -> Ended:
        self.talk = [
            TalkLine(line["speaker"], "says", line["text"], line["start_ms"], line["end_ms"])
            for line in task["transcript"]
        ]
        self.now_s = max((line.end_ms for line in self.talk), default=0) / 1000
        if task["recording"]:
            self.recordings = [task["recording"]]
        outcome = Outcome(TaskState(task["state"]), Reason(task["reason"]))
        error = task["error"]
        if error is not None:
            error += _line(log, scenarios, self._path)
        return Ended(outcome, task["result"], error)


def _line(log: str, scenarios: Path, path: Path) -> str:
    """Where in the scenario's files it was raised, as the backend's log says."""
    found = re.findall(rf'File "{re.escape(str(scenarios))}/([^"]+)", line (\d+)', log)
    if not found:
        return ""
    name, line = found[-1]
    return f" ({path.with_name(name)}:{line})"


def lab_steps(steps: Sequence[Step]) -> list[tuple[str, float, str, str]]:
    """The steps as lab_script.LabStep has them. Raises BadRequest."""
    found: list[tuple[str, float, str, str]] = []
    for before, step in zip([None, *steps], steps, strict=False):
        moment = step.moment
        if isinstance(before, Silence) and before.for_s is not None and moment.when == "after":
            moment = Moment("then", moment.delay_s)  # in the turn in which he was silent
        verb, what = _verb(replace(step, moment=moment))
        found.append((moment.when, moment.delay_s, verb, what))
    return found


def _verb(step: Step) -> tuple[str, str]:
    if isinstance(step, Say):
        if not step.text.isascii():
            raise BadRequest("script", f"{text_of(step)[:80]!r}: the lab speaks English only")
        return "say", step.text
    if isinstance(step, Press):
        return "press", step.keys
    if isinstance(step, Silence):
        return "silence", "" if step.for_s is None else f"{step.for_s:g}"
    if isinstance(step, Cough):
        return "cough", ""
    if isinstance(step, HangUp):
        return "hangup", str(step.cause)
    raise BadRequest("script", f"{text_of(step)[:80]!r}: the lab cannot do that")


def _dialled_steps(number: str, plan: Dialled) -> list[tuple[str, float, str, str]]:
    if not number.startswith("150") or plan.status != ANSWERED or plan.hears is not None:
        raise BadRequest(
            "--dial",
            f"{number}: in the lab a number of 150 and more digits, and what he does who answers; "
            "for busy and the like dial the numbers that asterisk/lab/README.md lists",
        )
    return lab_steps(plan.steps)


def phrases(steps: Iterable[tuple[str, float, str, str]]) -> list[str]:
    """What the lab's recogniser should know: it has a small grammar."""
    said = (what for _, _, verb, what in steps if verb == "say")
    plain = (" ".join(re.sub(r"[^\w' ]", " ", text.lower()).split()) for text in said)
    return [phrase for phrase in dict.fromkeys(plain) if phrase]
