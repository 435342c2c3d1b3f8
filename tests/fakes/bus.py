"""A bus that is there, away or slow, as a test says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

from backend.bus.publisher import Publisher
from backend.errors import BusUnavailable
from backend.ports import BusEvent, Letter, Sent

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
CALL = UUID("0b7c1a52-6b0e-4b0e-8f5e-2f1f7a4d9c11")
_numbers = count(1)


def event(n: int = 0, body: dict[str, object] | None = None, call: UUID = CALL) -> BusEvent:
    number = f"{'0' * 32}-{next(_numbers)}"
    return BusEvent(number, NOW, "pbx", "voice-0", "key", call, n=n, state="off", body=body or {})


def until(probe: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not probe():
        assert time.monotonic() < end
        time.sleep(0.005)


def balance(publisher: Publisher) -> int:
    """Delivered, dropped and waiting: all that was made."""
    figures = publisher.figures()
    return sum(value for name, value in figures.items() if name != "bus_connected")


class FakeBus:
    """ports.BusCarrier; ``arrived`` is what listeners got."""

    where = "fake"
    limit_bytes = 7999

    def __init__(self) -> None:
        self.away = ""  # why; empty: it is there
        self.refuses = b""  # letters that hold this are never taken
        self.breaks_after: int | None = None  # letters of a batch; then it is away
        self.letters: list[Letter] = []
        self.changed = threading.Condition()
        self.open = threading.Event()  # cleared: send() hangs
        self.open.set()
        self.tries = 0
        self.closed = False

    @property
    def arrived(self) -> list[dict[str, Any]]:
        return [json.loads(letter.payload) for letter in self.letters]

    def connect(self) -> None:
        with self.changed:
            self.tries += 1
            self.changed.notify_all()
        if self.away:
            raise BusUnavailable(self.away)

    def send(self, letters: Sequence[Letter]) -> Sent:
        self.open.wait(10)
        if self.away:
            return Sent(left=letters, why=self.away)
        taken = letters[: self.breaks_after]
        left = letters[len(taken) :]
        good = [letter for letter in taken if not (self.refuses and self.refuses in letter.payload)]
        with self.changed:
            self.letters += good
            if left:
                self.away, self.breaks_after = "broken", None
            self.changed.notify_all()
        refused = len(taken) - len(good)
        return Sent(left, refused, self.away or ("no such" if refused else ""))

    def close(self) -> None:
        self.closed = True

    def wait_for(self, number: int) -> None:
        """Until so many arrived."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.letters) >= number, 20)

    def wait_tries(self, number: int) -> None:
        """Until it was tried so often to connect."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.tries >= number, 20)
