"""What scenarios share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "store",
        sa.Column("space", sa.Text(collation="C"), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("value", postgresql.JSONB, nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True)),
        sa.PrimaryKeyConstraint("space", "key", name="pk_store"),
    )
    expiring = sa.text("expires_at IS NOT NULL")
    op.create_index("ix_store_expires_at", "store", ["expires_at"], postgresql_where=expiring)
