"""A call's steps on their way to whoever keeps them: numbered, and told where they happened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from backend.model import CallStep, StepKind


class StepLog:
    """One call's. Thread-safe: keys come on the audio loop, nodes on the scenario's thread; they
    are handed on in the order of their numbers."""

    def __init__(
        self,
        call_id: UUID,
        task_id: UUID | None,
        keep: Callable[[CallStep], None],
        position_ms: Callable[[], int],
    ) -> None:
        """``keep`` must not block. ``position_ms``: the place in the call's audio."""
        self._call_id = call_id
        self._task_id = task_id
        self._keep = keep
        self._position_ms = position_ms
        self._lock = threading.Lock()  # guards all below; held while one is handed on
        self._number = 0
        self._flow: str | None = None
        self._version: str | None = None
        self._node: str | None = None
        self.state = "off"  # of the keys' machine, as it tells

    def add(
        self,
        kind: StepKind,
        body: dict[str, Any] | None = None,
        *,
        state: str | None = None,
        at_ms: int | None = None,
    ) -> None:
        """``state``: what the machine is in from now on. ``at_ms``: default: now."""
        with self._lock:
            self.state = state or self.state
            step = CallStep(
                self._call_id,
                self._task_id,
                self._number,
                datetime.now(UTC),
                kind,
                self._flow,
                self._version,
                self._node,
                self.state,
                self._position_ms() if at_ms is None else at_ms,
                body or {},
            )
            self._number += 1
            self._keep(step)

    def at_node(self, node: str | None) -> None:
        """What comes belongs to this node of the flow."""
        with self._lock:
            self._node = node

    @contextmanager
    def in_flow(self, flow: str, version: str) -> Iterator[None]:
        """What comes inside belongs to the flow; afterwards to what it belonged to before."""
        with self._lock:
            before = self._flow, self._version, self._node
            self._flow, self._version, self._node = flow, version, None
        try:
            yield
        finally:
            with self._lock:
                self._flow, self._version, self._node = before
