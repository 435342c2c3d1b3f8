#!/usr/bin/env python3
"""Guarded prompts with keys pressed over them: how fast the block is in force, how exactly it
opens, with one call and with fifty.

By the calls' steps, the subscriber's tapes and the keys that he sent (tests/e2e/prompt_calls.py);
each key is proved besides.

    sudo -E python3 tests/bench/prompts.py [--asterisk 16|22] [--alone 5] [--at-once 50]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0:1] = [str(ROOT), str(ROOT / "asterisk" / "lab")]

from lab_config import DEFAULT_VERSION, VERSIONS  # noqa: E402
from stack import Stack  # noqa: E402

from tests.bench.figures import Sample, Table  # noqa: E402
from tests.e2e.prompt_calls import SETTINGS, Account, Hand, Judge, write_prompts  # noqa: E402

SCENARIOS = ROOT / "tests" / "e2e" / "scenarios"
AIM_MS = 20


def prompts_stack(folder: Path, asterisk: str, at_once: int) -> Stack:
    sounds = folder.resolve() / "lab" / "sounds"
    sounds.mkdir(parents=True)
    write_prompts(sounds)
    env = {
        "DIALOG_SCENARIOS_DIR": str(SCENARIOS),
        "DIALOG_DIAL_RATE_PER_S": "8",
        "DIALOG_MAX_CALLS": str(at_once),
        **SETTINGS,
    }
    return Stack(folder, env=env, asterisk=asterisk)


def measure(stack: Stack, alone: int, at_once: int) -> tuple[Account, Account]:
    """Calls one at a time, then all at once."""
    hand, one = Hand(stack, 1), Judge(stack)
    for _ in range(alone):
        for talk in hand.dial(1):
            one.judge(talk)
    many = Judge(stack)
    for talk in Hand(stack, 2).dial(at_once):
        many.judge(talk)
    return one.account, many.account


def table(accounts: Iterable[tuple[str, Account]]) -> Table:
    made = Table(
        "Keys during prompts: the block in Asterisk, and its opening",
        ["ms", "number", "median", "p95", "max"],
    )
    for name, found in accounts:
        told = Sample.of(abs(value) for value in found.opening_told_ms)
        wrong = Sample.of(abs(value) for value in found.misjudged_ms)
        rows = {
            "order to block → told that it is in force": Sample.of(found.switch_ms),
            "opening: played against the place ordered": Sample.of(map(abs, found.opening_ms)),
            "opening told ↔ its place in the prompt on the wire": told,
            "keys within 300 ms of it: so far on the wrong side": wrong,
        }
        for row, sample in rows.items():
            made.add(f"{name}: {row}", *sample.cells(1))
    made.notes.append(
        f"Aims: {AIM_MS} ms, ±{AIM_MS} ms. A block is in force before that is told: the news goes"
        " in its place between the messages of audio, which come every 20 ms. An opening comes with"
        " the frame that begins nearest to its place; the places here are beginnings of frames."
    )
    return made


def proof(accounts: Iterable[tuple[str, Account]]) -> Table:
    """What became of the keys."""
    made = Table(
        "Keys during prompts: each key on the wire, each in the steps",
        ["", "prompts", "unbroken", "keys sent", "blocked", "kept and delivered", "taken", "wrong"],
    )
    for name, found in accounts:
        verdicts = found.verdicts
        cells = (found.prompts, found.unbroken, found.pressed)
        ends = [verdicts[end] for end in ("blocked", "released", "taken")]
        made.add(name, *map(str, (*cells, *ends, len(found.problems))))
    made.notes.append("By RFC 4733, SIP INFO and tones, a third of the calls each.")
    return made


def tables(
    folder: Path, asterisk: str, *, alone: int, at_once: int
) -> tuple[list[Table], list[str]]:
    """All of it, in a stack of its own; and what should not be."""
    with prompts_stack(folder, asterisk, at_once) as stack:
        one, many = measure(stack, alone, at_once)
    accounts = [("1 call", one), (f"{at_once} calls", many)]
    failures = [
        f"prompts: {problem.splitlines()[0]}"
        for _, account in accounts
        for problem in account.problems
    ]
    return [table(accounts), proof(accounts)], failures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--asterisk", choices=VERSIONS, default=DEFAULT_VERSION)
    parser.add_argument("--alone", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dialog-prompts-") as folder:
        Path(folder).chmod(0o755)
        found, failures = tables(
            Path(folder), options.asterisk, alone=options.alone, at_once=options.at_once
        )
    print("\n".join(one.markdown() for one in found))
    print("\n".join(failures) or "nothing was wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
