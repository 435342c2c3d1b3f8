"""Ten thousand simulated prompts, keys at random times and where it hurts: all accounted for. Then
a long hunt for a talk, as short and odd as may be, in which a key is not as it should be.

SIMULATED_SEED other ones.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import seed as begin

from tests.prompt_talks import Round, simulate
from tests.test_prompts_simulated import SEEDS, TALKS, prove, prove_talk

pytestmark = [pytest.mark.timeout(1200)]

PROMPTS = 10_000
TALKS_HUNTED = 12_000
SEED = int(os.environ.get("SIMULATED_SEED", "1"))


def test_ten_thousand_prompts() -> None:
    account = simulate(PROMPTS, SEED)
    sys.stdout.write(account.story() + "\n")
    prove(account)
    assert account.prompts >= PROMPTS


@begin(SEED)
@settings(max_examples=TALKS_HUNTED, deadline=None, database=None)
@given(TALKS, SEEDS)
def test_whatever_callers_do(rounds: list[Round], seed: int) -> None:
    prove_talk(rounds, seed)
