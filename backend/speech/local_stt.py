"""The local server's recognition: SpeechKit's RecognizeStreaming on small grammars."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import grpc
from yandex.cloud.ai.stt.v3 import stt_pb2, stt_service_pb2_grpc

from backend.media.pcm import samples, upsample_2x
from backend.media.voice import SpeechEnded, VoiceDetector
from backend.speech import grammar
from backend.speech.grammar import DecoderPool, Heard
from backend.speech.limits import Gatekeeper, Limits, Refused

log = logging.getLogger(__name__)

_LANGUAGE = "en-US"
_LONGEST_PAUSE_MS = 1000  # of announced silence within an utterance that is decoded as such
_NOISE = bytes.fromhex("0300feff0000fdff0200ffff0100fcff0400feff") * 16  # 10 ms at 16 kHz


class Session:
    """One recognition session: requests in, responses out. No waiting, no clock but the audio's."""

    def __init__(self, options: stt_pb2.StreamingOptions, pool: DecoderPool) -> None:
        """Raises Refused for options that SpeechKit would refuse, too."""
        model = options.recognition_model
        self._rate_hz = _checked_rate(model.audio_format)
        self._model = model.model or grammar.GENERAL
        if not pool.knows(self._model):
            known = ", ".join(pool.models)
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, f"unknown model {self._model!r}; known: {known}"
            )
        self._languages = tuple(model.language_restriction.language_code)
        eou = options.eou_classifier
        self._detector = None
        if eou.WhichOneof("Classifier") != "external_classifier":
            pause_ms = eou.default_classifier.max_pause_between_words_hint_ms or 700
            self._detector = VoiceDetector(end_silence_ms=max(200, min(pause_ms, 5000)))
        self._pool = pool
        self._decoder = pool.take(self._model)
        self._uuid = str(uuid4())
        self._bytes_per_ms = self._rate_hz // 1000 * 2
        self._received = 0  # bytes, announced silence included
        self._last_sample = 0
        self._finals = 0
        self._final_ms = 0
        self._eou_ms = 0
        self._partial = ""
        self._guess: list[str] = []
        self._start_ms: int | None = None  # of the utterance in progress
        self._utterance_ms = 0  # start of the one finished last
        self._skips: list[tuple[int, int]] = []  # (frame of the decoder, ms not decoded there)
        self._decoded_ms = 0  # of this utterance

    @property
    def received_ms(self) -> int:
        return self._received // self._bytes_per_ms

    def greet(self) -> list[stt_pb2.StreamingResponse]:
        """The first responses."""
        responses = [self._status(stt_pb2.WORKING, "")]
        if self._languages and not any(tag.startswith("en") for tag in self._languages):
            text = f"asked for {', '.join(self._languages)}; this server recognises English only"
            responses.append(self._status(stt_pb2.WARNING, text))
        if unusable := self._pool.unusable(self._model):
            text = f"hints whose words the dictionary does not have: {', '.join(unusable)}"
            responses.append(self._status(stt_pb2.WARNING, text))
        return responses

    def audio(self, pcm: bytes) -> list[stt_pb2.StreamingResponse]:
        """Raises Refused for half a sample."""
        if len(pcm) % 2:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "a chunk holds half a sample")
        self._begin()
        self._received += len(pcm)
        self._decode(self._at_model_rate(pcm))
        responses = []
        if (text := self._stable()) and text != self._partial:
            self._partial = text
            responses.append(self._update_partial(text))
        if self._hears_end(pcm):
            responses += self.end_of_utterance()
        return responses

    def silence(self, duration_ms: int) -> list[stt_pb2.StreamingResponse]:
        """Announced silence: decoded as a pause within an utterance, else only counted."""
        self._received += duration_ms * self._bytes_per_ms
        if self._start_ms is not None:
            decoded_ms = min(duration_ms, _LONGEST_PAUSE_MS)
            self._decode(_NOISE * (decoded_ms // grammar.FRAME_MS))
            if duration_ms > decoded_ms:
                self._skips.append((self._decoded_ms // grammar.FRAME_MS, duration_ms - decoded_ms))
        self._last_sample = 0
        if self._hears_end(bytes(16 * min(duration_ms, 6000))):
            return self.end_of_utterance()
        return []

    def end_of_utterance(self) -> list[stt_pb2.StreamingResponse]:
        """The final of what came since the last one, and the end of the utterance."""
        heard = self._finish()
        self._eou_ms = self._final_ms = self.received_ms
        self._finals += 1
        final = self._response(final=stt_pb2.AlternativeUpdate(alternatives=[self._best(heard)]))
        update = stt_pb2.EouUpdate(time_ms=self._eou_ms)
        return [final, self._response(eou_update=update)]

    def finish(self) -> list[stt_pb2.StreamingResponse]:
        """No more requests: what is still owed."""
        return self.end_of_utterance() if self._start_ms is not None else []

    def close(self) -> None:
        """Give the decoder back."""
        self._finish()
        self._pool.give_back(self._model, self._decoder)

    def _begin(self) -> None:
        if self._start_ms is None:
            self._start_ms = self.received_ms
            self._partial = ""
            self._guess = []
            self._skips.clear()
            self._decoded_ms = 0
            self._decoder.start()

    def _stable(self) -> str:
        """What the decoder has believed since the chunk before: in a small grammar its first guess
        at a sound is often gone 100 ms later."""
        now = self._decoder.text_so_far().split()
        before, self._guess = self._guess, now
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False))
        return " ".join(word for word, _ in same)

    def _finish(self) -> Heard:
        if self._start_ms is None:
            return Heard()
        heard = self._decoder.end()
        self._utterance_ms, self._start_ms = self._start_ms, None
        return heard

    def _decode(self, pcm: bytes) -> None:
        self._decoded_ms += len(pcm) // (grammar.RATE_HZ // 1000 * 2)
        self._decoder.feed(pcm)

    def _at_model_rate(self, pcm: bytes) -> bytes:
        if self._rate_hz == grammar.RATE_HZ:
            return pcm
        before, values = self._last_sample, samples(pcm)
        if values:
            self._last_sample = values[-1]
        return upsample_2x(pcm, before)

    def _hears_end(self, pcm: bytes) -> bool:
        if self._detector is None:
            return False
        if self._rate_hz == grammar.RATE_HZ:
            pcm = samples(pcm)[::2].tobytes()
        return any(isinstance(event, SpeechEnded) for event in self._detector.feed(pcm))

    def _best(self, heard: Heard) -> stt_pb2.Alternative:
        if not heard.words:
            return stt_pb2.Alternative(start_time_ms=self.received_ms, end_time_ms=self.received_ms)
        words = [
            stt_pb2.Word(text=text, start_time_ms=self._time(first), end_time_ms=self._time(after))
            for text, first, after in heard.words
        ]
        return stt_pb2.Alternative(
            words=words,
            text=heard.text,
            start_time_ms=words[0].start_time_ms,
            end_time_ms=words[-1].end_time_ms,
            confidence=heard.confidence,
            languages=[stt_pb2.LanguageEstimation(language_code=_LANGUAGE, probability=1.0)],
        )

    def _time(self, frame: int) -> int:
        """Ms of the session for a frame of the utterance just finished."""
        skipped = sum(ms for at, ms in self._skips if at < frame)
        return min(self._utterance_ms + frame * grammar.FRAME_MS + skipped, self.received_ms)

    def _update_partial(self, text: str) -> stt_pb2.StreamingResponse:
        start_ms = self._start_ms or 0
        best = stt_pb2.Alternative(
            text=text,
            start_time_ms=start_ms,
            end_time_ms=self.received_ms,
            languages=[stt_pb2.LanguageEstimation(language_code=_LANGUAGE, probability=1.0)],
        )
        return self._response(partial=stt_pb2.AlternativeUpdate(alternatives=[best]))

    def _status(self, kind: stt_pb2.CodeType.ValueType, text: str) -> stt_pb2.StreamingResponse:
        return self._response(status_code=stt_pb2.StatusCode(code_type=kind, message=text))

    def _response(
        self,
        partial: stt_pb2.AlternativeUpdate | None = None,
        final: stt_pb2.AlternativeUpdate | None = None,
        eou_update: stt_pb2.EouUpdate | None = None,
        status_code: stt_pb2.StatusCode | None = None,
    ) -> stt_pb2.StreamingResponse:
        return stt_pb2.StreamingResponse(
            session_uuid=stt_pb2.SessionUuid(uuid=self._uuid),
            audio_cursors=stt_pb2.AudioCursors(
                received_data_ms=self.received_ms,
                partial_time_ms=self.received_ms,
                final_time_ms=self._final_ms,
                final_index=max(0, self._finals - 1),
                eou_time_ms=self._eou_ms,
            ),
            response_wall_time_ms=int(time.time() * 1000),
            channel_tag="0",
            partial=partial,
            final=final,
            eou_update=eou_update,
            status_code=status_code,
        )


class LocalRecognizer(stt_service_pb2_grpc.RecognizerServicer):
    """The servicer; runs on grpc.aio, one loop, no thread of its own."""

    def __init__(self, limits: Limits, gatekeeper: Gatekeeper, pool: DecoderPool) -> None:
        self._limits = limits
        self._gatekeeper = gatekeeper
        self._pool = pool

    async def RecognizeStreaming(
        self,
        request_iterator: AsyncIterator[stt_pb2.StreamingRequest],
        context: grpc.aio.ServicerContext[stt_pb2.StreamingRequest, stt_pb2.StreamingResponse],
    ) -> AsyncIterator[stt_pb2.StreamingResponse]:
        session = None
        try:
            self._gatekeeper.admit(context.invocation_metadata())
            requests = _Requests(request_iterator, self._limits)
            session = await self._open(requests)
            for response in session.greet():
                yield response
            while (request := await requests.next(session.received_ms)) is not None:
                for response in _handle(session, request):
                    yield response
            for response in session.finish():
                yield response
        except Refused as refused:
            log.info("refused: %s %s", refused.code.name, refused.message)
            await context.abort(refused.code, refused.message)
        finally:
            if session is not None:
                session.close()

    async def _open(self, requests: _Requests) -> Session:
        first = await requests.next(0)
        if first is None or first.WhichOneof("Event") != "session_options":
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, "the first message must be session_options"
            )
        return Session(first.session_options, self._pool)


class _Requests:
    """The requests of one session, with SpeechKit's limits on them."""

    def __init__(self, source: AsyncIterator[stt_pb2.StreamingRequest], limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._size = 0
        self._until = time.monotonic() + limits.session_s

    async def next(self, received_ms: int) -> stt_pb2.StreamingRequest | None:
        """The next one; None when there is none left. Raises Refused."""
        left_s = min(self._until - time.monotonic(), self._limits.session_s - received_ms / 1000)
        wait_s = min(left_s, self._limits.idle_s)
        try:
            request = await asyncio.wait_for(anext(self._source), max(0.0, wait_s))
        except StopAsyncIteration:
            return None
        except TimeoutError:
            if left_s <= self._limits.idle_s:
                raise self._too_much(f"{self._limits.session_s:g} s") from None
            raise Refused(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no message for {self._limits.idle_s:g} s"
            ) from None
        self._size += len(request.chunk.data)
        if self._size > self._limits.session_bytes:
            raise self._too_much(f"{self._limits.session_bytes} bytes")
        return request

    def _too_much(self, limit: str) -> Refused:
        return Refused(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"the session exceeds its limit of {limit}"
        )


def _handle(session: Session, request: stt_pb2.StreamingRequest) -> list[stt_pb2.StreamingResponse]:
    kind = request.WhichOneof("Event")
    if kind == "chunk":
        return session.audio(request.chunk.data)
    if kind == "silence_chunk":
        return session.silence(request.silence_chunk.duration_ms)
    if kind == "eou":
        return session.end_of_utterance()
    raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{kind} in the middle of a session")


def _checked_rate(audio: stt_pb2.AudioFormatOptions) -> int:
    raw = audio.raw_audio
    if (
        raw.audio_encoding != stt_pb2.RawAudio.LINEAR16_PCM
        or raw.sample_rate_hertz not in (8000, 16000)
        or raw.audio_channel_count not in (0, 1)
    ):
        raise Refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            "audio_format: expected raw_audio LINEAR16_PCM, 8000 or 16000 Hz, one channel",
        )
    return raw.sample_rate_hertz
