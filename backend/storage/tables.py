"""The tables. Migrations lead here (a test compares); queries are in the modules beside.

No foreign keys on purpose: records of one call come from several processes in any order, and one
that PostgreSQL refuses must not take others with it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Sequence,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

TIME = TIMESTAMP(timezone=True)
JSON = JSONB(none_as_null=True)

# The order of commits is the order of these numbers: see changing() in changes.py.
task_change = Sequence("task_change", metadata=metadata)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Uuid, primary_key=True),
    # the request
    Column("phone", Text, nullable=False),
    Column("scenario", Text, nullable=False),
    Column("file", Text),
    Column("context", Text, nullable=False),
    Column("trunk", Text, nullable=False),
    Column("caller_id", Text),
    Column("external_id", Text),
    Column("variables", JSON, nullable=False),
    Column("dial_timeout_s", Double, nullable=False),
    # how far it is: backend.dialing.progress.Progress
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("dialed_at", TIME),
    Column("ringing_at", TIME),
    Column("answered_at", TIME),
    Column("ended_at", TIME),
    Column("channel", Text),
    Column("uniqueid", Text),
    Column("hangup_cause", Integer),
    Column("hangup_text", Text),
    Column("originate_reason", Integer),
    Column("scenario_state", Text),
    Column("scenario_reason", Text),
    Column("scenario_ended_at", TIME),
    Column("result", JSON),
    Column("error", Text),
    Column("recording", Text),
    # who has it, and when it changed
    Column("change", BigInteger, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=text("now()")),
    Column("node", Text),
    Column("owner", Uuid),
    Index("uq_tasks_external_id", "external_id", unique=True),
    Index("uq_tasks_change", "change", unique=True),
    Index("ix_tasks_queued", "created_at", postgresql_where=text("state = 'queued'")),
    Index(
        "ix_tasks_open",
        "node",
        postgresql_where=text("state IN ('dialing', 'ringing', 'talking')"),
    ),
    Index("ix_tasks_state", "state"),
)

calls = Table(
    "calls",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("task_id", Uuid, index=True),
    Column("started_at", TIME),
    Column("node", Text),
    Column("worker", Text),
    Column("scenario", Text),
    Column("direction", Text),
    Column("channel", Text),
    Column("uniqueid", Text),
    Column("caller", Text),
    Column("called", Text),
    Column("recording", Text),
    Column("ended_at", TIME, index=True),
    Column("state", Text),
    Column("reason", Text),
    Column("result", JSON),
    Column("error", Text),
    Column("figures", JSON),
)

utterances = Table(
    "utterances",
    metadata,
    Column("call_id", Uuid, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("task_id", Uuid, index=True),
    Column("at", TIME, nullable=False),
    Column("speaker", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("confidence", Double),
    Column("language", Text),
    Column("words", JSON),
)

# What happened to the keys of guarded calls, and which way calls took through their flows.
steps = Table(
    "steps",
    metadata,
    Column("call_id", Uuid, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("task_id", Uuid),
    Column("at", TIME, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("flow", Text),
    Column("version", Text),
    Column("node", Text),
    Column("state", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("body", JSON, nullable=False),
    # Few rows: what storage.flows counts when a version is taken back.
    Index(
        "ix_steps_hurt",
        "flow",
        "version",
        "at",
        postgresql_where=text(
            "kind = 'flow_end' AND (body ->> 'ok') = 'false'"
            " OR kind = 'key' AND (body ->> 'verdict') = 'lost'"
        ),
    ),
)

# Counted from steps as they are stored (storage.figures). "" stands for "outside a flow".
flow_figures = Table(
    "flow_figures",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Double, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("stream", Uuid, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("received_at", TIME, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("uniqueid", Text),
    Column("linkedid", Text, index=True),
    Column("channel", Text),
    Column("body", JSON, nullable=False),
    Index("uq_events_stream_seq", "stream", "seq", unique=True),
)

# Which scenario answers a number: the longest pattern that matches wins (storage.routes).
routes = Table(
    "routes",
    metadata,
    Column("pattern", Text, primary_key=True),
    Column("direction", Text, primary_key=True),
    Column("scenario", Text, nullable=False),
    Column("changed_at", TIME, nullable=False, server_default=text("now()")),
)

# Published flows (storage.flows): their texts, and which of them calls get (flow.rollout).
flow_versions = Table(
    "flow_versions",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("used_at", TIME),  # when it last left what calls get
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("stable", Text),
    Column("candidate", Text),
    Column("previous", Text),
    Column("test_numbers", JSON, nullable=False),
    Column("share", Double, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("nodes", JSON, nullable=False),
    Column("priority", Text, nullable=False),
    Column("baseline", JSON, nullable=False),  # figures of the watched version, at step_at
    Column("step_at", TIME, nullable=False),
    Column("changed_at", TIME, nullable=False),
    Column("changed_by", Text, nullable=False),
)

# Who did what to a roll-out; also what the backend did by itself. ``hurt``: calls that failed.
rollout_history = Table(
    "rollout_history",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("flow", Text, nullable=False),
    Column("at", TIME, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("version", Text),
    Column("reason", Text, nullable=False),
    Column("hurt", Integer),
    Column("calls", JSON),
    Column("since", TIME),
    Index("ix_rollout_history_flow", "flow", "id"),
)

# What scenarios share (storage.store). ``space``: "" for all scenarios, or one scenario's name.
# Compared byte by byte: the index then serves prefixes too.
store = Table(
    "store",
    metadata,
    Column("space", Text(collation="C"), primary_key=True),
    Column("key", Text(collation="C"), primary_key=True),
    Column("value", JSONB, nullable=False),
    Column("expires_at", TIME),
    Index("ix_store_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
)

# One life of one process.
instances = Table(
    "instances",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("node", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("seen_at", TIME, nullable=False, index=True),
    Column("stats", JSON, nullable=False),
)

__all__ = [
    "calls",
    "events",
    "flow_figures",
    "flow_versions",
    "instances",
    "metadata",
    "rollout_history",
    "rollouts",
    "routes",
    "steps",
    "store",
    "task_change",
    "tasks",
    "utterances",
]
