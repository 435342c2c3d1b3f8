"""Events of single channels and conferences, for those who follow one: legs, bridges, conferences.

A listener of the voice worker's AMI connection; runs on its thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from backend.errors import AsteriskError
from backend.ports import OnChannelEvent, conference_key
from backend.protocol.ami import Message

log = logging.getLogger(__name__)


class EventWatch:
    """Implements ``ports.ChannelEvents`` and ``ami_manager.Listener``. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: dict[str, tuple[OnChannelEvent, ...]] = {}

    def watch(self, key: str, on_event: OnChannelEvent) -> Callable[[], None]:
        """See ``ports.ChannelEvents``."""
        with self._lock:
            self._watchers[key] = (*self._watchers.get(key, ()), on_event)

        def end() -> None:
            with self._lock:
                left = tuple(one for one in self._watchers.get(key, ()) if one is not on_event)
                if left:
                    self._watchers[key] = left
                else:
                    self._watchers.pop(key, None)

        return end

    @property
    def watched(self) -> int:
        """Channels and conferences that somebody follows."""
        with self._lock:
            return len(self._watchers)

    # ami_manager.Listener

    def opened(self) -> None:
        """Nothing: a gap in the events is survived by deadlines and by asking."""

    def ready(self) -> None:
        """Nothing."""

    def lost(self, error: AsteriskError) -> None:
        """Nothing."""

    def received(self, events: Sequence[Message]) -> None:
        for event in events:
            uniqueid, conference = event.get("Uniqueid"), event.get("Conference")
            if uniqueid is not None:
                self._tell(uniqueid, event.flat())
            if conference is not None:
                self._tell(conference_key(conference), event.flat())

    def _tell(self, key: str, event: Mapping[str, str]) -> None:
        for on_event in self._watchers.get(key, ()):
            try:
                on_event(event)
            except Exception:
                log.exception("AMI: who follows %s failed at %s", key, event.get("Event"))
