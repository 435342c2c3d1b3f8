"""SpeechKit v3 synthesis over gRPC (yandex.cloud.ai.tts.v3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import grpc
from yandex.cloud.ai.tts.v3 import tts_pb2, tts_service_pb2_grpc

from backend.errors import SynthesisUnavailable
from backend.ports import RATE_HZ
from backend.speech.endpoint import Endpoint
from backend.speech.text import split_text

TEXT_LIMIT = 250  # characters a request (yandex.cloud/docs/speechkit/concepts/limits)
_WHAT = "SpeechKit synthesis"

# One of SpeechKit's voices for each of its languages (yandex.cloud/docs/speechkit/tts/voices); the
# API takes no language, the voice is the language.
VOICES: Mapping[str, str] = {
    "ru": "marina",
    "en": "john",
    "de": "lea",
    "kk": "amira",
    "uz": "nigora",
    "he": "naomi",
}


class SpeechKitSynthesizer:
    """A Synthesizer. One gRPC channel; no thread of its own. Thread-safe.

    ``voice`` speaks ``language`` (its first part counts: "ru-RU" is "ru"); other languages are
    spoken by VOICES, overridden by ``voices``. ``speed`` 0.1 … 3, ``role`` as the voice knows it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        voice: str = "marina",
        language: str = "ru-RU",
        voices: Mapping[str, str] | None = None,
        speed: float = 1.0,
        role: str | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._voices = {**VOICES, **(voices or {}), _primary(language): voice}
        self._speed = speed
        self._role = role
        self._channel = endpoint.connect()
        self._stub = tts_service_pb2_grpc.SynthesizerStub(self._channel)

    def voice_of(self, language: str) -> str:
        """Which voice speaks ``language``. Raises SynthesisUnavailable when none does."""
        try:
            return self._voices[_primary(language)]
        except KeyError:
            known = ", ".join(sorted(self._voices))
            raise SynthesisUnavailable(
                f"no voice speaks {language!r}; languages with a voice: {known}"
            ) from None

    def identity(self, language: str) -> str:
        """What else than text and language makes the sound: for PromptCache."""
        return f"{self.voice_of(language)} speed={self._speed:g} role={self._role or ''}"

    def stream(self, text: str, *, language: str, timeout_s: float) -> Iterator[bytes]:
        """See ports.Synthesizer: a request for each part of the text, its audio as it comes."""
        voice = self.voice_of(language)
        for part in split_text(text, TEXT_LIMIT):
            yield from self._speak(part, voice, timeout_s)

    def synthesize(self, text: str, *, language: str, timeout_s: float) -> bytes:
        """All of it at once."""
        return b"".join(self.stream(text, language=language, timeout_s=timeout_s))

    def close(self) -> None:
        """Disconnect; a synthesis in progress fails."""
        self._channel.close()

    def _speak(self, text: str, voice: str, timeout_s: float) -> Iterator[bytes]:
        request = self._request(text, voice)
        half = b""  # of a sample that a response cut in two
        try:
            responses = self._stub.UtteranceSynthesis(
                request, metadata=self._endpoint.metadata(), timeout=timeout_s
            )
            for response in responses:
                pcm = half + response.audio_chunk.data
                half = pcm[len(pcm) & ~1 :]
                yield pcm[: len(pcm) & ~1]
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            message = self._endpoint.explain(_WHAT, code, details)
            raise SynthesisUnavailable(message) from error
        except ValueError as error:  # the channel was closed
            raise SynthesisUnavailable(f"{_WHAT}: {error}") from error

    def _request(self, text: str, voice: str) -> tts_pb2.UtteranceSynthesisRequest:
        hints = [tts_pb2.Hints(voice=voice), tts_pb2.Hints(speed=self._speed)]
        if self._role:
            hints.append(tts_pb2.Hints(role=self._role))
        raw = tts_pb2.RawAudio(
            audio_encoding=tts_pb2.RawAudio.LINEAR16_PCM, sample_rate_hertz=RATE_HZ
        )
        return tts_pb2.UtteranceSynthesisRequest(
            text=text,
            hints=hints,
            output_audio_spec=tts_pb2.AudioFormatOptions(raw_audio=raw),
            loudness_normalization_type=tts_pb2.UtteranceSynthesisRequest.LUFS,
        )


def _primary(language: str) -> str:
    return language.partition("-")[0].lower()
