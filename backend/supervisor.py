"""Child processes: started, watched, restarted, drained. Knows nothing of what they do.

Children die with the supervisor, also when it is killed: each asks the kernel for SIGKILL at its
parent's death (prctl PR_SET_PDEATHSIG), which holds for the thread that started it, so children
are started from the main thread only.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import monotonic
from typing import Any

from backend.errors import DialogError

log = logging.getLogger(__name__)

READY_S = 60.0
CHECK_S = 1.0
RESTART_S = (0.5, 30.0)  # first pause, longest
STEADY_S = 60.0  # alive this long: the next restart is a first one again
_PR_SET_PDEATHSIG = 1

Ready = Callable[[Mapping[str, Any]], None]
Target = Callable[[threading.Event, Ready, Any], None]


class ChildFailed(DialogError):
    """A child did not come up; the message is its own reason."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A child: ``target(stop, ready, argument)`` runs in it until ``stop`` is set.

    It calls ``ready(info)`` once it serves. ``drain_s``: how long it may take to end.
    """

    name: str
    target: Target
    argument: Any
    drain_s: float = 10.0


@dataclass
class _Child:
    spec: Spec
    process: SpawnProcess
    pipe: Connection
    info: Mapping[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=monotonic)


class Supervisor:
    """``start`` children in order, ``watch`` until a signal, ``stop`` them in reverse order.

    Used from the main thread only.
    """

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._children: list[_Child] = []
        self._failures: dict[str, int] = {}
        self._due: list[tuple[float, Spec]] = []  # restarts
        self._wake, self._wake_write = os.pipe()
        self._stopping = False

    def start(self, spec: Spec) -> Mapping[str, Any]:
        """Start a child and wait until it serves; what it gave to ``ready``.

        Raises ChildFailed with the child's reason.
        """
        child = self._launch(spec)
        if not child.pipe.poll(READY_S):
            self._end(child)
            raise ChildFailed(f"{spec.name} did not become ready within {READY_S:g} s")
        try:
            message = child.pipe.recv()
        except EOFError:
            message = {"error": f"ended with exit code {self._exit_code(child)}"}
        if "error" in message:
            self._end(child)
            raise ChildFailed(f"{spec.name}: {message['error']}")
        child.info = message["ready"]
        self._children.append(child)
        return child.info

    def watch(self, check: Callable[[], None]) -> None:
        """Restart what dies, until SIGTERM or SIGINT; ``check`` is called once a second."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._stopping:
            due = min((at for at, _ in self._due), default=None)
            timeout_s = CHECK_S if due is None else min(max(due - monotonic(), 0), CHECK_S)
            sentinels: list[Any] = [child.process.sentinel for child in self._children]
            fired = wait([*sentinels, self._wake], timeout_s)
            for child in [c for c in self._children if c.process.sentinel in fired]:
                self._died(child)
            self._restart_due()
            self._check(check)

    @staticmethod
    def _check(check: Callable[[], None]) -> None:
        try:
            check()
        except (DialogError, OSError) as error:
            log.error("%s; tried again in %g s", error, CHECK_S)

    def stop(self) -> None:
        """SIGTERM to each child in reverse order of start, its drain time, then SIGKILL."""
        self._stopping = True
        while self._children:
            self._end(self._children.pop())

    def pids(self) -> dict[str, int]:
        return {child.spec.name: child.process.pid or 0 for child in self._children}

    def _on_signal(self, number: int, _frame: object) -> None:
        log.info("%s: the backend stops", signal.Signals(number).name)
        self._stopping = True
        os.write(self._wake_write, b"x")

    def _launch(self, spec: Spec) -> _Child:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_child_main, args=(spec, theirs, os.getpid(), logging.root.level), name=spec.name
        )
        process.start()
        theirs.close()
        return _Child(spec, process, ours)

    def _died(self, child: _Child) -> None:
        self._children.remove(child)
        name = child.spec.name
        steady = monotonic() - child.started > STEADY_S
        failures = self._failures[name] = 1 if steady else self._failures.get(name, 0) + 1
        pause_s = min(RESTART_S[0] * 2 ** (failures - 1), RESTART_S[1])
        code = self._exit_code(child)
        log.error("%s has died (exit code %s): started again in %g s", name, code, pause_s)
        child.pipe.close()
        self._due.append((monotonic() + pause_s, child.spec))

    def _restart_due(self) -> None:
        now = monotonic()
        due = [spec for at, spec in self._due if at <= now]
        self._due = [(at, spec) for at, spec in self._due if at > now]
        for spec in due:
            try:
                self.start(spec)
            except ChildFailed as error:
                failures = self._failures[spec.name] = self._failures.get(spec.name, 0) + 1
                pause_s = min(RESTART_S[0] * 2 ** (failures - 1), RESTART_S[1])
                log.error("%s: tried again in %g s", error, pause_s)
                self._due.append((monotonic() + pause_s, spec))
            else:
                log.warning("%s runs again", spec.name)

    def _end(self, child: _Child) -> None:
        if child.process.is_alive():
            child.process.terminate()
            child.process.join(child.spec.drain_s)
        if child.process.is_alive():
            log.error("%s did not end in %g s: killed", child.spec.name, child.spec.drain_s)
            child.process.kill()
            child.process.join(5)
        child.pipe.close()

    @staticmethod
    def _exit_code(child: _Child) -> int | None:
        child.process.join(5)
        return child.process.exitcode


def _child_main(spec: Spec, pipe: Connection, parent: int, log_level: int) -> None:
    _die_with(parent)
    set_up_logging(spec.name, log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Ctrl-C reaches the whole group: only the supervisor's SIGTERM counts.
        handler: Any = signal.SIG_IGN if number == signal.SIGINT else lambda *_: stop.set()
        signal.signal(number, handler)
    try:
        spec.target(stop, lambda info: pipe.send({"ready": dict(info)}), spec.argument)
    except (DialogError, OSError) as error:
        _tell(pipe, {"error": str(error)})
        log.error("%s ends: %s", spec.name, error)
        sys.exit(1)
    except Exception as error:
        _tell(pipe, {"error": f"{type(error).__name__}: {error}"})
        log.exception("%s ends: a defect in this program", spec.name)
        sys.exit(1)


def _tell(pipe: Connection, message: Mapping[str, Any]) -> None:
    try:
        pipe.send(message)
    except OSError:
        log.debug("the supervisor does not listen any more")


def _die_with(parent: int) -> None:
    """Ask for SIGKILL at the parent's death; leave at once if it is dead already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(1)


def set_up_logging(process: str, level: int | str) -> None:
    """One line an event on stderr: time, level, process, thread, what."""
    logging.basicConfig(
        level=level,
        format=f"%(asctime)s %(levelname)-7s {process} %(threadName)s %(name)s: %(message)s",
        force=True,
    )
    logging.Formatter.default_msec_format = "%s.%03d"
    for noisy in ("alembic", "sqlalchemy", "panoramisk", "asyncio", "gunicorn"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
