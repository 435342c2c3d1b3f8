"""Which prompts and words are on a tape, and where: found by their wave, not by what a log says.

The robot's prompts are compared with the files of the prompts' cache, the subscriber's words with
the files that he plays. Both came over alaw and RTP: the same wave, at the same level.
"""

from __future__ import annotations

import array
import itertools
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

BLOCK_MS = 80
ANCHOR_MS = 160
ANCHORS = 6
"""So many pieces of a text are looked for at the beginnings of sounds on the tape: the very first
may have a hole in it."""
ALIKE = 0.9
"""Correlation: the same wave through alaw has 0.99 and more."""
NEAR, FAR = 3 * SAMPLES_MS, 60 * SAMPLES_MS
"""How far from its place a piece is looked for: a sound's first loud sample is not the same after
alaw; what follows may come later, where the sender stood still."""
WHOLE = 0.8
"""Of the blocks: a busy machine's PBX may stand still for a packet or two."""
SOLID = 0.6
FEW = 4
"""Blocks that a text which was cut has at least."""
LOST = 6
"""So many blocks in a row that are not there: it was cut."""

LANGUAGE, VOICE = "en-US", "john"
SETTINGS = {"DIALOG_SPEECH_LANGUAGE": LANGUAGE, "DIALOG_SPEECH_VOICE": VOICE}
"""Of a backend whose prompts are looked for on tapes."""


@dataclass(frozen=True)
class Line:
    """Something in a talk. ``who``: robot or caller. ``cut``: whether it may lack its end."""

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
        return [
            span
            for span in self.sounds
            if not any(one.start_ms - 300 < span.start_ms < one.end_ms + 200 for one in known)
        ]


class Wave:
    """A text as it is spoken."""

    def __init__(self, text: str, samples: Samples[int]) -> None:
        self.text = text
        self.samples = samples
        self._begin = round(spans(samples)[0].start_ms * SAMPLES_MS)

    def find(self, tape: Tape, after_ms: float = 0) -> Spoken | None:
        """Its first place on the tape that begins after AFTER_MS; None: it is not there."""
        for slack in (0, FAR):  # a hole in its first packets is rare, to look for it takes long
            for span in tape.sounds:
                place = round(span.start_ms * SAMPLES_MS) - self._begin
                if span.start_ms >= after_ms and self._begins(tape.samples, place, slack):
                    found = self._follow(tape.samples, place)
                    if found is not None:
                        return found
        return None

    def _begins(self, tape: Samples[int], place: int, slack: int) -> bool:
        """Whether one of its first pieces is about there."""
        size = ANCHOR_MS * SAMPLES_MS
        starts = range(self._begin, len(self.samples) - size, size)
        pieces = ((at, self.samples[at : at + size]) for at in starts[:ANCHORS])
        return any(
            aligned(tape, piece, place + at, NEAR + slack) is not None
            for at, piece in pieces
            if max(piece) > 2 * lab_sound.LOUD
        )

    def _follow(self, tape: Samples[int], place: int) -> Spoken | None:
        """Block by block from there; where the sender stood still the rest comes later."""
        size = BLOCK_MS * SAMPLES_MS
        loud = [
            (at, block)
            for at in range(self._begin, len(self.samples) - size + 1, size)
            if max(block := self.samples[at : at + size]) > 2 * lab_sound.LOUD
        ]
        matched: list[tuple[int, int]] = []  # (which block, where)
        for number, (at, block) in enumerate(loud):
            if number - (matched[-1][0] if matched else -1) > LOST:
                break
            found = aligned(tape, block, place + at, 0 if matched else NEAR)
            if found is None:
                found = aligned(tape, block, place + at, FAR)
            if found is not None:
                place = found - at
                matched.append((number, found))
        if len(matched) < min(FEW, len(loud)) or len(matched) < SOLID * (matched[-1][0] + 1):
            return None
        first, last = matched[0][1], matched[-1][1] + size
        share = len(matched) / len(loud)
        return Spoken(self.text, first / SAMPLES_MS, last / SAMPLES_MS, share)


def aligned(tape: Samples[int], piece: Samples[int], at: int, slack: int) -> int | None:
    """Where within SLACK samples of AT the tape has PIECE."""
    size = len(piece)
    begin = max(0, at - slack)
    stretch = tape[begin : max(at, 0) + slack + size]
    if len(stretch) < size:
        return None
    powers = [0, *itertools.accumulate(map(operator.mul, stretch, stretch))]
    own = product(piece, piece)
    best, place = ALIKE, None
    for start in range(len(stretch) - size + 1):
        power = own * (powers[start + size] - powers[start])
        if not power:
            continue
        likeness = product(stretch[start : start + size], piece) / math.sqrt(power)
        if likeness > best:
            best, place = likeness, begin + start
    return place


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
    """Each line is on its tape (``robot``: what was heard, ``caller``: what was said), in this
    order, whole where it must be; and nothing else is."""
    found: list[Spoken] = []
    for line in talk:
        mine = [one for one, before in zip(found, talk, strict=False) if before.who == line.who]
        after_ms = max([0, *(one.end_ms - 40 for one in mine), *(one.start_ms for one in found)])
        spoken = voices.of(line).find(tapes[line.who], after_ms)
        assert spoken is not None, f"{name}: no {line} after {found}"
        assert spoken.whole or line.cut, f"{name}: {line}: {spoken}"
        found.append(spoken)
    for who, tape in tapes.items():
        mine = [spoken for line, spoken in zip(talk, found, strict=True) if line.who == who]
        assert tape.strangers(mine) == [], f"{name}: {who}: more than {mine}"
    return found
