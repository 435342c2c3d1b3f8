"""What a call hears: the fork's stream → voice detection → gate → recogniser → utterances.

Two threads meet here. The audio loop feeds; the recogniser's thread delivers; the call's thread
waits. All times are ms of the call's audio stream.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Protocol

from backend.media.gate import Action, Audio, EndOfUtterance, Silence, VoiceGate
from backend.media.voice import SpeechStarted
from backend.model import Utterance, Word
from backend.ports import (
    FRAME_BYTES,
    FRAME_MS,
    RATE_HZ,
    CallRecognizer,
    CallStream,
    Hypothesis,
    RecognitionEvent,
    RecognitionFailed,
    RecognitionOptions,
    StreamEnded,
    UtteranceEnded,
)

log = logging.getLogger(__name__)

# A caller's phone may send nothing while he is silent (silence suppression), and a call on hold
# has no frames at all. The stream's time goes on all the same: after this long without audio,
# silence is put in its place, or no utterance would end and recognition would starve.
FILL_AFTER_S = 0.4
# A tick that comes so long after the one before says that the audio loop stood still, not that
# nothing was sent: what came meanwhile is read before the next tick. Silence in the midst of a
# word would be for ever.
LATE_TICK_S = 0.3
# Where the service ends utterances, it may find none in a noise: after this long it was nothing.
SERVICE_END_S = 2.0
KEPT_UTTERANCES = 100  # a scenario that never hears drops the oldest; all are in the transcript
MAX_DROPPED_MS = 60_000  # a module that claims more is not believed
BYTES_PER_MS = RATE_HZ // 1000 * 2


@dataclass(frozen=True, slots=True)
class EarFigures:
    """Of one call's stream."""

    audio_ms: int
    messages: int
    connections: int
    dropped_ms: int  # lost on the way, as the module told


class Observer(Protocol):
    """Who is told what the ear hears, as it hears it. No method may block."""

    def on_voice(self, speaking: bool) -> None:
        """Audio loop: the caller begins to speak, or has been silent for long enough."""

    def on_time(self) -> None:
        """Audio loop: with each piece of audio, and several times a second without any."""

    def on_words(self, hypothesis: Hypothesis) -> None:
        """The recogniser's thread: all of the utterance in progress, as it seems by now."""

    def on_utterance(self, utterance: Utterance | None) -> None:
        """The recogniser's thread: an utterance has ended; None: it had no words."""

    def on_failure(self, message: str) -> None:
        """The recogniser's thread: nothing more will be recognised."""


class CallEar:
    """Hears one call's stream.

    ``own_end``: we end utterances, and are owed an answer for each; else the service does.
    ``on_utterance`` is called for each recognised utterance on the recogniser's thread.
    """

    def __init__(
        self,
        channel: str,
        recognizer: CallRecognizer,
        options: RecognitionOptions,
        gate: VoiceGate,
        *,
        own_end_of_utterance: bool,
        on_utterance: Callable[[Utterance], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._channel = channel
        self._recognizer = recognizer
        self._options = options
        self._gate = gate
        self.own_end = own_end_of_utterance
        self._on_utterance = on_utterance
        self._clock = clock
        # Guards what the call's thread waits for. The counters and the stream are single
        # references, written by one thread each: readers need no lock.
        self._cond = threading.Condition()
        self._stream: CallStream | None = None
        self._observers: tuple[Observer, ...] = ()
        self._voice = False
        self._told = False  # the service ended the utterance before we heard silence
        self._acted_ms = 0  # of the stream, what the gate has decided about
        self._began_ms = 0  # where in the stream recognition, and its clock, began
        self._received_bytes = 0
        self._filled_bytes = 0
        self._filled_since = 0  # of that, since the last audio
        self._dropped_ms = 0
        self._audio_at = clock()  # the last audio came
        self._filled_to = self._audio_at  # the stream's time is filled up to here
        self._ticked_at = self._audio_at
        self._waited = False  # the last tick came late, and filled nothing
        self._messages = 0
        self._connections = 0
        self._connected = False
        self._changes = 0
        self._closed = False
        self._cut = False
        self._owed = 0  # utterances that have ended and whose text is awaited ...
        self._owed_since = 0.0  # ... the first of them since then
        self._ended = False  # recognition has delivered its last event
        self._finals: list[Hypothesis] = []
        self._utterances: deque[Utterance] = deque(maxlen=KEPT_UTTERANCES)
        self._failure: str | None = None

    # The call's thread

    def listen(self, options: RecognitionOptions | None = None) -> None:
        """Recognise, from the first audio that comes after this, or what is being said now, with
        ``options`` (default: as before). A new session begins only where they differ."""
        with self._cond:
            self._options = options = options or self._options
            stream = self._stream
            if stream is None and not self._closed:
                self._began_ms = self._acted_ms
                self._stream = self._recognizer.open(options, self._recognised)
        if stream is not None:
            stream.change(options)

    @property
    def options(self) -> RecognitionOptions:
        """What is recognised now."""
        return self._options

    def end_silence(self, silence_ms: int | None) -> None:
        """This much silence ends an utterance; None: as set for all calls."""
        self._gate.end_silence(silence_ms)

    @property
    def position_ms(self) -> int:
        """The stream's time: the audio that came, and the silence put where none did."""
        return (self._received_bytes + self._filled_bytes) // BYTES_PER_MS

    @property
    def figures(self) -> EarFigures:
        with self._cond:
            audio_ms = self._received_bytes // BYTES_PER_MS
            return EarFigures(audio_ms, self._messages, self._connections, self._dropped_ms)

    def watch(self, observer: Observer) -> None:
        """Tell ``observer`` from now on."""
        with self._cond:
            self._observers += (observer,)

    def unwatch(self, observer: Observer) -> None:
        """No longer; one call to it may be under way."""
        with self._cond:
            self._observers = tuple(o for o in self._observers if o is not observer)

    def poke(self) -> None:
        """Something else has happened that ``wait`` ends for. Any thread."""
        with self._cond:
            self._notify()

    @property
    def changes(self) -> int:
        """Rises with everything that ``wait`` ends for."""
        return self._changes

    def wait(self, seen: int, timeout_s: float) -> None:
        """Until something has changed since ``changes`` was ``seen``, or ``timeout_s``."""
        with self._cond:
            self._cond.wait_for(lambda: self._changes != seen, timeout_s)

    def take(self, since_ms: int) -> Utterance | None:
        """The next utterance that was not over before ``since_ms``; older ones are dropped."""
        with self._cond:
            while self._utterances:
                utterance = self._utterances.popleft()
                if utterance.end_ms > since_ms:
                    return utterance
            return None

    @property
    def speaking(self) -> bool:
        """The caller is speaking now."""
        return self._voice

    @property
    def mid_utterance(self) -> bool:
        """The caller is speaking, and what he says has not been recognised as whole yet."""
        return self._voice and not self._told

    def pending(self) -> tuple[bool, float | None]:
        """``speaking`` and ``owed_s``, of one moment."""
        with self._cond:
            return self._voice, self.owed_s()

    def owed_s(self) -> float | None:
        """Since when an ended utterance's text is awaited; None: nothing is."""
        with self._cond:
            if not self._owed:
                return None
            since_s = monotonic() - self._owed_since
            if not self.own_end and since_s > SERVICE_END_S:
                self._owed = 0
                return None
            return since_s

    @property
    def connected(self) -> bool:
        return self._connected

    def wait_closed(self, timeout_s: float) -> None:
        """Until the stream is closed, which the fork does when it has sent its rest."""
        with self._cond:
            self._cond.wait_for(lambda: not self._connected, timeout_s)

    @property
    def failure(self) -> str | None:
        """Why recognition has ended for good."""
        return self._failure

    def end_utterance(self) -> None:
        """Ask for the text of what has been said so far, though the caller still speaks."""
        self._cut = True

    def close(self, timeout_s: float) -> None:
        """The stream has been released: wait for the text still owed, at most ``timeout_s``,
        and end recognition."""
        for action in self._gate.flush():
            self._act(action)
        with self._cond:
            self._closed = True
            stream, self._stream = self._stream, None
            owing = self._owed > 0 or not self.own_end
        if stream is None:
            return
        stream.close()
        if owing:
            with self._cond:
                self._cond.wait_for(lambda: self._ended, timeout_s)

    def _notify(self) -> None:
        """With the lock held."""
        self._changes += 1
        self._cond.notify_all()

    # The audio loop

    def on_open(self) -> None:
        self._audio_at = self._filled_to = self._clock()
        with self._cond:
            self._connected = True
            self._connections += 1
            self._notify()

    def on_close(self, reason: str) -> None:
        log.debug("%s: audio stream closed: %s", self._channel, reason)
        with self._cond:
            self._connected = False
            self._notify()

    def on_audio(self, pcm: bytes) -> None:
        self._messages += 1
        self._received_bytes += len(pcm)
        self._audio_at = self._filled_to = self._clock()
        self._filled_since = 0
        self._listen_to(pcm)

    def on_dropped(self, lost_ms: int) -> None:
        """So much audio was lost on the way: silence in its place keeps the stream's time true.
        What was filled in already, while nothing came, is part of it."""
        self._dropped_ms += lost_ms
        self._fill(min(lost_ms, MAX_DROPPED_MS) * BYTES_PER_MS - self._filled_since)

    def on_tick(self) -> None:
        """Time goes by, audio or not; several times a second."""
        for observer in self._observers:
            observer.on_time()
        now = self._clock()
        late = now - self._ticked_at > LATE_TICK_S
        self._ticked_at, self._waited = now, late and not self._waited
        if self._waited or not self._connected or now - self._audio_at < FILL_AFTER_S:
            return
        frames = int((now - self._filled_to) * 1000) // FRAME_MS
        self._filled_to += frames * FRAME_MS / 1000
        self._filled_since += frames * FRAME_BYTES
        self._fill(frames * FRAME_BYTES)

    def _fill(self, size: int) -> None:
        if size > 0:
            self._filled_bytes += size
            self._listen_to(bytes(size))

    def _listen_to(self, pcm: bytes) -> None:
        for action in self._gate.push(pcm):
            self._act(action)
        if self._cut:
            self._cut = False
            for action in self._gate.cut():
                self._act(action)
        for observer in self._observers:
            observer.on_time()

    def _act(self, action: Action) -> None:
        with self._cond:  # against listen(): an action is before recognition's clock, or on it
            stream = self._stream
            if isinstance(action, Audio):
                self._acted_ms += len(action.pcm) // BYTES_PER_MS
            elif isinstance(action, Silence):
                self._acted_ms += action.duration_ms
        if isinstance(action, Audio):
            if stream is not None:
                stream.feed(action.pcm)
        elif isinstance(action, Silence):
            if stream is not None:
                stream.silence(action.duration_ms)
        elif isinstance(action, SpeechStarted):
            self._voice_changed(True, owed=False)
        elif isinstance(action, EndOfUtterance):
            self._voice_changed(False, owed=stream is not None)
            if self.own_end and stream is not None:
                stream.end_utterance()

    def _voice_changed(self, speaking: bool, *, owed: bool) -> None:
        with self._cond:
            self._voice, self._told = speaking, False
            if owed:
                # Of our own ends each gets an answer; the service finds one end, or none.
                self._owed = self._owed + 1 if self.own_end else 1
                if self._owed == 1:
                    self._owed_since = monotonic()
            self._notify()
        for observer in self._observers:
            observer.on_voice(speaking)

    # The recogniser's thread

    def _recognised(self, event: RecognitionEvent) -> None:
        if isinstance(event, Hypothesis):
            self._words(event)
        elif isinstance(event, UtteranceEnded):
            self._utterance_ended(last=isinstance(event, StreamEnded))
        elif isinstance(event, RecognitionFailed):
            log.error("%s: recognition has ended: %s", self._channel, event.message)
            with self._cond:
                self._failure = event.message
                self._ended = True
                self._notify()
            for observer in self._observers:
                observer.on_failure(event.message)

    def _words(self, event: Hypothesis) -> None:
        if event.final:
            self._finals.append(event)
        if self._observers and event.text.strip():
            known = self._finals if event.final else [*self._finals, event]
            so_far = _join([part for part in known if part.text.strip()], self._began_ms)
            seems = replace(
                event,
                text=so_far.text,
                start_ms=so_far.start_ms,
                end_ms=so_far.end_ms,
                words=so_far.words,
            )
            for observer in self._observers:
                observer.on_words(seems)

    def _utterance_ended(self, *, last: bool) -> None:
        finals, self._finals = [f for f in self._finals if f.text.strip()], []
        utterance = _join(finals, self._began_ms) if finals else None
        if utterance is not None:
            self._on_utterance(utterance)
        for observer in self._observers:  # before it can be taken: it may be no answer
            observer.on_utterance(utterance)
        with self._cond:
            self._owed = 0 if last else max(self._owed - 1, 0)
            self._owed_since = monotonic()  # of the next one, if another is owed
            self._ended = last
            if utterance is not None:
                self._told = not self.own_end
                self._utterances.append(utterance)
            self._notify()


def _join(finals: list[Hypothesis], began_ms: int) -> Utterance:
    """One utterance; the recogniser's times become those of the stream."""
    confidences = [final.confidence for final in finals if final.confidence is not None]
    words = tuple(
        Word(word.text, word.start_ms + began_ms, word.end_ms + began_ms)
        for final in finals
        for word in final.words
    )
    return Utterance(
        speaker="caller",
        text=" ".join(final.text.strip() for final in finals),
        start_ms=finals[0].start_ms + began_ms,
        end_ms=finals[-1].end_ms + began_ms,
        confidence=min(confidences, default=None),
        language=next((final.language for final in finals if final.language), None),
        words=words,
    )
