"""Speech without a service: a recogniser that "hears" words written into the audio, a synthesiser
that writes them.

A word is spoken as frames whose first samples hold its number; silence and noise hold none. So
tests can say exactly which word was heard, when, and by which session.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator

from backend.model import Word
from backend.ports import (
    FRAME_BYTES,
    FRAME_MS,
    Hypothesis,
    RecognitionEvent,
    RecognitionFailed,
    RecognitionOptions,
    StreamEnded,
    UtteranceEnded,
)

_MARK = 12345
LOUD = 8000


def spoken(word: int, frames: int = 5) -> bytes:
    """``word`` (0 … 32767) as audio, loud."""
    frame = array("h", [_MARK, word] + [LOUD, -LOUD] * (FRAME_BYTES // 4 - 1))
    return frame.tobytes() * frames


def quiet(frames: int = 1) -> bytes:
    """Line noise."""
    return array("h", [2, -2] * (FRAME_BYTES // 4)).tobytes() * frames


class FakeStream:
    """Delivers synchronously, from within the calls."""

    def __init__(self, owner: FakeRecognizer, on_event: Callable[[RecognitionEvent], None]) -> None:
        self._owner = owner
        self._on_event = on_event
        self._words: list[Word] = []
        self.now = 0  # bytes
        self.audio_bytes = 0
        self.closed = False
        self.over = False

    def change(self, options: RecognitionOptions) -> None:
        self._owner.options.append(options)

    def feed(self, pcm: bytes) -> None:
        assert not self.closed
        if self.over:
            return
        for place in range(0, len(pcm), FRAME_BYTES):
            values = array("h", pcm[place : place + FRAME_BYTES])
            if len(values) > 1 and values[0] == _MARK:
                self._hear(str(values[1]), (self.now + place) // 16)
        self.now += len(pcm)
        self.audio_bytes += len(pcm)
        self._check()

    def silence(self, duration_ms: int) -> None:
        assert not self.closed
        self.now += duration_ms * 16
        self._check()

    def end_utterance(self) -> None:
        assert not self.closed
        if not self.over:
            self._final()
            self._on_event(UtteranceEnded(self.now // 16))

    def close(self) -> None:
        self.closed = True
        if not self.over:
            self._final()
            self.over = True
            self._on_event(StreamEnded(self.now // 16))

    def fail(self, message: str = "lost", *, retryable: bool = True) -> None:
        """The service goes away."""
        self.over = True
        self._words.clear()
        self._on_event(RecognitionFailed(message, retryable))

    def divert(
        self, on_event: Callable[[RecognitionEvent], None]
    ) -> Callable[[RecognitionEvent], None]:
        """Events go to ``on_event`` from now on; returns where they went."""
        before, self._on_event = self._on_event, on_event
        return before

    def _hear(self, text: str, at_ms: int) -> None:
        last = self._words[-1] if self._words else None
        if last and last.text == text and last.end_ms == at_ms:
            self._words[-1] = Word(text, last.start_ms, at_ms + FRAME_MS)
        else:
            self._words.append(Word(text, at_ms, at_ms + FRAME_MS))
            self._on_event(self._hypothesis(final=False))

    def _hypothesis(self, *, final: bool) -> Hypothesis:
        words = tuple(self._words)
        text = " ".join(word.text for word in words)
        return Hypothesis(text, final, words[0].start_ms, words[-1].end_ms, words=words)

    def _final(self) -> None:
        if self._words:
            self._on_event(self._hypothesis(final=True))
            self._words.clear()

    def _check(self) -> None:
        limit_ms = self._owner.session_ms
        if not self.over and limit_ms is not None and self.now > limit_ms * 16:
            self.fail("the session exceeds its limit")


class FakeRecognizer:
    """A Recognizer, and a CallRecognizer whose streams note what they are changed to.
    ``session_ms``: sessions that hear more fail. ``refuse``: as many sessions
    fail at once."""

    def __init__(self, session_ms: int | None = None, refuse: int = 0) -> None:
        self.session_ms = session_ms
        self.refuse = refuse
        self.streams: list[FakeStream] = []
        self.options: list[RecognitionOptions] = []

    def open(
        self,
        options: RecognitionOptions,
        on_event: Callable[[RecognitionEvent], None],
    ) -> FakeStream:
        stream = FakeStream(self, on_event)
        self.options.append(options)
        self.streams.append(stream)
        if self.refuse:
            self.refuse -= 1
            stream.fail("refused")
        return stream


class FakeSynthesizer:
    """A Synthesizer: a second of sound per call, counted. ``gate``: hold it to hold synthesis."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.texts: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def stream(self, text: str, *, language: str, timeout_s: float) -> Iterator[bytes]:
        self.texts.append(text)
        assert self.gate.wait(10)
        if self.error:
            raise self.error
        for _ in range(5):
            yield spoken(len(text), 10)
