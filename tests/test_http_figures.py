"""http_figures and http_flow_figures: what Prometheus reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from backend.http_figures import Figures
from backend.model import TaskState


@dataclass
class Seen:
    process: str
    stats: Mapping[str, Any]
    node: str = "pbx"
    age_s: float = 1.0


@dataclass
class FakeOverview:
    flows: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    seen: Sequence[Seen] = ()
    shares: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def count_tasks(self) -> Mapping[TaskState, int]:
        return {}

    def count_calls(self) -> Mapping[tuple[str, str], int]:
        return {}

    def count_events(self) -> int:
        return 0

    def count_flows(self) -> Mapping[tuple[str, str], Mapping[str, float]]:
        return self.flows

    def flow_shares(self) -> Mapping[tuple[str, str], float]:
        return self.shares

    def processes(self, within_s: float) -> Sequence[Seen]:
        return self.seen


def samples(overview: FakeOverview) -> dict[str, float]:
    """``name{label=value,…}`` → value, as Prometheus has them."""
    text = Figures(overview).text().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


PAY = "flow=pay,version=ab12"


def test_rates_and_counters_by_flow_and_version() -> None:
    values = {
        "calls": 10,
        "calls_failed": 1,
        "prompts_blocked": 200,
        "prompts_broken": 1,
        "keys_taken": 30,
        "keys_blocked": 50,
        "keys_lost": 10,
        "conflicts": 2,
        "second_gate": 4,
        "alarms.overrun": 3,
    }
    found = samples(FakeOverview({("pay", "ab12"): values}))
    wanted = {
        f"dialog_play_block_success_rate{{{PAY}}}": 0.995,
        f"dialog_dtmf_loss_rate{{{PAY}}}": 0.25,
        f"dialog_flow_calls_total{{{PAY}}}": 10,
        f"dialog_flow_calls_failed_total{{{PAY}}}": 1,
        f"dialog_prompts_blocked_total{{{PAY}}}": 200,
        f"dialog_prompts_broken_total{{{PAY}}}": 1,
        f"dialog_key_conflicts_total{{{PAY}}}": 2,
        f"dialog_second_gate_total{{{PAY}}}": 4,
        "dialog_keys_total{flow=pay,verdict=taken,version=ab12}": 30,
        "dialog_keys_total{flow=pay,verdict=blocked,version=ab12}": 50,
        "dialog_keys_total{flow=pay,verdict=lost,version=ab12}": 10,
        "dialog_key_alarms_total{alarm=overrun,flow=pay,version=ab12}": 3,
    }
    assert {name: found[name] for name in wanted} == wanted


def test_what_never_happened_is_there_as_0() -> None:
    """Prometheus sees no increase of a series that begins with 1."""
    found = samples(FakeOverview({("pay", "ab12"): {"calls": 1}}))
    for verdict in ("taken", "lost", "other"):
        assert found[f"dialog_keys_total{{flow=pay,verdict={verdict},version=ab12}}"] == 0
    assert found["dialog_key_alarms_total{alarm=overrun,flow=pay,version=ab12}"] == 0


def test_a_rate_of_nothing_is_left_out() -> None:
    found = samples(FakeOverview({("pay", "ab12"): {"calls": 1}}))
    assert not [name for name in found if "_rate" in name or "dialog_guard" in name]
    assert found[f"dialog_prompts_broken_total{{{PAY}}}"] == 0


def test_histograms_add_up() -> None:
    values = {"switch_le_0.02": 4, "switch_le_0.005": 3, "switch_le_inf": 1, "switch_sum": 1.5}
    found = samples(FakeOverview({("pay", "ab12"): {**values, "switch_count": 8}}))
    name = "dialog_guard_switch_seconds"
    buckets = {k: v for k, v in found.items() if k.startswith(f"{name}_bucket")}
    assert buckets == {
        f"{name}_bucket{{flow=pay,le=0.005,version=ab12}}": 3,
        f"{name}_bucket{{flow=pay,le=0.02,version=ab12}}": 7,
        f"{name}_bucket{{flow=pay,le=+Inf,version=ab12}}": 8,
    }
    assert found[f"{name}_count{{{PAY}}}"] == 8
    assert found[f"{name}_sum{{{PAY}}}"] == 1.5


def test_the_bus_of_each_process() -> None:
    stats = {
        "calls": 3,
        "bus_published": 90,
        "bus_dropped_full": 1,
        "bus_dropped_failed": 0,
        "bus_dropped_timed_out": 2,
        "bus_queue": 7,
        "bus_connected": True,
    }
    found = samples(FakeOverview(seen=[Seen("voice-0", stats)]))
    me = "node=pbx,process=voice-0"
    wanted = {
        f"dialog_bus_published_total{{{me}}}": 90,
        f"dialog_bus_dropped_total{{{me},reason=full}}": 1,
        f"dialog_bus_dropped_total{{{me},reason=failed}}": 0,
        f"dialog_bus_dropped_total{{{me},reason=timed_out}}": 2,
        f"dialog_bus_queue{{{me}}}": 7,
        f"dialog_bus_connected{{{me}}}": 1,
        f"dialog_process_calls{{{me}}}": 3,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert not [name for name in found if "process_bus" in name]


def test_who_gets_which_published_version() -> None:
    found = samples(FakeOverview(shares={("pay", "ab12"): 95.0, ("pay", "cd34"): 5.0}))
    assert found[f"dialog_flow_share_percent{{{PAY}}}"] == 95.0
    assert found["dialog_flow_share_percent{flow=pay,version=cd34}"] == 5.0
