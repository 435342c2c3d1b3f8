"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)
JSON = postgresql.JSONB(none_as_null=True)


def upgrade() -> None:
    op.execute("CREATE SEQUENCE task_change")
    _tasks()
    _calls()
    _events()
    op.create_table(
        "routes",
        sa.Column("pattern", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("scenario", sa.Text, nullable=False),
        sa.Column("changed_at", TIME, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("pattern", "direction", name="pk_routes"),
    )
    op.create_table(
        "instances",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("process", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("stats", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instances"),
    )
    op.create_index("ix_instances_seen_at", "instances", ["seen_at"])


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("phone", sa.Text, nullable=False),
        sa.Column("scenario", sa.Text, nullable=False),
        sa.Column("file", sa.Text),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("trunk", sa.Text, nullable=False),
        sa.Column("caller_id", sa.Text),
        sa.Column("external_id", sa.Text),
        sa.Column("variables", JSON, nullable=False),
        sa.Column("dial_timeout_s", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("dialed_at", TIME),
        sa.Column("ringing_at", TIME),
        sa.Column("answered_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("channel", sa.Text),
        sa.Column("uniqueid", sa.Text),
        sa.Column("hangup_cause", sa.Integer),
        sa.Column("hangup_text", sa.Text),
        sa.Column("originate_reason", sa.Integer),
        sa.Column("scenario_state", sa.Text),
        sa.Column("scenario_reason", sa.Text),
        sa.Column("scenario_ended_at", TIME),
        sa.Column("result", JSON),
        sa.Column("error", sa.Text),
        sa.Column("recording", sa.Text),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("node", sa.Text),
        sa.Column("owner", sa.Uuid),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
    )
    op.create_index("uq_tasks_external_id", "tasks", ["external_id"], unique=True)
    op.create_index("uq_tasks_change", "tasks", ["change"], unique=True)
    op.create_index("ix_tasks_state", "tasks", ["state"])
    queued = sa.text("state = 'queued'")
    op.create_index("ix_tasks_queued", "tasks", ["created_at"], postgresql_where=queued)
    is_open = sa.text("state IN ('dialing', 'ringing', 'talking')")
    op.create_index("ix_tasks_open", "tasks", ["node"], postgresql_where=is_open)


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("task_id", sa.Uuid),
        sa.Column("started_at", TIME),
        sa.Column("node", sa.Text),
        sa.Column("worker", sa.Text),
        sa.Column("scenario", sa.Text),
        sa.Column("direction", sa.Text),
        sa.Column("channel", sa.Text),
        sa.Column("uniqueid", sa.Text),
        sa.Column("caller", sa.Text),
        sa.Column("called", sa.Text),
        sa.Column("recording", sa.Text),
        sa.Column("ended_at", TIME),
        sa.Column("state", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("result", JSON),
        sa.Column("error", sa.Text),
        sa.Column("figures", JSON),
        sa.PrimaryKeyConstraint("id", name="pk_calls"),
    )
    op.create_index("ix_calls_task_id", "calls", ["task_id"])
    op.create_index("ix_calls_ended_at", "calls", ["ended_at"])
    op.create_table(
        "utterances",
        sa.Column("call_id", sa.Uuid, nullable=False),
        sa.Column("n", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("task_id", sa.Uuid),
        sa.Column("at", TIME, nullable=False),
        sa.Column("speaker", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("confidence", sa.Double),
        sa.Column("language", sa.Text),
        sa.Column("words", JSON),
        sa.PrimaryKeyConstraint("call_id", "n", name="pk_utterances"),
    )
    op.create_index("ix_utterances_task_id", "utterances", ["task_id"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("stream", sa.Uuid, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("uniqueid", sa.Text),
        sa.Column("linkedid", sa.Text),
        sa.Column("channel", sa.Text),
        sa.Column("body", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("uq_events_stream_seq", "events", ["stream", "seq"], unique=True)
    op.create_index("ix_events_received_at", "events", ["received_at"])
    op.create_index("ix_events_linkedid", "events", ["linkedid"])
