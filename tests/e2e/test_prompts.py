"""No key breaks a guarded prompt and none is lost: by RFC 4733, SIP INFO and tones, both policies.

In long, 500 prompts: tests/soak/test_prompts_soak.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import Stack

from backend.storage.engine import make_engine
from backend.storage.figures import FlowFigures
from tests.e2e.conftest import probing_stack
from tests.e2e.prompt_calls import (
    ROUNDS,
    SETTINGS,
    Account,
    Hand,
    Judge,
    write_prompts,
)

CALLS = 12


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    with prompts_stack(tmp_path_factory.mktemp("prompts"), asterisk, CALLS) as stack:
        yield stack


def prompts_stack(folder: Path, asterisk: str, at_once: int) -> Stack:
    settings = {"DIALOG_MAX_CALLS": str(at_once), "DIALOG_DIAL_RATE_PER_S": "8", **SETTINGS}
    stack = probing_stack(folder, asterisk, **settings)
    write_prompts(stack.folder / "lab" / "sounds")
    return stack


def test_keys_and_prompts_on_the_wire_and_in_the_steps(stack: Stack) -> None:
    prove(stack, CALLS, seed=1)


def prove(stack: Stack, calls: int, seed: int) -> None:
    """Raises AssertionError with the whole story of the calls that are not as they should be."""
    talks = Hand(stack, seed).dial(calls)
    judge = Judge(stack)
    for talk in talks:
        judge.judge(talk)
    account = judge.account
    sys.stdout.write(account.story() + "\n")
    assert account.problems == []
    assert account.prompts == account.unbroken == calls * ROUNDS
    assert account.edges() < account.pressed / 2, "most keys are where there is no doubt"
    check_figures(stack, account)


def check_figures(stack: Stack, account: Account) -> None:
    """They are counted from the steps: as many as were on the wire."""
    engine = make_engine(stack.dsn, name="test")
    try:
        figures = FlowFigures(engine).all()["", ""]
    finally:
        engine.dispose()
    assert figures["prompts_blocked"] == account.prompts
    assert figures.get("prompts_broken", 0) == 0, "play_block_success_rate is 100 %"
    assert figures.get("keys_lost", 0) == 0, "dtmf_loss_rate is 0 %"
    ends = ("taken", "released", "blocked", "conflict", "discarded")
    assert sum(figures.get(f"keys_{end}", 0) for end in ends) == account.pressed
    for verdict, count in account.verdicts.items():
        assert figures[f"keys_{verdict}"] == count
