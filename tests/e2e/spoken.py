"""Which prompts and words are on a tape, and where: found by their wave, not by what a log says.

The robot's prompts are compared with the files of the prompts' cache, the subscriber's words with
the files that he plays. Both came over alaw and RTP: the same wave, at the same level.
"""

from __future__ import annotations

import array
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import lab_sound
from lab import Lab
from lab_script import word_file
from lab_sound import SAMPLES_MS, Samples, Span, spans

from backend.speech.cache import PromptCache
from backend.speech.endpoint import Endpoint
from backend.speech.synthesis import SpeechKitSynthesizer

PACKET = 20 * SAMPLES_MS
"""A tape consists of such, from the beginning of what was played on. Where the sender stood still
those after it come later, by whole packets; a conference that makes up for it leaves some out."""
ANCHORS = 5
"""So many packets of a text are looked for at the beginnings of sounds on the tape, …"""
EARLY, LATE = 100 * SAMPLES_MS, 60 * SAMPLES_MS
"""… in this neighbourhood: the very first ones may be lost, or late."""
VERY_LATE = 100
"""Packets: so much later the rest of a text is looked for."""
ALIKE, THE_SAME = 0.9, 0.99
"""Correlation: the same wave has 0.999 through alaw, and less through a conference. A vowel is
like itself a packet later, but not as much as that."""
AHEAD = 4
WHOLE = 0.8
"""Of the loud packets: the rest may be lost in a conference, on a busy machine."""
SOLID = 0.6
FEW = 15
"""Packets that a text which was cut has at least."""
CLICKS_MS = 100
"""In all: late packets with the last of a sound are no words."""
LOST = 25
"""So many packets in a row that are not there: it was cut."""

LANGUAGE, VOICE = "en-US", "john"
SETTINGS = {"DIALOG_SPEECH_LANGUAGE": LANGUAGE, "DIALOG_SPEECH_VOICE": VOICE}
"""Of a backend whose prompts are looked for on tapes."""


@dataclass(frozen=True)
class Line:
    """Something in a talk. ``who``: robot, caller or other. ``cut``: it may lack its end."""

    who: str
    text: str
    cut: bool = False


@dataclass(frozen=True)
class Spoken:
    """Where a text is on a tape. ``share``: how much of it, by its loud blocks."""

    text: str
    start_ms: float
    end_ms: float
    share: float

    @property
    def whole(self) -> bool:
        """From its beginning to its end."""
        return self.share >= WHOLE


class Tape:
    """What was heard or said in a call."""

    def __init__(self, path: Path) -> None:
        self.samples = lab_sound.read(path)
        self.sounds = spans(self.samples, gap_ms=60)

    def strangers(self, known: Sequence[Spoken]) -> list[Span]:
        """Sounds that belong to none of these. A text's softest ends, and its first packet when
        the PBX stands still after it, are not found by their wave, but are there."""
        found = [
            span
            for span in self.sounds
            if not any(one.start_ms - 300 < span.start_ms < one.end_ms + 200 for one in known)
        ]
        return found if sum(span.length_ms for span in found) > CLICKS_MS else []


class Wave:
    """A text as it is spoken."""

    def __init__(self, text: str, samples: Samples[int]) -> None:
        self.text = text
        self._begin = round(spans(samples)[0].start_ms * SAMPLES_MS)
        packets = (
            (at, samples[at : at + PACKET]) for at in range(0, len(samples) - PACKET + 1, PACKET)
        )
        self._loud = [(at, packet) for at, packet in packets if max(packet) > 2 * lab_sound.LOUD]

    def find(self, tape: Tape, after_ms: float = 0) -> Spoken | None:
        """Its first place on the tape that begins after AFTER_MS; None: it is not there."""
        for span in tape.sounds:
            if span.start_ms >= after_ms:
                place = self._begins(tape.samples, round(span.start_ms * SAMPLES_MS) - self._begin)
                found = None if place is None else self._follow(tape.samples, place)
                if found is not None:
                    return found
        return None

    def _begins(self, tape: Samples[int], expected: int) -> int | None:
        """Where it would begin by one of its first packets, if that is about there."""
        for at, packet in self._loud[:ANCHORS]:
            place = found_near(tape, packet, expected + at)
            if place is not None:
                return place - at
        return None

    def _follow(self, tape: Samples[int], place: int) -> Spoken | None:
        """Packet by packet from there."""
        loud = self._loud
        there: list[tuple[int, int]] = []  # (which packet, where)
        for number, (at, packet) in enumerate(loud):
            if number - (there[-1][0] if there else -1) > LOST:
                break
            if not alike(tape, packet, place + at):
                after = there[-1][1] + PACKET if there else 0
                place += PACKET * moved_by(tape, loud[number:], place, after)
            if alike(tape, packet, place + at):
                there.append((number, place + at))
        if len(there) < min(FEW, len(loud)) or len(there) < SOLID * (there[-1][0] + 1):
            return None
        first, last = there[0][1], there[-1][1] + PACKET
        share = len(there) / len(loud)
        return Spoken(self.text, first / SAMPLES_MS, last / SAMPLES_MS, share)


def moved_by(
    tape: Samples[int], packets: Sequence[tuple[int, Samples[int]]], place: int, after: int
) -> int:
    """By how many packets the first of these has moved, or all that follow it; 0: not at all."""
    (at, first), *others = packets
    others = others[:AHEAD]
    soonest = -((place + at - after) // PACKET)
    for moved in sorted(range(soonest, VERY_LATE), key=abs):
        now = place + moved * PACKET
        if likeness(tape, first, now + at) > THE_SAME:
            return moved
        if len(others) == AHEAD and all(alike(tape, one, now + at) for at, one in others):
            return moved
    return 0


def found_near(tape: Samples[int], packet: Samples[int], expected: int) -> int | None:
    """Where the tape has it: a sound's first loud sample is not the same after alaw, and the
    packets after it may be late."""
    found = [
        (like, at)
        for at in range(expected - EARLY, expected + LATE + 1)
        if (like := likeness(tape, packet, at)) > THE_SAME
    ]
    return max(found)[1] if found else None


def alike(tape: Samples[int], packet: Samples[int], at: int) -> bool:
    return likeness(tape, packet, at) > ALIKE


def likeness(tape: Samples[int], packet: Samples[int], at: int) -> float:
    """1: the same wave; near 0: another."""
    part = tape[max(0, at) : max(0, at) + len(packet)]
    if at < 0 or len(part) < len(packet):
        return 0.0
    power = product(part, part) * product(packet, packet)
    return product(part, packet) / math.sqrt(power) if power else 0.0


def product(one: Samples[int], other: Samples[int]) -> int:
    return sum(map(operator.mul, one, other))


class Voices:
    """Waves by their texts: the robot's and the subscriber's. A context manager.

    ``speech``: the address of a local speech server. What was prepared is in the backend's cache of
    prompts when the calls come, so that no prompt is late for its synthesis.
    """

    def __init__(self, lab: Lab, speech: str) -> None:
        self._lab = lab
        endpoint = Endpoint(speech, "tests", insecure=True)
        self._synthesizer = SpeechKitSynthesizer(endpoint, voice=VOICE, language=LANGUAGE)
        self._cache = PromptCache(
            lab.sounds, self._synthesizer, identity=self._synthesizer.identity
        )
        self._waves: dict[tuple[str, str], Wave] = {}

    def __enter__(self) -> Voices:
        return self

    def __exit__(self, *raised: object) -> None:
        self._synthesizer.close()
        self._cache.close()

    def of(self, line: Line) -> Wave:
        """What was said."""
        key = line.who, line.text
        if key not in self._waves:
            if line.who == "robot":
                path = self._cache.path(line.text, language=LANGUAGE)
                samples = array.array("h", path.read_bytes())
            else:
                samples = lab_sound.read(word_file(self._lab, line.text))
            self._waves[key] = Wave(line.text, samples)
        return self._waves[key]

    def prepare(self, lines: Iterable[Line]) -> None:
        """Have these texts spoken, several at a time."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.of, dict.fromkeys(lines)))


def prove_talk(
    voices: Voices, tapes: Mapping[str, Tape], talk: Sequence[Line], name: str
) -> list[Spoken]:
    """Each line is on the tape of who says it, in this order, whole where it must be; and nothing
    else is on the tapes."""
    found: list[Spoken] = []
    for line in talk:
        tape = tapes[line.who]
        after_ms = max([0, *(one.start_ms for one in found)])
        before = of_tape(tape, tapes, talk, found)
        after_ms = max([after_ms, *(one.end_ms - 40 for one in before)])
        spoken = voices.of(line).find(tape, after_ms)
        assert spoken is not None, f"{name}: no {line} after {found}"
        assert spoken.whole or line.cut, f"{name}: {line}: {spoken}"
        found.append(spoken)
    for tape in {id(tape): tape for tape in tapes.values()}.values():
        mine = of_tape(tape, tapes, talk, found)
        assert tape.strangers(mine) == [], f"{name}: more than {mine}"
    return found


def of_tape(
    tape: Tape, tapes: Mapping[str, Tape], talk: Sequence[Line], found: Sequence[Spoken]
) -> list[Spoken]:
    """What of FOUND is on this tape."""
    return [one for line, one in zip(talk, found, strict=False) if tapes[line.who] is tape]
