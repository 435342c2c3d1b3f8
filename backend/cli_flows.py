"""``asterisk-dialog flow put|test|share|all|back|status|…``: the roll-out, through the backend."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backend import config
from backend.cli_http import Answered, ask
from backend.errors import DialogError

Json = Mapping[str, Any]
SHOWN_CALLS = 5  # ids of hurt calls, in status
SHOWN_LINES = 20  # of the history, in status


def add_commands(commands: Any) -> None:
    """``commands``: the sub-commands of ``flow``."""

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        return command

    def add_order(name: str, text: str, *, limits: bool = False) -> Any:
        order = add(name, _order, text)
        order.set_defaults(action=name)
        order.add_argument("name", help="the flow's")
        order.add_argument("--reason", help="a line for the history")
        order.add_argument("--version", help="refused unless this one is under way")
        if limits:
            order.add_argument(
                "--min-calls", type=int, help="calls before it is judged; at first 3"
            )
            order.add_argument("--max-errors", type=float, metavar="PERCENT", help="at first 5")
            order.add_argument("--max-losses", type=float, metavar="PERCENT", help="at first 1")
        return order

    put = add("put", _put, "Hand in a version of a flow; no call gets it yet.")
    put.add_argument("file", metavar="FILE")
    put.add_argument("--note", help="a line for the history")
    test = add_order("test", "Give the candidate to test numbers.", limits=True)
    test.add_argument(
        "--number", action="append", help="repeatable; none: those of last time", dest="numbers"
    )
    share = add_order("share", "Give the candidate to a share of the callers.", limits=True)
    share.add_argument("percent", type=float)
    add_order("all", "Give the candidate to all callers.", limits=True)
    add_order("back", "Take the candidate away; after 'all': go back to the version before.")
    pin = add_order("pin", "Let only these machines dial the flow's tasks.")
    pin.add_argument("--node", action="append", required=True, dest="nodes", help="repeatable")
    add_order("unpin", "Let every machine dial the flow's tasks.")
    status = add("status", _status, "Which versions calls get, their figures, who did what.")
    status.add_argument("name", nargs="?", help="one flow, with its history")
    show = add("show", _show, "The text of a version.")
    show.add_argument("name")
    show.add_argument("version")
    prune = add("prune", _prune, "Delete the versions that no call got for 30 days.")
    prune.add_argument("name")


def _put(options: argparse.Namespace) -> int:
    file = Path(options.file)
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DialogError(f"{file}: is no UTF-8 text: byte {error.start}") from None
    wanted = {"text": text, "format": "json" if file.suffix.lower() == ".json" else "yaml"}
    if options.note is not None:
        wanted["note"] = options.note
    try:
        answer = ask(config.load(options.config), "/flows", "PUT", wanted)
    except Answered as error:
        problems = error.error.get("problems")
        if not isinstance(problems, list):
            raise
        lines = (_problem(file, problem) for problem in problems)
        raise DialogError("\n".join(lines)) from None
    _print_one(answer, history=0)
    return 0


def _problem(file: Path, problem: Json) -> str:
    node = f"node {problem['node']}: " if problem["node"] else ""
    return f"{file}:{problem['line']}: {node}{problem['why']}"


def _order(options: argparse.Namespace) -> int:
    names = {"min_calls": "min_calls", "max_errors": "error_percent", "max_losses": "loss_percent"}
    names |= {one: one for one in ("action", "numbers", "percent", "nodes", "version", "reason")}
    given = {theirs: getattr(options, ours, None) for ours, theirs in names.items()}
    wanted = {name: value for name, value in given.items() if value is not None}
    answer = _ask_about(options, "POST", wanted)
    _print_one(answer, history=0)
    return 0


def _prune(options: argparse.Namespace) -> int:
    _print_one(_ask_about(options, "POST", {"action": "prune"}), history=1)
    return 0


def _status(options: argparse.Namespace) -> int:
    if options.name is not None:
        _print_one(_ask_about(options), history=SHOWN_LINES)
        return 0
    flows = ask(config.load(options.config), "/flows")["flows"]
    if not flows:
        print("no flow was published: asterisk-dialog flow put FILE")
    for flow in flows:
        print(_summary(flow))
    return 0


def _show(options: argparse.Namespace) -> int:
    answer = _ask_about(options, path=f"/versions/{options.version}")
    print(answer["text"], end="" if answer["text"].endswith("\n") else "\n")
    return 0


def _ask_about(
    options: argparse.Namespace, method: str = "GET", body: object = None, path: str = ""
) -> dict[str, Any]:
    name = options.name
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise DialogError(f"{name!r} is no flow's name")
    return ask(config.load(options.config), f"/flows/{name}{path}", method, body)


# --- For people ----------------------------------------------------------------------------------


def _summary(flow: Json) -> str:
    """One line: who gets what, and how it goes."""
    words = f"{flow['flow']:20} {flow['stable'] or '(files)':12}  {_under_way(flow)}"
    if flow["state"] in ("test", "share", "all"):
        words += f"  {_rates(flow['current'])}"
    if flow["nodes"]:
        words += f"  on {', '.join(flow['nodes'])}"
    return words.rstrip()


def _under_way(flow: Json) -> str:
    candidate, since = flow["candidate"], f"{_time(flow['step_at'])} UTC"
    count = len(flow["test_numbers"])
    numbers = "1 test number" if count == 1 else f"{count} test numbers"
    return {
        "stable": f"for all since {since}",
        "put": f"candidate {candidate}: no calls yet",
        "test": f"candidate {candidate}: {numbers} since {since}",
        "share": f"candidate {candidate}: {flow['share_percent']:g} % since {since}",
        "all": f"for all since {since}",
    }[flow["state"]]


def _rates(figures: Json) -> str:
    calls = f"{figures['calls']} calls, {figures['calls_failed']} failed"
    keys = figures["keys_taken"] + figures["keys_lost"]
    lost = f", {figures['keys_lost']} of {keys} keys lost" if keys else ""
    return calls + _percent(figures["error_percent"]) + lost + _percent(figures["loss_percent"])


def _time(at: str) -> str:
    """2026-11-28 14:34:57"""
    return at[:19].replace("T", " ")


def _percent(value: float | None) -> str:
    return "" if value is None else f" ({value:.3g} %)"


def _print_one(answer: Json, *, history: int) -> None:
    flow = answer["rollout"]
    print(_summary(flow))
    if answer["verdict"]:
        print(f"  beyond its limits: {answer['verdict']}")
    if not history:
        return
    print(
        f"  taken back at more than {flow['max_error_percent']:g} % failed calls or"
        f" {flow['max_loss_percent']:g} % lost keys, of {flow['min_calls']} calls or more"
    )
    if flow["test_numbers"]:
        print(f"  test numbers: {', '.join(flow['test_numbers'])}")
    print("  versions, all their calls (times: UTC):")
    for version in answer["versions"]:
        roles = (r for r in ("stable", "candidate", "previous") if flow[r] == version["version"])
        role = next(roles, "")
        by = f"{_time(version['created_at'])} {version['created_by']}"
        rates = _rates(version["figures"])
        print(f"    {version['version']} {role:9} {by}  {rates}  {version['note']}".rstrip())
    print("  history:")
    for entry in answer["history"][:history]:
        _print_entry(entry)


def _print_entry(entry: Json) -> None:
    at = _time(entry["at"])
    words = f"{entry['action']:9} {entry['version'] or '':12} {entry['reason']}"
    print(f"    {at} {entry['by']:12} {words}".rstrip())
    if entry["hurt"] is not None:
        calls = ", ".join(entry["calls"][:SHOWN_CALLS])
        print(f"      {entry['hurt']} calls were hurt: {calls}".rstrip(": "))
