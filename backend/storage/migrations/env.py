"""Run by Alembic; the connection, locked and in a transaction, comes from storage.migrate."""

from __future__ import annotations

from typing import Any

from alembic import context

from backend.storage.migrate import VERSION_TABLE
from backend.storage.tables import metadata


def include_object(
    _object: Any, name: str | None, kind: str, reflected: bool, compare_to: Any
) -> bool:
    """Tables of others in the same database (CDR, CEL, …) are none of our business."""
    return not (
        kind == "table" and reflected and compare_to is None and name not in metadata.tables
    )


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_object=include_object,
)
with context.begin_transaction():
    context.run_migrations()
