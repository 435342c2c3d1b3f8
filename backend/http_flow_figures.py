"""Metrics of guarded keys and of flows, by flow and version. What each means: docs/figures.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

Values = Mapping[str, float]
ByVersion = Mapping[tuple[str, str], Values]  # (flow, version) → figure → value

Shares = Mapping[tuple[str, str], float]  # (flow, version) → percent of the callers

LABELS = ("flow", "version")
VERDICTS = (
    "taken",
    "blocked",
    "buffered",
    "released",
    "conflict",
    "discarded",
    "lost",
    "lost_blocked",
    "other",
)
ALARMS = ("block_limit", "overrun", "no_report", "guard_refused")
_COUNTERS = {
    "calls": ("dialog_flow_calls", "Calls that began the flow."),
    "calls_failed": ("dialog_flow_calls_failed", "Calls in which the flow failed."),
    "prompts_blocked": ("dialog_prompts_blocked", "Prompts guarded from keys."),
    "prompts_broken": ("dialog_prompts_broken", "Of those, to how many a key came through."),
    "second_gate": ("dialog_second_gate", "Keys that Asterisk let through and we stopped."),
    "conflicts": ("dialog_key_conflicts", "Keys at the same moment as a prompt's order."),
}
_HISTOGRAMS = {
    "switch": (
        "dialog_guard_switch_seconds",
        "From the order to block keys until Asterisk blocks them.",
    ),
    "opening_error": (
        "dialog_guard_opening_error_seconds",
        "Between the place where keys should be open again and where they were.",
    ),
}


def flow_metrics(found: ByVersion) -> Iterable[Metric]:
    """All of them. A rate of nothing is left out: neither good nor bad."""
    yield from _rates(found)
    for name, (metric, text) in _COUNTERS.items():
        counter = CounterMetricFamily(metric, text, labels=LABELS)
        for place, values in found.items():
            counter.add_metric(place, values.get(name, 0))
        yield counter
    keys, alarms = "Keys by what became of them.", "Alarms of the guard."
    yield _labelled(found, "keys_", VERDICTS, "dialog_keys", keys, "verdict")
    yield _labelled(found, "alarms.", ALARMS, "dialog_key_alarms", alarms, "alarm")
    for name, (metric, text) in _HISTOGRAMS.items():
        yield _histogram(found, name, metric, text)


def share_metric(shares: Shares) -> Metric:
    """Which published versions calls get."""
    text = "Percent of the callers who get this published version; of test numbers alone: 0."
    share = GaugeMetricFamily("dialog_flow_share_percent", text, labels=LABELS)
    for place, percent in shares.items():
        share.add_metric(place, percent)
    return share


def _rates(found: ByVersion) -> Iterable[Metric]:
    success = GaugeMetricFamily(
        "dialog_play_block_success_rate",
        "Share of guarded prompts that no key came through to, since the version's first call.",
        labels=LABELS,
    )
    loss = GaugeMetricFamily(
        "dialog_dtmf_loss_rate",
        "Share of keys that were lost, of those pressed while keys are taken.",
        labels=LABELS,
    )
    for place, values in found.items():
        if prompts := values.get("prompts_blocked", 0):
            success.add_metric(place, 1 - values.get("prompts_broken", 0) / prompts)
        lost = values.get("keys_lost", 0)
        if keys := values.get("keys_taken", 0) + lost:
            loss.add_metric(place, lost / keys)
    return success, loss


def _labelled(
    found: ByVersion, prefix: str, known: Iterable[str], metric: str, text: str, label: str
) -> CounterMetricFamily:
    """A counter with one more label: the rest of each figure's name behind ``prefix``. What is
    ``known`` is there from the start, as 0: an increase from nothing would not be seen."""
    counter = CounterMetricFamily(metric, text, labels=(*LABELS, label))
    for place, values in found.items():
        told = {name.removeprefix(prefix) for name in values if name.startswith(prefix)}
        for name in sorted(told.union(known)):
            counter.add_metric((*place, name), values.get(prefix + name, 0))
    return counter


def _histogram(found: ByVersion, name: str, metric: str, text: str) -> HistogramMetricFamily:
    histogram = HistogramMetricFamily(metric, text, labels=LABELS)
    prefix = f"{name}_le_"
    bounds = sorted(
        {
            float(key.removeprefix(prefix))
            for v in found.values()
            for key in v
            if key.startswith(prefix)
        }
        | {math.inf}
    )
    for place, values in found.items():
        total, buckets = 0.0, []
        for bound in bounds:
            total += values.get(f"{prefix}{bound:g}", 0)
            buckets.append(("+Inf" if math.isinf(bound) else f"{bound:g}", total))
        if total:
            histogram.add_metric(place, buckets, values.get(f"{name}_sum", 0))
    return histogram
