"""Fixtures for all tests (each file that is named here brings a part's own), and who runs what."""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.fixtures_fork", "tests.fixtures_speech", "tests.fixtures_storage"]


class ByLab(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """``pytest -n 4 --no-loadscope-reorder``: the tests of one file, with one Asterisk, stay in one
    process. In their order, so that a process changes the Asterisk once."""

    def _split_scope(self, nodeid: str) -> str:
        found = re.match(r"(tests/e2e/.*)::.*\[(\d+)\b", nodeid)
        return f"{found[1]} {found[2]}" if found else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByLab:
    return ByLab(config, log)
