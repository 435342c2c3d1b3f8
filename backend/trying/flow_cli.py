"""``asterisk-dialog flow check|draw|try|schema``: flow files, without a backend."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from backend.errors import DialogError, FlowError, FlowProblem, ScenarioError
from backend.flow import draw, schema
from backend.flow.model import Flow
from backend.trying import cli as trying
from backend.trying.flows import beside_problems, read_flow

DOT_S = 60.0

HELP = "Flows: check, draw, try; the schema of their files; their versions, rolled out."
TRY_HELP = "Run a flow against a simulated caller, without Asterisk, and print the talk."


def add_commands(parser: argparse.ArgumentParser) -> Any:
    """The commands; what was added to, for others of the same group."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        return command

    check = add("check", _check, "Say all that is wrong with flow files.")
    check.add_argument("files", nargs="+", metavar="FILE")
    drawing = add("draw", _draw, "A picture of a flow, to the standard output.")
    drawing.add_argument("file", metavar="FILE")
    drawing.add_argument(
        "--format", choices=["mermaid", "dot", "svg"], default="mermaid", help="default: mermaid"
    )
    trying.add_options(add("try", trying.run, TRY_HELP))
    add("schema", _schema, "The JSON Schema of flow files, to the standard output.")
    return commands


def _check(options: argparse.Namespace) -> int:
    """1 if anything is wrong with any of them; what is right is told, too."""
    problems: list[FlowProblem | str] = []
    flows: list[Flow] = []
    for file in options.files:
        try:
            flows.append(read_flow(Path(file)))
        except FlowError as error:
            problems += error.problems
        except ScenarioError as error:
            problems.append(str(error))
    names: dict[str, Flow] = {}
    for flow in flows:
        if (other := names.setdefault(flow.name, flow)) is not flow:
            problems.append(f"{flow.source}: flow {flow.name!r} is also in {other.source}")
    problems += beside_problems(flows)
    wrong = {problem.source for problem in problems if isinstance(problem, FlowProblem)}
    for flow in flows:
        if flow.source not in wrong:
            count = len(flow.nodes)
            nodes = "1 node" if count == 1 else f"{count} nodes"
            print(f"{flow.source}: flow {flow.name}, version {flow.version}, {nodes}: good")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _draw(options: argparse.Namespace) -> int:
    flow = read_flow(Path(options.file))
    if options.format != "svg":
        sys.stdout.write(draw.FORMATS[options.format](flow))
        return 0
    program = shutil.which("dot")
    if program is None:
        raise DialogError("--format svg needs Graphviz: install the package graphviz")
    try:
        done = subprocess.run(
            [program, "-Tsvg"],
            input=draw.dot(flow),
            capture_output=True,
            text=True,
            timeout=DOT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DialogError(f"dot did not end within {DOT_S:g} s") from None
    if done.returncode != 0:
        raise DialogError(f"dot failed: {done.stderr.strip()}")
    sys.stdout.write(done.stdout)
    return 0


def _schema(_options: argparse.Namespace) -> int:
    sys.stdout.write(schema.text())
    return 0
