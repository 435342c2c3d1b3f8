"""Whole prompts in memory, decoded, those that were played last: a call waits for no disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

from backend.speech.making import WholePcm

MAX_BYTES = 64 * 1024 * 1024  # over an hour at 8 kHz


class Decoded:
    """``max_bytes`` of sound at most; what was not asked for longest goes first. Thread-safe; two
    who ask for the same at once may both load it."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()  # guards what follows; never held while one is loaded
        self._kept: OrderedDict[Path, tuple[Hashable, WholePcm]] = OrderedDict()
        self._bytes = 0

    def get(self, path: Path, stamp: Hashable, load: Callable[[], WholePcm]) -> WholePcm:
        """The sound of ``path``: loaded, unless it is there with the same ``stamp``, which is
        another when the file is. Raises what ``load`` raises."""
        with self._lock:
            found = self._kept.get(path)
            if found is not None and found[0] == stamp:
                self._kept.move_to_end(path)
                return found[1]
        sound = load()
        with self._lock:
            self._drop(path)
            if sound.size() <= self._max_bytes:
                self._kept[path] = stamp, sound
                self._bytes += sound.size()
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))
        return sound

    @property
    def held_bytes(self) -> int:
        """What all of it takes."""
        return self._bytes

    def _drop(self, path: Path) -> None:
        gone = self._kept.pop(path, None)
        if gone is not None:
            self._bytes -= gone[1].size()
