"""SpeechKit v3: streaming recognition over gRPC (yandex.cloud.ai.stt.v3). Synthesis stands in
``synthesis``; both are exported here.

Threads: per stream one of ours (``stt-…``, reads the responses, calls ``on_event``; owned and
joined by the recognizer) and one of gRPC's (reads the requests); per recognizer one for deadlines.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import grpc
from yandex.cloud.ai.stt.v3 import stt_pb2, stt_service_pb2_grpc

from backend.model import Word
from backend.ports import (
    RATE_HZ,
    Hypothesis,
    RecognitionEvent,
    RecognitionFailed,
    RecognitionOptions,
    StreamEnded,
    UtteranceEnded,
)
from backend.speech.deadlines import Deadlines
from backend.speech.endpoint import ApiKey, Credentials, Endpoint, IamToken, retryable
from backend.speech.refine import FinalsInOrder
from backend.speech.synthesis import SpeechKitSynthesizer
from backend.speech.text import HINTS_MODEL, folded

__all__ = [
    "ApiKey",
    "Credentials",
    "Endpoint",
    "IamToken",
    "SpeechKitRecognizer",
    "SpeechKitStream",
    "SpeechKitSynthesizer",
]

log = logging.getLogger(__name__)

QUEUE_MESSAGES = 300  # 30 s of 100 ms chunks; more means that the service takes nothing
SESSION_S = 5 * 60  # SpeechKit's limit (yandex.cloud/docs/speechkit/concepts/limits)
_WHAT = "SpeechKit recognition"

EndOfUtteranceMode = Literal["silence", "speechkit"]


class SpeechKitRecognizer:
    """A Recognizer. One gRPC channel for all its streams.

    ``end_of_utterance``: "silence": ``end_utterance()`` ends an utterance, nothing else does;
    "speechkit": SpeechKit's classifier does, ``end_utterance()`` is ignored, and ``max_pause_ms``
    is the pause between words that it is told to tolerate. ``normalize``: numbers, dates and
    punctuation as written; each final is then delivered once, with the normalised text, when that
    has come. ``answer_s``: longest wait for what is owed after ``end_utterance()`` and after
    ``close()``. Then a session that has sent nothing since fails, retryable; from one that is
    alive the finals are taken as they are and the utterance counts as ended.

    SpeechKit v3's streaming API takes no hints (stt.proto, RecognitionModelOptions): of the several
    texts that a final may offer, the first one with a hinted phrase in it is taken.
    ``hints_as_model``: the local server gets them as a model of its own.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        end_of_utterance: EndOfUtteranceMode = "silence",
        max_pause_ms: int = 600,
        normalize: bool = False,
        session_s: float = SESSION_S,
        answer_s: float = 5.0,
        hints_as_model: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.mode: EndOfUtteranceMode = end_of_utterance
        self.max_pause_ms = max_pause_ms
        self.normalize = normalize
        self.session_s = session_s
        self.answer_s = answer_s
        self.hints_as_model = hints_as_model
        self.deadlines = Deadlines("stt-deadlines")
        self._channel = endpoint.connect()
        self._stub = stt_service_pb2_grpc.RecognizerStub(self._channel)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._streams: set[SpeechKitStream] = set()
        self._closed = False

    def open(
        self, options: RecognitionOptions, on_event: Callable[[RecognitionEvent], None]
    ) -> SpeechKitStream:
        """See ports.Recognizer. The stream's last event is a StreamEnded (after its ``close()``)
        or a RecognitionFailed, always."""
        stream = SpeechKitStream(self, options, on_event, f"stt-{next(self._numbers)}")
        with self._lock:
            if self._closed:
                raise RuntimeError("the recognizer is closed")
            self._streams.add(stream)
        stream.start()
        return stream

    def close(self, timeout_s: float = 5.0) -> None:
        """Cancel all streams (each gets its RecognitionFailed), join their threads, disconnect."""
        with self._lock:
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.cancel("the backend is stopping", retryable=False)
        for stream in streams:
            stream.join(timeout_s)
        self.deadlines.close(timeout_s)
        self._channel.close()

    def call(self, requests: Iterator[stt_pb2.StreamingRequest]) -> grpc.Call:
        """Start the RPC (for SpeechKitStream)."""
        metadata = self.endpoint.metadata()
        log.debug("recognition session, request id %s", metadata[0][1])
        return self._stub.RecognizeStreaming(requests, metadata=metadata, timeout=self.session_s)

    def gone(self, stream: SpeechKitStream) -> None:
        """``stream`` has delivered its last event (for SpeechKitStream)."""
        self.deadlines.clear(stream)
        with self._lock:
            self._streams.discard(stream)


class SpeechKitStream:
    """One session; made by SpeechKitRecognizer.open. Methods never block and never raise."""

    def __init__(
        self,
        owner: SpeechKitRecognizer,
        options: RecognitionOptions,
        on_event: Callable[[RecognitionEvent], None],
        name: str,
    ) -> None:
        self._owner = owner
        self._on_event = on_event
        self._partials = options.partials
        self._hints = tuple(folded(hint) for hint in options.hints)
        self._requests = _Requests(QUEUE_MESSAGES)
        self._requests.put(_session_options(owner, options))
        self._finals = FinalsInOrder(wait=owner.normalize)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._lock = threading.Lock()
        self._call: grpc.Call | None = None
        self._failure: RecognitionFailed | None = None  # ours: goes before the RPC's own error
        self._closed = False
        self._answered = False  # the service has accepted the session
        self._alive = False  # it has sent something since we last asked
        self._owed = 0  # ends of utterance asked for and not yet reported
        # One event at a time: the responses' thread and, when an answer is late, the deadlines'.
        self._emitting = threading.Lock()
        self._reported_ms = 0

    def feed(self, pcm: bytes) -> None:
        self._put(stt_pb2.StreamingRequest(chunk=stt_pb2.AudioChunk(data=pcm)))

    def silence(self, duration_ms: int) -> None:
        chunk = stt_pb2.SilenceChunk(duration_ms=duration_ms)
        self._put(stt_pb2.StreamingRequest(silence_chunk=chunk))

    def end_utterance(self) -> None:
        if self._owner.mode == "silence" and not self._closed:
            with self._lock:
                self._owed += 1
                self._arm()
            self._put(stt_pb2.StreamingRequest(eou=stt_pb2.Eou()))

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._arm()
        self._requests.finish()

    def start(self) -> None:
        """Start the session's thread (for SpeechKitRecognizer)."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the last event to be delivered."""
        self._thread.join(timeout_s)

    def cancel(self, message: str, *, retryable: bool) -> None:
        """End the session at once; the last event is RecognitionFailed with this message."""
        with self._lock:
            if self._failure is None:
                self._failure = RecognitionFailed(message, retryable)
            call = self._call
        self._requests.finish()
        if call is not None:
            call.cancel()

    def _put(self, request: stt_pb2.StreamingRequest) -> None:
        # Full: the service has taken nothing for half a minute. Audio with a hole is worth less
        # than a new session, so the stream fails rather than drops.
        if not self._requests.put(request):
            where = self._owner.endpoint.address
            self.cancel(f"{_WHAT} at {where} takes no audio", retryable=True)

    def _arm(self) -> None:
        """(Re)start the wait for an answer. Holds the lock."""
        self._alive = False
        self._owner.deadlines.set(self, self._owner.answer_s, self._late)

    def _disarm(self) -> None:
        with self._lock:
            if not (self._owed or self._closed or self._finals.waiting):
                self._owner.deadlines.clear(self)

    def _late(self) -> None:
        """What was asked for has not come in time. On the deadlines' thread."""
        if self._closed or not self._alive:
            where = self._owner.endpoint.address
            self.cancel(f"{_WHAT} at {where} did not answer in time", retryable=True)
            return
        log.warning("%s: the end of an utterance was not confirmed", self._thread.name)
        with self._emitting:
            events = self._finals.release()
            with self._lock:
                events += [UtteranceEnded(self._reported_ms)] * self._owed
                self._owed = 0
            for event in events:
                self._emit(event)

    def _run(self) -> None:
        last = self._last_event()
        with self._emitting:
            for event in (*self._finals.release(), last):
                self._emit(event)
        self._owner.gone(self)

    def _last_event(self) -> RecognitionEvent:
        try:
            return self._converse()
        except grpc.RpcError as error:
            return self._failed(error)
        except Exception as error:
            log.exception("recognition stream %s", self._thread.name)
            return RecognitionFailed(f"{_WHAT} failed inside the backend: {error}", True)
        finally:
            self._requests.finish()
            self._owner.deadlines.clear(self)

    def _converse(self) -> RecognitionEvent:
        with self._lock:
            if self._failure:
                return self._failure
            call = self._call = self._owner.call(self._requests)
        for response in call:
            self._answered = self._alive = True
            with self._emitting:
                for event in self._events(response):
                    self._emit(event)
            self._disarm()
        if self._failure or not self._closed:
            where = self._owner.endpoint.address
            return self._failure or RecognitionFailed(f"{_WHAT} at {where} ended the session", True)
        return StreamEnded(self._reported_ms)

    def _events(self, response: stt_pb2.StreamingResponse) -> list[RecognitionEvent]:
        kind = response.WhichOneof("Event")
        cursors = response.audio_cursors
        self._reported_ms = max(self._reported_ms, cursors.received_data_ms)
        if kind == "partial":
            partial = _hypothesis(response.partial, final=False)
            return [partial] if partial and self._partials else []
        if kind == "final":
            return self._finals.final(
                cursors.final_index, _hypothesis(response.final, final=True, hints=self._hints)
            )
        if kind == "final_refinement":
            refined = _hypothesis(response.final_refinement.normalized_text, final=True)
            return self._finals.refined(response.final_refinement.final_index, refined)
        if kind == "eou_update":
            return self._end_of_utterance(response.eou_update.time_ms)
        if kind == "status_code" and response.status_code.code_type == stt_pb2.WARNING:
            log.warning("SpeechKit warns: %s", response.status_code.message)
        return []

    def _end_of_utterance(self, at_ms: int) -> list[RecognitionEvent]:
        with self._lock:
            self._owed = max(0, self._owed - 1)
        return self._finals.ended(UtteranceEnded(at_ms))

    def _failed(self, error: grpc.RpcError) -> RecognitionFailed:
        if self._failure:
            return self._failure
        code, details = error.code(), error.details()
        again = retryable(code) or (self._answered and code == grpc.StatusCode.INVALID_ARGUMENT)
        return RecognitionFailed(self._owner.endpoint.explain(_WHAT, code, details), again)

    def _emit(self, event: RecognitionEvent) -> None:
        try:
            self._on_event(event)
        except Exception:
            log.exception("recognition stream %s: the receiver of events failed", self._thread.name)


class _Requests:
    """The requests of a session on their way to gRPC's thread, which iterates over this.

    Bounded: ``put`` says False when full. ``finish`` always gets through, so that gRPC's thread
    never stays behind in ``__next__``.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[stt_pb2.StreamingRequest] = deque()
        self._changed = threading.Condition()
        self._finished = False

    def put(self, request: stt_pb2.StreamingRequest) -> bool:
        """Whether there was room. After ``finish`` the request is thrown away."""
        with self._changed:
            if self._finished:
                return True
            if len(self._items) >= self._limit:
                return False
            self._items.append(request)
            self._changed.notify()
            return True

    def finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify()

    def __iter__(self) -> Iterator[stt_pb2.StreamingRequest]:
        return self

    def __next__(self) -> stt_pb2.StreamingRequest:
        with self._changed:
            while not (self._items or self._finished):
                self._changed.wait()
            if not self._items:
                raise StopIteration
            return self._items.popleft()


def _session_options(
    owner: SpeechKitRecognizer, options: RecognitionOptions
) -> stt_pb2.StreamingRequest:
    normalization = stt_pb2.TextNormalizationOptions
    restriction = stt_pb2.LanguageRestrictionOptions
    model = stt_pb2.RecognitionModelOptions(
        model=_model(owner, options),
        audio_format=stt_pb2.AudioFormatOptions(
            raw_audio=stt_pb2.RawAudio(
                audio_encoding=stt_pb2.RawAudio.LINEAR16_PCM,
                sample_rate_hertz=RATE_HZ,
                audio_channel_count=1,
            )
        ),
        text_normalization=normalization(
            text_normalization=normalization.TEXT_NORMALIZATION_ENABLED
            if owner.normalize
            else normalization.TEXT_NORMALIZATION_DISABLED
        ),
        language_restriction=restriction(
            restriction_type=restriction.WHITELIST, language_code=options.languages
        ),
        audio_processing_type=stt_pb2.RecognitionModelOptions.REAL_TIME,
    )
    if owner.mode == "silence":
        eou = stt_pb2.EouClassifierOptions(external_classifier=stt_pb2.ExternalEouClassifier())
    else:
        classifier = stt_pb2.DefaultEouClassifier(
            type=stt_pb2.DefaultEouClassifier.DEFAULT,
            max_pause_between_words_hint_ms=options.max_pause_ms or owner.max_pause_ms,
        )
        eou = stt_pb2.EouClassifierOptions(default_classifier=classifier)
    return stt_pb2.StreamingRequest(
        session_options=stt_pb2.StreamingOptions(recognition_model=model, eou_classifier=eou)
    )


def _model(owner: SpeechKitRecognizer, options: RecognitionOptions) -> str:
    if not (owner.hints_as_model and options.hints):
        return options.model
    return HINTS_MODEL + "|".join(hint.replace("|", " ") for hint in options.hints)


def _hypothesis(
    update: stt_pb2.AlternativeUpdate, *, final: bool, hints: Sequence[str] = ()
) -> Hypothesis | None:
    """The first alternative with a hint in it, or else that holds words; None when nothing was
    recognised."""
    spoken = [alternative for alternative in update.alternatives if alternative.text.strip()]
    hinted = (a for a in spoken if any(hint in folded(a.text) for hint in hints))
    for alternative in (*hinted, *spoken):
        languages = sorted(alternative.languages, key=lambda item: -item.probability)
        found = Hypothesis(
            text=alternative.text.strip(),
            final=final,
            start_ms=alternative.start_time_ms,
            end_ms=alternative.end_time_ms,
            # SpeechKit does not fill it yet: 0 means "not said".
            confidence=alternative.confidence or None,
            language=languages[0].language_code if languages else None,
        )
        words = tuple(Word(w.text, w.start_time_ms, w.end_time_ms) for w in alternative.words)
        return replace(found, words=words)
    return None
