"""A flow from the text of its file. Pure."""

from __future__ import annotations

from backend.errors import FlowError, FlowProblem
from backend.flow import check, schema
from backend.flow.build import Builder
from backend.flow.document import read
from backend.flow.model import Flow

SUFFIXES = (".flow.yaml", ".flow.yml", ".flow.json")


def load_flow(text: str, *, source: str) -> Flow:
    """``source``: the file's name, for errors; one that ends in ``.json`` is read as JSON, all else
    as YAML. Raises FlowError with all that is wrong."""
    document = read(text, source=source)
    if not document.whole:
        raise FlowError(document.problems)
    if found := [*document.problems, *schema.problems(document)]:
        raise FlowError(_in_order(found))
    builder = Builder(document)
    flow = builder.flow(text)
    lines = document.line(("start",)), document.line(("result",))
    found = [*builder.problems, *check.problems(flow, *lines)]
    if found:
        raise FlowError(_in_order(found))
    return flow


def _in_order(found: list[FlowProblem]) -> list[FlowProblem]:
    return sorted(dict.fromkeys(found), key=lambda problem: problem.line)


def is_flow(name: str) -> bool:
    """Whether a file of that name is a flow's."""
    return name.lower().endswith(SUFFIXES)
