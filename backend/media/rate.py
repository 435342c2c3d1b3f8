"""Audio at another rate, piece by piece, as it grows: what is whispered must have the channel's."""

from __future__ import annotations

from collections.abc import Callable

from backend.media.pcm import SAMPLE_BYTES, resample
from backend.ports import PromptAudio

MARGIN = 160  # samples beside a piece, so that it joins the next without a step
STEP_MS = 20  # pieces begin at multiples of it: whole samples at every rate


class AtRate:
    """``audio`` at ``rate_hz``. Implements ports.PromptAudio."""

    def __init__(self, audio: PromptAudio, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._audio = audio
        self._step = audio.rate_hz * STEP_MS // 1000  # samples, of the source
        self._out_step = rate_hz * STEP_MS // 1000

    def size(self) -> int | None:
        return None  # nobody asks for what is whispered

    def subscribe(self, on_more: Callable[[], None]) -> None:
        self._audio.subscribe(on_more)

    def read(self, at: int, size: int) -> bytes | None:
        """See ports.PromptAudio. ``at`` is where the last piece ended, or a multiple of 20 ms."""
        step_bytes = self._out_step * SAMPLE_BYTES
        count = size // step_bytes
        if at % step_bytes:
            return None  # the last piece was no whole step: the audio's end
        if not count:
            return b""
        first = at // step_bytes * self._step
        left = min(MARGIN, first)
        begin, wanted = first - left, left + count * self._step + MARGIN
        source, ended = self._source(begin, wanted)
        have = len(source) // SAMPLE_BYTES - left
        if have <= 0:
            return None if ended else b""
        whole = min(count, (have if ended else have - MARGIN) // self._step)
        if whole <= 0 and not ended:
            return b""
        out = resample(source, self._audio.rate_hz, self.rate_hz)
        skip = left * self.rate_hz // self._audio.rate_hz * SAMPLE_BYTES
        rest = ended and have <= count * self._step
        return out[skip:] if rest else out[skip : skip + whole * step_bytes]

    def _source(self, begin: int, wanted: int) -> tuple[bytes, bool]:
        """So many samples from ``begin`` on, fewer when they are not made yet, or there are no
        more (True)."""
        pieces = b""
        while len(pieces) < wanted * SAMPLE_BYTES:
            at = begin * SAMPLE_BYTES + len(pieces)
            piece = self._audio.read(at, wanted * SAMPLE_BYTES - len(pieces))
            if piece is None:
                return pieces, True
            if not piece:
                return pieces, False
            pieces += piece
        return pieces, False
