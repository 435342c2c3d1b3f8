"""How long records have been waiting in a machine's journals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from backend.storage.journal import read_position, segment_path, segments, size_of

MAX_MARKS = 600  # per folder; looked at every second or two, so a quarter of an hour and more

_Place = tuple[int, int]  # (segment, offset)


class Backlog:
    """The age of the oldest record that is not yet in PostgreSQL, over all journals of a node,
    also those of dead processes. As fine as it is asked often."""

    def __init__(self, root: Path, clock: Callable[[], float] = monotonic) -> None:
        self._root = root
        self._clock = clock
        self._marks: dict[Path, deque[tuple[float, _Place]]] = {}  # when the journal ended where

    def age_s(self) -> float:
        """0 when nothing waits."""
        folders = [path for path in self._root.glob("*") if path.is_dir()]
        self._marks = {folder: self._marks.get(folder, deque()) for folder in folders}
        return max((self._age_of(folder) for folder in folders), default=0.0)

    def _age_of(self, folder: Path) -> float:
        now, marks = self._clock(), self._marks[folder]
        done, end = read_position(folder), _end_of(folder)
        while marks and marks[0][1] <= done:
            marks.popleft()
        if end <= done:
            return 0.0
        if len(marks) < MAX_MARKS and (not marks or marks[-1][1] < end):
            marks.append((now, end))
        return now - marks[0][0]


def _end_of(folder: Path) -> _Place:
    """Where the last record ends; an empty last segment counts as the end of the one before."""
    ends = ((number, size_of(segment_path(folder, number))) for number in segments(folder))
    return max((end for end in ends if end[1]), default=(0, 0))
