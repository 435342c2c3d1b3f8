"""A line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``mend`` says what to do; empty when all is well."""

    ok: bool
    what: str
    mend: str = ""

    def __str__(self) -> str:
        head = f"{'ok  ' if self.ok else 'FAIL'}  {self.what}"
        return head if self.ok or not self.mend else f"{head}\n      → {self.mend}"


def good(what: str) -> Finding:
    return Finding(True, what)


def bad(what: str, mend: str) -> Finding:
    return Finding(False, what, mend)
