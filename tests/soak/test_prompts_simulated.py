"""Ten thousand simulated prompts, keys at random times and where it hurts: all accounted for.

SIMULATED_SEED other ones.
"""

from __future__ import annotations

import os
import sys

import pytest

from tests.prompt_talks import simulate
from tests.test_prompts_simulated import prove

pytestmark = [pytest.mark.timeout(1200)]

PROMPTS = 10_000
SEED = int(os.environ.get("SIMULATED_SEED", "1"))


def test_ten_thousand_prompts() -> None:
    account = simulate(PROMPTS, SEED)
    sys.stdout.write(account.story() + "\n")
    prove(account)
    assert account.prompts >= PROMPTS
