"""Published flows as they are stored: values that pass between modules. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from backend.flow.rollout import Figures, Rollout


@dataclass(frozen=True, slots=True)
class FlowVersion:
    """A flow's text as it was handed in. ``format``: yaml, json. ``used_at``: when it last left
    what calls get; None: it never did, or is in use."""

    flow: str
    version: str
    text: str = field(repr=False)
    format: str
    note: str = ""
    created_at: datetime | None = None
    created_by: str = ""
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredRollout:
    """A roll-out as it stands. ``figures``: of the watched version, since ``step_at``."""

    rollout: Rollout
    step_at: datetime
    changed_at: datetime
    changed_by: str
    baseline: Figures


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the history. ``hurt``: how many calls failed or lost keys with that version since
    the step began; ``calls``: the last of them. None: not counted for this action."""

    id: int
    flow: str
    at: datetime
    by: str
    action: str
    version: str | None
    reason: str
    hurt: int | None = None
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowReport:
    """All about one flow. ``versions`` without their texts' content, the newest first;
    ``totals``: figures by version, since it exists; ``current``: of the watched one, since the
    step began."""

    stored: StoredRollout
    versions: tuple[FlowVersion, ...]
    totals: Mapping[str, Figures]
    current: Figures
    history: tuple[Entry, ...]
