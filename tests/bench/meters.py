"""CPU time and memory of each of the set's processes, from the kernel."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack import Stack

MACHINE = "the whole machine"
OTHERS = "everything else on this machine"
_TICKS_S = os.sysconf("SC_CLK_TCK")

Groups = Mapping[str, tuple[int, ...]]
"""Name → pids at the top; their children are counted with them."""


def groups(stack: Stack) -> dict[str, tuple[int, ...]]:
    """Who is measured."""
    pids = stack.info["pids"]
    postmaster = next(stack.data_dir.rglob("postmaster.pid")).read_text().split()[0]
    found: dict[str, tuple[int, ...]] = {"Asterisk, our PBX": (stack.lab.pbx.pid,)}
    found |= {f"backend: {name}": (pid,) for name, pid in sorted(pids.items()) if name != "speech"}
    found["PostgreSQL"] = (int(postmaster),)
    found["local speech server"] = (pids["speech"],)
    found["Asterisk, the subscriber's"] = (stack.lab.subscriber.pid,)
    return found


def tree(tops: tuple[int, ...]) -> list[int]:
    """These processes and all that descend from them."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], list(tops)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents.get(pid, [])
    return found


def cpu_s(pid: int) -> float:
    """User and system time of a process, all its threads, also the ended ones: the kernel's CPU
    clock of the process, in nanoseconds where /proc counts ticks of 10 ms. 0 when it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


@dataclass(frozen=True)
class Snapshot:
    """CPU seconds of each process of each group, at one moment."""

    at: float
    cpu: Mapping[str, Mapping[int, float]]

    @classmethod
    def take(cls, who: Groups) -> Snapshot:
        trees = {name: tree(tops) for name, tops in who.items()}
        now = time.monotonic()
        cpu = {name: {pid: cpu_s(pid) for pid in pids} for name, pids in trees.items()}
        return cls(now, cpu | {MACHINE: {0: _busy_s()}})

    def percent_since(self, before: Snapshot) -> dict[str, float]:
        """Per cent of one core since then, of each group."""
        span_s = self.at - before.at
        found = {
            name: 100
            * sum(used - before.cpu[name].get(pid, 0.0) for pid, used in pids.items() if used)
            / span_s
            for name, pids in self.cpu.items()
        }
        machine = found.pop(MACHINE)
        found[OTHERS] = machine - sum(found.values())
        return found


def _busy_s() -> float:
    """CPU seconds of everything on this machine, and what its host took away."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS_S


def over(who: Groups, seconds: float) -> dict[str, float]:
    """Per cent of a core of each group over the coming seconds."""
    before = Snapshot.take(who)
    time.sleep(seconds)
    return Snapshot.take(who).percent_since(before)


def memory_mb(who: Groups) -> dict[str, float]:
    """Proportional resident memory (what is shared by n counts 1/n), MB."""
    return {name: sum(_pss_kb(pid) for pid in tree(tops)) / 1024 for name, tops in who.items()}


def resident_mb(who: Groups) -> dict[str, float]:
    """Resident memory (RSS), MB; of a group the sum, shared pages counted in each."""
    return {name: sum(_rss_kb(pid) for pid in tree(tops)) / 1024 for name, tops in who.items()}


def _pss_kb(pid: int) -> int:
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss")


def _rss_kb(pid: int) -> int:
    return _field(Path(f"/proc/{pid}/status"), "VmRSS")


def _field(path: Path, name: str) -> int:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
