"""Synthesised prompts on disk, as files that Asterisk plays: raw slin 8 kHz, ``.sln``."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from backend.errors import SpeechError, SynthesisUnavailable
from backend.media.pcm import duration_ms, zeros
from backend.ports import FRAME_MS, Synthesizer

_FORMAT = 1  # part of the key: raise it when the same key would give other sound
_FRESH_S = 600.0  # what was asked for this recently may be about to be played: never deleted
_SUFFIX = ".sln"
_PART = ".part"


def length_ms(path: Path) -> int:
    """How long a ``.sln`` file plays."""
    return duration_ms(path.stat().st_size)


class PromptCache:
    """Text to the path of its sound; synthesises what is not there. Thread-safe; several
    processes may share ``folder``.

    ``identity``: what else than text and language makes the sound (voice, speed; see
    SpeechKitSynthesizer.identity). ``max_bytes``: when the folder holds more, what was not asked
    for longest goes, down to nine tenths.
    """

    def __init__(
        self,
        folder: Path,
        synthesizer: Synthesizer,
        *,
        identity: Callable[[str], str] = str,
        max_bytes: int = 1_000_000_000,
    ) -> None:
        self._folder = folder
        self._synthesizer = synthesizer
        self._identity = identity
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._working: dict[str, Future[Path]] = {}  # one per synthesis in progress
        if not folder.exists():  # one that is there is as its admin wants it
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # Asterisk is another user
        self._bytes = self._measure()

    def path(self, text: str, *, language: str, timeout_s: float) -> Path:
        """The file that speaks ``text``, whole and readable by Asterisk. Blocks while it is being
        made, by whichever thread asked first. Raises SynthesisUnavailable."""
        text = " ".join(text.split())
        key = self._key(text, language)
        path = self._folder / f"{key}{_SUFFIX}"
        if _touch(path):
            return path
        with self._lock:
            future = self._working.get(key)
            mine = future is None
            if future is None:
                future = self._working[key] = Future()
        if mine:
            self._make(key, path, future, text, language, timeout_s)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            raise SynthesisUnavailable(f"no sound after {timeout_s:g} s: {text[:60]!r}") from None

    def _make(
        self, key: str, path: Path, future: Future[Path], text: str, language: str, timeout_s: float
    ) -> None:
        try:
            pcm = self._synthesizer.synthesize(text, language=language, timeout_s=timeout_s)
            self._write(path, pcm or zeros(FRAME_MS))
        except OSError as error:
            message = f"cannot write prompts to {self._folder}: {error.strerror}"
            future.set_exception(SynthesisUnavailable(message))
        except SpeechError as error:
            future.set_exception(error)
        else:
            future.set_result(path)
        finally:
            if not future.done():  # the synthesiser raised what it should not: that goes up here
                future.set_exception(SynthesisUnavailable("the synthesiser failed"))
            with self._lock:
                del self._working[key]

    def _key(self, text: str, language: str) -> str:
        parts = [_FORMAT, text, language, self._identity(language)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]

    def _write(self, path: Path, pcm: bytes) -> None:
        """Under another name first: nobody ever sees half a file."""
        handle, name = tempfile.mkstemp(suffix=_PART, dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, 0o644)
                file.write(pcm)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        with self._lock:
            self._bytes += len(pcm)
            if self._bytes > self._max_bytes:
                self._bytes = self._make_room()

    def _measure(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _make_room(self) -> int:
        """Delete the files longest unused. Returns what is left, bytes."""
        left = self._measure()
        now = time.time()
        for used_at, size, path in sorted(self._files()):
            if left <= self._max_bytes * 0.9 or now - used_at < _FRESH_S:
                break
            path.unlink(missing_ok=True)
            left -= size
        return left

    def _files(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path) of the prompts and of what a killed process left behind."""
        found = []
        for entry in os.scandir(self._folder):
            if entry.name.endswith((_SUFFIX, _PART)):
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    found.append((status.st_mtime, status.st_size, Path(entry.path)))
        return found


def _touch(path: Path) -> bool:
    """Whether it is there; its mtime is its last use (atime is not kept on most machines)."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's file: fine to play
        return path.exists()
    return True
