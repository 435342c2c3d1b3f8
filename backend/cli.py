"""The command line, ``asterisk-dialog COMMAND``; ``--help`` lists the commands."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlencode

from backend import cli_flows, config
from backend.cli_http import ask
from backend.errors import DialogError
from backend.trying import cli as trying
from backend.trying import flow_cli

POLL_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code: 0 done, 1 it failed and said why, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (DialogError, OSError) as error:
        for line in str(error).splitlines():
            print(f"asterisk-dialog: {line}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asterisk-dialog", description="Real-time spoken dialogues on Asterisk."
    )
    parser.add_argument("--config", metavar="FILE", help="settings file (TOML)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        return command

    add("serve", _serve, "Start the backend; ends with SIGTERM or Ctrl-C.")
    add("doctor", _doctor, "Check this installation and say how to mend what is wrong.")
    add("settings", _settings, "Every setting with its meaning and its value here.")
    add("scenarios", _scenarios, "The scenarios that calls can name.")
    trying.add_options(add("try", trying.run, trying.HELP))
    flows = commands.add_parser("flow", help=flow_cli.HELP, description=flow_cli.HELP)
    cli_flows.add_commands(flow_cli.add_commands(flows))
    call = add("call", _call, "Make a call through the running backend and wait for its end.")
    call.add_argument("phone")
    call.add_argument("--file", help="sound to play first, by Asterisk's name for it")
    call.add_argument("--scenario")
    call.add_argument("--external-id")
    task = add("task", _task, "Show a task.")
    task.add_argument("id")
    _add_routes(
        add("routes", _list_routes, "Which scenario a number gets: list, set, delete, test.")
    )
    return parser


def _add_routes(routes: argparse.ArgumentParser) -> None:
    commands = routes.add_subparsers(metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        command.add_argument(
            "--outbound", action="store_true", help="numbers that are dialled, not called"
        )
        return command

    commands.add_parser("list", help="All routes (the default).").set_defaults(command=_list_routes)
    put = add("set", _set_route, "Add a route, or change its scenario.")
    put.add_argument("pattern", help="74951234567, '7495*', or '_7495XXXXXXX' as in Asterisk")
    put.add_argument("scenario")
    delete = add("delete", _delete_route, "Remove a route.")
    delete.add_argument("pattern")
    test = add("test", _test_route, "Which route a number takes, and which it would take next.")
    test.add_argument("number")


def _serve(options: argparse.Namespace) -> int:
    from backend.app import serve
    from backend.supervisor import set_up_logging

    settings = config.load(options.config)
    set_up_logging("main", settings.log_level)

    def announce(info: Mapping[str, Any]) -> None:
        print("ready " + json.dumps(info), flush=True)

    serve(settings, announce)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from backend.doctor import examine

    findings = examine(config.load(options.config))
    for finding in findings:
        print(finding)
    return 0 if all(finding.ok for finding in findings) else 1


def _settings(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    values = settings.redacted()
    for name, field in config.Settings.model_fields.items():
        value = values[name]
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
        print(f"{name} = {text}")
        print(f"    {config.ENV_PREFIX}{name.upper()}  {field.description or ''}".rstrip())
    return 0


def _scenarios(options: argparse.Namespace) -> int:
    from backend.app.home import scenario_folders
    from backend.call.shelf import Shelf

    shelf = Shelf(scenario_folders(config.load(options.config)))
    for name, function in sorted(shelf.current().items()):
        text = (function.__doc__ or "").strip().split("\n")[0]
        print(f"{name:20} {text}".rstrip())
    for refused in shelf.refused():
        print(f"asterisk-dialog: {refused}", file=sys.stderr)
    return 1 if shelf.refused() else 0


def _call(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    wanted = {
        "phone": options.phone,
        "file": options.file,
        "scenario": options.scenario,
        "external_id": options.external_id,
    }
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    task = ask(settings, f"/originate?{query}")
    print(f"task {task['id']}", file=sys.stderr)
    deadline = monotonic() + settings.dial_timeout_s + settings.max_call_s + 60
    while task["state"] not in ("done", "failed", "unknown") and monotonic() < deadline:
        sleep(POLL_S)
        task = ask(settings, f"/tasks/{task['id']}")
    print(json.dumps(task, indent=2, ensure_ascii=False))
    return 0 if task["state"] == "done" else 1


def _task(options: argparse.Namespace) -> int:
    task = ask(config.load(options.config), f"/tasks/{options.id}")
    print(json.dumps(task, indent=2, ensure_ascii=False))
    return 0


def _list_routes(options: argparse.Namespace) -> int:
    _print_routes(ask(config.load(options.config), "/routes")["routes"])
    return 0


def _set_route(options: argparse.Namespace) -> int:
    wanted = {
        "pattern": options.pattern,
        "scenario": options.scenario,
        "direction": _direction(options),
    }
    _print_routes([ask(config.load(options.config), "/routes", "PUT", wanted)])
    return 0


def _delete_route(options: argparse.Namespace) -> int:
    query = urlencode({"pattern": options.pattern, "direction": _direction(options)})
    _print_routes([ask(config.load(options.config), f"/routes?{query}", "DELETE")])
    return 0


def _test_route(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    query = urlencode({"number": options.number, "direction": _direction(options)})
    found = ask(settings, f"/routes?{query}")["routes"]
    _print_routes(found)
    if not found:
        print(f"no route: the default scenario, {settings.default_scenario}")
    return 0


def _direction(options: argparse.Namespace) -> str:
    return "outbound" if options.outbound else "inbound"


def _print_routes(routes: Sequence[Mapping[str, str]]) -> None:
    for route in routes:
        print(f"{route['direction']:9} {route['pattern']:24} {route['scenario']}")


if __name__ == "__main__":
    sys.exit(main())
