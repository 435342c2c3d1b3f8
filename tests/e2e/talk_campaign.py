"""Many calls at once over all scenarios, hung up at random moments, by everybody who can; and what
is left of them: nothing. In short in test_campaign.py, at length in the soak.
"""

from __future__ import annotations

import heapq
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lab_sound
import psycopg2
from lab import Instance
from lab_ami import Ami
from lab_script import LabStep, write_script
from stack import FINAL, Stack

from backend.model import Reason
from tests.e2e.plain_lab import observer

AT_ONCE = 40
SETTINGS = {
    "DIALOG_WORKERS": "2",
    "DIALOG_MAX_CALLS": str(AT_ONCE),
    "DIALOG_VARIABLES": "seed,numbers,room,operator,to",
    "DIALOG_SPEECH_VOICE": "john",
}
READY = (
    *("article", "echo", "once", "keys", "transcribe", "verbose", "no-such-number"),
    *("conference-host", "conference-guest", "dial-for-me", "screened", "to-person"),
)
ENDLESS = ("transcribe", "conference-host", "conference-guest")
UNANSWERED = ("105", "106", "107", "109", "143", "149", "999")
LEGS = ("1050001", "1070001", "1400001", "1420001", "1430001", "9990001", "1509991", "1509992")
"""None of them stays: a talk has an end, also where nobody hangs up whom. The last two speak."""
SLOW = "1060001"  # never answers: for who dials with a short time-out
WORDS = ("yes please", "no thank you", "operator")
ENDS_S = 600.0
FEW = 100
"""Calls in the queue: the next ones are handed in when there are fewer."""
REASONS = {str(reason) for reason in Reason}
MINE = (Reason.BACKEND_LOST, Reason.ASTERISK_LOST, Reason.ASTERISK_REFUSED)
"""Nobody died here, and everything that is dialled may be."""


@dataclass
class Campaign:
    """One campaign on a stack; ``seed`` repeats it, as far as a busy machine can."""

    stack: Stack
    seed: int
    tasks: list[str] = field(default_factory=list)
    inbound: int = 0
    kills: Counter[str] = field(default_factory=Counter)

    def run(self, count: int) -> None:
        """COUNT calls; returns when each has its end."""
        lab = self.stack.lab
        chance = random.Random(self.seed)
        due: list[tuple[float, int, str, str]] = []  # when, number, which channel, of whom
        for phone in LEGS[-2:]:
            says = LabStep("then", 2, "say", WORDS[0])
            write_script(lab, phone, [says, LabStep("then", 2, "hangup")])
        with observer(lab.pbx) as ami, observer(lab.subscriber) as subscriber:
            for number in range(count):
                self._wait(lambda: self._queued() < FEW, due, ami)
                whom = self._start(chance, number, subscriber)
                kind, after_s = (
                    chance.choices(("caller", "leg", ""), (2, 2, 6))[0],
                    chance.uniform(1, 15),
                )
                if kind and whom:
                    heapq.heappush(due, (time.monotonic() + after_s, number, kind, whom))
                self._kill(due, ami)
            self._wait(self._over, due, ami)

    def _start(self, chance: random.Random, number: int, subscriber: Ami) -> str:
        """One call; the unique id of its channel, if that is known."""
        scenario = chance.choice((*READY, "anything", "anything", "anything", "anything"))
        phone = f"150{self.seed % 1000:03}{number:05}"
        write_script(self.stack.lab, phone, steps(chance, endless=scenario in ENDLESS))
        if chance.random() < 0.1:
            self.inbound += 1
            subscriber.originate(f"7495{number:07}", "subscriber", exten=phone, trunk="pbx")
            return ""
        if chance.random() < 0.15:
            phone = f"{chance.choice(UNANSWERED)}{number:05}"
        given = {
            "var_seed": str(chance.random()),
            "var_numbers": "-".join([*chance.sample(LEGS, 4), SLOW]),
            "var_room": chance.choice(("one", "two")),
            "var_operator": chance.choice(LEGS),
            "var_to": chance.choice(LEGS),
        }
        timeout = str(chance.choice((2, 5, 30)))
        task = self.stack.originate(phone, scenario=scenario, timeout=timeout, **given)
        self.tasks.append(task["id"])
        return f"dialog-{task['id']}"

    def _wait(self, ready: Callable[[], bool], due: list[Any], ami: Ami) -> None:
        """Until then, hang up who is to be hung up."""
        deadline = time.monotonic() + ENDS_S
        while not ready():
            assert time.monotonic() < deadline, self.story()
            self._kill(due, ami)
            time.sleep(0.1)

    def _kill(self, due: list[Any], ami: Ami) -> None:
        """An operator hangs up channels whose time has come: a call's own, or any other."""
        while due and due[0][0] < time.monotonic():
            _, number, kind, whom = heapq.heappop(due)
            if kind == "leg":
                others = [name for name in self._others() if name]
                if not others:
                    continue
                whom = others[number % len(others)]
            answer = ami.action("Hangup", Channel=whom, Cause=str((16, 17, 34, 127)[number % 4]))
            self.kills[f"{kind}: {answer['Response']}"] += 1

    def _others(self) -> list[str]:
        """Channels of legs and transfers: their unique ids are not a task's."""
        lines = self.stack.lab.pbx.cli("core show channels concise").splitlines()
        fields = [line.split("!") for line in lines if line.startswith("PJSIP/")]
        return [one[0] for one in fields if not one[-1].startswith("dialog-")]

    def _queued(self) -> int:
        return int(self.rows("SELECT count(*) FROM tasks WHERE state = 'queued'")[0][0])

    def _over(self) -> bool:
        """Every task is final, every inbound call has its end, no channel is left."""
        open_tasks = "SELECT count(*) FROM tasks WHERE state NOT IN %s"
        left = self.rows(open_tasks, (FINAL,))[0][0]
        return not left and not self.stack.lab.subscriber.channels()

    # -- what is told

    def rows(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.stack.dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall()

    def story(self) -> str:
        """For a failure's text, and for the soak's report."""
        ends = self.rows("SELECT state, reason, count(*) FROM tasks GROUP BY 1, 2 ORDER BY 1, 2")
        calls = self.rows("SELECT direction, state, reason, count(*) FROM calls GROUP BY 1, 2, 3")
        left = self.rows("SELECT id, scenario, state FROM tasks WHERE state NOT IN %s", (FINAL,))
        return (
            f"seed {self.seed}: tasks {ends}; calls {calls}; killed {dict(self.kills)}; left {left}"
        )

    def check(self) -> None:
        """Every task and call has ended once, for one of the reasons that there are."""
        ends = self.rows("SELECT id, state, reason, change FROM tasks")
        for task_id, state, reason, _ in ends:
            assert state in FINAL, self.story()
            assert reason in REASONS and reason not in MINE, (task_id, state, reason, self.story())
        assert {task_id for task_id, *_ in ends} >= set(self.tasks), self.story()
        unended = self.rows(
            "SELECT id, scenario FROM calls WHERE ended_at IS NULL OR state IS NULL"
        )
        assert not unended, (unended, self.story())
        twice = self.rows(
            "SELECT task_id FROM calls GROUP BY 1 HAVING count(*) > 1 AND task_id IS NOT NULL"
        )
        assert not twice, twice
        hangups = self.rows(
            "SELECT uniqueid, count(*) FROM events WHERE name = 'Hangup'"
            " AND uniqueid LIKE 'dialog-%' GROUP BY 1 HAVING count(*) > 1"
        )
        assert not hangups, hangups
        raised = set(tracebacks(self.stack.log_path.read_text(errors="replace")))
        assert raised <= {"ZeroDivisionError: the campaign's own"}, raised


def tracebacks(log: str) -> list[str]:
    """The last line of each traceback in it."""
    blocks = log.split("Traceback (most recent call last):\n")[1:]
    return [
        next(line for line in block.splitlines() if not line.startswith(" ")) for block in blocks
    ]


def steps(chance: random.Random, *, endless: bool) -> list[LabStep]:
    """What a caller does; a third of them hang up in the midst, all do in the end."""
    found: list[LabStep] = []
    polite = chance.random() < 0.5
    for _ in range(chance.randint(0, 4)):
        when = "then" if endless or not polite else chance.choice(("after", "over"))
        what = chance.choice(
            [("say", word) for word in WORDS]
            + [
                ("press", "5"),
                ("press", f"{chance.choice(LEGS)}#"),
                ("cough", ""),
                ("silence", "1"),
            ]
        )
        found.append(LabStep(when, round(chance.uniform(0.3, 2), 2), *what))
        if not endless and chance.random() < 0.15:
            break
    if endless or chance.random() < 0.4:
        after_s = round(chance.uniform(0, 8), 2)
        found.append(LabStep("then", after_s, "hangup", chance.choice(("16", "17", "21", ""))))
    return found


# -- what is left


@dataclass(frozen=True)
class Held:
    """What a process has at a moment of rest. ``kinds``: of its descriptors."""

    threads: int
    kinds: Counter[str]

    def beyond(self, before: Held) -> str:
        """What it has more than before; empty: nothing."""
        threads = f"{before.threads} threads, now {self.threads}"
        found = [threads] if self.threads > before.threads else []
        found += [f"{count} more {kind}" for kind, count in (self.kinds - before.kinds).items()]
        return ", ".join(found)


def held(stack: Stack) -> dict[str, Held]:
    asterisks = {"pbx": stack.lab.pbx, "subscriber": stack.lab.subscriber}
    pids = {name: one.pid for name, one in asterisks.items()} | dict(stack.info["pids"])
    found = {name: Held(threads(pid), kinds(pid)) for name, pid in pids.items()}
    # A pool of connections is filled when they are needed, and has a bound of its own.
    for name, pooled in connections(stack).items():
        found[name].kinds["socket"] -= pooled
    return found


def connections(stack: Stack) -> Counter[str]:
    """To PostgreSQL, of each process of the backend."""
    query = "SELECT application_name FROM pg_stat_activity"
    with closing(psycopg2.connect(stack.dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        names = [str(row[0]) for row in cursor.fetchall()]
    return Counter(
        process for name in names for process in stack.info["pids"] if process in name.split()
    )


def threads(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def kinds(pid: int) -> Counter[str]:
    """Its descriptors: what each is, or its path without numbers: journals are numbered."""
    found: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[re.sub(r"\d+", "", str(link.readlink()).partition(":[")[0])] += 1
    return found


def open_files(below: Path) -> list[str]:
    """Files in this folder that any process has open."""
    return [f"{link}: {target}" for link, target in links() if target.startswith(f"{below}/")]


def links() -> Iterator[tuple[Path, str]]:
    for process in Path("/proc").glob("[0-9]*/fd"):
        try:
            for link in process.iterdir():
                yield link, str(link.readlink())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue


def nothing_left(stack: Stack, before: Mapping[str, Held], story: Callable[[], str]) -> None:
    """No channel, fork, bridge, conference, leg, stream, open recording; no more threads and
    descriptors than before."""
    lab = stack.lab

    def left() -> str:
        found = [
            f"{one.name}: {one.channels()}" for one in (lab.pbx, lab.subscriber) if one.channels()
        ]
        found += [text for text in asterisk_says(lab.pbx) if text]
        found += open_files(lab.recordings)
        found += [f"{kind} {value}" for kind, value in workers_say(stack).items() if value]
        more = ((who, now.beyond(before[who])) for who, now in held(stack).items())
        found += [f"{who}: {what}" for who, what in more if what]
        return "; ".join(found)

    try:
        stack.wait_for("nothing to be left", lambda: not left() or None, 90)
    except Exception as error:
        raise AssertionError(f"left: {left()}; {story()}") from error
    for path in lab.recordings.rglob("*.wav"):
        lab_sound.read(path)  # raises for one without a whole head


def asterisk_says(pbx: Instance) -> Iterator[str]:
    forks = pbx.cli("audiofork list")
    yield "" if "0 AudioFork(s)" in forks else forks
    bridges = pbx.cli("bridge show all").splitlines()[1:]
    yield "; ".join(line for line in bridges if line.strip())
    rooms = pbx.cli("confbridge list").splitlines()
    yield "; ".join(line for line in rooms if line.startswith(("one", "two", "meeting")))


def workers_say(stack: Stack) -> dict[str, int]:
    kinds = ("legs", "leg_sessions", "calls", "streams")
    with closing(psycopg2.connect(stack.dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT stats FROM instances WHERE process LIKE 'voice%'")
        stats = [row[0] for row in cursor.fetchall()]
    return {kind: sum(one[kind] for one in stats) for kind in kinds}
