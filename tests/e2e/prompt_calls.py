"""Calls of guarded prompts and inputs, whose keys are pressed at known times; and the proof, key by
key, that what the subscriber sent on the wire and what the steps say are the same.

Who says what: the prompts' places, and the keys with the moments in which they went down, are read
off the subscriber's wire; what was read from the call's result; what became of each key from
PostgreSQL. The one place taken from the steps is that of the block after an input, which cannot be
heard.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lab_sound
import psycopg2
from lab_keys import INBAND, INFO, RFC4733, WireKey, dtmf
from lab_script import LabStep, word_file, write_script
from lab_sound import Samples, Span, spans
from stack import Stack

from tests.e2e.scenarios.prompts import PITCHES

ROUNDS = len(PITCHES)  # of a call: a prompt, then an input
PROMPT_MS = 1600
OPEN_MS = 500  # KeyGuard.open_before_end_s
PLACE_MS = PROMPT_MS - OPEN_MS
EDGES_MS = (-600, -500, -400, -100, 0, 20)  # from the prompt's end: where keys go down
KEYS = "0123456789ABCD"
TRUNKS = {RFC4733: "default", INFO: "info", INBAND: "inband"}
SETTINGS = {
    "DIALOG_CHANNELS": (
        "default=PJSIP/{phone}@subscriber,info=PJSIP/{phone}@subscriber-info,"
        "inband=PJSIP/{phone}@subscriber-inband"
    ),
}
# How long a key's step takes before it goes down, and from then on: SendDTMF, or a word of 100 ms.
PRESS_MS, SAY_MS = (100, 200), (5, 105)
TONE_SEEN_MS = 45  # Asterisk's detector needs so much of a tone
# So near to a switch a key may be on either side of it, and farther by as much as the call's latest
# packet was late: a PBX whose machine was too busy to send in time did not read in time either.
EDGE_MS = 60
STRETCH_MS = 62  # of a busy machine's timers; on the tape it is in whole packets
ENDS_S = 240.0


@dataclass(frozen=True)
class Talk:
    """One call."""

    number: str
    way: str
    policy: str
    task: str

    @property
    def name(self) -> str:
        return f"{self.number} {self.way} {self.policy}"


@dataclass(frozen=True)
class Group:
    """All that the steps say of one key."""

    key: str
    at_ms: int
    verdicts: tuple[str, ...]


@dataclass
class Account:
    """What the calls came to. ``zones``: keys by where they were, way and verdicts."""

    problems: list[str] = field(default_factory=list)
    zones: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    prompts: int = 0
    unbroken: int = 0
    pressed: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    switch_ms: list[float] = field(default_factory=list)
    opening_ms: list[float] = field(default_factory=list)  # as the module tells
    opening_told_ms: list[float] = field(default_factory=list)  # after its place was on the wire
    misjudged_ms: list[float] = field(default_factory=list)  # before (-) or after the place
    late_ms: list[float] = field(default_factory=list)  # of each call, the latest packet
    stretch_ms: list[float] = field(default_factory=list)  # of prompts
    alarms: Counter[str] = field(default_factory=Counter)

    def edges(self) -> int:
        return sum(count for (zone, *_), count in self.zones.items() if zone == "edge")

    def story(self) -> str:
        lines = [
            f"{self.prompts} prompts, {self.unbroken} unbroken; {self.pressed} keys pressed;"
            f" verdicts {dict(self.verdicts)}; alarms {dict(self.alarms)}",
            *(f"  {' '.join(zone)}: {count}" for zone, count in sorted(self.zones.items())),
        ]
        for name in (
            "switch_ms",
            "opening_ms",
            "opening_told_ms",
            "misjudged_ms",
            "late_ms",
            "stretch_ms",
        ):
            found = sorted(getattr(self, name))
            if found:
                p95 = found[min(len(found) - 1, round(0.95 * len(found)))]
                lines.append(
                    f"  {name}: {len(found)}, median {statistics.median(found):.1f}, p95 {p95:.1f},"
                    f" least {found[0]:.1f}, most {found[-1]:.1f}"
                )
        return "\n".join([*lines, *self.problems])


def write_prompts(folder: Path) -> None:
    for hz in PITCHES:
        lab_sound.write(folder / f"guarded-{hz}.wav", lab_sound.tone(PROMPT_MS, hz))


# -- the subscriber


def plan(luck: random.Random, way: str) -> list[LabStep]:
    """A call's keys: in each round some over the prompt, one at an edge, some while input is
    awaited, its end, and often one while the backend thinks."""
    ring = _ring(luck)
    steps = [LabStep("then", 0, "info")] if way == INFO else []
    for number in range(ROUNDS):
        edge_ms = PROMPT_MS + luck.choice(EDGES_MS)
        downs = [luck.uniform(200, min(edge_ms - 350, 650)), edge_ms]
        if edge_ms > 1400:
            downs.insert(1, luck.uniform(downs[0] + 320, edge_ms - 320))
        for _ in range(luck.randint(0, 2)):
            downs.append(max(downs[-1] + 310, PROMPT_MS) + luck.uniform(20, 250))
        keys = [(down, next(ring)) for down in downs]
        keys.append((max(downs[-1] + 310, PROMPT_MS + 300) + luck.uniform(0, 200), "#"))
        if number + 1 < ROUNDS and luck.random() < 0.6:
            keys.append((keys[-1][0] + luck.uniform(330, 450), next(ring)))
        steps += _round(keys, SAY_MS if way == INBAND else PRESS_MS, way)
    return steps


def _ring(luck: random.Random) -> Iterator[str]:
    keys = luck.sample(KEYS, len(KEYS))
    while True:
        yield from keys


def _round(keys: Sequence[tuple[float, str]], lasts: tuple[int, int], way: str) -> list[LabStep]:
    """The steps that press KEYS, each at its time from the prompt's first sound."""
    steps: list[LabStep] = []
    now_ms = 40.0  # then the first sound is known
    for down_ms, key in keys:
        wait_s = max(down_ms - lasts[0] - now_ms, 0) / 1000
        when = "then" if steps else "over"
        verb, what = ("say", f"key {key}") if way == INBAND else ("press", key)
        steps.append(LabStep(when, round(wait_s, 3), verb, what))
        now_ms = max(down_ms, now_ms + lasts[0]) + lasts[1]
    return steps


class Hand:
    """Hands in the calls; how many are up at a time is DIALOG_MAX_CALLS."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self._luck = random.Random(seed)
        self._seed = seed
        self._numbers = itertools.count()  # each call's own: the tapes are kept by it
        for key in (*KEYS, "#"):
            word_file(stack.lab, f"key {key}", dtmf(key))

    def dial(self, count: int) -> list[Talk]:
        """So many calls: all ways, both policies."""
        talks = []
        kinds = [(way, policy) for policy in ("drop", "buffer") for way in TRUNKS]
        for number in itertools.islice(self._numbers, count):
            way, policy = kinds[number % len(kinds)]
            phone = f"150{self._seed % 1000:03}{number:04}"
            write_script(self._stack.lab, phone, plan(self._luck, way))
            task = self._stack.originate(phone, scenario=f"guarded-{policy}", channel=TRUNKS[way])
            talks.append(Talk(phone, way, policy, str(task["id"])))
        return talks


# -- the proof


class Judge:
    """Holds the calls' wire against their steps; ``account`` is what came of it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.account = Account()

    def judge(self, talk: Talk) -> None:
        task = self._stack.ended(talk.task, ENDS_S)
        account = self.account
        if task["state"] != "done":
            account.problems.append(f"{talk.name}: {task['reason']} {task['error']}")
            return
        lab = self._stack.lab
        steps = self._steps(talk)
        proof = Proof(talk, task["result"], lab.pressed(talk.number), steps, lab.begun(talk.number))
        late_ms = max(
            float(tape.with_suffix(".late").read_text())
            for tape in (lab.heard(talk.number), lab.said(talk.number))
        )
        proof.prompts(lab_sound.read(lab.heard(talk.number)), late_ms)
        proof.keys()
        proof.figures(account)
        if proof.problems:
            proof.problems.append(f"{talk.name}: {proof.picture()}")
        account.problems += proof.problems

    def _steps(self, talk: Talk) -> list[dict[str, Any]]:
        """Stored a moment after the call's end is."""
        query = (
            "SELECT kind, state, at_ms, body, extract(epoch FROM at)::float8 FROM steps"
            " WHERE task_id = %s ORDER BY n"
        )

        def whole() -> list[dict[str, Any]] | None:
            with closing(psycopg2.connect(self._stack.dsn)) as connection:
                cursor = connection.cursor()
                cursor.execute(query, (talk.task,))
                rows = cursor.fetchall()
            names = ("kind", "state", "at_ms", "body", "at")
            found = [dict(zip(names, row, strict=True)) for row in rows]
            over = found and found[-1]["kind"] == "state" and found[-1]["state"] == "off"
            return found if over else None

        return self._stack.wait_for(f"the steps of {talk.name}", whole)


class Proof:
    """One call's."""

    def __init__(
        self,
        talk: Talk,
        result: dict[str, Any],
        pressed: list[WireKey],
        steps: list[dict[str, Any]],
        begun: float,
    ) -> None:
        self.talk = talk
        self.problems: list[str] = []
        self._result = result
        self._pressed = pressed
        self._steps = steps
        self._prompts: list[Span] = []
        self._unbroken = 0
        self._groups = groups(steps)
        self._begun = begun
        self._late_ms = 0.0
        self._moments: list[tuple[float, float, str]] = []
        self._zones: list[str] = []

    def wrong(self, text: str) -> None:
        self.problems.append(f"{self.talk.name}: {text}")

    # Prompts

    def prompts(self, heard: Samples[int], late_ms: float) -> None:
        """Each was heard, of its own pitch, without a gap, for its exact length."""
        self._prompts = spans(heard, gap_ms=300)
        self._late_ms = late_ms
        if len(self._prompts) != ROUNDS:
            self.wrong(f"{len(self._prompts)} prompts were heard")
            return
        for number, (span, hz) in enumerate(zip(self._prompts, PITCHES, strict=True)):
            sound_ms = lab_sound.sound_ms(heard, span)
            pitch = lab_sound.pitch_hz(heard, span)
            whole = abs(sound_ms - PROMPT_MS) <= 2 and abs(pitch - hz) < 20
            if whole and span.length_ms <= PROMPT_MS + STRETCH_MS + late_ms:
                self._unbroken += 1
            else:
                self.wrong(
                    f"prompt {number} is broken: {sound_ms:.1f} ms of sound in"
                    f" {span.length_ms:.1f} ms, {pitch:.0f} Hz, latest packet {late_ms} ms late"
                )
        if self._result["ends"] != ["completed"] * ROUNDS:
            self.wrong(f"prompts ended {self._result['ends']}")

    # Keys

    def keys(self) -> None:
        sent = "".join(key.key for key in self._pressed)
        told = "".join(group.key for group in self._groups)
        if sent != told:
            self.wrong(f"pressed {sent}, the steps have {told}")
        if sent != told or len(self._prompts) != ROUNDS:
            return
        pairs = list(zip(self._pressed, self._groups, strict=True))
        self._moments = self._switches()
        self._zones = [self._zone(key) for key in self._pressed]
        for (key, group), zone in zip(pairs, self._zones, strict=True):
            if group.verdicts not in self._allowed(zone):
                at_ms = self._from_end(key)
                self.wrong(f"{key.key} at {at_ms:.0f} ms from an end, {zone}: {group.verdicts}")
        self._read([group for _, group in pairs])

    def seen_ms(self, key: WireKey) -> float:
        """When a key goes down as Asterisk can know it at the earliest."""
        return key.down_ms + (TONE_SEEN_MS if key.way == INBAND else 0)

    def judged_ms(self, key: WireKey) -> float:
        """When it is judged: an INFO tells of it when it is over."""
        return key.up_ms if key.way == INFO else self.seen_ms(key)

    def _told_ms(self, step: dict[str, Any]) -> float:
        """When the step was made, on the wire's time."""
        return float(step["at"] - self._begun) * 1000

    def _zone(self, key: WireKey) -> str:
        at_ms = self.judged_ms(key)
        switches = self._moments
        near_ms = EDGE_MS + self._late_ms
        if any(begin - near_ms <= at_ms <= end + near_ms for begin, end, _ in switches):
            return "edge"
        return next((then for _, end, then in reversed(switches) if at_ms > end), "blocked")

    def _switches(self) -> list[tuple[float, float, str]]:
        """From when to when, on the wire's time, it switches, and what holds then."""
        opens = [(p.start_ms + PLACE_MS,) * 2 for p in self._prompts]
        ends = [self.judged_ms(key) for key in self._pressed if key.key == "#"]
        blocks = self._blocks()
        if not len(opens) == len(ends) == len(blocks):
            self.wrong(f"{len(ends)} inputs were ended, {len(blocks)} blocks followed")
        found = [(*place, "open") for place in opens]
        # The end of an input is itself taken: what comes after it is at the edge.
        found += [
            (end + EDGE_MS + self._late_ms + 1, block, "blocked")
            for end, block in zip(ends, blocks, strict=False)
        ]
        return sorted(found)

    def _blocks(self) -> list[float]:
        """When the block after each input was told to be in force: the backend's word."""
        states = [step for step in self._steps if step["kind"] == "state"]
        found = []
        for number, step in enumerate(states):
            if (step["body"]["event"], step["state"]) == ("digits", "processing"):
                rest = (s for s in states[number:] if s["body"]["event"] == "in_force")
                found.append(self._told_ms(next(rest, step)))
        return found

    def _allowed(self, zone: str) -> list[tuple[str, ...]]:
        stopped = ("blocked",) if self.talk.policy == "drop" else ("buffered", "released")
        if zone == "edge":
            # "discarded": it came when its input was complete, and the block not yet ordered.
            both = [("conflict",), ("discarded",)] if self.talk.policy == "drop" else []
            return [stopped, ("taken",), *both]
        return [stopped if zone == "blocked" else ("taken",)]

    def _read(self, found: list[Group]) -> None:
        """What the scenario has read is what the wire says, in order."""
        rounds = [""]
        for group in found:
            if group.key == "#":
                rounds.append("")
            elif group.verdicts[-1] in ("taken", "released"):
                rounds[-1] += group.key
        if self._result["read"] != rounds[:-1]:
            self.wrong(f"read {self._result['read']}, pressed {rounds[:-1]}")

    def _from_end(self, key: WireKey) -> float:
        return min((key.down_ms - p.end_ms for p in self._prompts), key=abs)

    # Figures

    def figures(self, account: Account) -> None:
        account.prompts += len(self._prompts)
        account.unbroken += self._unbroken
        account.pressed += len(self._pressed)
        account.verdicts.update(verdict for group in self._groups for verdict in group.verdicts)
        for key, group, zone in zip(self._pressed, self._groups, self._zones, strict=False):
            account.zones[zone, key.way, "+".join(group.verdicts)] += 1
        opened = []
        for step in self._steps:
            body = step["body"]
            if step["kind"] == "alarm":
                account.alarms[body["alarm"]] += 1
            if "took_ms" in body:
                account.switch_ms.append(body["took_ms"])
            if "error_ms" in body:
                account.opening_ms.append(body["error_ms"])
                opened.append(self._told_ms(step))
        account.opening_told_ms += [
            at_ms - prompt.start_ms - PLACE_MS
            for at_ms, prompt in zip(opened, self._prompts, strict=False)
        ]
        account.misjudged_ms += self._misjudged()
        account.late_ms.append(self._late_ms)
        account.stretch_ms += [prompt.length_ms - PROMPT_MS for prompt in self._prompts]

    def _misjudged(self) -> list[float]:
        """For keys around an opening: how far on the wrong side of its place, 0: they were not."""
        found = []
        for key, group in zip(self._pressed, self._groups, strict=False):
            at_ms = self.judged_ms(key)
            for prompt in self._prompts:
                after_ms = at_ms - prompt.start_ms - PLACE_MS
                if abs(after_ms) < 300:
                    opened = group.verdicts[0] == "taken"
                    found.append(after_ms if opened is (after_ms < 0) else 0.0)
        return found

    def picture(self) -> str:
        """All of it on one time, the wire's."""
        rows = [(p.start_ms, f"prompt …{p.end_ms:.0f}") for p in self._prompts]
        rows += [(k.down_ms, f"{k.key} …{k.up_ms:.0f}") for k in self._pressed]
        for step in self._steps:
            rows.append((self._told_ms(step), f"step {step['state']} {step['body']}"))
        return "\n" + "\n".join(f"    {at:8.0f} {text}" for at, text in sorted(rows))


def groups(steps: Sequence[dict[str, Any]]) -> list[Group]:
    """The steps' keys in the order in which they went down."""
    found: dict[tuple[int, str], list[str]] = {}
    for step in steps:
        if step["kind"] == "key":
            found.setdefault((step["at_ms"], step["body"]["key"]), []).append(
                step["body"]["verdict"]
            )
    return [Group(key, at, tuple(verdicts)) for (at, key), verdicts in sorted(found.items())]
