"""What is heard while a prompt plays, on its way to the machine that decides about the prompt.

Voice and keys come on the audio loop, words on the recogniser's thread: one at a time they are
told to call.barge, and what it wants is done to the prompt before the next one is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType

from backend.call.barge import Act, Barge, StoppedBy
from backend.call.ear import CallEar
from backend.call.keys import Key, Keys
from backend.call.speaker import Speaker
from backend.model import Utterance
from backend.ports import Hypothesis


class Attention:
    """An ear.Observer for one prompt, from entering to leaving the block. ``since_ms``: of what was
    said before that place in the stream nothing counts."""

    def __init__(
        self,
        barge: Barge,
        speaker: Speaker,
        ear: CallEar,
        keys: Keys,
        since_ms: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._barge = barge
        self._speaker = speaker
        self._ear = ear
        self._keys = keys
        self._since_ms = since_ms
        self._clock = clock
        self._lock = threading.Lock()  # held while the machine is told and obeyed; nothing waits
        self.was_paused = False

    def __enter__(self) -> Attention:
        self._ear.watch(self)
        self._keys.watch(self.on_key)
        if self._ear.mid_utterance:
            self.on_voice(True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ear.unwatch(self)
        self._keys.unwatch(self.on_key)
        with self._lock:  # whoever is still at it has done it; later ones find it over
            self._ignored = self._barge.over(self._now_ms())

    @property
    def stopped_by(self) -> StoppedBy | None:
        """What stopped the prompt, or made it needless."""
        return self._barge.stopped_by

    @property
    def ignored(self) -> tuple[Utterance, ...]:
        """Afterwards: what was said and is no answer."""
        return self._ignored

    def on_voice(self, speaking: bool) -> None:
        self._tell(lambda now_ms: self._barge.voice(speaking, now_ms))

    def on_time(self) -> None:
        self._tell(self._barge.time)

    def on_words(self, hypothesis: Hypothesis) -> None:
        if hypothesis.end_ms > self._since_ms:
            self._tell(lambda now_ms: self._barge.words(hypothesis.text, now_ms))

    def on_utterance(self, utterance: Utterance | None) -> None:
        if utterance is None or utterance.end_ms > self._since_ms:
            self._tell(lambda now_ms: self._barge.utterance(utterance, now_ms))

    def on_failure(self, message: str) -> None:
        """No words will come: a pause ends by its time."""

    def on_key(self, key: Key) -> None:
        if not key.ahead:
            self._tell(lambda _: self._barge.key())

    def cancel(self) -> None:
        """Any thread: stop the prompt."""
        self._tell(lambda _: self._barge.cancel())

    def _tell(self, event: Callable[[int], Act | None]) -> None:
        with self._lock:
            act = event(self._now_ms())
            state = self._barge.state
            # Said again and again while it holds: one may come before the prompt, or be swallowed.
            if state == "stopped":
                self._speaker.stop()
            elif state == "paused":
                self.was_paused = True
                self._speaker.pause()
            elif act is Act.RESUME:
                self._speaker.resume()

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)
