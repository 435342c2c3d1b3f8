"""A flow from one file, with the flows and the scenario functions beside it that it enters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backend.call.modules import Loading, read
from backend.call.scenario import ScenarioFunction
from backend.errors import FlowError, FlowProblem, ScenarioError
from backend.flow import check
from backend.flow.load import is_flow, load_flow
from backend.flow.model import CallNode, Flow
from backend.flow.run import flow_scenario

READY = Path(__file__).parents[1] / "scenarios"


def read_flow(path: Path) -> Flow:
    """Raises ScenarioError that says what is wrong with the file: FlowError."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: is no UTF-8 text: byte {error.start}") from None
    return load_flow(text, source=str(path))


def flow_of(file: str | Path) -> ScenarioFunction:
    """The flow of a file as a scenario, with what it enters from its folder and from the ready
    scenarios. Raises ScenarioError."""
    path = Path(file)
    flow = read_flow(path)
    if problems := beside_problems([flow]):
        raise FlowError(problems)
    return flow_scenario(flow, scenarios=lambda: functions_beside(path.parent))


def functions_beside(folder: Path) -> dict[str, ScenarioFunction]:
    """All of the folder and of the ready ones that can be loaded."""
    found: dict[str, ScenarioFunction] = {}
    for one in (READY, folder):
        found |= _functions(one)
        found |= {flow.name: flow_scenario(flow) for flow in _flows(one).values()}
    return found


def beside_problems(flows: list[Flow]) -> list[FlowProblem]:
    """What these flows enter, and is neither among them nor beside them; circles."""
    folders = {Path(flow.source).resolve().parent for flow in flows}
    others: dict[str, Flow] = {}
    functions: set[str] = set()
    for folder in (READY, *sorted(folders)):
        others |= _flows(folder)
        if any(isinstance(node, CallNode) for flow in flows for node in flow.nodes.values()):
            functions |= _functions(folder).keys()
    every = others | {flow.name: flow for flow in flows}
    found: list[FlowProblem] = []
    for flow in flows:
        found += check.unknown(flow, every, functions)
    mine = {flow.source for flow in flows}
    found += [problem for problem in check.flow_circles(every) if problem.source in mine]
    return sorted(found, key=lambda problem: (problem.source, problem.line))


def _flows(folder: Path) -> dict[str, Flow]:
    """Those of the folder that are right."""
    found = {}
    for path in sorted(folder.iterdir()):
        if is_flow(path.name) and path.is_file():
            try:
                flow = read_flow(path)
            except ScenarioError:
                continue  # that file's own business: whoever enters it is told that it is not there
            found[flow.name] = flow
    return found


def _functions(folder: Path) -> Mapping[str, ScenarioFunction]:
    """Of the folder's Python files, as far as they can be loaded."""
    files = [path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    loading = Loading("dialog_beside_", {path.stem: read(path) for path in files}, {})
    loading.run()
    versions = loading.fresh.values()
    return {name: function for version in versions for name, function in version.scenarios.items()}
