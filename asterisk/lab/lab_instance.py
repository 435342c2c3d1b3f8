"""One Asterisk of the lab: a process in a private view of the root folder."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lab_config import LabError

ENTER = Path(__file__).resolve().parent / "enter.sh"
POLL_S = 0.01
STOP_S = 5.0
_TICKS_S = os.sysconf("SC_CLK_TCK")

T = TypeVar("T")


def wait_until(
    what: str, probe: Callable[[], T | None], deadline: float, poll_s: float = POLL_S
) -> T:
    """Ask PROBE until it has an answer. Raises LabError at DEADLINE (of `time.monotonic`)."""
    while (found := probe()) is None:
        if time.monotonic() > deadline:
            raise LabError(f"waited in vain for {what}")
        time.sleep(poll_s)
    return found


@dataclass
class Instance:
    """A running (or stopped) Asterisk; made by `Lab`, which alone starts it.

    `home` holds all that is its own: etc, log, run, spool, lib. `pid` is Asterisk's, 0 when
    stopped.
    """

    name: str
    home: Path
    sip_port: int
    ami_port: int
    ami_user: str
    ami_secret: str = field(repr=False)
    observer_secret: str = field(repr=False)
    observer_user: str = "observer"
    """A login with every right, for tests only; `ami_user` is what the backend gets."""
    pid: int = 0
    born: int = 0
    """Start time of `pid` in clock ticks: another process with its number is not taken for it."""
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def spawn(
        self,
        root: Path,
        binds: Sequence[Path],
        locks: Sequence[int],
        detached: bool,
        env: Mapping[str, str],
    ) -> None:
        """Start Asterisk, without waiting. Unless detached, it dies with the calling thread.

        env  variables for Asterisk alone, besides this process's own
        """
        stage = self.home / "stage"
        stage.mkdir(exist_ok=True)
        alone = ["unshare", "--mount", "--propagation", "private"]
        tied = [] if detached else ["setpriv", "--pdeathsig", "KILL"]
        owner = "0" if detached else str(os.getpid())
        view = [str(ENTER), owner, str(root), str(stage), str(self.home / "run")]
        given = [f"{name}={value}" for name, value in env.items()]
        asterisk = ["/usr/bin/env", *given] if env else []
        asterisk += ["/usr/sbin/asterisk", "-f", "-C", str(self.home / "etc/asterisk.conf")]
        with (self.home / "log" / "console").open("ab") as console:
            self._child = subprocess.Popen(
                [*tied, *alone, *view, *map(str, binds), "--", *asterisk],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=locks,
                start_new_session=True,
            )
        self.pid, self.born = self._child.pid, born(self._child.pid)

    def wait_booted(self, deadline: float) -> None:
        """Wait until Asterisk says that it is fully booted. Raises LabError, with the log's end."""

        def booted() -> bool | None:
            if not self.is_alive():
                raise LabError(f"{self.name} ended while it started")
            with contextlib.suppress(OSError):
                return "fully booted" in self.cli("core waitfullybooted", deadline) or None
            return None

        try:
            wait_until(f"{self.name} to boot", booted, deadline)
        except LabError as error:
            raise LabError(f"{error}\n{self.log_tail()}") from None

    def cli(self, command: str, deadline: float | None = None) -> str:
        """What `asterisk -rx COMMAND` prints.

        Talks to Asterisk's control socket itself (main/asterisk.c, ast_remotecontrol): messages to
        it end with NUL; it greets with one line; after `cli quit after` it answers and closes.
        Raises OSError (TimeoutError after 10 s or at DEADLINE).
        """
        end = deadline or time.monotonic() + 10
        folder = os.open(self.home / "run", os.O_PATH | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX) as console:
                console.settimeout(max(0.01, end - time.monotonic()))
                # By descriptor: the whole path may be longer than a socket's address.
                console.connect(f"/proc/self/fd/{folder}/asterisk.ctl")
                greeting = console.recv(4096)
                if not greeting:
                    raise ConnectionResetError(f"{self.name} takes no commands yet")
                console.sendall(b"cli quit after " + command.encode() + b"\0")
                return _read_all(console, end).decode(errors="replace")
        finally:
            os.close(folder)

    def is_alive(self) -> bool:
        """Whether the process runs (a zombie does not)."""
        if self._child is not None and self._child.poll() is not None:
            return False
        return bool(self.pid) and born(self.pid) == self.born

    def threads(self) -> int:
        """How many threads Asterisk has now."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/task").iterdir())

    def fds(self) -> int:
        """How many file descriptors Asterisk has open now."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def cpu_s(self) -> float:
        """CPU time used by Asterisk since its start, user and system."""
        stat = _stat(self.pid)
        return (int(stat[11]) + int(stat[12])) / _TICKS_S

    def channels(self) -> list[str]:
        """The names of all channels that are up."""
        lines = self.cli("core show channels concise").splitlines()
        return [line.split("!", 1)[0] for line in lines if "!" in line]

    def log_tail(self, lines: int = 40) -> str:
        """The end of Asterisk's log, for error messages."""
        text = ""
        for name in ("console", "messages"):
            with contextlib.suppress(OSError):
                text += (self.home / "log" / name).read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def log(self) -> str:
        """All of Asterisk's log: notices, warnings, errors and verbose lines."""
        return (self.home / "log" / "messages").read_text(errors="replace")

    def terminate(self) -> None:
        """Ask Asterisk to stop, without waiting for it."""
        self._signal(signal.SIGTERM)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stop Asterisk, kill it when it does not end in time; returns when the process is gone."""
        self.terminate()
        if not self._gone(timeout_s):
            self.kill()
        self.pid = 0

    def kill(self) -> None:
        """SIGKILL, as a crash of Asterisk; returns when the process is gone."""
        self._signal(signal.SIGKILL)
        if not self._gone(STOP_S):
            raise LabError(f"{self.name} (pid {self.pid}) does not die")
        self.pid = 0

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(self.pid) if self.pid else None
            if process is not None:
                with os.fdopen(process):
                    if self.is_alive():
                        signal.pidfd_send_signal(process, number)

    def _gone(self, timeout_s: float) -> bool:
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout_s)
                return True
            return False
        with contextlib.suppress(LabError):
            wait_until("", lambda: not self.is_alive() or None, time.monotonic() + timeout_s)
        return not self.is_alive()


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from its third field on: [0] state, [11] utime, [12] stime, [19] starttime."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def born(pid: int) -> int:
    """When the process started, in clock ticks since boot; 0 when it is gone."""
    try:
        stat = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if stat[0] in "ZX" else int(stat[19])


def _read_all(console: socket.socket, deadline: float) -> bytes:
    text = b""
    while time.monotonic() < deadline:
        readable, _, _ = select.select([console], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            break
        part = console.recv(65536)
        if not part:
            return text.replace(b"\0", b"")
        text += part
    raise TimeoutError("Asterisk's console did not answer in time")
