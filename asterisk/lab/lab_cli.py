"""The lab's command line: python3 asterisk/lab/lab.py start | stop | status | run."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lab import Backend, Instance, Lab, LabError, Ports
from lab_config import DEFAULT_VERSION, VERSIONS

FOLDER = Path.home() / "asterisk-dialog-lab"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. 0: done (status: it runs); 1: not; the reason on stderr."""
    wanted = _parser().parse_args(arguments)
    try:
        return int(COMMANDS[wanted.command](wanted))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def start(wanted: argparse.Namespace) -> int:
    """Start the lab and leave it running."""
    lab = _lab(wanted).start(detached=True)
    _show(lab, wanted.json)
    return 0


def run(wanted: argparse.Namespace) -> int:
    """Hold the lab in the foreground until SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with _lab(wanted) as lab:
        _show(lab, wanted.json)
        while not ended.wait(0.5):
            if not lab.is_running:
                raise LabError("an Asterisk has ended by itself; see the logs")
    return 0


def stop(wanted: argparse.Namespace) -> int:
    """Stop the lab that runs in the folder."""
    Lab.attach(wanted.dir).stop()
    return 0


def status(wanted: argparse.Namespace) -> int:
    """Tell what runs in the folder."""
    lab = Lab.attach(wanted.dir)
    _show(lab, wanted.json)
    return 0 if lab.is_running else 1


COMMANDS = {"start": start, "stop": stop, "status": status, "run": run}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.py", description="Two Asterisks on the loopback.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--dir", type=Path, default=FOLDER, help=f"the lab's folder ({FOLDER})")
    parser.add_argument(
        "--json", action="store_true", help="print everything, secrets too, as JSON"
    )
    parser.add_argument(
        "--asterisk", choices=VERSIONS, default=DEFAULT_VERSION, help="(%(default)s)"
    )
    parser.add_argument("--agi", default=Backend.agi, help="FastAGI server (%(default)s)")
    parser.add_argument("--fork-ws", default="", help="WebSocket URL for AudioFork (none)")
    parser.add_argument("--sounds", type=Path, help="the backend's sounds (DIR/sounds)")
    parser.add_argument("--recordings", type=Path, help="its recordings (DIR/recordings)")
    parser.add_argument(
        "--global", action="append", default=[], metavar="NAME=VALUE", dest="globals"
    )
    parser.add_argument("--no-module", action="store_true", help="a PBX without app_audiofork")
    for port in fields(Ports):
        option = "--" + port.name.replace("_", "-")
        parser.add_argument(option, type=int, metavar="PORT", dest=port.name, help="(a free one)")
    return parser


def _lab(wanted: argparse.Namespace) -> Lab:
    more = dict(pair.split("=", 1) for pair in wanted.globals if "=" in pair)
    if len(more) != len(wanted.globals):
        raise LabError("--global takes NAME=VALUE, each name once")
    backend = Backend(wanted.agi, wanted.fork_ws, wanted.sounds, wanted.recordings, more)
    given = {port.name: getattr(wanted, port.name) for port in fields(Ports)}
    ports = {name: number for name, number in given.items() if number is not None}
    return Lab(
        wanted.dir,
        backend=backend,
        ports=ports,
        asterisk=wanted.asterisk,
        module=not wanted.no_module,
    )


def _show(lab: Lab, as_json: bool) -> None:
    if as_json:
        report: dict[str, Any] = {"running": lab.is_running, "folder": str(lab.folder)}
        report |= {
            "asterisk": lab.asterisk,
            "sounds": str(lab.sounds),
            "recordings": str(lab.recordings),
        }
        report |= {"speech": str(lab.speech), "ports": asdict(lab.ports)}
        report |= {one.name: _report(one, secrets=True) for one in (lab.pbx, lab.subscriber)}
        print(json.dumps(report, indent=2), flush=True)
        return
    for one in (lab.pbx, lab.subscriber):
        print(" ".join(f"{name}={value}" for name, value in _report(one).items()), flush=True)
    print(f"folder={lab.folder} (AMI secrets: lab.json there)", flush=True)


def _report(one: Instance, *, secrets: bool = False) -> dict[str, Any]:
    report: dict[str, Any] = {"name": one.name, "running": one.is_alive(), "pid": one.pid}
    if one.is_alive():
        report |= {"threads": one.threads(), "fds": one.fds(), "channels": len(one.channels())}
    report |= {"sip": f"127.0.0.1:{one.sip_port}", "ami": f"127.0.0.1:{one.ami_port}"}
    report["ami_user"] = one.ami_user
    if secrets:
        report |= {"ami_secret": one.ami_secret, "observer_secret": one.observer_secret}
    return report
