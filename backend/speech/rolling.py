"""One endless recognition stream over sessions that may each live only so long.

SpeechKit ends a session after 5 minutes or 10 MB. Before that the stream rolls over: the old
session is asked for what it owes and closed, a new one hears the rest. A session that fails is
replaced, and its successor hears again what had no final yet. The clock is the stream's own.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from backend.media.pcm import level_dbfs
from backend.model import Word
from backend.ports import (
    FRAME_BYTES,
    FRAME_MS,
    Hypothesis,
    RecognitionEvent,
    RecognitionFailed,
    RecognitionOptions,
    RecognitionStream,
    Recognizer,
    StreamEnded,
    UtteranceEnded,
)
from backend.speech.replay import BYTES_PER_MS, Piece, Replay

log = logging.getLogger(__name__)

_SETTLED_MS = 10_000  # a session that lived this long does not count among failures in a row


@dataclass(frozen=True, slots=True)
class RollLimits:
    """When to roll over, how to recover. All times are stream time.

    From ``soft_ms`` (or ``soft_bytes`` of audio) on the stream rolls at the first pause of
    ``gap_ms`` (quieter than ``quiet_dbfs``), at ``hard_ms`` (``hard_bytes``) at the quietest place
    of the last ``look_back_ms``. ``replay_ms``: the most that a new session hears again.
    ``back_off_ms``: the wait before each attempt in a row; after the last one the stream fails.
    """

    soft_ms: int = 240_000
    hard_ms: int = 285_000
    soft_bytes: int = 8_000_000
    hard_bytes: int = 9_500_000
    gap_ms: int = 100
    quiet_dbfs: float = -45.0
    look_back_ms: int = 2_000
    replay_ms: int = 15_000
    back_off_ms: tuple[int, ...] = (0, 300, 1_000, 2_000, 4_000)


class RollingRecognizer:
    """A Recognizer over ``inner``, whose streams must end as ports.StreamEnded says. No thread
    of its own: events come on the threads of ``inner``, one at a time, in order.

    ``end_of_utterance``: as ``inner`` was told; with "silence" an end that a roll-over brings
    about within an utterance is kept from the receiver.
    """

    def __init__(
        self,
        inner: Recognizer,
        limits: RollLimits | None = None,
        *,
        end_of_utterance: Literal["silence", "speechkit"] = "silence",
    ) -> None:
        self._inner = inner
        self._limits = limits or RollLimits()
        self._own_ends = end_of_utterance == "silence"

    def open(
        self, options: RecognitionOptions, on_event: Callable[[RecognitionEvent], None]
    ) -> RollingStream:
        """See ports.Recognizer. The last event is StreamEnded or RecognitionFailed."""
        return RollingStream(self._inner, self._limits, options, on_event, own_ends=self._own_ends)


class _Session:
    """One life of an inner stream. ``stream`` is None before it and after its failure."""

    def __init__(self, offset: int, replay: Replay, options: RecognitionOptions) -> None:
        self.options = options
        self.stream: RecognitionStream | None = None
        self.offset = offset  # position of the stream at which this session's clock began
        self.replay = replay
        self.audio_bytes = 0
        self.resume_at = 0  # not opened before this position
        self.draining = False  # gets no more audio
        self.until_ms: int | None = None  # words from here on belong to the next session
        self.over = False  # owes nothing any more
        self.held: list[RecognitionEvent] = []  # finals, while an older session still owes some
        self.life: object = None  # changes with each inner stream; events of another are too late

    def shift(self, at_ms: int) -> int:
        return at_ms + self.offset // BYTES_PER_MS


class RollingStream:
    """Made by RollingRecognizer.open."""

    def __init__(
        self,
        inner: Recognizer,
        limits: RollLimits,
        options: RecognitionOptions,
        on_event: Callable[[RecognitionEvent], None],
        *,
        own_ends: bool,
    ) -> None:
        self._inner = inner
        self._limits = limits
        self._options = options
        self._on_event = on_event
        # Held for every change; never while on_event runs. Reentrant: an inner recogniser may
        # answer from within a call.
        self._lock = threading.RLock()
        self._sessions: deque[_Session] = deque()  # oldest first; the last one gets the audio
        self._out: deque[RecognitionEvent] = deque()
        self._delivering = False
        self._position = 0
        self._quiet_ms = 0
        self._failures = 0  # in a row
        self._own_ends = own_ends
        self._closed = False
        self._dead = False  # the last event is out
        self.rolled = 0
        self.reopened = 0
        self._sessions.append(_Session(0, Replay(limits.replay_ms), options))
        self._start(self._sessions[-1])

    def feed(self, pcm: bytes) -> None:
        with self._lock:
            if self._closed or self._dead or not pcm:
                return
            self._add(Piece("audio", self._position, len(pcm), pcm))
            if self._due("hard"):
                self._roll_at_quietest()
            elif self._due("soft") and self._pause_in(pcm):
                self._roll(self._position)
        self._deliver()

    def silence(self, duration_ms: int) -> None:
        with self._lock:
            if self._closed or self._dead or duration_ms <= 0:
                return
            self._add(Piece("silence", self._position, duration_ms * BYTES_PER_MS))
            if self._due("soft") and duration_ms >= self._limits.gap_ms:
                self._roll(self._position)
        self._deliver()

    def end_utterance(self) -> None:
        with self._lock:
            if self._closed or self._dead:
                return
            self._add(Piece("end", self._position))
            if self._due("soft"):
                self._roll(self._position)
        self._deliver()

    def change(self, options: RecognitionOptions) -> None:
        """See ports.CallStream: the utterance in progress is the new session's, as far as
        it can be heard again (``replay_ms``)."""
        with self._lock:
            if self._closed or self._dead or options == self._options:
                return
            self._options = options
            start = self._sessions[-1].replay.open_start
            self._roll(self._position if start is None else start)
        self._deliver()

    def close(self) -> None:
        """When nothing is owed and no session is alive, StreamEnded comes from within."""
        with self._lock:
            if self._closed or self._dead:
                return
            self._closed = True
            self._drain(self._sessions[-1])
            self._revive()
        self._deliver()

    # --- What goes in ---

    def _add(self, piece: Piece) -> None:
        """``piece`` goes to the current session, and into its replay."""
        self._position = piece.end
        session = self._sessions[-1]
        alive = session.stream is not None
        if piece.kind != "silence" or session.replay:
            session.replay.add(piece)
        if alive:
            _send(session, piece)
        self._revive()

    def _revive(self) -> None:
        """Open what has waited long enough (after ``close`` nobody waits: no clock runs)."""
        for session in list(self._sessions):
            waiting = session.stream is None and not session.over
            if waiting and (self._closed or self._position >= session.resume_at):
                if session.draining and not session.replay:
                    self._finished(session)
                else:
                    self._start(session)

    def _start(self, session: _Session) -> None:
        """Open the inner stream of ``session`` and let it hear what is owed."""
        start = session.replay.start
        session.offset = self._position if start is None else start
        session.audio_bytes = 0
        life = session.life = object()
        try:
            stream = self._inner.open(
                session.options, lambda event: self._receive(session, life, event)
            )
        except RuntimeError as error:
            self._fail(RecognitionFailed(f"recognition cannot be opened: {error}", False))
            return
        if session.life is not life:
            return  # it has failed already
        session.stream = stream
        for piece in list(session.replay):
            _send(session, piece)
        if session.draining:
            self._drain(session)

    def _drain(self, session: _Session) -> None:
        session.draining = True
        if session.stream is not None:
            if session.replay.open:
                session.stream.end_utterance()
            session.stream.close()

    # --- Rolling over ---

    def _due(self, which: str) -> bool:
        if self._dead or self._sessions[-1].stream is None:
            return False
        session, limits = self._sessions[-1], self._limits
        age_ms = (self._position - session.offset) // BYTES_PER_MS
        if which == "soft":
            return age_ms >= limits.soft_ms or session.audio_bytes >= limits.soft_bytes
        return age_ms >= limits.hard_ms or session.audio_bytes >= limits.hard_bytes

    def _pause_in(self, pcm: bytes) -> bool:
        """Whether the stream is in a pause at the end of ``pcm``."""
        for place in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES):
            quiet = level_dbfs(pcm[place : place + FRAME_BYTES]) < self._limits.quiet_dbfs
            self._quiet_ms = self._quiet_ms + FRAME_MS if quiet else 0
        return self._quiet_ms >= self._limits.gap_ms

    def _roll_at_quietest(self) -> None:
        replay = self._sessions[-1].replay
        place = replay.quietest(self._limits.gap_ms, self._limits.look_back_ms)
        self._roll(self._position if place is None else place)

    def _roll(self, position: int) -> None:
        """End the current session at ``position``, which may lie a little back: then the old one
        has heard more than is its own, and the words from there on are the new one's."""
        old = self._sessions[-1]
        new = _Session(position, old.replay.cut(position), self._options)
        if position < self._position:
            old.until_ms = position // BYTES_PER_MS
        self._quiet_ms = 0
        self.rolled += 1
        self._sessions.append(new)
        self._drain(old)
        self._start(new)

    # --- What comes out ---

    def _receive(self, session: _Session, life: object, event: RecognitionEvent) -> None:
        with self._lock:
            if not self._dead and session.life is life:
                self._accept(session, event)
        self._deliver()

    def _accept(self, session: _Session, event: RecognitionEvent) -> None:
        if isinstance(event, RecognitionFailed):
            self._recover(session, event)
        elif isinstance(event, StreamEnded):
            self._finished(session)
        elif isinstance(event, UtteranceEnded):
            self._failures = 0
            self._utterance_ended(session, event)
        else:
            self._failures = 0
            self._hypothesis(session, event)

    def _hypothesis(self, session: _Session, event: Hypothesis) -> None:
        mine = _shifted(event, session)
        if mine is None:
            return
        if event.final:
            session.replay.final_until(mine.end_ms * BYTES_PER_MS)
            self._emit(session, mine)
        elif session is self._sessions[0]:  # a partial that must wait is out of date
            self._emit(session, mine)

    def _utterance_ended(self, session: _Session, event: UtteranceEnded) -> None:
        at_ms = session.shift(event.at_ms)
        if session.replay.ends:
            session.replay.utterance_done()
        elif session.draining and self._own_ends:
            return  # we asked, because of the roll-over: the utterance goes on
        else:
            session.replay.final_until(at_ms * BYTES_PER_MS)
        self._emit(session, UtteranceEnded(at_ms))

    def _emit(self, session: _Session, event: RecognitionEvent) -> None:
        if session is self._sessions[0]:
            self._out.append(event)
        else:
            session.held.append(event)

    def _finished(self, session: _Session) -> None:
        """``session`` owes nothing any more; the next one may speak."""
        session.over = session.draining = True
        session.stream = session.life = None
        if session is not self._sessions[0]:
            session.held.append(StreamEnded(0))
            return
        self._sessions.popleft()
        if not self._sessions:
            self._dead = True
            self._out.append(StreamEnded(self._position // BYTES_PER_MS))
            return
        following = self._sessions[0]
        held, following.held = following.held, []
        for event in held:
            if isinstance(event, StreamEnded):
                self._finished(following)
            else:
                self._out.append(event)

    def _recover(self, session: _Session, failure: RecognitionFailed) -> None:
        session.stream = session.life = None
        attempts = self._limits.back_off_ms
        if self._position - session.offset > _SETTLED_MS * BYTES_PER_MS:
            self._failures = 0
        if session.draining and not session.replay:
            self._finished(session)
        elif not failure.retryable or self._failures >= len(attempts):
            self._fail(failure)
        else:
            session.resume_at = self._position + attempts[self._failures] * BYTES_PER_MS
            self._failures += 1
            self.reopened += 1
            log.warning("recognition session lost, attempt %d: %s", self._failures, failure.message)
            if session.replay or self._closed:
                self._revive()

    def _fail(self, failure: RecognitionFailed) -> None:
        for session in self._sessions:
            if session.stream is not None:
                session.stream.close()
        self._sessions.clear()
        self._dead = True
        self._out.append(failure)

    def _deliver(self) -> None:
        """Hand out what is due, one thread at a time, without the lock."""
        while True:
            with self._lock:
                if self._delivering or not self._out:
                    return
                self._delivering = True
                event = self._out.popleft()
            try:
                self._on_event(event)
            except Exception:
                log.exception("the receiver of recognition events failed")
            finally:
                with self._lock:
                    self._delivering = False


def _send(session: _Session, piece: Piece) -> None:
    if session.stream is None:
        return
    if piece.kind == "audio":
        session.audio_bytes += piece.size
        session.stream.feed(piece.pcm)
    elif piece.kind == "silence":
        session.stream.silence(piece.size // BYTES_PER_MS)
    else:
        session.stream.end_utterance()


def _shifted(event: Hypothesis, session: _Session) -> Hypothesis | None:
    """``event`` in the time of the whole stream, without the words of the next session."""
    words = tuple(
        Word(word.text, session.shift(word.start_ms), session.shift(word.end_ms))
        for word in event.words
    )
    moved = replace(
        event,
        start_ms=session.shift(event.start_ms),
        end_ms=session.shift(event.end_ms),
        words=words,
    )
    until = session.until_ms
    if until is None or moved.end_ms <= until:
        return moved
    if not words:
        return moved if moved.start_ms < until else None
    mine = tuple(word for word in words if (word.start_ms + word.end_ms) // 2 < until)
    if not mine:
        return None
    text = " ".join(word.text for word in mine)
    return replace(moved, text=text, end_ms=mine[-1].end_ms, words=mine)
