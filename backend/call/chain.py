"""Several sounds as one stretch of audio, so that no gap is heard between them.

The next one is asked for, which begins its synthesis, as soon as the one before is whole: it is
made while that plays, and nothing is made for a caller who has hung up long before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from backend.errors import BadRequest, SpeechError, SynthesisUnavailable
from backend.ports import PromptAudio, PromptSound

_BEYOND = 1 << 40  # no prompt is that long: reading there tells whether all of it is made


class Chain:
    """A ports.PromptAudio of as many of ``sounds``, from the first on, as can be streamed at one
    rate. ``first`` is the first one's audio. Thread-safe; synthesis is begun in the thread that
    makes the chain and in those that synthesise, never in one that reads.
    """

    def __init__(self, first: PromptAudio, sounds: Sequence[PromptSound]) -> None:
        self.rate_hz = first.rate_hz
        self._sounds = sounds
        self._lock = threading.Lock()  # guards all below
        self._audios = [first]
        self._starts = [0]  # bytes; of those that have been reached, and the next
        self._known = {id(sounds[0]): first}  # a repeated one is read once
        self._over = len(sounds) == 1  # no other will be added
        self._busy = False  # a thread is about to add one
        self._error: SpeechError | None = None
        self._subscribers: list[Callable[[], None]] = []
        first.subscribe(self._grown)
        self._advance()

    def read(self, at: int, size: int) -> bytes | None:
        with self._lock:
            number = max(n for n, start in enumerate(self._starts) if start <= at)
            while True:
                pcm = self._audios[number].read(at - self._starts[number], size)
                if pcm is not None:
                    return pcm
                if number + 1 == len(self._audios):
                    return self._end()
                number += 1
                if number == len(self._starts):
                    self._starts.append(at)

    def subscribe(self, on_more: Callable[[], None]) -> None:
        with self._lock:
            self._subscribers.append(on_more)

    def size(self) -> int | None:
        with self._lock:
            sizes = [audio.size() for audio in self._audios]
            known = [size for size in sizes if size is not None]
            whole = self._over and self._error is None and len(known) == len(sizes)
            return sum(known) if whole else None

    @property
    def count(self) -> int:
        """How many of the sounds are in it; known when ``read`` has come to the end."""
        with self._lock:
            return len(self._audios)

    def place(self, at_ms: int) -> tuple[int, int]:
        """Which of the sounds ``at_ms`` is in, and where in it, ms. One that has been read."""
        ms_bytes = self.rate_hz // 1000 * 2
        with self._lock:
            number = max(n for n, start in enumerate(self._starts) if start <= at_ms * ms_bytes)
            return number, at_ms - self._starts[number] // ms_bytes

    def _end(self) -> bytes | None:
        if self._error is not None:
            raise self._error
        return None if self._over else b""

    def _grown(self) -> None:
        """There is more of the last one: in the thread that makes it."""
        self._advance()
        with self._lock:
            subscribers = list(self._subscribers)
        for on_more in subscribers:
            on_more()

    def _advance(self) -> None:
        """Take the next ones while the last is whole."""
        while (sound := self._due()) is not None:
            audio, error = None, None
            try:
                audio = self._known.get(id(sound)) or sound.audio()
            except SpeechError as raised:
                error = raised
            except BadRequest as raised:  # it was there a moment ago
                error = SynthesisUnavailable(str(raised))
            self._add(sound, audio, error)

    def _due(self) -> PromptSound | None:
        """The next one, if its time has come and no other thread is at it."""
        with self._lock:
            if self._busy or self._over or not self._whole():
                return None
            self._busy = True
            return self._sounds[len(self._audios)]

    def _add(
        self, sound: PromptSound, audio: PromptAudio | None, error: SpeechError | None
    ) -> None:
        with self._lock:
            self._busy = False
            if audio is None or audio.rate_hz != self.rate_hz:
                self._over, self._error = True, error
                return
            self._audios.append(audio)
            self._over = len(self._audios) == len(self._sounds)
            known = id(sound) in self._known
            self._known[id(sound)] = audio
        if not known:
            audio.subscribe(self._grown)

    def _whole(self) -> bool:
        try:
            return self._audios[-1].read(_BEYOND, 2) is None
        except SpeechError:
            return False  # whoever reads is told
