"""Samples and the tables they end in."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """A handful of measurements of one thing, in one unit."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Sample:
        return cls(tuple(sorted(values)))

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values) if self.values else math.nan

    @property
    def p95(self) -> float:
        """Nearest rank: one that was measured."""
        if not self.values:
            return math.nan
        return self.values[math.ceil(0.95 * len(self.values)) - 1]

    @property
    def most(self) -> float:
        return self.values[-1] if self.values else math.nan

    def cells(self, digits: int = 0) -> list[str]:
        """Number, median, p95, max."""
        shown = (f"{value:.{digits}f}" for value in (self.median, self.p95, self.most))
        return [str(self.count), *shown]


@dataclass
class Table:
    """A markdown table under a heading; ``notes`` come below it."""

    title: str
    head: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        self.rows.append(list(cells))

    def markdown(self) -> str:
        numbers = ["---"] + ["---:"] * (len(self.head) - 1)
        lines = [self.head, numbers, *self.rows]
        body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        notes = "".join(f"\n{note}" for note in self.notes)
        return f"### {self.title}\n\n{body}\n" + (f"{notes}\n" if notes else "")
