"""asterisk/fork_ring.h: bounded, drop-oldest, and never a torn cell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests import native


def hammer(binary: Path, cells: int, pushes: int, pause: int) -> dict[str, int]:
    done = subprocess.run(
        [binary, str(cells), str(pushes), str(pause)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, int] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return native.build(tmp_path_factory.mktemp("ring") / "ring", "ring_hammer.c", [], [], ["-O2"])


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return native.build(
        tmp_path_factory.mktemp("ring") / "ring", "ring_hammer.c", [], [], ["-fsanitize=thread"]
    )


@pytest.mark.parametrize("cells", [1, 2, 8, 100])
def test_each_cell_is_taken_whole_or_counted_as_dropped(plain: Path, cells: int) -> None:
    result = hammer(plain, cells, 500_000, 0)
    assert result["taken_us"] + result["dropped_us"] == result["pushed_us"]
    assert result["taken"] > 0


def test_a_slow_consumer_loses_the_oldest_and_the_producer_never_waits(plain: Path) -> None:
    result = hammer(plain, 100, 200_000, 1000)
    assert result["dropped_us"] > 0.5 * result["pushed_us"]


def test_a_ring_that_is_large_enough_loses_nothing(plain: Path) -> None:
    result = hammer(plain, 20_000, 20_000, 0)
    assert result["taken"] == 20_000
    assert result["dropped_us"] == 0


def test_there_is_no_data_race(sanitized: Path) -> None:
    hammer(sanitized, 8, 50_000, 0)
