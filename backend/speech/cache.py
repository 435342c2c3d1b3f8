"""Synthesised prompts: streamed while they are made, kept on disk as raw slin 8 kHz, ``.sln``,
which Asterisk can play, too."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from backend.errors import SpeechError, SynthesisUnavailable
from backend.media.pcm import duration_ms, zeros
from backend.ports import FRAME_MS, PromptAudio, Synthesizer
from backend.speech.decoded import Decoded
from backend.speech.making import GrowingPcm, WholePcm

log = logging.getLogger(__name__)

_FORMAT = 1  # part of the key: raise it when the same key would give other sound
_FRESH_S = 600.0  # what was asked for this recently may be about to be played: never deleted
_SUFFIX = ".sln"
_PART = ".part"
_OWN = re.compile(r"[0-9a-f]{40}\.sln|prompt-\w+\.part")


def length_ms(path: Path) -> int:
    """How long a ``.sln`` file plays."""
    return duration_ms(path.stat().st_size)


@dataclass(frozen=True, slots=True)
class _Work:
    """One synthesis in progress."""

    audio: GrowingPcm
    path: Future[Path]  # set when it is on disk, or will never be
    thread: threading.Thread


class PromptCache:
    """Text to its sound; synthesises what is not there, in a thread a text, and keeps it when it
    is whole. Thread-safe; several processes may share ``folder``. Only files of its own names are
    ever deleted: others may lie beside them.

    ``identity``: what else than text and language makes the sound (voice, speed; see
    SpeechKitSynthesizer.identity). ``max_bytes``: when the folder holds more, what was not asked
    for longest goes, down to nine tenths. ``synthesis_s``: for each part of a text. ``decoded``:
    what keeps them in memory.
    """

    def __init__(
        self,
        folder: Path,
        synthesizer: Synthesizer,
        *,
        identity: Callable[[str], str] = str,
        max_bytes: int = 1_000_000_000,
        synthesis_s: float = 10.0,
        decoded: Decoded | None = None,
    ) -> None:
        self._folder = folder
        self._synthesizer = synthesizer
        self._identity = identity
        self._max_bytes = max_bytes
        self._synthesis_s = synthesis_s
        self._decoded = decoded or Decoded()
        self._lock = threading.Lock()
        self._working: dict[str, _Work] = {}
        self._numbers = count(1)
        if not folder.exists():  # one that is there is as its admin wants it
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # Asterisk is another user
        self._bytes = self._measure()

    def audio(self, text: str, *, language: str) -> PromptAudio:
        """What speaks ``text``, to be played while it is still being made. Raises
        SynthesisUnavailable; its ``read`` may, too."""
        path, work = self._find(text, language)
        if work is not None:
            return work.audio
        try:
            # Its name says all that makes the sound: the file of that name is never another.
            return self._decoded.get(path, None, lambda: WholePcm(path.read_bytes()))
        except OSError as error:
            raise SynthesisUnavailable(f"cannot read {path}: {error.strerror}") from None

    def path(self, text: str, *, language: str, timeout_s: float | None = None) -> Path:
        """The file that speaks ``text``, whole and readable by Asterisk. Blocks while it is being
        made, for whomever; ``timeout_s`` (default: that of a part's synthesis): the longest time
        without any more of it. Raises SynthesisUnavailable."""
        path, work = self._find(text, language)
        if work is None:
            return path
        timeout_s = self._synthesis_s if timeout_s is None else timeout_s
        work.audio.wait(timeout_s)
        try:
            return work.path.result(timeout_s)
        except TimeoutError:
            raise SynthesisUnavailable(f"not written in {timeout_s:g} s: {path}") from None

    def close(self, timeout_s: float = 5.0) -> None:
        """Wait for the syntheses in progress; the synthesiser is closed already, so they fail."""
        with self._lock:
            threads = [work.thread for work in self._working.values()]
        for thread in threads:
            thread.join(timeout_s)

    def _find(self, text: str, language: str) -> tuple[Path, _Work | None]:
        """Where the sound is, or will be; and who makes it, if it is not there."""
        text = " ".join(text.split())
        key = self._key(text, language)
        path = self._folder / f"{key}{_SUFFIX}"
        with self._lock:
            work = self._working.get(key)
            if work is not None and work.audio.failed:
                work = None
            if work is None and not _touch(path):
                audio, future = GrowingPcm(), Future[Path]()
                thread = threading.Thread(
                    target=self._make,
                    args=(key, path, audio, future, text, language),
                    name=f"synthesis-{next(self._numbers)}",
                )
                work = self._working[key] = _Work(audio, future, thread)
                thread.start()
        return path, work

    def _make(
        self,
        key: str,
        path: Path,
        audio: GrowingPcm,
        future: Future[Path],
        text: str,
        language: str,
    ) -> None:
        try:
            pieces = self._synthesizer.stream(text, language=language, timeout_s=self._synthesis_s)
            self._write(path, audio.make(pieces) or zeros(FRAME_MS))
        except OSError as error:  # it has been made, and is heard: only not kept
            message = f"cannot write prompts to {self._folder}: {error.strerror}"
            log.error("%s", message)
            future.set_exception(SynthesisUnavailable(message))
        except SpeechError as error:
            future.set_exception(error)
        except Exception as error:
            log.exception("synthesis of %.60r: a defect in the synthesiser", text)
            future.set_exception(SynthesisUnavailable(f"the synthesiser failed: {error!r}"))
        else:
            future.set_result(path)
        finally:
            with self._lock:
                work = self._working.get(key)
                if work is not None and work.audio is audio:  # else tried again after a failure
                    del self._working[key]

    def _key(self, text: str, language: str) -> str:
        parts = [_FORMAT, text, language, self._identity(language)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]

    def _write(self, path: Path, pcm: bytes) -> None:
        """Under another name first: nobody ever sees half a file."""
        handle, name = tempfile.mkstemp(_PART, "prompt-", self._folder)
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
            if _OWN.fullmatch(entry.name):
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
