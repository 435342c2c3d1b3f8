"""Who has answered: a person, or a machine. A pure machine.

People say a word or two and wait; machines speak on, and beep. So the length of the first
greeting decides, and the silence after it; words and a beep decide sooner where there are any.
The clock is that of the stream since the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from backend.media.beep import Beep, BeepDetector
from backend.media.phrases import normal_words
from backend.media.voice import SpeechEnded, SpeechStarted, VoiceDetector
from backend.ports import FRAME_BYTES, FRAME_MS

# What people answer with, in small letters, е for ё.
PERSON_WORDS = frozenset(
    "алло ало але аллоу да слушаю слушаем вас говорите здравствуйте добрый день вечер утро "  # noqa: SIM905
    "здрасьте привет кто это ага угу у телефона "
    "hello hi yes yeah speaking hey who is this good morning afternoon evening "
    "иә тыңдап тұрмын сәлеметсіз бе алло".split()
)
_FEW_WORDS = 4
_MOST_BEEPS = 10  # remembered
_SILENCE = bytes(FRAME_BYTES)


class AnsweredBy(StrEnum):
    """Who it is."""

    PERSON = "person"
    MACHINE = "machine"
    SILENCE = "silence"  # nobody said a word
    UNSURE = "unsure"  # nothing came of it in time


class AnsweringReason(StrEnum):
    """What decided."""

    SHORT_GREETING = "short_greeting"  # and then silence: person
    GREETING_WORDS = "greeting_words"  # such as people say: person
    LONG_GREETING = "long_greeting"  # machine
    MACHINE_WORDS = "machine_words"
    BEEP = "beep"  # machine
    INITIAL_SILENCE = "initial_silence"
    TIME_OVER = "time_over"


@dataclass(frozen=True, slots=True)
class AnsweringConfig:
    """What can be tuned. Measured over the test set: docs/benchmarks.md.

    ``initial_silence_ms``: nobody has spoken by then. ``greeting_ms``: a greeting that lasts
    longer is a machine's. ``after_greeting_ms``: silence this long after a shorter one is a
    person waiting. ``burst_ms``: voice shorter than this (a click, a breath) is none.
    ``total_ms``: the longest all of it may take.
    """

    initial_silence_ms: int = 4000
    greeting_ms: int = 2500
    after_greeting_ms: int = 1000
    burst_ms: int = 100
    total_ms: int = 8000
    beep_hz: tuple[float, float] = (800.0, 2100.0)


@dataclass(frozen=True, slots=True)
class Answered:
    """The verdict at ``at_ms`` since the answer. ``greeting_ms``: how long was spoken, pauses
    included, until then."""

    by: AnsweredBy
    reason: AnsweringReason
    at_ms: int
    greeting_ms: int


class AnsweringDetector:
    """``feed`` it what the called side says from the answer on, in pieces of any length.

    One verdict; after it ``feed`` goes on to listen for beeps (``beeps``), so that a message can
    be left. ``words`` (finals of a recogniser) and ``machine_words`` (an announcement of a
    machine was recognised) may decide sooner.
    """

    _PAUSE_MS = 200  # of the voice detector: how soon it tells that speech has paused

    def __init__(self, config: AnsweringConfig | None = None, vad_mode: int = 2) -> None:
        config = config or AnsweringConfig()
        self._config = config
        self._voice = VoiceDetector(vad_mode, onset_ms=40, end_silence_ms=self._PAUSE_MS)
        self._beep = BeepDetector(config.beep_hz)
        self._rest = b""
        self._now_ms = 0
        self._began_ms: int | None = None  # the greeting
        self._burst_ms: int | None = None  # the voice that goes on began then
        self._voice_ms = 0  # the last voice
        self.answered: Answered | None = None
        self.beeps: list[Beep] = []

    @property
    def now_ms(self) -> int:
        """Stream time since the answer (a multiple of 20 ms)."""
        return self._now_ms

    def feed(self, pcm: bytes, *, tone: bool = False) -> Answered | None:
        """8 kHz slin16; ``tone``: it is known to be one, so no voice. The verdict, when it comes
        of this."""
        before = self.answered
        data = self._rest + pcm if self._rest else pcm
        end = len(data) - len(data) % FRAME_BYTES
        for place in range(0, end, FRAME_BYTES):
            self._frame(data[place : place + FRAME_BYTES], tone)
        self._rest = data[end:]
        return self.answered if before is None else None

    def words(self, text: str) -> Answered | None:
        """A final text of the recogniser. The verdict, when it comes of this."""
        words = normal_words(text)
        greets = 0 < len(words) <= _FEW_WORDS and all(word in PERSON_WORDS for word in words)
        if greets and self.answered is None and not self._voice.speaking:
            return self._decide(AnsweredBy.PERSON, AnsweringReason.GREETING_WORDS)
        return None

    def machine_words(self) -> Answered | None:
        """The words of a machine were recognised. The verdict, when it comes of this."""
        if self.answered is None:
            return self._decide(AnsweredBy.MACHINE, AnsweringReason.MACHINE_WORDS)
        return None

    def _frame(self, frame: bytes, tone: bool) -> None:
        self._now_ms += FRAME_MS
        beep = self._beep.push(frame)
        if self.answered is None:
            for event in self._voice.feed(_SILENCE if tone else frame):
                self._voice_event(event)
        if beep is not None:
            self._keep(beep)
        if self.answered is None:
            self._look()

    def _keep(self, beep: Beep) -> None:
        if len(self.beeps) < _MOST_BEEPS:
            self.beeps.append(beep)
        if self.answered is None:
            self._decide(AnsweredBy.MACHINE, AnsweringReason.BEEP)

    def _voice_event(self, event: SpeechStarted | SpeechEnded) -> None:
        if isinstance(event, SpeechStarted):
            self._burst_ms = event.since_ms
            return
        if self._burst_ms is not None and event.since_ms - self._burst_ms >= self._config.burst_ms:
            self._began_ms = self._burst_ms if self._began_ms is None else self._began_ms
            self._voice_ms = event.since_ms
        self._burst_ms = None

    def _look(self) -> None:
        config, now_ms = self._config, self.now_ms
        began_ms = self._began_ms if self._began_ms is not None else self._burst_ms
        if began_ms is None:
            if now_ms >= config.initial_silence_ms:
                self._decide(AnsweredBy.SILENCE, AnsweringReason.INITIAL_SILENCE)
        elif self._burst_ms is not None:
            if now_ms - began_ms > config.greeting_ms:
                self._decide(AnsweredBy.MACHINE, AnsweringReason.LONG_GREETING)
        elif self._voice_ms - began_ms > config.greeting_ms:
            self._decide(AnsweredBy.MACHINE, AnsweringReason.LONG_GREETING)
        elif now_ms - self._voice_ms >= config.after_greeting_ms:
            self._decide(AnsweredBy.PERSON, AnsweringReason.SHORT_GREETING)
        if self.answered is None and now_ms >= config.total_ms:
            self._decide(AnsweredBy.UNSURE, AnsweringReason.TIME_OVER)

    def _decide(self, by: AnsweredBy, reason: AnsweringReason) -> Answered:
        began_ms = self._began_ms if self._began_ms is not None else self._burst_ms
        until_ms = self.now_ms if self._burst_ms is not None else self._voice_ms
        greeting_ms = until_ms - began_ms if began_ms is not None else 0
        self.answered = Answered(by, reason, self.now_ms, greeting_ms)
        return self.answered
