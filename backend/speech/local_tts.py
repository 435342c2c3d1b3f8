"""The local server's synthesis: SpeechKit's UtteranceSynthesis by flite and espeak-ng."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from yandex.cloud.ai.tts.v3 import tts_pb2, tts_service_pb2_grpc

from backend.media.pcm import duration_ms, read_wav, resample, wav_bytes
from backend.speech.limits import Gatekeeper, Limits, Refused

log = logging.getLogger(__name__)

PROGRAM_S = 20.0  # a program that takes longer is killed
_CHUNK_MS = 200
_DEFAULT_RATE_HZ = 22050  # SpeechKit's


@dataclass(frozen=True, slots=True)
class Voice:
    """``program``: "flite" or "espeak-ng"; ``name``: its voice."""

    program: str
    name: str


# SpeechKit's voices by the language they speak, and flite's own by name. kal is 8 kHz by nature.
VOICES: Mapping[str, Voice] = {
    **{name: Voice("flite", name) for name in ("kal", "slt", "rms", "awb")},
    "john": Voice("flite", "kal"),
    **dict.fromkeys(
        (*("alena", "filipp", "ermil", "jane", "omazh", "zahar", "dasha", "julia", "lera"),),
        Voice("espeak-ng", "ru"),
    ),
    **dict.fromkeys(("masha", "marina", "alexander", "kirill", "anton"), Voice("espeak-ng", "ru")),
    "lea": Voice("espeak-ng", "de"),
    "amira": Voice("espeak-ng", "kk"),
    "madi": Voice("espeak-ng", "kk"),
    "nigora": Voice("espeak-ng", "uz"),
    "naomi": Voice("espeak-ng", "he"),
}
_DEFAULT_VOICE = "marina"


def missing_programs() -> list[str]:
    """Which of the programs are not installed (Debian packages of the same names)."""
    return [name for name in ("flite", "espeak-ng") if shutil.which(name) is None]


async def speak(text: str, voice: Voice, rate_hz: int, speed: float = 1.0) -> bytes:
    """Speech as slin16 at ``rate_hz``. Raises Refused when the program fails or takes too long."""
    with tempfile.TemporaryDirectory(prefix="dialog-tts-") as folder:
        sound = Path(folder, "speech.wav")
        command = _command(voice, speed, sound)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await asyncio.wait_for(process.communicate(text.encode()), PROGRAM_S)
        except TimeoutError:
            raise Refused(grpc.StatusCode.INTERNAL, f"{voice.program} takes too long") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or not sound.exists():
            raise Refused(grpc.StatusCode.INTERNAL, f"{voice.program} failed")
        native_hz, pcm = read_wav(sound.read_bytes())
    return await asyncio.to_thread(resample, pcm, native_hz, rate_hz)


def _command(voice: Voice, speed: float, sound: Path) -> list[str]:
    """The text goes to the program's standard input, never into its arguments."""
    if voice.program == "flite":
        stretch = f"duration_stretch={1 / speed:.3f}"
        return ["flite", "-voice", voice.name, "--setf", stretch, "-o", str(sound)]
    words_per_minute = str(round(160 * speed))
    return [
        *("espeak-ng", "-v", voice.name, "-s", words_per_minute, "-b", "1"),  # UTF-8
        *("--stdin", "-w", str(sound)),
    ]


class LocalSynthesizer(tts_service_pb2_grpc.SynthesizerServicer):
    """The servicer; runs on grpc.aio. At most ``parallel`` programs at a time, others wait."""

    def __init__(self, limits: Limits, gatekeeper: Gatekeeper, parallel: int = 4) -> None:
        self._limits = limits
        self._gatekeeper = gatekeeper
        self._slots = asyncio.Semaphore(parallel)

    async def UtteranceSynthesis(
        self,
        request: tts_pb2.UtteranceSynthesisRequest,
        context: grpc.aio.ServicerContext[
            tts_pb2.UtteranceSynthesisRequest, tts_pb2.UtteranceSynthesisResponse
        ],
    ) -> AsyncIterator[tts_pb2.UtteranceSynthesisResponse]:
        try:
            self._gatekeeper.admit(context.invocation_metadata())
            rate_hz, container = _checked_format(request)
            voice, speed = _checked_hints(request)
            if len(request.text) > self._limits.synthesis_chars and not request.unsafe_mode:
                limit = self._limits.synthesis_chars
                raise _bad(f"text: {len(request.text)} characters, at most {limit}")
            if not re.search(r"\w", request.text):
                yield tts_pb2.UtteranceSynthesisResponse(
                    chunk_type=tts_pb2.UtteranceSynthesisResponse.NO_SPEAKABLE_TEXT
                )
                return
            if container:
                pcm = wav_bytes(await self._speak(request.text, voice, rate_hz, speed), rate_hz)
                for response in _chunks(pcm, rate_hz):
                    yield response
                return
            begin_ms = 0
            for sentence in _sentences(request.text):
                pcm = await self._speak(sentence, voice, rate_hz, speed)
                for response in _chunks(pcm, rate_hz, begin_ms):
                    yield response
                begin_ms += duration_ms(len(pcm), rate_hz)
        except Refused as refused:
            log.info("refused: %s %s", refused.code.name, refused.message)
            await context.abort(refused.code, refused.message)

    async def _speak(self, text: str, voice: Voice, rate_hz: int, speed: float) -> bytes:
        async with self._slots:
            return await speak(text, voice, rate_hz, speed)

    async def StreamSynthesis(  # type: ignore[override]
        self,
        request_iterator: AsyncIterator[tts_pb2.StreamSynthesisRequest],  # noqa: ARG002
        context: grpc.aio.ServicerContext[
            tts_pb2.StreamSynthesisRequest, tts_pb2.StreamSynthesisResponse
        ],
    ) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "StreamSynthesis")


def _sentences(text: str) -> list[str]:
    """What can be heard while the next is spoken; each has something to say."""
    found: list[str] = []
    for part in re.split(r"(?<=[.!?…])\s+", text.strip()):
        if found and not (re.search(r"\w", part) and re.search(r"\w", found[-1])):
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def _chunks(
    data: bytes, rate_hz: int, begin_ms: int = 0
) -> list[tts_pb2.UtteranceSynthesisResponse]:
    size = rate_hz * _CHUNK_MS // 1000 * 2
    return [
        tts_pb2.UtteranceSynthesisResponse(
            audio_chunk=tts_pb2.AudioChunk(data=data[place : place + size]),
            start_ms=begin_ms + duration_ms(place, rate_hz),
            length_ms=duration_ms(len(data[place : place + size]), rate_hz),
            chunk_type=tts_pb2.UtteranceSynthesisResponse.AUDIO_TEXT_COMBINED,
        )
        for place in range(0, len(data), size)
    ]


def _checked_format(request: tts_pb2.UtteranceSynthesisRequest) -> tuple[int, bool]:
    """Rate in Hz and whether a WAV container is wanted."""
    spec = request.output_audio_spec
    kind = spec.WhichOneof("AudioFormat")
    if kind == "raw_audio":
        raw = spec.raw_audio
        if raw.audio_encoding == tts_pb2.RawAudio.LINEAR16_PCM and (
            8000 <= raw.sample_rate_hertz <= 48000
        ):
            return raw.sample_rate_hertz, False
    elif kind is None or spec.container_audio.container_audio_type == tts_pb2.ContainerAudio.WAV:
        return _DEFAULT_RATE_HZ, True
    raise _bad("output_audio_spec: expected LINEAR16_PCM, 8000 to 48000 Hz, or a WAV container")


def _checked_hints(request: tts_pb2.UtteranceSynthesisRequest) -> tuple[Voice, float]:
    name, speed = _DEFAULT_VOICE, 1.0
    for hint in request.hints:
        kind = hint.WhichOneof("Hint")
        if kind == "voice":
            name = hint.voice
        elif kind == "speed":
            speed = hint.speed
    if name not in VOICES:
        raise _bad(f"voice: {name!r} is unknown; known: {', '.join(VOICES)}")
    if not 0.1 <= speed <= 3:
        raise _bad(f"speed: {speed:g} is not between 0.1 and 3")
    return VOICES[name], speed


def _bad(message: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)
