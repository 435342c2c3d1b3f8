"""The thread that takes back a version that fails: in every control process, one acts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from backend.errors import StorageUnavailable
from backend.flow.rollout import FellBack

log = logging.getLogger(__name__)

LOOK_S = 2.0


class ReviewStore(Protocol):
    def review(self) -> Sequence[FellBack]:
        """Judge and take back (storage.flow_review). Raises StorageUnavailable."""


def _nobody(_: FellBack) -> None: ...


class FallBack:
    """Owns the thread ``fall-back``: ``start`` it, ``stop`` it.

    ``alarm``: is told of each version that was taken back, on this thread; for the bus.
    """

    def __init__(
        self,
        store: ReviewStore,
        alarm: Callable[[FellBack], None] = _nobody,
        *,
        every_s: float = LOOK_S,
    ) -> None:
        self.taken_back_total = 0
        self._store = store
        self._alarm = alarm
        self._every_s = every_s
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fall-back", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 7.0) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.error("fall-back: the thread did not end in %g s", timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:
                log.exception("fall-back: failed; next try in %g s", self._every_s)
            self._stop.wait(self._every_s)

    def look(self) -> None:
        """Once. While PostgreSQL is away nothing is taken back: that is said once."""
        try:
            found = self._store.review()
        except StorageUnavailable as error:
            if not self._away:
                log.warning("fall-back: new versions of flows are not watched: %s", error)
            self._away = True
            return
        if self._away:
            log.warning("fall-back: new versions of flows are watched again")
        self._away = False
        for fell in found:
            self._say(fell)

    def _say(self, fell: FellBack) -> None:
        self.taken_back_total += 1
        log.error(
            "flow %s: version %s was taken back: %s; %d calls were hurt; all calls get %s now"
            " (asterisk-dialog flow status %s)",
            fell.flow,
            fell.version,
            fell.reason,
            fell.hurt,
            f"version {fell.now}" if fell.now else "what the files hold",
            fell.flow,
        )
        self._alarm(fell)
