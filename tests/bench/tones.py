"""What it costs to listen to a call that is being dialled: CPU of one frame of 20 ms.

.venv/bin/python tests/bench/tones.py
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).parents[2]))

from backend.media.phrases import load as load_phrases
from backend.media.phrases import normal_words
from backend.media.screening import CallScreening, Stage
from backend.media.tone_table import ToneKind, load
from backend.media.tones import ToneDetector
from tests.greetings import speak
from tests.tone_signals import music, noise, parts_of, sound, to_pcm

TABLE, PHRASES = load(), load_phrases()
ROUNDS = 5
TEXT = (
    "здравствуйте вы позвонили в компанию ромашка мы работаем с понедельника по пятницу "
    "с девяти до восемнадцати часов пожалуйста перезвоните нам позже"
)


def sounds() -> dict[str, bytes]:
    """Ten seconds each, about."""
    ringback = next(t for t in TABLE.of("ru") if t.kind is ToneKind.RINGBACK)
    busy = next(t for t in TABLE.of("us") if t.kind is ToneKind.BUSY)
    words = "Hello, you have reached the office of Smith and Sons. Please leave a message."
    return {
        "silence": bytes(160_000),
        "line noise, -50 dBm0": to_pcm(noise(80_000, -50, random.Random(1))),
        "ringing tone, 425 Hz": sound(parts_of(ringback, 10_000)),
        "busy tone, 480+620 Hz": sound(parts_of(busy, 10_000)),
        "speech": speak("slt", words) * 3,
        "music": music(10_000, 3),
        "white noise, -15 dBm0": to_pcm(noise(80_000, -15, random.Random(1))),
    }


def least_us(make: Callable[[], Callable[[bytes], object]], pcm: bytes) -> float:
    """CPU of one frame, µs: the least of some rounds."""
    best = float("inf")
    frames = [pcm[place : place + 320] for place in range(0, len(pcm) - 319, 320)]
    for _ in range(ROUNDS):
        feed = make()
        began = process_time()
        for frame in frames:
            feed(frame)
        best = min(best, (process_time() - began) / len(frames))
    return best * 1e6


def tones(country: str) -> Callable[[], Callable[[bytes], object]]:
    return lambda: ToneDetector(TABLE.of(country)).feed


def screening(*, answered: bool) -> Callable[[bytes], object]:
    call = CallScreening(TABLE.of("ru"), PHRASES)
    if answered:
        call.signalled(Stage.ANSWERED, 0)
    return lambda frame: call.feed(frame, 0)


def main() -> None:
    print("| µs of CPU per frame of 20 ms | tones, ru | tones, us | before | after the answer |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, pcm in sounds().items():
        figures = [
            least_us(tones("ru"), pcm),
            least_us(tones("us"), pcm),
            least_us(lambda: screening(answered=False), pcm),
            least_us(lambda: screening(answered=True), pcm),
        ]
        print(f"| {name} | " + " | ".join(f"{one:.0f}" for one in figures) + " |")
    words = normal_words(TEXT)
    began = process_time()
    for _ in range(200):
        PHRASES.best(words)
    each_ms = (process_time() - began) * 1000 / 200
    count = len(PHRASES.patterns)
    print(f"\nA text of {len(words)} words against {count} patterns: {each_ms:.2f} ms.")


if __name__ == "__main__":
    main()
