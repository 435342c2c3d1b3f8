"""The sweeper: ends the tasks whose call is over though the record that says so never came.

Records get lost when somebody dies: the backend in mid-call (no CallEnded), Asterisk (no Hangup),
the connection between them (a gap). The one witness left is Asterisk's list of channels: a task
whose channel lives goes on, whoever started it; a task whose channel is gone has its grace, and
is then settled by the evidence there is. The sweeper never dials.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from backend.dialing.outcomes import unanswered
from backend.dialing.progress import Progress, channel_id
from backend.errors import AsteriskError, CommandRefused, StorageUnavailable
from backend.model import Outcome, Reason, Task, TaskState
from backend.ports import Ami

log = logging.getLogger(__name__)

UPTIME_STEP = timedelta(seconds=1)  # Asterisk tells its uptime in whole seconds

NO_CHANNEL = "Asterisk made no channel: there is no such trunk, or nothing is reachable at it"
NO_END = "the call is over, but the scenario's end was never recorded"
NO_TRACE = "the call left no trace: nobody knows whether it was made"
ASTERISK_GONE = "Asterisk was restarted or is away; the call ended with it"


class OpenTask(Protocol):
    """A task claimed by this node that is not final (nor queued)."""

    @property
    def task(self) -> Task: ...

    @property
    def progress(self) -> Progress: ...


class SweepStore(Protocol):
    """The tasks as the sweeper needs them; every method raises StorageUnavailable."""

    def open_tasks(self) -> Sequence[OpenTask]:
        """All of this node, also those that an earlier, dead instance claimed."""

    def backlog_s(self) -> float:
        """How long records of this node, of all its processes, have been waiting on disk for the
        database without a pause; 0 when they are not. With a backlog, a record that is missing
        in the database is no evidence that it was never written."""

    def settle(self, task_id: UUID, outcome: Outcome, *, error: str | None = None) -> bool:
        """End the task (``progress.settled``); nothing happens when it is final."""


@dataclass(frozen=True, slots=True)
class Grace:
    """How long a task may be without its channel before it is settled, in seconds."""

    gone_s: float = 10.0
    no_end_s: float = 30.0  # answered: a scenario may go on working after the hangup
    no_channel_s: float = 2.0  # Originate failed, and no channel was ever seen
    asterisk_away_s: float = 120.0  # no AMI connection: whether the channel lives is not known
    backlog_s: float = 5.0  # while records wait longer than this for the database, nothing ends


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    error: str | None


def verdict(
    progress: Progress, gone_s: float, asterisk_started_at: datetime | None, grace: Grace
) -> Verdict | None:
    """How to end a task whose channel has not been there for ``gone_s``; None: not yet. Pure."""
    failed_to_start = progress.originate_reason is not None and not progress.answered
    never_seen = failed_to_start and progress.channel is None
    unfinished = progress.answered and progress.scenario_outcome is None
    wait_s = grace.no_end_s if unfinished else grace.gone_s
    if gone_s < (grace.no_channel_s if never_seen else wait_s):
        return None
    if progress.scenario_outcome is not None:
        return Verdict(progress.scenario_outcome, None)
    if never_seen:
        return Verdict(Outcome(TaskState.FAILED, Reason.ASTERISK_REFUSED), NO_CHANNEL)
    if not progress.answered and (failed_to_start or progress.hangup_cause is not None):
        return Verdict(unanswered(progress.hangup_cause, progress.originate_reason), None)
    if _before(progress, asterisk_started_at):
        return Verdict(Outcome(TaskState.FAILED, Reason.ASTERISK_LOST), ASTERISK_GONE)
    if progress.answered:
        return Verdict(Outcome(TaskState.FAILED, Reason.BACKEND_LOST), NO_END)
    return Verdict(Outcome(TaskState.UNKNOWN, Reason.BACKEND_LOST), NO_TRACE)


def verdict_without_asterisk(progress: Progress, away_s: float, grace: Grace) -> Verdict | None:
    """The same when Asterisk cannot be asked, since ``away_s``. Pure."""
    if away_s < grace.asterisk_away_s:
        return None
    if progress.scenario_outcome is not None:
        return Verdict(progress.scenario_outcome, None)
    state = TaskState.FAILED if progress.answered else TaskState.UNKNOWN
    return Verdict(Outcome(state, Reason.ASTERISK_LOST), ASTERISK_GONE)


def _before(progress: Progress, asterisk_started_at: datetime | None) -> bool:
    """Whether the call belonged to an earlier life of Asterisk."""
    if asterisk_started_at is None or progress.dialed_at is None or progress.ended_at is not None:
        return False
    return progress.dialed_at < asterisk_started_at - UPTIME_STEP


def live_channels(ami: Ami, timeout_s: float = 5.0) -> frozenset[str]:
    """Unique ids of the channels that Asterisk has now. Raises AsteriskError.

    Needs the manager right write=reporting (or system).
    """
    reply = ami.action("CoreShowChannels", {}, timeout_s=timeout_s)
    if not reply.success:
        raise CommandRefused(f"CoreShowChannels: {reply.message}")
    return frozenset(event.get("Uniqueid", "") for event in reply.events)


class Sweeper:
    """Owns the thread ``sweeper``: ``start`` it, ``stop`` it. ``wake`` it when AMI is back.

    ``asterisk_started_at``: asks when the connected Asterisk started (``EventLog``).
    """

    def __init__(
        self,
        store: SweepStore,
        ami: Ami,
        *,
        asterisk_started_at: Callable[[], datetime | None] = lambda: None,
        grace: Grace | None = None,
        period_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settled_total = 0
        self._store = store
        self._ami = ami
        self._asterisk_started_at = asterisk_started_at
        self._grace = grace or Grace()
        self._period_s = period_s
        self._clock = clock
        self._gone_since: dict[UUID, float] = {}  # open tasks only, so as many as calls
        self._away_since: float | None = None
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Sweep now. Thread-safe, does not block."""
        self._wake.set()

    def stop(self, timeout_s: float = 7.0) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.error("sweeper: the thread did not end in %g s", timeout_s)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.sweep()
            except StorageUnavailable as error:
                log.warning("sweeper: %s; next try in %g s", error, self._period_s)
            except Exception:
                log.exception("sweeper: failed; next try in %g s", self._period_s)
            self._wake.wait(self._period_s)
            self._wake.clear()

    def sweep(self) -> None:
        """Look once, settle what is due. Raises StorageUnavailable."""
        if self._store.backlog_s() > self._grace.backlog_s:
            self._gone_since.clear()
            return
        tasks = self._store.open_tasks()
        if not tasks:
            self._gone_since.clear()
            return
        try:
            live = live_channels(self._ami)
        except AsteriskError as error:
            self._sweep_without_asterisk(tasks, error)
            return
        self._away_since = None
        now, started_at = self._clock(), self._asterisk_started_at()
        gone = [task for task in tasks if channel_id(task.task.id) not in live]
        self._gone_since = {task.task.id: self._gone_since.get(task.task.id, now) for task in gone}
        for task in gone:
            for_s = now - self._gone_since[task.task.id]
            self._settle(task, verdict(task.progress, for_s, started_at, self._grace))

    def _sweep_without_asterisk(self, tasks: Sequence[OpenTask], error: AsteriskError) -> None:
        self._gone_since.clear()
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
            log.warning(
                "sweeper: %d open tasks, and Asterisk cannot be asked: %s", len(tasks), error
            )
        for task in tasks:
            away_s = now - self._away_since
            self._settle(task, verdict_without_asterisk(task.progress, away_s, self._grace))

    def _settle(self, task: OpenTask, found: Verdict | None) -> None:
        if found is None:
            return
        self._store.settle(task.task.id, found.outcome, error=found.error)
        self._gone_since.pop(task.task.id, None)
        self.settled_total += 1
        log.warning(
            "sweeper: task %s: %s, from %s (%s)",
            task.task.id,
            found.outcome,
            task.progress.state,
            found.error or "from the evidence there is",
        )
