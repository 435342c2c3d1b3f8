"""Versions of flows and their roll-out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "flow_versions",
        sa.Column("flow", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("used_at", TIME),
        sa.PrimaryKeyConstraint("flow", "version", name="pk_flow_versions"),
    )
    op.create_table(
        "rollouts",
        sa.Column("flow", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("stable", sa.Text),
        sa.Column("candidate", sa.Text),
        sa.Column("previous", sa.Text),
        sa.Column("test_numbers", postgresql.JSONB, nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("limits", postgresql.JSONB, nullable=False),
        sa.Column("nodes", postgresql.JSONB, nullable=False),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("baseline", postgresql.JSONB, nullable=False),
        sa.Column("step_at", TIME, nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("flow", name="pk_rollouts"),
    )
    op.create_table(
        "rollout_history",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("flow", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("version", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("hurt", sa.Integer),
        sa.Column("calls", postgresql.JSONB),
        sa.Column("since", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_rollout_history"),
    )
    op.create_index("ix_rollout_history_flow", "rollout_history", ["flow", "id"])
    op.create_index(
        "ix_steps_hurt",
        "steps",
        ["flow", "version", "at"],
        postgresql_where=sa.text(
            "kind = 'flow_end' AND (body ->> 'ok') = 'false'"
            " OR kind = 'key' AND (body ->> 'verdict') = 'lost'"
        ),
    )
