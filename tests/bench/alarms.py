#!/usr/bin/env python3
"""False alarms: what barge_in="words" makes of coughs, back-channel words and interruptions.

Each sound of a test set goes through the telephone's alaw, our voice detection, the local
recogniser and the machine of barge-in, on the stream's own clock, so the result is the same each
time. The set is made here: words by flite's four voices, coughs as noise that dies away, from a
fixed seed; line noise around each. SpeechKit hears better than the local recogniser, and later:
its delay is not in this.

    python3 tests/bench/alarms.py [DECIDE_MS …]
"""

from __future__ import annotations

import array
import bisect
import itertools
import math
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0:1] = [str(ROOT)]

from backend.call import backchannel  # noqa: E402
from backend.call.barge import Act, Barge, BargeRules  # noqa: E402
from backend.media.g711 import from_alaw  # noqa: E402
from backend.media.gate import Audio, EndOfUtterance, VoiceGate  # noqa: E402
from backend.media.pcm import read_wav, resample, upsample_2x  # noqa: E402
from backend.media.voice import SpeechStarted, VoiceDetector  # noqa: E402
from backend.model import Utterance  # noqa: E402
from backend.ports import FRAME_BYTES, FRAME_MS  # noqa: E402
from backend.speech.grammar import Decoder, Grammar  # noqa: E402

VOICES = ("slt", "rms", "awb", "kal")
BACKCHANNEL = ("uh-huh", "okay", "right", "i see", "mhm")
INTERRUPTIONS = (
    "no", "yes", "yes please", "no thank you", "operator", "wait", "stop", "hello",
    "okay but wait", "who is this", "i am busy", "call me later",
)  # fmt: skip
COUGHS = 40
BEFORE_MS, AFTER_MS = 1000, 2500


@dataclass(frozen=True)
class Sound:
    """One of the test set."""

    kind: str
    name: str
    pcm: bytes


@dataclass(frozen=True)
class Ended:
    """What became of the prompt. ms since the voice's first packet: when it was paused, resumed,
    stopped; None: it was not."""

    sound: Sound
    paused: int | None
    resumed: int | None
    stopped: int | None


def words(kind: str, phrases: tuple[str, ...]) -> Iterator[Sound]:
    for phrase in phrases:
        for voice in VOICES:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "word.wav")
                command = ["flite", "-voice", voice, "-t", f"{phrase}.", "-o", str(file)]
                subprocess.run(command, check=True, capture_output=True)
                rate_hz, pcm = read_wav(file.read_bytes())
            pcm = pcm if rate_hz == 8000 else resample(pcm, rate_hz, 8000)
            yield Sound(kind, f"{phrase} ({voice})", pcm)


def coughs() -> Iterator[Sound]:
    """One or two bursts of 100 to 400 ms, dying away, of duller or sharper noise, louder or not."""
    dice = random.Random(4)
    for number in range(COUGHS):
        values: list[float] = []
        smooth, loud = dice.uniform(0.1, 0.9), dice.uniform(2_000, 12_000)
        for burst in range(dice.choice((1, 1, 2))):
            if burst:
                values += [0.0] * dice.randrange(400, 1_600)
            length, last = dice.randrange(800, 3_200), 0.0
            for n in range(length):
                last = smooth * last + (1 - smooth) * dice.gauss(0, 1)
                values.append(last * math.exp(-3 * n / length) * min(1.0, n / 40))
        peak = max(map(abs, values))
        pcm = array.array("h", (round(value / peak * loud) for value in values)).tobytes()
        yield Sound("cough", f"cough {number}", pcm)


def line(sound: Sound) -> bytes:
    """The sound in a quiet line, through alaw."""
    dice = random.Random(1)
    values = array.array("h", (round(dice.gauss(0, 6)) for _ in range(BEFORE_MS * 8)))
    values.frombytes(sound.pcm)
    values.extend(round(dice.gauss(0, 6)) for _ in range(AFTER_MS * 8))
    codes = bytes(range(256))
    levels = sorted(zip(array.array("h", from_alaw(codes)), codes, strict=True))
    edges = [(one[0] + other[0]) / 2 for one, other in itertools.pairwise(levels)]
    return from_alaw(bytes(levels[bisect.bisect(edges, value)][1] for value in values))


def run(sound: Sound, decoder: Decoder, decide_ms: int) -> Ended:
    """The prompt of one barge-in, on the stream's clock."""
    lists = backchannel.load().of(["en-US"])
    barge = Barge(
        BargeRules("words", decide_ms=decide_ms), lambda text, final: lists.judge(text, final=final)
    )
    gate = VoiceGate(VoiceDetector())
    found: dict[Act, int] = {}
    guess: list[str] = []
    pcm = line(sound)
    decoder.reset()
    for number, place in enumerate(range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES), 1):
        now_ms = number * FRAME_MS - BEFORE_MS
        acts = [barge.time(now_ms)]
        for action in gate.push(pcm[place : place + FRAME_BYTES]):
            if isinstance(action, SpeechStarted):
                decoder.start()
                guess = []
                acts.append(barge.voice(True, now_ms))
            elif isinstance(action, Audio):
                decoder.feed(upsample_2x(action.pcm))
                now = decoder.text_so_far().split()  # as the local server: what was stable
                same = itertools.takewhile(lambda p: p[0] == p[1], zip(guess, now, strict=False))
                guess, text = now, " ".join(word for word, _ in same)
                acts.append(barge.words(text, now_ms) if text else None)
            elif isinstance(action, EndOfUtterance):
                heard = decoder.end()
                said = Utterance("caller", heard.text, 0, now_ms) if heard.text else None
                acts += [barge.voice(False, now_ms), barge.utterance(said, now_ms)]
        for act in filter(None, acts):
            found.setdefault(act, now_ms)
    return Ended(sound, *(found.get(act) for act in (Act.PAUSE, Act.RESUME, Act.STOP)))


def table(ended: list[Ended], decide_ms: int) -> str:
    lines = [
        f"`decide_ms` {decide_ms}", "",
        "| sounds | of them noticed as voice | the prompt went on | stopped | "
        "pause, ms: median, longest | voice → stopped, ms: median, longest |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for kind in ("cough", "back-channel", "interruption"):
        of_kind = [e for e in ended if e.sound.kind == kind]
        noticed = [e for e in of_kind if e.paused is not None]
        stopped = [e.stopped for e in of_kind if e.stopped is not None]
        pauses = [e.resumed - e.paused for e in noticed if e.resumed and e.paused is not None]
        cells = [
            f"{len(of_kind)} × {kind}", str(len(noticed)),
            f"{len(of_kind) - len(stopped)} ({(1 - len(stopped) / len(of_kind)):.0%})",
            f"{len(stopped)} ({len(stopped) / len(of_kind):.0%})", _both(pauses), _both(stopped),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    wrong = [e for e in ended if (e.stopped is None) == (e.sound.kind == "interruption")]
    lines += ["", "Wrong: " + (", ".join(e.sound.name for e in wrong) or "none") + "."]
    return "\n".join(lines)


def _both(values: list[int]) -> str:
    return f"{statistics.median(values):.0f}, {max(values)}" if values else "–"


def main() -> None:
    decoder = Decoder(Grammar((*BACKCHANNEL, *INTERRUPTIONS), other_weight=1e-5))
    sounds = [
        *coughs(), *words("back-channel", BACKCHANNEL), *words("interruption", INTERRUPTIONS)
    ]  # fmt: skip
    for decide_ms in [int(text) for text in sys.argv[1:]] or [1000]:
        print(table([run(sound, decoder, decide_ms) for sound in sounds], decide_ms), "\n")


if __name__ == "__main__":
    main()
