"""Where in a call's audio it was at a moment of the clock. Pure."""

from __future__ import annotations

from bisect import bisect_right

KEPT = 128  # messages of 20 ms: longer than a key is held


class Places:
    """``note`` each time that audio comes; then ``at`` tells the place of a moment before."""

    def __init__(self) -> None:
        self._nows: list[int] = []
        self._places: list[int] = []

    def note(self, now_ms: int, place_ms: int) -> None:
        if len(self._nows) >= 2 * KEPT:
            del self._nows[:KEPT], self._places[:KEPT]
        self._nows.append(now_ms)
        self._places.append(place_ms)

    def at(self, now_ms: int) -> int | None:
        """The place at that moment; None: longer ago than is known."""
        number = bisect_right(self._nows, now_ms)
        return self._places[number - 1] if number else None
