#!/usr/bin/env python3
"""Keys during prompts: the machine's speed, simulated prompts, and real ones over which callers
press keys at random; what they pressed is read off the wire, what became of it from the steps.

    sudo -E python3 tests/bench/keying.py [--asterisk 16|22] [--calls 50] [--rounds 10]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg2

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[0:1] = [str(ROOT), str(ROOT / "asterisk" / "lab")]

import lab_sound  # noqa: E402
from lab_config import DEFAULT_VERSION, VERSIONS  # noqa: E402
from lab_script import LabStep, write_script  # noqa: E402
from stack import Stack  # noqa: E402

from backend import Call, KeyGuard  # noqa: E402
from backend.keying import events as ev  # noqa: E402
from backend.keying.machine import step  # noqa: E402
from backend.keying.state import State  # noqa: E402
from backend.testing import FakeCall, press  # noqa: E402
from tests.bench.figures import Sample, Table  # noqa: E402
from tests.e2e.key_wire import KeyWire  # noqa: E402

CALLS, ROUNDS = 50, 10
SIMULATED = 10_000
STEPS_S = 2.0
PROMPT_MS = 2000
OPEN_BEFORE_MS = 500
GREY_MS = 60  # a key so close to the opening may be either
AIM_STEPS = 10_000
SCENARIOS = Path(__file__).with_name("scenarios")


# -- the machine


def events() -> Iterator[ev.Event]:
    """Prompt after prompt, with a key in it and an answer to it."""
    rules, now = KeyGuard(), 0
    for number in range(1, 1_000_000):
        play = f"p{number}"
        yield ev.PlayOrdered(now, now, number, rules)
        yield ev.GuardSet(now + 5, now + 5, f"g{number}", "block", "asked")
        yield ev.Stretch(now + 6, play, PROMPT_MS, True)
        yield ev.Progress(now + 20, play, 0)
        yield ev.Pressed(now + 900, now + 800, "1", "blocked", 100, now + 900)
        yield ev.Progress(now + 1020, play, 1000)
        yield ev.PlayOver(now + 2020, now + 2020)
        yield ev.InputWanted(now + 2021, now + 2021, rules)
        yield ev.Pressed(now + 2800, now + 2700, "2", "passed", 100, now + 2800)
        yield ev.Take(now + 2801)
        yield ev.InputOver(now + 2802, now + 2802, "digits", rules)
        now += 3000


def steps_per_s() -> float:
    """Steps of the machine per second, in one thread."""
    state, count, source = State(), 0, events()
    state, _ = step(state, ev.Linked(0, True))
    ends = time.process_time() + STEPS_S
    began = time.process_time()
    while time.process_time() < ends:
        for _ in range(1000):
            state, _ = step(state, next(source))
        count += 1000
    return count / (time.process_time() - began)


# -- simulated prompts


@dataclass
class Counted:
    """``pressed``: in the prompts, and when keys were open. ``late_ms``: of keys that Asterisk
    judged otherwise than the wire says, how long before or behind the opening they began."""

    prompts: int = 0
    broken: int = 0
    pressed_over: int = 0
    pressed_open: int = 0
    unclear: int = 0
    blocked: int = 0
    taken: int = 0
    released: int = 0
    alarms: int = 0
    late_ms: list[float] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    error_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def success(self) -> str:
        return f"{(1 - self.broken / max(self.prompts, 1)) * 100:g} %"

    @property
    def loss(self) -> str:
        """Of the keys that came when they were open, as the caller's side knows it."""
        lost = self.pressed_open - self.taken
        return f"{max(lost, 0) / max(self.pressed_open, 1) * 100:g} %"

    def steps(self, found: list[tuple[str, str, dict[str, Any]]]) -> None:
        """A call's: kind, state, body."""
        for kind, state, body in found:
            verdict = body.get("verdict")
            self.blocked += verdict in ("blocked", "buffered", "conflict")
            self.taken += verdict == "taken"
            self.released += verdict == "released"
            self.broken += verdict == "taken" and state == "playing"
            self.alarms += kind == "alarm"
            if kind == "state" and "took_ms" in body:
                self.took_ms.append(body["took_ms"])
            if kind == "state" and "error_ms" in body:
                self.error_ms.append(abs(body["error_ms"]))


def simulated(prompts: int, chance: random.Random) -> Counted:
    """Ten prompts a call, a key over each at a random place, then an answer."""
    found, policies = Counted(prompts=prompts), cycle([KeyGuard(), KeyGuard("buffer")])
    for _ in range(prompts // 10):
        script, rules = [], next(policies)
        for _ in range(10):
            script.append(press("1", over_prompt=True, after_s=chance.uniform(0, 1.7)))
            script.append(press("2"))

        def scenario(call: Call, rules: KeyGuard = rules) -> list[str]:
            call.answer()
            call.guard_keys(rules)
            prompt = "A prompt of two and a half seconds, or so."
            return [call.read_digits(2, prompt=prompt).digits for _ in range(10)]

        call = FakeCall(*script)
        ended = call.run(scenario)
        wanted = "12" if rules.policy == "buffer" else "2"
        if ended.result != [wanted] * 10:
            found.failures.append(f"simulated: {ended.result} {ended.error}")
        found.pressed_over += 10
        found.pressed_open += 10
        found.steps([(s.kind, s.state, dict(s.body)) for s in call.steps])
    return found


# -- real prompts


def real(folder: Path, asterisk: str, calls: int, rounds: int, chance: random.Random) -> Counted:
    """All calls at once, half with each policy."""
    env = {
        "DIALOG_SCENARIOS_DIR": str(SCENARIOS),
        "DIALOG_DIAL_RATE_PER_S": "50",
        "DIALOG_VARIABLES": "policy,rounds",
        "DIALOG_MAX_CALLS": str(calls),
    }
    found = Counted(prompts=calls * rounds)
    with (
        Stack(folder, env=env, asterisk=asterisk, tapes=False) as stack,
        KeyWire(stack.lab.ports) as wire,
    ):
        lab_sound.write(stack.lab.sounds / "bench-prompt.wav", lab_sound.tone(PROMPT_MS))
        tasks = []
        for number in range(calls):
            phone, policy = f"150{number + 1}", "buffer" if number % 2 else "drop"
            write_script(stack.lab, phone, presses(rounds, chance))
            task = stack.originate(
                phone, scenario="bench-keys", var_policy=policy, var_rounds=str(rounds)
            )
            tasks.append((phone, policy, task["id"]))
        for phone, policy, task_id in tasks:
            task = stack.ended(task_id, 120 + rounds * 6)
            wanted = ("12",) if policy == "buffer" else ("2", "12")  # where the first came late
            if task["state"] != "done" or any(read not in wanted for read in task["result"]):
                found.failures.append(f"{phone} {policy}: {task['result']} {task['error']}")
        for phone, _, task_id in tasks:
            steps = stored(stack, task_id)
            found.steps(steps)
            compare(found, wire, phone, steps)
    return found


def presses(rounds: int, chance: random.Random) -> list[LabStep]:
    """Over each prompt a key somewhere in its blocked part, and one behind its end."""
    found = []
    for _ in range(rounds):
        over_s = round(chance.uniform(0.05, 1.2), 3)
        found.append(LabStep("over", over_s, "press", "1"))
        found.append(LabStep("then", round(2.35 - over_s, 3), "press", "2"))
        found.append(LabStep("then", 0.3, "silence", "0.1"))
    return found


def compare(
    found: Counted, wire: KeyWire, phone: str, steps: list[tuple[str, str, dict[str, Any]]]
) -> None:
    """Each key of the wire, by the prompt that it began in or behind, with what became of it."""
    begins = [begin for begin, _ in wire.sounds(phone)]
    first = [
        body["verdict"]
        for kind, _, body in steps
        if kind == "key" and body["verdict"] not in ("released", "discarded")
    ]
    keys = wire.keys(phone)
    if len(keys) != len(first):
        found.failures.append(f"{phone}: {len(keys)} keys on the wire, {len(first)} in the steps")
    for key, verdict in zip(keys, first, strict=False):
        begin = max((b for b in begins if b <= key.at), default=0.0)
        at_ms = (key.at - begin) * 1000 - (PROMPT_MS - OPEN_BEFORE_MS)
        if abs(at_ms) <= GREY_MS:
            found.unclear += 1
            continue
        found.pressed_over += at_ms < 0
        found.pressed_open += at_ms > 0
        if (verdict == "taken") is (at_ms < 0):
            found.late_ms.append(abs(at_ms))


def stored(stack: Stack, task_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    """A call's steps, when all have come to PostgreSQL."""

    def all_of_it() -> list[tuple[str, str, dict[str, Any]]] | None:
        with closing(psycopg2.connect(stack.dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT kind, state, body FROM steps WHERE task_id = %s ORDER BY at_ms, n",
                (task_id,),
            )
            rows = list(cursor.fetchall())
        return rows if rows and any(row[2].get("event") == "hangup" for row in rows) else None

    return stack.wait_for("the steps", all_of_it)


# -- tables


def tables(
    folder: Path, asterisk: str, calls: int = CALLS, rounds: int = ROUNDS,
    prompts: int = SIMULATED,
) -> tuple[list[Table], list[str]]:  # fmt: skip
    """Measure, the real ones in a stack of its own in FOLDER; and what should not be."""
    chance = random.Random(5)
    speed = steps_per_s()
    found = {
        f"{prompts} simulated": simulated(prompts, chance),
        f"{calls * rounds} real, {calls} calls at once": real(
            folder, asterisk, calls, rounds, chance
        ),
    }
    failures = [f"keying: {speed:.0f} steps a second"] if speed < AIM_STEPS else []
    for name, one in found.items():
        failures += [f"keying: {it}" for it in one.failures]
        agree = one.blocked + one.taken == one.pressed_over + one.pressed_open + one.unclear
        if one.broken or one.late_ms or not agree:
            failures.append(f"keying: {name}: broken, or keys that do not agree: {one}"[:300])
    return [prompt_table(found), time_table(found, speed)], failures


def prompt_table(found: dict[str, Counted]) -> Table:
    table = Table(
        "Keys during prompts",
        (
            "prompts",
            "pressed over them",
            "when open",
            "unclear",
            "blocked or kept",
            "taken",
            "play_block_success_rate",
            "dtmf_loss_rate",
            "otherwise",
            "alarms",
        ),
    )
    for name, one in found.items():
        table.add(
            name,
            *(str(n) for n in (one.pressed_over, one.pressed_open, one.unclear)),
            str(one.blocked),
            str(one.taken),
            one.success,
            one.loss,
            f"{len(one.late_ms)} ({max(one.late_ms, default=0):.0f} ms)",
            str(one.alarms),
        )
    table.notes.append(
        "What was pressed is what the caller's side sent (the wire); what became of it is computed"
        f" from the stored steps, key by key. Unclear: within {GREY_MS} ms of the opening."
        " Otherwise: judged not as the wire says, since a busy Asterisk read the key so late."
    )
    return table


def time_table(found: dict[str, Counted], speed: float) -> Table:
    table = Table("The guard's times", ("ms", "samples", "median", "p95", "max"))
    *_, one = found.values()
    table.add("order to block until it is in force", *Sample.of(one.took_ms).cells(1))
    table.add("early opening from its place", *Sample.of(one.error_ms).cells(1))
    table.notes.append(f"The machine alone: {speed:,.0f} steps a second and core.")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--asterisk", choices=sorted(VERSIONS), default=DEFAULT_VERSION)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--prompts", type=int, default=SIMULATED)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dialog-keying-") as folder:
        Path(folder).chmod(0o755)
        found, failures = tables(
            Path(folder), options.asterisk, options.calls, options.rounds, options.prompts
        )
    print("\n".join([*(table.markdown() for table in found), *failures]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
