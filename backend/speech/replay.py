"""The part of a stream whose final is still owed, kept so that a new session can hear it. Pure.

Positions are bytes of the stream, announced silence counted as if it were audio: 16 to the ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from backend.media.pcm import rms
from backend.ports import FRAME_BYTES, RATE_HZ

BYTES_PER_MS = RATE_HZ // 1000 * 2


@dataclass(frozen=True, slots=True)
class Piece:
    """Audio (``pcm``), announced silence, or the mark that the utterance ended here."""

    kind: Literal["audio", "silence", "end"]
    start: int
    size: int = 0
    pcm: bytes = b""

    @property
    def end(self) -> int:
        return self.start + self.size


class Replay:
    """Pieces since the last final, oldest first; begins with audio or an end. Holds ``limit_ms``
    at most: when full the oldest goes, and would be lost if the session failed now."""

    def __init__(self, limit_ms: int) -> None:
        self._limit = limit_ms * BYTES_PER_MS
        self._pieces: deque[Piece] = deque()

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._pieces)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def start(self) -> int | None:
        """Position of the first piece."""
        return self._pieces[0].start if self._pieces else None

    @property
    def ends(self) -> int:
        """Utterances that were ended and are not final yet."""
        return sum(piece.kind == "end" for piece in self._pieces)

    @property
    def open(self) -> bool:
        """Whether there is audio after the last end."""
        for piece in reversed(self._pieces):
            if piece.kind == "end":
                return False
            if piece.kind == "audio":
                return True
        return False

    @property
    def open_start(self) -> int | None:
        """Position of the first audio after the last end; None: there is none."""
        start = None
        for piece in reversed(self._pieces):
            if piece.kind == "end":
                break
            if piece.kind == "audio":
                start = piece.start
        return start

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        while piece.end - self._pieces[0].start > self._limit:
            self._pieces.popleft()
        self._tidy()

    def final_until(self, position: int) -> None:
        """What lies before ``position`` is final."""
        while self._pieces and self._pieces[0].kind != "end" and self._pieces[0].end <= position:
            self._pieces.popleft()
        self._tidy()

    def utterance_done(self) -> None:
        """All up to and with the first end is final."""
        while self._pieces and self._pieces.popleft().kind != "end":
            pass
        self._tidy()

    def cut(self, position: int) -> Replay:
        """Keep what lies before ``position``; what lies after it is returned."""
        after = Replay(self._limit // BYTES_PER_MS)
        pieces, self._pieces = self._pieces, deque()
        for piece in pieces:
            if piece.end <= position:
                self._pieces.append(piece)
            elif piece.start >= position or piece.kind != "audio":
                after.add(piece)
            else:
                at = position - piece.start
                self._pieces.append(Piece("audio", piece.start, at, piece.pcm[:at]))
                after.add(Piece("audio", position, piece.size - at, piece.pcm[at:]))
        self._tidy()
        return after

    def quietest(self, window_ms: int, look_back_ms: int) -> int | None:
        """Position of the middle of the quietest ``window_ms`` of the audio that ends the replay;
        None when there is not that much."""
        tail: deque[bytes] = deque()
        size = 0
        for piece in reversed(self._pieces):
            if piece.kind != "audio" or size >= look_back_ms * BYTES_PER_MS:
                break
            tail.appendleft(piece.pcm)
            size += piece.size
        pcm = b"".join(tail)
        window = window_ms * BYTES_PER_MS
        places = range(0, len(pcm) - window + 1, FRAME_BYTES)
        if not places:
            return None
        best = min(places, key=lambda place: rms(pcm[place : place + window]))
        return self._pieces[-1].end - len(pcm) + best + window // 2

    def _tidy(self) -> None:
        while self._pieces and self._pieces[0].kind == "silence":
            self._pieces.popleft()
