"""Voice detection: where in the caller's stream somebody speaks. A pure machine.

WebRTC's detector decides by the spectrum, frame by frame; around it stand a floor for the level
(line noise, comfort noise), a test that the energy is spread over the frame (clicks are not), and
a vote over a few frames for the beginning and the end. The clock is the stream's own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from operator import mul

import webrtcvad

from backend.media.pcm import SILENCE_DBFS, dbfs, samples
from backend.ports import FRAME_BYTES, FRAME_MS, RATE_HZ

_PART = 40  # samples: a quarter of a frame
_STEP = 2  # every other sample is enough to know the level
_PARTS_NEEDED = 2  # of 4; a click of 5 ms or less fills one, or one in each of two frames
_NOISE_RISE_DB = 0.1  # per frame: 5 dB a second
_NOISE_FALL = 0.3  # share of the way down, per frame
_NOISE_CAP_DBFS = -30.0  # steady noise never makes us deaf to speech louder than this + margin
_STEADY_FRAMES = 100  # 2 s of "speech" that never gets quieter than x: then x is noise
_MARGIN_DB = 6.0  # voice is this much above the noise to begin ...
_MARGIN_WITHIN_DB = 2.0  # ... and this much to go on


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at ``since_ms``; it was decided at ``at_ms``. Times of the stream."""

    at_ms: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The last voice was at ``since_ms``; the silence after it was long enough at ``at_ms``."""

    at_ms: int
    since_ms: int


VoiceEvent = SpeechStarted | SpeechEnded


class VoiceDetector:
    """``feed`` it the stream in pieces of any length, get SpeechStarted and SpeechEnded in turn.

    ``mode``: WebRTC's aggressiveness, 0 … 3 the strictest. ``onset_ms``: voice this long, a third
    of it may be missing, is speech. ``end_silence_ms``: no voice this long ends it. ``floor_dbfs``:
    nothing below is voice.
    """

    def __init__(
        self,
        mode: int = 2,
        onset_ms: int = 40,
        end_silence_ms: int = 600,
        floor_dbfs: float = -48.0,
    ) -> None:
        self._vad = webrtcvad.Vad(mode)
        self._needed = max(1, onset_ms // FRAME_MS)
        self._votes: deque[bool] = deque(maxlen=self._needed + self._needed // 2)
        self._default_silence_ms = self._end_silence_ms = end_silence_ms
        self._floor_dbfs = floor_dbfs
        self._noise_dbfs = floor_dbfs - _MARGIN_DB
        self._recent: deque[float] = deque(maxlen=_STEADY_FRAMES)  # levels within speech
        self._rest = b""
        self._now_ms = 0
        self._last_voice_ms = 0
        self._speaking = False

    @property
    def speaking(self) -> bool:
        """Between SpeechStarted and SpeechEnded."""
        return self._speaking

    @property
    def now_ms(self) -> int:
        """Stream time up to which has been judged (a multiple of 20 ms)."""
        return self._now_ms

    def end_silence(self, silence_ms: int | None) -> None:
        """No voice this long ends speech from now on; None: as it was made."""
        self._end_silence_ms = silence_ms or self._default_silence_ms

    def feed(self, pcm: bytes) -> list[VoiceEvent]:
        """Judge 8 kHz slin16; what does not fill a 20 ms frame is kept for the next call."""
        events: list[VoiceEvent] = []
        data = self._rest + pcm if self._rest else pcm
        end = len(data) - len(data) % FRAME_BYTES
        for place in range(0, end, FRAME_BYTES):
            self._judge(data[place : place + FRAME_BYTES], events)
        self._rest = data[end:]
        return events

    def _judge(self, frame: bytes, events: list[VoiceEvent]) -> None:
        voiced = self._is_voice(frame)
        self._now_ms += FRAME_MS
        self._votes.append(voiced)
        enough = voiced and sum(self._votes) >= self._needed
        if enough:
            self._last_voice_ms = self._now_ms
        if not self._speaking and enough:
            self._speaking = True
            first = len(self._votes) - self._votes.index(True)
            events.append(SpeechStarted(self._now_ms, self._now_ms - first * FRAME_MS))
        elif self._speaking and self._now_ms - self._last_voice_ms >= self._end_silence_ms:
            self._speaking = False
            self._votes.clear()
            self._recent.clear()
            events.append(SpeechEnded(self._now_ms, self._last_voice_ms))

    def _is_voice(self, frame: bytes) -> bool:
        levels = _part_levels(frame)
        threshold = max(
            self._floor_dbfs,
            self._noise_dbfs + (_MARGIN_WITHIN_DB if self._speaking else _MARGIN_DB),
        )
        loud = sum(level >= threshold for level in levels) >= _PARTS_NEEDED
        # The detector adapts: it must see every frame, also those that are too quiet.
        voiced = self._vad.is_speech(frame, RATE_HZ) and loud
        self._learn_noise(max(levels), voiced)
        return voiced

    def _learn_noise(self, level: float, voiced: bool) -> None:
        if self._speaking:
            # People pause and their syllables rise and fall; a fan or a hum does not.
            self._recent.append(level)
            if len(self._recent) == _STEADY_FRAMES:
                self._noise_dbfs = max(self._noise_dbfs, min(min(self._recent), _NOISE_CAP_DBFS))
        elif voiced:
            pass  # perhaps the first frame of speech
        elif level < self._noise_dbfs:
            self._noise_dbfs += (max(level, SILENCE_DBFS) - self._noise_dbfs) * _NOISE_FALL
        else:
            self._noise_dbfs = min(self._noise_dbfs + _NOISE_RISE_DB, level, _NOISE_CAP_DBFS)


def _part_levels(frame: bytes) -> list[float]:
    values = samples(frame)
    levels = []
    for place in range(0, len(values), _PART):
        part = values[place : place + _PART : _STEP]
        levels.append(dbfs((sum(map(mul, part, part)) / len(part)) ** 0.5))
    return levels
