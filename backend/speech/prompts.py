"""What a call can play: texts, the backend's own files, Asterisk's own sounds.

The backend's own: files in ``folder``, by their path within it without extension, in the formats of
FORMATS. Every other name is Asterisk's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backend.errors import BadRequest
from backend.media.g711 import from_alaw, from_ulaw
from backend.media.pcm import read_wav
from backend.ports import PromptAudio, PromptSound
from backend.speech.cache import PromptCache
from backend.speech.decoded import Decoded
from backend.speech.making import WholePcm

RATES_HZ = (8000, 16000, 24000, 48000)  # what the module plays
MAX_FILE_BYTES = 64 * 1024 * 1024

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


def _wav(data: bytes) -> WholePcm:
    rate_hz, pcm = read_wav(data)
    if rate_hz not in RATES_HZ:
        raise ValueError(f"{rate_hz} Hz; expected one of {', '.join(map(str, RATES_HZ))}")
    return WholePcm(pcm, rate_hz)


def _slin(rate_hz: int) -> Callable[[bytes], WholePcm]:
    return lambda data: WholePcm(data[: len(data) & ~1], rate_hz)


# By extension, as Asterisk names them; of several the first is taken.
FORMATS: dict[str, Callable[[bytes], WholePcm]] = {
    ".wav": _wav,
    ".sln": _slin(8000),
    ".sln16": _slin(16000),
    ".alaw": lambda data: WholePcm(from_alaw(data)),
    ".ulaw": lambda data: WholePcm(from_ulaw(data)),
}


@dataclass(frozen=True, slots=True)
class Speech:
    """A ports.PromptSound: synthesised."""

    cache: PromptCache
    text: str
    language: str
    for_asterisk: Callable[[Path], str]

    def audio(self) -> PromptAudio:
        return self.cache.audio(self.text, language=self.language)

    def file(self, timeout_s: float | None = None) -> str:
        path = self.cache.path(self.text, language=self.language, timeout_s=timeout_s)
        return self.for_asterisk(path)


@dataclass(frozen=True, slots=True)
class OwnSound:
    """A ports.PromptSound: a file of the backend's."""

    path: Path
    for_asterisk: Callable[[Path], str]
    decoded: Decoded

    def audio(self) -> PromptAudio:
        try:
            stat = self.path.stat()
            if stat.st_size > MAX_FILE_BYTES:
                raise BadRequest("sound", f"{self.path}: over {MAX_FILE_BYTES} bytes")
            stamp = stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino
            return self.decoded.get(self.path, stamp, self._load)
        except OSError as error:
            raise BadRequest("sound", f"{self.path}: {error.strerror}") from None
        except ValueError as error:
            raise BadRequest("sound", f"{self.path}: {error}") from None

    def _load(self) -> WholePcm:
        return FORMATS[self.path.suffix](self.path.read_bytes())

    def file(self, timeout_s: float | None = None) -> str:  # noqa: ARG002  it is there
        return self.for_asterisk(self.path)


@dataclass(frozen=True, slots=True)
class AsterisksSound:
    """A ports.PromptSound that only Asterisk has."""

    name: str

    def audio(self) -> PromptAudio | None:
        return None

    def file(self, timeout_s: float | None = None) -> str:  # noqa: ARG002  it is there
        return self.name


class SoundBook:
    """A ports.Prompts. ``folder`` holds the backend's own files; ``for_asterisk`` gives
    Asterisk's name of a path, for the calls in which it plays them itself; ``decoded`` keeps them
    in memory."""

    def __init__(
        self,
        cache: PromptCache,
        folder: Path,
        for_asterisk: Callable[[Path], str],
        decoded: Decoded | None = None,
    ) -> None:
        self._cache = cache
        self._folder = folder
        self._for_asterisk = for_asterisk
        self._decoded = decoded or Decoded()

    def text(self, text: str, language: str) -> PromptSound:
        return Speech(self._cache, text, language, self._for_asterisk)

    def sound(self, name: str) -> PromptSound:
        if _NAME.fullmatch(name):  # never absolute, never through ".."
            for suffix in FORMATS:
                path = self._folder / f"{name}{suffix}"
                if path.is_file():
                    return OwnSound(path, self._for_asterisk, self._decoded)
        return AsterisksSound(name)
