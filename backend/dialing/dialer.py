"""The dialer: queued tasks become calls, each at most once.

One thread. It claims a task (from then on it is ``dialing`` in the database and nobody else's) and
sends one Originate. Whatever happens to that Originate, it is never sent again: an error answer
ends the task, silence leaves it to events and, when none come, to the sweeper. A live channel's
``ChannelId`` cannot be used twice either (Asterisk makes no second channel), so even a mistake
here would not make a phone ring twice at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from backend.dialing.progress import channel_id
from backend.errors import AsteriskError, BadRequest, DialogError, StorageUnavailable
from backend.model import Outcome, Reason, Task, TaskRequest, TaskState
from backend.ports import Ami, AmiReply

log = logging.getLogger(__name__)

WAIT_S = 0.5  # longest sleep: what is not announced is seen this much later
DOWN_S = 0.2  # pause while Asterisk is not connected, or every line is taken
ERROR_S = 1.0  # pause after PostgreSQL refused
SHUTTING_DOWN = "Asterisk is shutting down"  # its answer to every action then (16 to 22)
REFUSED = Outcome(TaskState.FAILED, Reason.ASTERISK_REFUSED)


class TaskQueue(Protocol):
    """The tasks as the dialer needs them. Called from the dialer's thread alone; every method but
    ``wait`` raises StorageUnavailable."""

    def wait(self, timeout_s: float) -> bool:
        """Return when a task may have been queued (True), or after ``timeout_s`` (False).

        A task queued between ``claim`` and ``wait`` must end the wait at once.
        """

    def in_progress(self) -> int:
        """How many tasks claimed by this node are not final."""

    def claim(self, limit: int) -> Sequence[Task]:
        """Up to ``limit`` queued tasks, the oldest first, now ``dialing`` and this node's, for
        good: the transaction is committed when this returns."""

    def release(self, task_id: UUID) -> bool:
        """Back to ``queued``: it was claimed, and nothing was sent."""

    def settle(self, task_id: UUID, outcome: Outcome, *, error: str | None = None) -> bool:
        """End the task (``progress.settled``); nothing happens when it is final."""


class RateLimit:
    """A token bucket: ``rate_per_s`` on the average, a tenth of a second's worth at once."""

    def __init__(self, rate_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate_per_s
        self._most = max(1.0, rate_per_s / 10)
        self._tokens = self._most
        self._clock = clock
        self._at = clock()

    def available(self) -> int:
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return int(self._tokens)

    def take(self, count: int) -> None:
        self._tokens -= count

    def delay_s(self) -> float:
        """Until one token is there."""
        return max(0.0, (1 - self._tokens) / self._rate)


def dial_string(channels: Mapping[str, str], request: TaskRequest) -> str:
    """The trunk's dial string with the phone in it. Raises BadRequest when there is no such trunk
    (any more): the request was admitted, perhaps under other settings."""
    template = channels.get(request.channel)
    if template is None:
        raise BadRequest("channel", f"{request.channel} is no configured trunk")
    return template.replace("{phone}", request.phone)


def originate(task: Task, channels: Mapping[str, str]) -> dict[str, str | list[str]]:
    """The headers of the task's Originate. Raises BadRequest, see ``dial_string``.

    The variables are set on the dialled channel only (no ``__`` inheritance).
    """
    request = task.request
    own = channel_id(task.id)
    variables = {
        "DIALOG_TASK": str(task.id),
        "DIALOG_SCENARIO": request.scenario,
        "DIALOG_NUMBER": request.phone,
    }
    if request.file is not None:
        variables["DIALOG_FILE"] = request.file
    variables |= request.variables
    headers: dict[str, str | list[str]] = {
        "ActionID": own,
        "Channel": dial_string(channels, request),
        "ChannelId": own,
        "OtherChannelId": f"{own}-2",  # the far half of a Local channel
        "Context": request.context,
        "Exten": "s",
        "Priority": "1",
        "Timeout": str(round(request.dial_timeout_s * 1000)),
        "Async": "true",
        "Variable": [f"{name}={value}" for name, value in variables.items()],
    }
    if request.caller_id is not None:
        headers["CallerID"] = request.caller_id
    return headers


class Dialer:
    """Owns the thread ``dialer``: ``start`` it, ``stop`` it.

    ``channels``: the trunks, name → dial string with {phone}. ``max_calls``: tasks in progress on
    this node at once.
    """

    def __init__(
        self,
        queue: TaskQueue,
        ami: Ami,
        *,
        channels: Mapping[str, str],
        max_calls: int,
        rate_per_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sent_total = 0  # Originates given to the AMI connection
        self.refused_total = 0
        self._queue = queue
        self._ami = ami
        self._channels = dict(channels)
        self._max_calls = max_calls
        self._rate = RateLimit(rate_per_s, clock)
        # Error answers, from the AMI thread to ours. At most one per task in progress; beyond
        # that bound the oldest is forgotten and its task is left to the sweeper.
        self._refused: deque[tuple[UUID, str]] = deque(maxlen=max(1000, max_calls))
        self._returned: deque[UUID] = deque(maxlen=max(1000, max_calls))  # likewise: not dialled
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dialer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Claim no more; calls in progress go on. Joins the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.error("dialer: the thread did not end in %g s", timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.step()
            except StorageUnavailable as error:
                log.warning("dialer: %s; next try in %g s", error, ERROR_S)
                self._stop.wait(ERROR_S)
            except Exception:
                log.exception("dialer: failed; goes on in %g s", ERROR_S)
                self._stop.wait(ERROR_S)

    def step(self) -> None:
        """Claim and dial what may be dialled now, or wait a little. Raises StorageUnavailable."""
        self._settle_refused()
        if self._release_returned() or not self._ami.connected:
            self._stop.wait(DOWN_S)
            return
        tokens = self._rate.available()
        if tokens < 1:
            self._stop.wait(min(self._rate.delay_s(), WAIT_S))
            return
        room = self._max_calls - self._queue.in_progress()
        if room < 1:
            self._stop.wait(DOWN_S)
            return
        tasks = self._queue.claim(min(tokens, room))
        self._rate.take(len(tasks))
        for task in tasks:
            self._dial(task)
        if not tasks:
            self._queue.wait(WAIT_S)

    def _dial(self, task: Task) -> None:
        if not self._ami.connected:  # lost since the claim
            self._queue.release(task.id)
            return
        try:
            self._ami.send(
                "Originate",
                originate(task, self._channels),
                lambda reply: self._answered(task, reply),
            )
        except BadRequest as error:  # nothing was sent
            self._refused.append((task.id, str(error)))
            return
        self.sent_total += 1
        log.info("dialer: task %s: dialling through trunk %s", task.id, task.request.channel)

    def _answered(self, task: Task, reply: AmiReply | AsteriskError) -> None:
        """On the AMI thread: must not block."""
        if isinstance(reply, DialogError):
            log.warning(
                "dialer: task %s: no answer to Originate (%s); not sent again, its events or the"
                " sweeper will settle it",
                task.id,
                reply,
            )
        elif reply.message == SHUTTING_DOWN and not reply.success:
            self._returned.append(task.id)
        elif not reply.success:
            self._refused.append((task.id, f"Asterisk refused to dial: {reply.message}"))

    def _release_returned(self) -> int:
        count = 0
        while self._returned:
            self._queue.release(self._returned[0])
            log.warning("dialer: task %s: back in the queue: %s", self._returned[0], SHUTTING_DOWN)
            self._returned.popleft()
            count += 1
        return count

    def _settle_refused(self) -> None:
        while self._refused:
            task_id, error = self._refused[0]
            self._queue.settle(task_id, REFUSED, error=error)
            self._refused.popleft()
            self.refused_total += 1
            log.error("dialer: task %s: %s", task_id, error)
