"""Fixtures for all tests (each file that is named here brings a part's own), and who runs what."""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.fixtures_fork", "tests.fixtures_speech", "tests.fixtures_storage"]


class ByAsterisk(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """``pytest -n 2``: the tests of one Asterisk stay in one process, in their order; so do those
    that need none."""

    def _split_scope(self, nodeid: str) -> str:
        version = re.search(r"tests/e2e/.*\[(\d+)\b", nodeid)
        return version[1] if version else "none"


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByAsterisk:
    return ByAsterisk(config, log)
