"""Steps of a call: their numbers, and where they belong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from uuid import UUID, uuid4

from backend.call.steps import StepLog
from backend.model import CallStep

CALL = UUID(int=1)


def test_they_are_numbered_and_know_where_they_happened() -> None:
    kept: list[CallStep] = []
    positions = count(100, 20)
    steps = StepLog(CALL, None, kept.append, lambda: next(positions))
    steps.add("state", {"event": "play"}, state="playing")
    with steps.in_flow("pay", "1f"):
        steps.at_node("pin")
        steps.add("key", {"key": "5"}, at_ms=77)
        with steps.in_flow("inner", "2e"):
            steps.add("node")
        steps.add("key", {"key": "6"})
    steps.add("state", state="processing")
    found = [(s.n, s.kind, s.flow, s.version, s.node, s.state, s.at_ms) for s in kept]
    assert found == [
        (0, "state", None, None, None, "playing", 100),
        (1, "key", "pay", "1f", "pin", "playing", 77),
        (2, "node", "inner", "2e", None, "playing", 120),
        (3, "key", "pay", "1f", "pin", "playing", 140),
        (4, "state", None, None, None, "processing", 160),
    ]


def test_threads_hand_them_on_in_order() -> None:
    kept: list[CallStep] = []
    steps = StepLog(uuid4(), uuid4(), kept.append, lambda: 0)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: steps.add("key"), range(400)))
    assert [step.n for step in kept] == list(range(400))
