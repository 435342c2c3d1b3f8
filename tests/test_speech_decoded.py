"""speech.decoded: sounds in memory, within a bound."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.speech.decoded import Decoded
from backend.speech.making import WholePcm

A, B, C = Path("a"), Path("b"), Path("c")


class Disk:
    """Counts what is loaded."""

    def __init__(self) -> None:
        self.loads = 0

    def load(self, size: int = 40) -> WholePcm:
        self.loads += 1
        return WholePcm(bytes(size))


def test_it_is_loaded_once_until_the_file_is_another() -> None:
    decoded, disk = Decoded(), Disk()
    first = decoded.get(A, (1, 40), disk.load)
    assert decoded.get(A, (1, 40), disk.load) is first
    second = decoded.get(A, (2, 40), lambda: disk.load(60))
    assert second.size() == 60
    assert disk.loads == 2
    assert decoded.held_bytes == 60


def test_what_was_not_asked_for_longest_goes() -> None:
    decoded, disk = Decoded(100), Disk()
    for path in (A, B, A, C):
        decoded.get(path, 1, disk.load)
    assert (disk.loads, decoded.held_bytes) == (3, 80)
    decoded.get(A, 1, disk.load)
    assert disk.loads == 3, "it is there"
    decoded.get(B, 1, disk.load)
    assert disk.loads == 4, "it had gone"


def test_what_is_larger_than_all_is_played_and_not_kept() -> None:
    decoded, disk = Decoded(100), Disk()
    decoded.get(B, 1, disk.load)
    assert decoded.get(A, 1, lambda: disk.load(101)).size() == 101
    assert decoded.held_bytes == 40


def test_what_cannot_be_loaded_is_told_and_nothing_is_kept() -> None:
    decoded = Decoded()

    def broken() -> WholePcm:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        decoded.get(A, 1, broken)
    assert decoded.held_bytes == 0


def test_many_calls_at_once() -> None:
    decoded, disk = Decoded(150), Disk()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: decoded.get(Path(str(n % 7)), 1, disk.load), range(2000)))
    assert decoded.held_bytes == 120
