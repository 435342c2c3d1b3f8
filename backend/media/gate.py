"""The voice gate: what of the caller's stream the recogniser hears as audio. A pure machine.

Audio goes out while someone speaks, with what came just before (the first phoneme is never cut)
and the silence that ends the utterance; the rest of the stream goes out as announced silence,
which keeps a session alive and costs next to nothing. Each ms of the stream goes out exactly once,
as the one or the other, in order: the recogniser's clock is the stream's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.media.voice import SpeechEnded, SpeechStarted, VoiceDetector
from backend.ports import FRAME_BYTES, RATE_HZ

_BYTES_PER_MS = RATE_HZ // 1000 * 2


@dataclass(frozen=True, slots=True)
class Audio:
    """Send this to the recogniser."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Silence:
    """Announce this much silence to the recogniser."""

    duration_ms: int


@dataclass(frozen=True, slots=True)
class EndOfUtterance:
    """The utterance is over (all its audio is in the actions before): ask for its final.

    ``since_ms``: the last voice; ``at_ms``: when the silence was long enough. Stream time.
    """

    at_ms: int
    since_ms: int


Action = Audio | Silence | SpeechStarted | EndOfUtterance


class VoiceGate:
    """``push`` it the stream, carry out the actions in order.

    SpeechStarted comes before the audio it belongs to, for barge-in. ``pre_roll_ms`` is kept
    back before speech, ``chunk_ms`` is how much audio one message holds, ``silence_ms`` how much
    silence is merged into one (well below the 5 s after which SpeechKit ends a silent session).
    """

    def __init__(
        self,
        detector: VoiceDetector,
        *,
        pre_roll_ms: int = 300,
        chunk_ms: int = 100,
        silence_ms: int = 1000,
    ) -> None:
        self._detector = detector
        self._pre_roll = pre_roll_ms * _BYTES_PER_MS
        self._chunk = chunk_ms * _BYTES_PER_MS
        self._silence = silence_ms * _BYTES_PER_MS
        self._held = bytearray()  # not yet decided (no speech) or not yet a chunk (speech)
        self._quiet = 0  # bytes of silence not yet announced; whole ms
        self._speaking = False

    @property
    def speaking(self) -> bool:
        """Between SpeechStarted and EndOfUtterance."""
        return self._speaking

    def end_silence(self, silence_ms: int | None) -> None:
        """This much silence ends an utterance from now on; None: as it was made."""
        self._detector.end_silence(silence_ms)

    def push(self, pcm: bytes) -> list[Action]:
        """Any length of 8 kHz slin16; one 20 ms frame at a time gives the least delay."""
        actions: list[Action] = []
        for place in range(0, len(pcm), FRAME_BYTES):
            self._push_frame(pcm[place : place + FRAME_BYTES], actions)
        return actions

    def _push_frame(self, pcm: bytes, actions: list[Action]) -> None:
        self._held += pcm
        for event in self._detector.feed(pcm):
            if isinstance(event, SpeechStarted):
                self._start(event, actions)
            else:
                self._end(event, actions)
        if self._speaking:
            if len(self._held) >= self._chunk:
                self._send_audio(actions)
        else:
            self._make_quiet(len(self._held) - self._pre_roll)
            if self._quiet >= self._silence:
                self._announce(actions)

    def flush(self) -> list[Action]:
        """All that is held back, at the stream's end; an utterance in progress is ended. A last
        fraction of a ms is not sent."""
        actions: list[Action] = []
        if self._speaking:
            now_ms = self._detector.now_ms
            self._end(SpeechEnded(now_ms, now_ms), actions)
        self._make_quiet(len(self._held))
        self._announce(actions)
        return actions

    def cut(self) -> list[Action]:
        """End the utterance here though the voice goes on; what follows is the next one.
        No utterance in progress: nothing."""
        actions: list[Action] = []
        if self._speaking:
            now_ms = self._detector.now_ms
            self._end(SpeechEnded(now_ms, now_ms), actions)
            self._start(SpeechStarted(now_ms, now_ms), actions)
        return actions

    def _start(self, event: SpeechStarted, actions: list[Action]) -> None:
        actions.append(event)
        self._speaking = True
        self._make_quiet(len(self._held) - self._pre_roll)
        self._announce(actions)

    def _end(self, event: SpeechEnded, actions: list[Action]) -> None:
        self._send_audio(actions)
        self._speaking = False
        actions.append(EndOfUtterance(event.at_ms, event.since_ms))

    def _send_audio(self, actions: list[Action]) -> None:
        size = len(self._held) - len(self._held) % _BYTES_PER_MS  # never half a sample
        if size:
            actions.append(Audio(bytes(self._held[:size])))
            del self._held[:size]

    def _make_quiet(self, size: int) -> None:
        """Turn the oldest ``size`` bytes held into silence, in whole ms."""
        size -= size % _BYTES_PER_MS
        if size > 0:
            del self._held[:size]
            self._quiet += size

    def _announce(self, actions: list[Action]) -> None:
        if self._quiet:
            actions.append(Silence(self._quiet // _BYTES_PER_MS))
            self._quiet = 0
