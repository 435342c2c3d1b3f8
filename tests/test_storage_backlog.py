from __future__ import annotations

from pathlib import Path

from backend.storage.backlog import Backlog
from backend.storage.journal import segment_path, write_position


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_age_of_the_oldest_record_that_waits(tmp_path: Path) -> None:
    clock, folder = Clock(), tmp_path / "control"
    folder.mkdir()
    backlog = Backlog(tmp_path, clock)
    assert backlog.age_s() == 0
    segment_path(folder, 1).write_bytes(b"x" * 100)
    assert backlog.age_s() == 0
    clock.now += 3
    assert backlog.age_s() == 3
    segment_path(folder, 1).write_bytes(b"x" * 200)
    clock.now += 1
    assert backlog.age_s() == 4
    write_position(folder, 1, 100)  # the first hundred is stored, seen 1 s later
    clock.now += 2
    assert backlog.age_s() == 2
    write_position(folder, 1, 200)
    assert backlog.age_s() == 0


def test_a_new_empty_segment_is_no_backlog(tmp_path: Path) -> None:
    folder = tmp_path / "control"
    folder.mkdir()
    segment_path(folder, 1).write_bytes(b"x" * 100)
    segment_path(folder, 2).write_bytes(b"")
    write_position(folder, 1, 100)
    assert Backlog(tmp_path, Clock()).age_s() == 0


def test_without_journals(tmp_path: Path) -> None:
    assert Backlog(tmp_path / "none", Clock()).age_s() == 0
