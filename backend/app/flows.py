"""Published flows in a process: known from PostgreSQL, ready to run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

from sqlalchemy import Engine

from backend.app.bus import ProcessBus
from backend.call.scenario import ScenarioFunction
from backend.call.shelf import Names, Shelf
from backend.config import Settings
from backend.dialing.policy import Rules
from backend.errors import FlowError
from backend.flow.check import flow_circles
from backend.flow.load import load_flow
from backend.flow.model import Flow
from backend.flow.published import FlowVersion, StoredRollout
from backend.flow.rollout import FALL_BACK, Cohort, FellBack, Order, Priority
from backend.flow.run import flow_scenario
from backend.storage.changes import FLOWS_CHANNEL
from backend.storage.flow_book import REFRESH_S, FlowBook, fingerprint
from backend.storage.flows import Flows
from backend.storage.routes import RouteBook
from backend.storage.waiting import Waiter
from backend.storage.watching import BookWatch

log = logging.getLogger(__name__)

COHORTS: tuple[Cohort, ...] = get_args(Cohort)
MAX_TOLD = 20  # refused versions and files in a heartbeat


@dataclass(frozen=True, slots=True)
class Ready:
    """A version that can answer calls: a scenario for each cohort."""

    flow: Flow
    runs: Mapping[Cohort, ScenarioFunction]


def ready(text: FlowVersion) -> Ready:
    """Raises FlowError."""
    flow = load_flow(text.text, source=f"{text.flow}-{text.version}.{text.format}")
    return Ready(
        flow,
        {one: flow_scenario(flow, version=text.version, cohort=one) for one in COHORTS},
    )


class Published:
    """The flows for calls, and all names that calls can name: those of files, too."""

    def __init__(self, book: FlowBook[Ready], shelf: Shelf) -> None:
        self.book = book
        self._shelf = shelf
        self._said: frozenset[str] = frozenset()  # files that count no more

    def for_caller(self, caller_key: str) -> Mapping[str, ScenarioFunction]:
        """What this caller gets, by name: instead of what files hold under it. Never waits."""
        view = self.book.view
        found = {}
        for name in view.rollouts:
            chosen = view.choose(name, caller_key)
            if chosen is not None:
                found[name] = chosen.flow.runs[chosen.cohort]
        return found

    def current(self) -> Mapping[str, object]:
        """The names that calls can name now; what is under them depends on the caller."""
        return {**self._shelf.current(), **dict.fromkeys(self.book.view.names())}

    def answers(self, name: str, caller_key: str) -> bool:
        """False: a flow on trial that no file holds, and this caller has no part in it."""
        view = self.book.view
        rollout = view.rollouts.get(name)
        if rollout is None or rollout.stable is not None or name in self._shelf.current():
            return True
        return view.choose(name, caller_key) is not None

    def told(self) -> dict[str, Any]:
        """What /health and /metrics say of scenarios and flows."""
        versions = [
            f"flow {flow}, version {version}: {_first_line(why)}"
            for (flow, version), why in self.book.refused.items()
        ]
        files = [str(one) for one in self._shelf.refused()]
        refused = [*versions, *self._hidden_files(), *files]
        return {
            "scenarios": len(self.current()),
            "scenarios_refused": len(refused),
            "scenarios_refused_why": refused[:MAX_TOLD],
            "flows": len(self.book.view.rollouts),
            "flows_known": fingerprint(self.book.view.rollouts.values()),
        }

    def _hidden_files(self) -> list[str]:
        """Said once in the log, too."""
        of_files = self._shelf.current()
        hidden = [
            f"scenario {name} of the files: calls get the published flow of that name instead,"
            f" version {version}"
            for name, version in self.book.view.stable()
            if name in of_files
        ]
        for words in hidden:
            if words not in self._said:
                log.warning("flows: %s", words)
        self._said = frozenset(hidden)
        return hidden


class FlowDesk(Flows):
    """The flows for the HTTP door; whoever changed one here finds the next request treated by
    it."""

    def __init__(self, engine: Engine, book: FlowBook[Ready], bus: ProcessBus) -> None:
        super().__init__(engine)
        self._book = book
        self._bus = bus

    def put(self, new: FlowVersion, *, priority: Priority = "normal", by: str) -> StoredRollout:
        """Raises FlowError, too: published flows that would enter each other without end."""
        self._refuse_circles(new)
        stored = super().put(new, priority=priority, by=by)
        self._changed(new.flow, "put", by, stored)
        return stored

    def change(self, flow: str, order: Order, *, by: str) -> StoredRollout | None:
        stored = super().change(flow, order, by=by)
        if stored is not None:
            self._changed(flow, order.action, by, stored)
        return stored

    def _changed(self, flow: str, action: str, by: str, stored: StoredRollout) -> None:
        self._book.refresh()
        now = stored.rollout
        body = {
            "action": action,
            "by": by,
            "state": now.state,
            "stable": now.stable,
            "candidate": now.candidate,
            "share_percent": now.share,
        }
        tell(self._bus, flow, now.candidate or now.stable, body)

    def _refuse_circles(self, new: FlowVersion) -> None:
        view = self._book.view
        chosen = ((name, view.choose(name, "")) for name in view.rollouts)
        flows = {name: one.flow.flow for name, one in chosen if one is not None}
        flows[new.flow] = ready(new).flow
        mine = [one for one in flow_circles(flows) if one.source == flows[new.flow].source]
        if mine:
            raise FlowError(mine)


def tell_fall_back(bus: ProcessBus, fell: FellBack) -> None:
    """Other systems are told what the backend did by itself."""
    body = {
        "action": FALL_BACK,
        "by": "asterisk-dialog",
        "stable": fell.now,
        "reason": fell.reason,
        "hurt": fell.hurt,
        "calls": list(fell.calls),
    }
    tell(bus, fell.flow, fell.version, body)


def tell(bus: ProcessBus, flow: str, version: str | None, body: Mapping[str, Any]) -> None:
    bus.out.publish(bus.teller.rollout(datetime.now(UTC), flow, version, body))


def watch_flows(settings: Settings, engine: Engine, shelf: Shelf, rooms: ExitStack) -> Published:
    """The published flows, kept up to date until ``rooms`` close."""
    book = FlowBook(Flows(engine), settings.data_dir / "flows.json", ready)
    waiter = Waiter(engine, FLOWS_CHANNEL, what="changed flows")
    watch = BookWatch(book, waiter, "flows", REFRESH_S)
    watch.start()
    rooms.callback(watch.stop)
    return Published(book, shelf)


def dial_rules(settings: Settings, flows: Published, routes: RouteBook) -> Rules:
    """What may be dialled, by HTTP or from a call, and which scenario gets it."""
    return Rules.of(
        settings,
        Names(flows),
        lambda number: routes.scenario_for(number, "outbound"),
        flows.answers,
    )


def _first_line(text: str) -> str:
    first, *more = text.splitlines() or [""]
    return f"{first} (and {len(more)} more)" if more else first
