"""Five hundred real prompts on each Asterisk, 50 calls at once, keys at random times and at the
edges: none breaks a prompt, none is lost, none counts twice; the figures are those of the wire.

PROMPTS_SOAK (1.0) scales the number; PROMPTS_SOAK_SEED other keys.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import pytest
from stack import Stack

from tests.e2e.prompt_calls import ROUNDS
from tests.e2e.test_prompts import prompts_stack, prove

pytestmark = [pytest.mark.timeout(1800)]

PROMPTS = round(500 * float(os.environ.get("PROMPTS_SOAK", "1.0")))
SEED = int(os.environ.get("PROMPTS_SOAK_SEED", "5"))
AT_ONCE = 50


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    with prompts_stack(tmp_path_factory.mktemp("prompts-soak"), asterisk, AT_ONCE) as stack:
        yield stack


def test_five_hundred_prompts(stack: Stack) -> None:
    prove(stack, math.ceil(PROMPTS / ROUNDS), SEED)
