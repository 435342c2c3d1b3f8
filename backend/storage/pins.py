"""Flows that have machines of their own: which tasks a machine may dial."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, literal_column, select

from backend.storage.tables import rollouts

_NOBODY: ColumnElement[Any] = literal_column("'[]'::jsonb")


def pinned_elsewhere(node: str) -> Select[tuple[str]]:
    """The flows whose tasks are for others: a subquery. ``node``: this machine."""
    here = rollouts.c.nodes.contains([node])
    return select(rollouts.c.flow).where(rollouts.c.nodes != _NOBODY, ~here)


def pinned_here(node: str) -> Select[tuple[str]]:
    """The flows pinned to this machine, alone or with others: a subquery."""
    return select(rollouts.c.flow).where(rollouts.c.nodes.contains([node]))
