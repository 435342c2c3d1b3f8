"""The bus as a process has it: a bounded queue, and a thread that empties it.

Whoever publishes never waits. What becomes of an event is one of: delivered (the bus confirmed
it), or dropped, for one of three reasons, each counted:

full       the queue was full; the oldest event went, for the newest say more
timed_out  it could not be delivered within KEEP_S, or before the process ended
failed     the bus will not take it for what is in it

When a connection breaks in the midst of a batch, nobody knows what of it arrived: it is sent
again, so an event may come twice, with the same id. A call's events come in order.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from backend.bus.event import encode
from backend.errors import BusUnavailable
from backend.ports import SEND_S, BusCarrier, BusEvent, Letter, Sent

log = logging.getLogger(__name__)

BATCH = 500
KEEP_S = 30.0  # nobody acts on what happened longer ago; it is in PostgreSQL all the same
LOOK_S = 5.0  # how often an idle connection is looked at
BACKOFF_S = (0.2, 5.0)  # first, longest
TELL_S = 60.0  # between two log lines on events that were dropped while the bus was there


class Publisher:
    """A process's. start(), then publish() from any thread, at last stop()."""

    def __init__(
        self,
        carrier: BusCarrier,
        size: int,
        *,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``size``: events that may wait."""
        self._carrier = carrier
        self._size = size
        self._batch = max(1, min(BATCH, size // 2))
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()  # guards the queue and the counters
        self._queue: deque[_Waiting] = deque()
        self._held: list[_Waiting] = []  # taken out, not delivered yet
        self._dropped = {"full": 0, "failed": 0, "timed_out": 0}
        self._published = 0
        self._connected = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._ends = 0.0  # when stopping: until then what is left is sent
        self._closed = False
        self._away_since: float | None = None
        self._told = 0  # drops that the log knows of
        self._told_at = -TELL_S
        self._thread = threading.Thread(target=self._run, name="bus", daemon=True)

    # -- for everybody

    def start(self) -> None:
        self._thread.start()

    def publish(self, event: BusEvent) -> None:
        """See ports.Bus."""
        with self._lock:
            if self._closed:
                self._dropped["timed_out"] += 1
                return
            self._queue.append(_Waiting(self._clock(), event))
            if len(self._queue) + len(self._held) > self._size:
                self._queue.popleft()
                self._dropped["full"] += 1
        self._wake.set()

    def figures(self) -> dict[str, Any]:
        """For the heartbeat: what is delivered, dropped and waiting add up to what was made."""
        with self._lock:
            return {
                "bus_published": self._published,
                **{f"bus_dropped_{why}": count for why, count in self._dropped.items()},
                "bus_queue": len(self._queue) + len(self._held),
                "bus_connected": self._connected,
            }

    def stop(self, flush_s: float = 2.0) -> None:
        """Send what is left, for a moment; then the rest is given up, and counted."""
        self._ends = self._clock() + flush_s
        self._stopping.set()
        self._wake.set()
        self._thread.join(flush_s + 2 * SEND_S)
        self._give_up()

    # -- the thread

    def _run(self) -> None:
        pause_s, longest_s = BACKOFF_S
        while not self._over():
            if self._turn():
                pause_s = BACKOFF_S[0]
                continue
            if self._stopping.wait(pause_s):
                break  # no time for a bus that is away
            pause_s = min(pause_s * 2, longest_s)
        self._carrier.close()

    def _over(self) -> bool:
        if not self._stopping.is_set():
            return False
        return self._clock() >= self._ends or not (self._queue or self._held)

    def _turn(self) -> bool:
        """Deliver a batch, or look at an idle connection. False: the bus is away."""
        if not self._take():
            if self._connected and self._wait():
                return True
            return self._try(self._look)
        return self._try(self._deliver)

    def _wait(self) -> bool:
        """Whether there is something to do before the connection is looked at."""
        self._tell_losses()
        woken = self._wake.wait(LOOK_S)
        self._wake.clear()
        return woken

    def _try(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except BusUnavailable as error:
            self._away(str(error))
        except Exception as error:
            # The batch is not tried again: it might be what the mistake is about.
            log.exception("bus %s: a mistake in this program", self._carrier.where)
            self._drop_held("failed")
            self._away(repr(error))
        else:
            self._there()
        return self._connected

    def _look(self) -> None:
        self._carrier.connect()

    def _deliver(self) -> None:
        if not self._connected:
            self._carrier.connect()
        self._write()
        letters = [item.letter for item in self._held if item.letter]
        sent = self._carrier.send(letters) if letters else Sent()
        self._settle(sent)
        if sent.left:
            raise BusUnavailable(sent.why)

    def _settle(self, sent: Sent) -> None:
        left = {id(letter) for letter in sent.left}
        with self._lock:
            if self._closed:  # too late: given up, and counted so
                return
            held = [item for item in self._held if id(item.letter) in left]
            self._published += len(self._held) - len(held) - sent.refused
            self._dropped["failed"] += sent.refused
            self._held = held
        if sent.refused and self._may_tell():
            log.error("bus %s refuses events: %s", self._carrier.where, sent.why)

    def _take(self) -> bool:
        """Fill the hand with what is to be delivered next; False: there is nothing."""
        oldest = self._clock() - self._keep_s
        with self._lock:
            kept = [item for item in self._held if item.born >= oldest]
            self._dropped["timed_out"] += len(self._held) - len(kept)
            while self._queue and self._queue[0].born < oldest:
                self._queue.popleft()
                self._dropped["timed_out"] += 1
            count = 0 if kept else min(self._batch, len(self._queue))
            self._held = kept + [self._queue.popleft() for _ in range(count)]
            return bool(self._held)

    def _write(self) -> None:
        """The letters of what is in hand, where there are none yet."""
        bad = []
        for item in self._held:
            event = item.event
            try:
                item.letter = item.letter or Letter(
                    str(event.call or event.flow or event.node),
                    encode(event, self._carrier.limit_bytes),
                )
            except (ValueError, TypeError, RecursionError) as error:
                log.error("bus: %s of call %s is no JSON: %s", event.kind, event.call, error)
                bad.append(item)
        if bad:
            with self._lock:
                self._held = [item for item in self._held if item not in bad]
                self._dropped["failed"] += len(bad)

    def _drop_held(self, why: str) -> None:
        with self._lock:
            self._dropped[why] += len(self._held)
            self._held = []

    def _give_up(self) -> None:
        with self._lock:
            self._closed = True
            self._dropped["timed_out"] += len(self._queue) + len(self._held)
            self._queue.clear()
            self._held = []
            self._connected = False
        self._tell_losses(always=True)

    # -- the log

    def _away(self, why: str) -> None:
        self._connected = False
        if self._away_since is None:
            self._away_since = self._clock()
            log.error(
                "bus %s cannot be reached: calls go on, other systems are told nothing; events "
                "wait, at most %d and %.0f s each. %s",
                self._carrier.where,
                self._size,
                self._keep_s,
                why,
            )

    def _there(self) -> None:
        self._connected = True
        since, self._away_since = self._away_since, None
        if since is not None:
            lost = self._lost()
            log.warning(
                "bus %s is there again after %.0f s: %d events were not delivered (all: %s)",
                self._carrier.where,
                self._clock() - since,
                lost - self._told,
                self._reasons(),
            )
            self._told = lost

    def _tell_losses(self, *, always: bool = False) -> None:
        """Of what was dropped beside an outage."""
        lost = self._lost()
        if lost != self._told and (always or self._may_tell()):
            words = "bus %s: %d more events were not delivered (all: %s)"
            log.warning(words, self._carrier.where, lost - self._told, self._reasons())
            self._told = lost

    def _may_tell(self) -> bool:
        now = self._clock()
        if now - self._told_at < TELL_S:
            return False
        self._told_at = now
        return True

    def _lost(self) -> int:
        with self._lock:
            return sum(self._dropped.values())

    def _reasons(self) -> str:
        with self._lock:
            return ", ".join(f"{why} {count}" for why, count in self._dropped.items())


@dataclass(eq=False, slots=True)
class _Waiting:
    """An event on its way. ``born``: by the clock."""

    born: float
    event: BusEvent
    letter: Letter | None = None


class NoBus:
    """Setting bus = off."""

    def publish(self, event: BusEvent) -> None: ...

    def figures(self) -> dict[str, Any]:
        return {}
