"""Calls in which the subscriber takes turns, and what came of each."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lab_sound
from stack import Stack

STEP_MS, STEP_HZ, STEPS = 500, 150, 12
STAIRS_MS = STEP_MS * STEPS
LOW_MS, LOW_HZ, HIGH_HZ = 700, 500, 1500
_suffix = itertools.count(1000)


class Calls:
    """One call for each (code of the subscriber's behaviour, scenario) of ``plan``, all begun at
    once."""

    def __init__(self, stack: Stack, plan: Iterable[tuple[str, str]]) -> None:
        self.stack = stack
        self._calls = {}
        for code, scenario in plan:
            phone = f"{code}{next(_suffix)}"
            task = stack.originate(phone, scenario=scenario)
            self._calls[code, scenario] = phone, task["id"]

    def of(self, code: str, scenario: str) -> tuple[dict[str, Any], array[int], array[int]]:
        """Its result, what the subscriber heard and what it said."""
        result = self.result(code, scenario)
        phone, _ = self._calls[code, scenario]
        heard, said = self.stack.lab.heard(phone), self.stack.lab.said(phone)
        return result, lab_sound.read(heard), lab_sound.read(said)

    def task(self, code: str, scenario: str) -> dict[str, Any]:
        """Its task, when it is final."""
        return self.stack.ended(self._calls[code, scenario][1], 90)

    def result(self, code: str, scenario: str) -> dict[str, Any]:
        """What the scenario returned; of calls that are too short for tapes."""
        task = self.task(code, scenario)
        assert task["state"] == "done", task
        found: dict[str, Any] = task["result"]
        return found


def write_sounds(folder: Path) -> None:
    """Tones, and stairs of half a second each: which part was heard can be told by its pitch."""
    steps = (lab_sound.tone(STEP_MS, pitch_of(step)) for step in range(STEPS))
    stairs = array("h", itertools.chain.from_iterable(steps))
    lab_sound.write(folder / "stairs.wav", stairs)
    lab_sound.write(folder / "tone-3s.wav", lab_sound.tone(3000))
    lab_sound.write(folder / "low.wav", lab_sound.tone(LOW_MS, LOW_HZ))
    lab_sound.write(folder / "high.wav", lab_sound.tone(LOW_MS, HIGH_HZ))


def pitch_of(step: int) -> int:
    return 500 + STEP_HZ * step


def climbed(tape: array[int]) -> list[int]:
    """The steps of the stairs on the tape, each once, in the order in which they were heard. A
    step is one that was heard in two windows in a row: a late packet bends one."""
    found: list[int] = []
    last = None
    for span in lab_sound.spans(tape, gap_ms=100):
        for at_ms in range(round(span.start_ms), round(span.end_ms) - 50, 50):
            pitch = lab_sound.pitch_hz(tape, lab_sound.Span(at_ms, at_ms + 50))
            step = round((pitch - pitch_of(0)) / STEP_HZ)
            if step == last and abs(pitch - pitch_of(step)) < 40 and found[-1:] != [step]:
                found.append(step)
            last = step
    return found


def sounding_ms(tape: array[int]) -> float:
    """How much of the tape is sound; on a busy machine packets are late, but each comes once."""
    return sum(span.length_ms for span in lab_sound.spans(tape, gap_ms=5))
