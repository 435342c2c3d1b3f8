"""What /health and /metrics say, from heartbeats and counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backend.errors import StorageUnavailable
from backend.http_api import Health, Part
from backend.http_flow_figures import ByVersion, Shares, flow_metrics, share_metric
from backend.model import TaskState

ALIVE_S = 15.0  # it is dead when nothing was heard for so long


class WhoIsThere(Protocol):
    """A process as it last told of itself; ``process``: control, web, voice-0, voice-1, …"""

    @property
    def node(self) -> str: ...
    @property
    def process(self) -> str: ...
    @property
    def age_s(self) -> float: ...
    @property
    def stats(self) -> Mapping[str, Any]: ...


class Overview(Protocol):
    """Counts and heartbeats: storage.upkeep.Overview. All raise StorageUnavailable."""

    def count_tasks(self) -> Mapping[TaskState, int]: ...
    def count_calls(self) -> Mapping[tuple[str, str], int]: ...
    def count_events(self) -> int: ...
    def count_flows(self) -> ByVersion: ...
    def flow_shares(self) -> Shares: ...
    def processes(self, within_s: float) -> Sequence[WhoIsThere]: ...


def health(overview: Overview, node: str) -> Health:
    """Whether this node can make calls."""
    try:
        seen = [item for item in overview.processes(ALIVE_S) if item.node == node]
    except StorageUnavailable:
        parts = {"database": Part(ok=False, why="PostgreSQL cannot be reached")}
        return Health(status="down", parts=parts)
    parts = {
        "database": Part(ok=True, why="PostgreSQL answers"),
        "control": _control(seen),
        "workers": _workers(seen),
    }
    status: Literal["ok", "down"] = "ok" if all(p.ok for p in parts.values()) else "down"
    # A file that is refused keeps nobody from calling: it is told, and that is all.
    return Health(status=status, parts=parts | _scenarios(seen))


def _control(seen: Iterable[WhoIsThere]) -> Part:
    found = [item for item in seen if item.process == "control"]
    if not found:
        return Part(ok=False, why=f"no sign of the control process for {ALIVE_S:.0f} s")
    if not any(item.stats.get("ami_connected") for item in found):
        said = found[-1].stats.get("ami_error")
        why = "no connection to Asterisk (AMI)"
        return Part(ok=False, why=f"{why}: {said}" if isinstance(said, str) and said else why)
    return Part(ok=True, why="connected to Asterisk")


def _workers(seen: Iterable[WhoIsThere]) -> Part:
    found = [item for item in seen if item.process.startswith("voice")]
    if not found:
        return Part(ok=False, why=f"no sign of a voice worker for {ALIVE_S:.0f} s")
    calls = sum(int(item.stats.get("calls", 0)) for item in found)
    return Part(ok=True, why=f"{len(found)} alive, {calls} calls")


def _scenarios(seen: Iterable[WhoIsThere]) -> dict[str, Part]:
    """Nothing while no worker tells."""
    told = [item.stats for item in seen if "scenarios" in item.stats]
    refused = {str(why) for stats in told for why in stats.get("scenarios_refused_why", ())}
    if refused:
        return {"scenarios": Part(ok=False, why="refused: " + "; ".join(sorted(refused)))}
    return {"scenarios": Part(ok=True, why=f"{told[0]['scenarios']} loaded")} if told else {}


class Figures(Collector):
    """The metrics: this process's own, and those of all processes out of PostgreSQL."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._requests = Counter(
            "dialog_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._took = Histogram(
            "dialog_http_seconds",
            "Time to answer a request.",
            ("route",),
            registry=self._registry,
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )

    def answered(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count an answer."""
        known = method if method in ("GET", "POST", "HEAD", "OPTIONS") else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._took.labels(route).observe(took_s)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        return ()  # collect() asks PostgreSQL: not at registration

    def collect(self) -> Iterable[Metric]:
        database_up = GaugeMetricFamily("dialog_database_up", "1: PostgreSQL answers.")
        found: list[Metric] = []
        try:
            found += self._from_database()
            database_up.add_metric([], 1)
        except StorageUnavailable:
            found = []
            database_up.add_metric([], 0)
        return [database_up, *found]

    def _from_database(self) -> Iterable[Metric]:
        tasks = GaugeMetricFamily("dialog_tasks", "Tasks by state.", labels=["state"])
        for state, count in self._overview.count_tasks().items():
            tasks.add_metric([str(state)], count)
        calls = CounterMetricFamily(
            "dialog_calls_ended", "Scenarios ended.", labels=["state", "reason"]
        )
        for (result, reason), count in self._overview.count_calls().items():
            calls.add_metric([result, reason], count)
        events = GaugeMetricFamily("dialog_events", "AMI events stored, about.")
        events.add_metric([], self._overview.count_events())
        seen = self._overview.processes(ALIVE_S)
        flows = [
            share_metric(self._overview.flow_shares()),
            *flow_metrics(self._overview.count_flows()),
        ]
        return [tasks, calls, events, *flows, *_of_bus(seen), *_of_processes(seen)]


def _of_bus(seen: Iterable[WhoIsThere]) -> Iterable[Metric]:
    """What the processes tell of the bus: each counts from its start."""
    labels = ["node", "process"]
    published = CounterMetricFamily("dialog_bus_published", "Events delivered.", labels=labels)
    dropped = CounterMetricFamily(
        "dialog_bus_dropped", "Events not delivered, and why.", labels=[*labels, "reason"]
    )
    queue = GaugeMetricFamily("dialog_bus_queue", "Events that wait.", labels=labels)
    connected = GaugeMetricFamily("dialog_bus_connected", "1: the bus is there.", labels=labels)
    plain: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
        "bus_published": published,
        "bus_queue": queue,
        "bus_connected": connected,
    }
    for item in seen:
        for name, value in item.stats.items():
            place = [item.node, item.process]
            if name in plain:
                plain[name].add_metric(place, float(value))
            elif name.startswith("bus_dropped_"):
                dropped.add_metric([*place, name.removeprefix("bus_dropped_")], float(value))
    return [published, dropped, queue, connected]


def _of_processes(seen: Iterable[WhoIsThere]) -> Iterable[Metric]:
    """A gauge per figure that processes told: dialog_process_<name>{node,process}."""
    age = GaugeMetricFamily(
        "dialog_process_heartbeat_age_seconds", "Since its last sign.", labels=["node", "process"]
    )
    found: dict[str, GaugeMetricFamily] = {}
    for item in seen:
        labels = [item.node, item.process]
        age.add_metric(labels, item.age_s)
        for name, value in item.stats.items():
            if name.startswith("bus_"):
                continue
            if isinstance(value, int | float) and re.fullmatch(r"[a-z][a-z0-9_]{0,60}", name):
                if name not in found:
                    text = f"Told by the process: {name}."
                    found[name] = GaugeMetricFamily(
                        f"dialog_process_{name}", text, labels=["node", "process"]
                    )
                found[name].add_metric(labels, float(value))
    return [age, *found.values()]
