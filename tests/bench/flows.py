#!/usr/bin/env python3
"""Flows: how long a file takes to be loaded and checked, and a node to be passed. No calls.

python3 tests/bench/flows.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from backend.flow.draw import mermaid  # noqa: E402
from backend.flow.load import load_flow  # noqa: E402
from backend.flow.run import flow_scenario  # noqa: E402
from backend.testing import FakeCall  # noqa: E402
from tests.bench.figures import Sample, Table  # noqa: E402
from tests.test_flow_cli import long_flow  # noqa: E402

AIM_MS = 1000.0  # for 200 nodes
STEPS = 20_000
ROUND = f"""
flow: round
start: add
max_steps: {STEPS + 10}
variables: {{n: 0}}
nodes:
  add: {{type: set, compute: {{n: n + 1}}, next: more}}
  more: {{type: branch, cases: [{{when: n < {STEPS // 2}, next: add}}], next: end}}
"""


def loading(nodes: int, times: int) -> Sample:
    """ms in a process that has loaded one before."""
    text, found = long_flow(nodes), []
    for _ in range(times):
        began = time.perf_counter()
        flow = load_flow(text, source="long.flow.yaml")
        found.append((time.perf_counter() - began) * 1000)
        assert len(flow.nodes) == nodes
    return Sample.of(found)


def checking(nodes: int, times: int) -> Sample:
    """ms of the command, from its start to its end."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "long.flow.yaml"
        file.write_text(long_flow(nodes))
        for _ in range(times):
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "backend", "flow", "check", str(file)],
                cwd=ROOT,
                check=True,
                capture_output=True,
            )
            found.append((time.perf_counter() - began) * 1000)
    return Sample.of(found)


def drawing(nodes: int, times: int) -> Sample:
    """ms."""
    flow, found = load_flow(long_flow(nodes), source="long.flow.yaml"), []
    for _ in range(times):
        began = time.perf_counter()
        mermaid(flow)
        found.append((time.perf_counter() - began) * 1000)
    return Sample.of(found)


def passing() -> float:
    """Nodes per second and core, set and branch in turn, each with its step."""
    function = flow_scenario(load_flow(ROUND, source="round.flow.yaml"))
    call = FakeCall()
    began = time.perf_counter()
    ended = call.run(function)
    took_s = time.perf_counter() - began
    assert ended.error is None, ended
    return sum(step.kind == "node" for step in call.steps) / took_s


def tables(times: int) -> tuple[list[Table], list[str]]:
    """The table, and what should not be."""
    table = Table("Flows", ["ms", "n", "median", "p95", "max"])
    aimed = loading(200, times)
    table.add("loading and checking a file of 200 nodes", *aimed.cells())
    table.add("the same of 2,000 nodes", *loading(2000, max(times // 4, 1)).cells())
    whole = checking(200, max(times // 4, 1))
    table.add("`flow check` of 200 nodes, the whole command", *whole.cells())
    table.add("`flow draw` of 200 nodes, without the start", *drawing(200, times).cells(1))
    table.notes.append(
        f"The interpreter passes {passing():,.0f} nodes (set and branch in turn, each told as a "
        "step) per second and core."
    )
    late = [f"200 nodes took {aimed.most:.0f} ms"] if aimed.most > AIM_MS else []
    return [table], late


if __name__ == "__main__":
    found, wrong = tables(20)
    print("\n".join([*(table.markdown() for table in found), *wrong]))
    sys.exit(1 if wrong else 0)
