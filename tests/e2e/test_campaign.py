"""Calls over all scenarios, hung up at random moments: nothing is left, each has one end.

In short; at length in tests/soak/test_calls_soak.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stack import Stack

from tests.e2e.conftest import probing_stack
from tests.e2e.talk_campaign import SETTINGS, Campaign, held, nothing_left

WARM_UP, CALLS, SEED = 30, 60, 4


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    with probing_stack(tmp_path_factory.mktemp("campaign"), asterisk, **SETTINGS) as stack:
        yield stack


def test_nothing_is_left_of_sixty_calls(stack: Stack) -> None:
    Campaign(stack, SEED + 1).run(WARM_UP)  # thread pools, connections and caches are there now
    before = held(stack)
    campaign = Campaign(stack, SEED)
    campaign.run(CALLS)
    nothing_left(stack, before, campaign.story)
    campaign.check()
