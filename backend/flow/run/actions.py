"""Nodes by their types: each does its work on the call and says by which exit it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from backend.call.bridge import TransferStatus
from backend.errors import BadRequest, Hangup
from backend.flow.model import (
    BranchNode,
    CallNode,
    ConferenceNode,
    FlowNode,
    GotoNode,
    HangupNode,
    RecordNode,
    SetNode,
    TransferNode,
)
from backend.flow.run.talk import hear, input_, play
from backend.flow.run.web import http
from backend.flow.text import fill, fill_data

if TYPE_CHECKING:
    from backend.flow.run.engine import Run

SEAT_LOOK_S = 0.5


def branch(run: Run, node: BranchNode) -> str:
    for number, case in enumerate(node.cases):
        if case.holds(run.variables):
            return f"case {number}"
    return "next"


def set_(run: Run, node: SetNode) -> str:
    """In the order of the fields; each of them sees what those before have set."""
    run.save({name: fill_data(value, run.variables) for name, value in node.values.items()})
    for name, expression in node.compute.items():
        run.save({name: expression.value(run.variables)})
    for name, variable in node.from_channel.items():
        run.save({name: run.call.get_variable(variable)})
    for variable, text in node.to_channel.items():
        run.call.set_variable(variable, fill(text, run.variables))
    return "next"


def call(run: Run, node: CallNode) -> str:
    arguments = fill_data(node.arguments, run.variables)
    value = run.call.entering.function(run.call, node.scenario, arguments)
    if node.save is not None:
        run.save({node.save: value})
    return "next"


def record(run: Run, node: RecordNode) -> str:
    if node.action == "start":
        name = None if node.file is None else fill(node.file, run.variables)
        folder = None if node.directory is None else fill(node.directory, run.variables)
        run.recording = run.call.start_recording(name, directory=folder)
        values = {node.save: run.recording.path, node.save_url: run.recording.url}
        run.save({variable: value for variable, value in values.items() if variable is not None})
    elif run.recording is None:
        raise BadRequest("record", f"{node.action}: this flow has started no recording")
    else:
        getattr(run.recording, node.action)()
    return "next"


_TRANSFERRED = {
    TransferStatus.COMPLETED: "next",
    TransferStatus.BUSY: "on_busy",
    TransferStatus.NO_ANSWER: "on_no_answer",
}


def transfer(run: Run, node: TransferNode) -> str:
    caller_id = None if node.caller_id is None else fill(node.caller_id, run.variables)
    end = run.call.transfer(
        fill(node.number, run.variables),
        timeout_s=node.timeout_s,
        caller_id=caller_id or None,
        trunk=node.trunk,
    )
    if node.save is not None:
        told = {
            "status": str(end.status),
            "ended_by": str(end.ended_by),
            "duration_s": round(end.duration_s, 1),
            "cause": end.cause,
        }
        run.save({node.save: told})
    return _TRANSFERRED.get(end.status, "on_failed")


def conference(run: Run, node: ConferenceNode) -> str:
    """A seat until he is shown out, the time is over, or he hangs up."""
    room = run.call.conference(fill(node.room, run.variables))
    room.join(muted=node.muted)
    left_s = float("inf") if node.timeout_s is None else node.timeout_s
    while room.joined and left_s > 0:
        run.call.wait(min(SEAT_LOOK_S, left_s))
        left_s -= SEAT_LOOK_S
    room.leave()
    return "next"


def goto(run: Run, node: GotoNode) -> str:
    if node.max is None:
        return "next"
    run.visits[node.name] = run.visits.get(node.name, 0) + 1
    return "next" if run.visits[node.name] <= node.max else "on_max"


def flow(run: Run, node: FlowNode) -> str:
    value = run.enter(node.flow, fill_data(node.arguments, run.variables))
    if node.save is not None:
        run.save({node.save: value})
    return "next"


def hangup(run: Run, node: HangupNode) -> str:
    """Ends all flows of the call."""
    if run.gone is not None:
        raise run.gone
    run.call.hangup(node.cause)
    raise Hangup(f"flow {run.flow.name} has hung up, at node {node.name}")


Action = Callable[[Any, Any], str]
ACTIONS: Mapping[str, Action] = {
    "play": play,
    "input": input_,
    "hear": hear,
    "branch": branch,
    "set": set_,
    "call": call,
    "http": http,
    "record": record,
    "transfer": transfer,
    "conference": conference,
    "goto": goto,
    "flow": flow,
    "hangup": hangup,
}
