"""The HTTP contract of /flows as types. No Flask, no storage; see http_api.py."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from backend.errors import FlowError
from backend.flow.published import Entry, FlowReport, FlowVersion, StoredRollout
from backend.flow.rollout import Figures, State, judge
from backend.http_api import Model, Problem

MAX_FLOW_BODY_BYTES = 2 * 1024 * 1024  # a text of 512 KiB, escaped as JSON may escape it
MAX_PROBLEMS = 200  # told; a file that is no flow at all could have thousands

PUT_FIELDS = ("text", "format", "note")
ORDER_FIELDS = (
    "action",
    "numbers",
    "percent",
    "nodes",
    "min_calls",
    "error_percent",
    "loss_percent",
    "version",
    "reason",
)
ACTIONS = ("test", "share", "all", "back", "pin", "unpin", "prune")


class FlowFigures(Model):
    """Calls and keys of one version. A rate is null while nothing was counted."""

    calls: int = Field(description="Calls that began with it.")
    calls_failed: int
    keys_taken: int
    keys_lost: int = Field(description="Keys pressed while keys were awaited, and not taken.")
    error_percent: float | None = Field(description="calls_failed of calls.")
    loss_percent: float | None = Field(description="keys_lost of all that should be taken.")


class RolloutAnswer(Model):
    """Which versions of a flow calls get."""

    flow: str
    state: State = Field(description="stable: nothing is under way; else the last step.")
    stable: str | None = Field(description="null: what the files of scenarios hold.")
    candidate: str | None
    previous: str | None = Field(description="What back leads to after all.")
    test_numbers: list[str]
    share_percent: float
    min_calls: int = Field(description="So many calls since the step began before it is judged.")
    max_error_percent: float
    max_loss_percent: float
    nodes: list[str] = Field(description="The machines that alone dial its tasks; none: all.")
    priority: Literal["normal", "high"]
    step_at: datetime
    changed_at: datetime
    changed_by: str
    current: FlowFigures = Field(description="Of the version under way, since step_at.")


class RolloutAnswers(Model):
    """All flows."""

    flows: list[RolloutAnswer]


class VersionAnswer(Model):
    """A version that was handed in."""

    version: str
    note: str
    created_at: datetime
    created_by: str
    used_at: datetime | None = Field(description="When it last left what calls get.")
    figures: FlowFigures = Field(description="Since it exists.")


class EntryAnswer(Model):
    """A line of the history."""

    at: datetime
    by: str = Field(description="The client; asterisk-dialog: the backend itself.")
    action: str = Field(description="put, test, share, all, back, pin, unpin, prune, fall_back.")
    version: str | None
    reason: str
    hurt: int | None = Field(description="fall_back: calls that failed or lost keys with it.")
    calls: list[str] = Field(description="The last of them, at most 100.")


class FlowAnswer(Model):
    """All about one flow, the newest first."""

    rollout: RolloutAnswer
    verdict: str = Field(description="Why it would be taken back now; else empty.")
    versions: list[VersionAnswer]
    history: list[EntryAnswer]


class FlowText(Model):
    """A version's text."""

    flow: str
    version: str
    format: Literal["yaml", "json"]
    note: str
    created_at: datetime
    created_by: str
    text: str


class FlowProblemAnswer(Model):
    """One thing that is wrong with a flow."""

    line: int
    node: str | None
    why: str


class FlowRefused(Problem):
    """A flow that cannot be used."""

    problems: list[FlowProblemAnswer]


class FlowErrorAnswer(Model):
    """400 of PUT /flows: all that is wrong with the text."""

    error: FlowRefused


FLOW_MODELS = (RolloutAnswer, RolloutAnswers, FlowAnswer, FlowText, FlowErrorAnswer)


def figures_answer(figures: Figures) -> FlowFigures:
    keys = figures.keys_taken + figures.keys_lost
    return FlowFigures(
        calls=figures.calls,
        calls_failed=figures.calls_failed,
        keys_taken=figures.keys_taken,
        keys_lost=figures.keys_lost,
        error_percent=_percent(figures.calls_failed, figures.calls),
        loss_percent=_percent(figures.keys_lost, keys),
    )


def rollout_answer(stored: StoredRollout, current: Figures) -> RolloutAnswer:
    rollout = stored.rollout
    return RolloutAnswer(
        flow=rollout.flow,
        state=rollout.state,
        stable=rollout.stable,
        candidate=rollout.candidate,
        previous=rollout.previous,
        test_numbers=list(rollout.test_numbers),
        share_percent=rollout.share,
        min_calls=rollout.limits.min_calls,
        max_error_percent=rollout.limits.error_percent,
        max_loss_percent=rollout.limits.loss_percent,
        nodes=list(rollout.nodes),
        priority=rollout.priority,
        step_at=stored.step_at.astimezone(UTC),
        changed_at=stored.changed_at.astimezone(UTC),
        changed_by=stored.changed_by,
        current=figures_answer(current),
    )


def flow_answer(report: FlowReport) -> dict[str, Any]:
    """The JSON of GET /flows/{name}."""
    judgement = judge(report.current, report.stored.rollout.limits)
    return FlowAnswer(
        rollout=rollout_answer(report.stored, report.current),
        verdict=judgement.reason,
        versions=[_version(one, report) for one in report.versions],
        history=[_entry(one) for one in report.history],
    ).model_dump(mode="json")


def text_answer(found: FlowVersion) -> dict[str, Any]:
    """The JSON of GET /flows/{name}/versions/{version}."""
    assert found.created_at is not None, "only stored versions are answers"
    return FlowText(
        flow=found.flow,
        version=found.version,
        format="json" if found.format == "json" else "yaml",
        note=found.note,
        created_at=found.created_at.astimezone(UTC),
        created_by=found.created_by,
        text=found.text,
    ).model_dump(mode="json")


def flow_refused(error: FlowError) -> dict[str, Any]:
    """The JSON of an error that names lines and nodes."""
    first = error.problems[:3]
    more = len(error.problems) - len(first)
    why = "; ".join(map(str, first)) + (f"; and {more} more" if more > 0 else "")
    problems = [
        FlowProblemAnswer(line=one.line, node=one.node, why=one.text)
        for one in error.problems[:MAX_PROBLEMS]
    ]
    answer = FlowRefused(code="bad_request", parameter="text", why=why, problems=problems)
    return FlowErrorAnswer(error=answer).model_dump(mode="json")


def _version(one: FlowVersion, report: FlowReport) -> VersionAnswer:
    assert one.created_at is not None
    return VersionAnswer(
        version=one.version,
        note=one.note,
        created_at=one.created_at.astimezone(UTC),
        created_by=one.created_by,
        used_at=one.used_at.astimezone(UTC) if one.used_at else None,
        figures=figures_answer(report.totals.get(one.version, Figures())),
    )


def _entry(one: Entry) -> EntryAnswer:
    return EntryAnswer(
        at=one.at.astimezone(UTC),
        by=one.by,
        action=one.action,
        version=one.version,
        reason=one.reason,
        hurt=one.hurt,
        calls=list(one.calls),
    )


def _percent(bad: int, count: int) -> float | None:
    return round(100 * bad / count, 3) if count else None
