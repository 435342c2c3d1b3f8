"""The command line, ``asterisk-dialog COMMAND``; ``--help`` lists the commands."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlencode

from backend import config
from backend.errors import DialogError
from backend.trying import cli as trying

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
    call = add("call", _call, "Make a call through the running backend and wait for its end.")
    call.add_argument("phone")
    call.add_argument("--file", help="sound to play first, by Asterisk's name for it")
    call.add_argument("--scenario")
    call.add_argument("--external-id")
    task = add("task", _task, "Show a task.")
    task.add_argument("id")
    return parser


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

    logging.getLogger("backend").addHandler(logging.NullHandler())  # each is said once, below
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
    task = _http(settings, f"/originate?{query}")
    print(f"task {task['id']}", file=sys.stderr)
    deadline = monotonic() + settings.dial_timeout_s + settings.max_call_s + 60
    while task["state"] not in ("done", "failed", "unknown") and monotonic() < deadline:
        sleep(POLL_S)
        task = _http(settings, f"/tasks/{task['id']}")
    print(json.dumps(task, indent=2, ensure_ascii=False))
    return 0 if task["state"] == "done" else 1


def _task(options: argparse.Namespace) -> int:
    task = _http(config.load(options.config), f"/tasks/{options.id}")
    print(json.dumps(task, indent=2, ensure_ascii=False))
    return 0


def _http(settings: config.Settings, path: str) -> dict[str, Any]:
    """A request to the backend on this machine, with the first of its tokens."""
    token = next((t.get_secret_value() for t in settings.http_tokens.values()), "")
    request = urllib.request.Request(
        f"http://{settings.http_host}:{settings.http_port}{path}",
        headers={"Authorization": f"Bearer {token}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise DialogError(
            f"{error.code}: {error.read().decode(errors='replace').strip()}"
        ) from None
    except urllib.error.URLError as error:
        where = f"{settings.http_host}:{settings.http_port}"
        raise DialogError(f"no backend answers at {where}: {error.reason}") from None


if __name__ == "__main__":
    sys.exit(main())
