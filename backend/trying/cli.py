"""``asterisk-dialog try``: a scenario against a caller who is simulated, or the lab's."""

from __future__ import annotations

import argparse
import json
import logging
import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from backend import config
from backend.errors import BadRequest
from backend.model import CallStep, Reason, TaskState
from backend.outgoing import Outgoing
from backend.testing import FakeCall, Seat, TalkLine, participant
from backend.trying.ended import Ended
from backend.trying.lab import LabCall
from backend.trying.load import load
from backend.trying.others import parse_dialled
from backend.trying.script import parse, parse_step, text_of
from backend.trying.web import SimulatedHttp

# Exit codes; 2 is wrong usage.
DONE, ERROR, HUNG_UP, NO_SPEECH = 0, 1, 3, 4
_CODES = {
    Reason.COMPLETED: DONE,
    Reason.CALLER_HANGUP: HUNG_UP,
    Reason.RECOGNITION_UNAVAILABLE: NO_SPEECH,
    Reason.SYNTHESIS_UNAVAILABLE: NO_SPEECH,
}

HELP = "Run a scenario against a simulated caller, without Asterisk, and print the talk."
EPILOG = """\
What the caller does, in this order, one step for each of the robot's turns; without any he is
silent. --over, --after and --then are for the step behind them. The same as a text, one step a
line, is read by --script: "say yes", "over 1.5 say stop", "press 1", "silence", "hangup".

exit code: 0 the scenario returned, or hung up itself; 1 it raised, or cannot be loaded; 2 wrong
usage; 3 the caller hung up and the scenario let that through; 4 recognition or synthesis failed
"""


Tried = FakeCall | LabCall


class _StepAction(argparse.Action):
    """A step, with the moment that stands before it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        rest = " ".join(values.split()) if isinstance(values, str) else ""
        line = f"{namespace.moment or ''} {self.dest} {rest}"
        namespace.moment = None
        try:
            namespace.steps = [*namespace.steps, parse_step(line)]
        except BadRequest as error:
            parser.error(f"{option_string}: {error.why}")


class _MomentAction(argparse.Action):
    """When the next step is done."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if namespace.moment is not None:
            parser.error(f"{option_string}: a step must stand between it and the one before")
        namespace.moment = f"{self.dest} {values or ''}".strip()


class _ScriptAction(argparse.Action):
    """Steps from a file."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        try:
            steps = parse(Path(str(values)).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, BadRequest) as error:
            parser.error(f"{option_string} {values}: {error}")
        namespace.steps = [*namespace.steps, *steps]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.set_defaults(steps=[], moment=None, usage_error=parser.error)
    parser.add_argument("file", help="the scenario's file, or the name of a ready scenario")
    parser.add_argument("--scenario", metavar="NAME", help="where the file has several")
    caller = parser.add_argument_group("what the caller does")
    caller.add_argument("--say", metavar="TEXT", action=_StepAction)
    caller.add_argument("--press", metavar="KEYS", action=_StepAction)
    caller.add_argument("--silence", metavar="S", nargs="?", action=_StepAction)
    caller.add_argument("--cough", nargs=0, action=_StepAction)
    caller.add_argument("--hangup", metavar="CAUSE", nargs="?", action=_StepAction)
    caller.add_argument("--over", metavar="S", nargs="?", action=_MomentAction)
    caller.add_argument("--after", metavar="S", action=_MomentAction)
    caller.add_argument("--then", metavar="S", nargs="?", action=_MomentAction)
    caller.add_argument("--script", metavar="FILE", action=_ScriptAction)
    call = parser.add_argument_group("what the scenario finds")
    call.add_argument("--language", metavar="TAG", help="as the setting speech_language")
    call.add_argument("--caller", metavar="NUMBER")
    call.add_argument("--called", metavar="NUMBER")
    call.add_argument("--outbound", action="store_true", help="the call is a task's")
    call.add_argument("--sound", metavar="NAME", help="the sound that the task names (call.file)")
    call.add_argument("--variable", metavar="NAME=VALUE", action="append", default=[])
    call.add_argument("--config-value", metavar="NAME=JSON", action="append", default=[])
    others = parser.add_argument_group("whom it meets")
    others.add_argument(
        "--dial",
        metavar="NUMBER=WHAT",
        action="append",
        default=[],
        help='what becomes of a number: "busy", "no_answer", …, or what who answers does: '
        '"say yes; hangup"; "hears switched_off" for dial_screened; NUMBER * is all others',
    )
    others.add_argument(
        "--participant",
        metavar="ROOM/NAME=STEPS",
        action="append",
        default=[],
        help='somebody in a conference: "meeting/Anna=say hello; hangup"',
    )
    others.add_argument(
        "--http",
        metavar="REQUEST=ANSWER",
        action="append",
        default=[],
        help="what another system answers to a flow: 'GET http://1c/orders={\"sum\": 5}', or a "
        "status, timeout, away; else those of flow_http_hosts are really asked",
    )
    parser.add_argument(
        "--lab",
        nargs="?",
        const="16",
        choices=["16", "22"],
        help="call the lab's subscriber instead, on a real Asterisk (source tree, root)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def run(options: argparse.Namespace) -> int:
    """The command. Returns the exit code; raises ScenarioError for what cannot be loaded."""
    if options.moment is not None:
        options.usage_error(f"--{options.moment}: no step stands behind it")
    path, name, function = load(options.file, options.scenario)
    logging.getLogger("backend").addHandler(logging.NullHandler())
    began = perf_counter()
    call = _call(options, path, name)
    ended = call.run() if isinstance(call, LabCall) else call.run(function)
    took_ms = (perf_counter() - began) * 1000
    if options.json:
        print(json.dumps(_as_json(call, ended), ensure_ascii=False, indent=2))
    else:
        print(f"{name} ({path}), tried in {took_ms:.0f} ms")
        for line in report(call, ended, path):
            print(line)
    return _CODES.get(ended.outcome.reason, ERROR)


def _call(options: argparse.Namespace, path: Path, name: str) -> Tried:
    try:
        if options.lab is not None:
            return _lab_call(options, path, name)
        return _fake_call(options, name)
    except BadRequest as error:
        options.usage_error(str(error))
        raise  # it has left the program


def _fake_call(options: argparse.Namespace, name: str) -> FakeCall:
    settings = _settings(options.config)
    return FakeCall(
        *options.steps,
        caller=options.caller or "79161234567",
        called=options.called or "74951234567",
        direction="outbound" if options.outbound else "inbound",
        language=options.language or settings.get("speech_language", "en-US"),
        scenario=name,
        file=options.sound,
        variables=_pairs("--variable", options.variable),
        config={**settings.get("scenario_config", {}), **_config(options.config_value)},
        dials={n: parse_dialled(what) for n, what in _pairs("--dial", options.dial).items()},
        conferences=_conferences(options.participant),
        http=SimulatedHttp(
            _answers(options.http),
            Outgoing.of(config.load(options.config)) if options.config else None,
        ),
    )


def _answers(pairs: Sequence[str]) -> dict[str, Any]:
    """An address may have '=' in it: an answer begins with a bracket, or behind the last one."""
    found = {}
    for pair in pairs:
        at = re.search(r"=(?=[{\[])|=(?=[^=]*$)", pair)
        if at is None:
            raise BadRequest("--http", f"{pair[:80]!r}: expected REQUEST=ANSWER")
        found[pair[: at.start()]] = _json(pair[at.end() :])
    return found


def _settings(file: str | None) -> dict[str, Any]:
    """What of a settings file, where one is named, a scenario can see."""
    if file is None:
        return {}
    settings = config.load(file)
    return {name: getattr(settings, name) for name in ("speech_language", "scenario_config")}


def _lab_call(options: argparse.Namespace, path: Path, name: str) -> LabCall:
    """The lab's call is an outbound one, in English, with numbers of its own."""
    for option in ("language", "caller", "called"):
        if getattr(options, option) is not None:
            raise BadRequest(f"--{option}", "is the lab's own, and cannot be chosen with --lab")
    if options.http:
        raise BadRequest("--http", "goes not with --lab: there systems are really asked")
    return LabCall(
        path,
        name,
        options.steps,
        asterisk=options.lab,
        file=options.sound,
        variables=_pairs("--variable", options.variable),
        config=_config(options.config_value),
        dials={n: parse_dialled(what) for n, what in _pairs("--dial", options.dial).items()},
        conferences=_conferences(options.participant),
    )


def _pairs(option: str, pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadRequest(option, f"{pair[:80]!r}: expected NAME=VALUE")
        found[name] = value
    return found


def _config(pairs: Sequence[str]) -> dict[str, Any]:
    return {name: _json(text) for name, text in _pairs("--config-value", pairs).items()}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # a plain text needs no quotes


def _conferences(pairs: Sequence[str]) -> dict[str, list[Seat]]:
    found: dict[str, list[Seat]] = {}
    for where, steps in _pairs("--participant", pairs).items():
        room, slash, name = where.partition("/")
        if not slash:
            raise BadRequest("--participant", f"{where[:80]!r}: expected ROOM/NAME=STEPS")
        seat = participant(name, *(step for step in steps.split(";") if step.strip()))
        found.setdefault(room, []).append(seat)
    return found


def report(call: Tried, ended: Ended, path: Path) -> list[str]:
    """The talk, line by line, and how it ended."""
    width = max((len(line.who) for line in call.talk), default=0)
    lines = [_line(line, width) for line in call.talk]
    lines += [f"logged   {event} {_fields(fields)}".rstrip() for event, fields in call.logged]
    lines += [f"recorded {recording}" for recording in call.recordings]
    lines += [_alarm(step) for step in call.steps if step.kind == "alarm"]
    lines += [f"not done {text_of(step)}" for step in call.left]
    lines.append(f"result   {json.dumps(ended.result, ensure_ascii=False)}")
    lines.append(f"ended    {ended.outcome}, {call.now_s:.1f} s after the call began")
    if ended.raised is not None and ended.outcome.result is not TaskState.DONE:
        lines += [f"raised   {line}" for line in where(ended.raised, path)]
    elif ended.error is not None:
        lines.append(f"raised   {ended.error}")
    return lines


def _line(line: TalkLine, width: int) -> str:
    plain = line.what in ("says", "does")
    text = line.text if plain else f"{line.what} {line.text}".strip()
    if line.to not in ("", "caller"):
        text = f"(to {line.to}) {text}"
    note = f"  ({line.note})" if line.note else ""
    return f"{line.start_ms:7d} {_to(line):>7} ms  {line.who:{width}}  {text}{note}"


def _to(line: TalkLine) -> str:
    return f"… {line.end_ms}" if line.end_ms > line.start_ms else ""


def _fields(fields: dict[str, object]) -> str:
    return " ".join(f"{name}={value!r}" for name, value in fields.items())


def where(raised: BaseException, path: Path) -> list[str]:
    """What a scenario raised, with its file, line and the line's text."""
    told = f"{type(raised).__name__}: {raised}"
    frames = traceback.extract_tb(raised.__traceback__)
    own = [f for f in frames if Path(f.filename).resolve().parent == path.resolve().parent]
    if not own:
        return [told]
    frame = own[-1]
    name = path if Path(frame.filename).resolve() == path.resolve() else frame.filename
    return [f"{name}:{frame.lineno}: {told}", f"    {frame.line}"]


def _alarm(step: CallStep) -> str:
    return f"alarm    {step.body['alarm']} at {step.at_ms} ms: {step.body['why']}"


def _as_json(call: Tried, ended: Ended) -> dict[str, Any]:
    return {
        "state": ended.outcome.result,
        "reason": ended.outcome.reason,
        "result": ended.result,
        "error": ended.error,
        "duration_ms": round(call.now_s * 1000),
        "talk": [
            {
                "who": line.who,
                "what": line.what,
                "text": line.text,
                "start_ms": line.start_ms,
                "end_ms": line.end_ms,
                "note": line.note,
                "to": line.to,
            }
            for line in call.talk
        ],
        "steps": [
            {
                "kind": step.kind,
                "node": step.node,
                "state": step.state,
                "at_ms": step.at_ms,
                "body": dict(step.body),
            }
            for step in call.steps
        ],
        "recordings": call.recordings,
        "not_done": [text_of(step) for step in call.left],
    }
