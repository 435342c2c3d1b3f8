"""A thousand calls over all scenarios, hung up at random moments by callers, by the robot, by an
operator, by whom they were connected with. Afterwards nothing is left, and each call has one end.

CALLS_SOAK (1.0) scales the number; CALLS_SOAK_SEED another campaign.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from stack import Stack

from tests.e2e.conftest import probing_stack
from tests.e2e.talk_campaign import SETTINGS, Campaign, held, nothing_left

pytestmark = [pytest.mark.timeout(3600)]

CALLS = round(1_000 * float(os.environ.get("CALLS_SOAK", "1.0")))
SEED = int(os.environ.get("CALLS_SOAK_SEED", "7"))
WARM_UP = 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("calls-soak")
    with probing_stack(folder, asterisk, **SETTINGS) as stack:
        yield stack


def test_a_thousand_calls_leave_nothing(stack: Stack) -> None:
    Campaign(stack, SEED + 1).run(WARM_UP)
    before = held(stack)
    campaign = Campaign(stack, SEED)
    campaign.run(CALLS)
    nothing_left(stack, before, campaign.story)
    campaign.check()
    now = {name: (one.threads, one.kinds.total()) for name, one in held(stack).items()}
    then = {name: (one.threads, one.kinds.total()) for name, one in before.items()}
    sys.stdout.write(f"{campaign.story()}\nthreads, descriptors {then}, now {now}\n")
