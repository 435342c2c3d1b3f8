"""Greetings of people and machines, spoken by Debian's flite and espeak-ng."""

from __future__ import annotations

import random
import re
import subprocess
import tomllib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from operator import add
from pathlib import Path

from backend.media.pcm import read_wav, resample, rms
from tests.tone_signals import noise, rms_of, sound, through_alaw, to_pcm

VECTORS = Path(__file__).parent / "vectors"
VOICES = {"en": ("kal", "slt", "rms"), "ru": ("ru", "ru+f3")}
PAUSES_MS = {"|": 500, "||": 900}


@dataclass(frozen=True)
class Greeting:
    """``kind``: person, machine, hard_person, hard_machine. ``pcm``: from the answer on, with
    five seconds of a silent line at its end. ``starts_ms``: of the first word."""

    kind: str
    language: str
    voice: str
    text: str
    starts_ms: int
    ends_ms: int
    beep: bool
    pcm: bytes


@cache
def speak(voice: str, text: str) -> bytes:
    """8 kHz slin16 at −18 dBm0, silence cut off at both ends. Raises CalledProcessError."""
    program = ["flite", "-voice", voice, "-o", "/dev/stdout"]
    if voice.startswith("ru"):
        program = ["espeak-ng", "-v", voice, "--stdout", "-b", "1", "--stdin"]
    else:
        program += ["-t", text]
    done = subprocess.run(program, input=text.encode(), capture_output=True, check=True)
    rate_hz, pcm = read_wav(done.stdout)
    values = array("h", resample(pcm, rate_hz, 8000))
    loud = [n for n, value in enumerate(values) if abs(value) > 300]
    values = values[loud[0] : loud[-1] + 1]
    gain = rms_of(-18) / rms(values.tobytes())
    return array("h", [max(-32768, min(32767, round(v * gain))) for v in values]).tobytes()


def greetings() -> Iterator[Greeting]:
    """All of the file by every voice, each with its own pause before, noise and beep."""
    data = tomllib.loads((VECTORS / "greetings.toml").read_text(encoding="utf-8"))
    beeps = data.pop("beeps")["hz_ms"]
    source = random.Random(11)
    for kind, by_language in data.items():
        for language, texts in by_language.items():
            for text in texts:
                for voice in VOICES[language]:
                    machine = kind.endswith("machine")
                    beep = source.choice(beeps) if machine and source.random() < 0.5 else None
                    yield _greeting(kind, language, voice, text, beep, source)


def _greeting(
    kind: str,
    language: str,
    voice: str,
    text: str,
    beep: tuple[float, int] | None,
    source: random.Random,
) -> Greeting:
    starts_ms = source.randrange(100, 1500)
    pcm = bytes(starts_ms * 16)
    for part in re.split(r"\s*(\|\|?)\s*", text):
        pcm += bytes(PAUSES_MS[part] * 16) if part in PAUSES_MS else speak(voice, part)
    ends_ms = len(pcm) // 16
    if beep is not None:
        pcm += bytes(600 * 16) + sound([((beep[0],), beep[1])], dbm0=-14, alaw=False)
    pcm += bytes(5000 * 16)
    values = array("h", pcm)
    noisy = map(add, values, noise(len(values), source.choice((-70, -60, -52)), source))
    return Greeting(
        kind,
        language,
        voice,
        text,
        starts_ms,
        ends_ms,
        beep is not None,
        through_alaw(to_pcm(list(noisy))),
    )
