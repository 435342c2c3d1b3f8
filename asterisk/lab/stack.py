"""The whole set on one machine: the lab's two Asterisks and this checkout's backend beside them.

    with Stack(folder) as stack:
        task = stack.originate(phone="1000001")
        ended = stack.ended(task["id"])

Used by the demo, the end-to-end tests and the benchmark. Needs root, as the lab does; nothing
outlives it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlencode

from lab import Backend, Lab, LabError
from lab_config import DEFAULT_VERSION
from lab_instance import born, wait_until
from lab_ports import lease

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
STOP_S = 40.0
POLL_S = 0.05
FINAL = ("done", "failed", "unknown")
_PR_SET_PDEATHSIG = 1

Json = dict[str, Any]
T = TypeVar("T")


class Stack:
    """Lab and backend. ``lab`` is the lab; ``info`` is what the backend announced; ``token`` is
    the HTTP client's.

    ``env``: more settings of the backend (DIALOG_…). ``globals``: more dialplan globals.
    ``fork``: "dialplan" starts AudioFork before AGI as the article does, "backend" leaves it to
    the worker. ``asterisk``: the version of both PBXs. ``tapes``: what calls sound like is kept.
    """

    def __init__(
        self,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        globals: Mapping[str, str] | None = None,
        fork: str = "dialplan",
        asterisk: str = DEFAULT_VERSION,
        tapes: bool = True,
    ) -> None:
        self.folder = folder.resolve()
        self.data_dir = self.folder / "backend"
        self.log_path = self.folder / "backend.log"
        self.token = secrets.token_urlsafe(18)
        self.info: Json = {}
        self._born: dict[int, int] = {}
        ports, self._lease = lease()
        base = ports.pbx_sip + 10
        self._agi, self._http, self._ws = base, base + 1, base + 10
        self._env = dict(env or {})
        self._process: subprocess.Popen[str] | None = None
        self.lab = Lab(
            self.folder / "lab",
            backend=Backend(
                agi=f"127.0.0.1:{self._agi}",
                fork_ws=f"ws://127.0.0.1:{self._ws}/" if fork == "dialplan" else "",
                globals=globals or {},
            ),
            asterisk=asterisk,
            tapes=tapes,
        )

    # -- life

    def __enter__(self) -> Stack:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lab.start()
            self.start_backend()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the backend, then the lab. Stopping twice is no error."""
        with contextlib.ExitStack() as rest:
            rest.callback(self._give_back)
            rest.callback(self.lab.stop)
            self.stop_backend()

    def _give_back(self) -> None:
        if self._lease >= 0:
            os.close(self._lease)
            self._lease = -1

    def start_backend(self) -> None:
        """Start ``asterisk-dialog serve`` and wait until it is ready. Raises LabError with the
        end of its log."""
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "backend", "serve"],
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                preexec_fn=_die_with_parent,
                start_new_session=True,
            )
        line = self._ready_line()
        self.info = json.loads(line.removeprefix("ready "))
        self._born = {pid: born(pid) for pid in self.info["pids"].values()}
        self.wait_for("AMI to be connected", lambda: self.health().get("status") == "ok" or None)

    def stop_backend(self) -> None:
        """SIGTERM, and wait for it."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        self.kill_backend()

    def signal(self, number: int) -> int:
        """Send a signal to the supervisor alone; its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(STOP_S)

    def kill_backend(self) -> None:
        """SIGKILL to the supervisor, as a crash would; waits until its children are gone too."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self.wait_for("the backend's children to die", lambda: not self._children() or None)

    def _children(self) -> list[int]:
        """Those of the processes that it told of that still run. A number alone says nothing: the
        kernel gives it to another process, or thread, soon."""
        return [pid for pid, at in self._born.items() if at and born(pid) == at]

    def kill_child(self, name: str) -> None:
        """SIGKILL one of the backend's processes; the supervisor starts it again, under another
        number: it can be killed once."""
        pid = self.info["pids"][name]
        if pid not in self._children():
            raise LabError(f"{name} runs under another number by now")
        os.kill(pid, signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        """What ``asterisk-dialog`` is started with here; for its other commands too."""
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith("DIALOG_")
        }
        settings = {
            "DIALOG_NODE": "lab",
            "DIALOG_DATA_DIR": str(self.data_dir),
            "DIALOG_AMI_PORT": str(self.lab.pbx.ami_port),
            "DIALOG_AMI_USER": self.lab.pbx.ami_user,
            "DIALOG_AMI_SECRET": self.lab.pbx.ami_secret,
            "DIALOG_AGI_PORT": str(self._agi),
            "DIALOG_WS_PORT": str(self._ws),
            "DIALOG_HTTP_PORT": str(self._http),
            "DIALOG_HTTP_TOKENS": f"lab={self.token}",
            "DIALOG_CHANNELS": "default=PJSIP/{phone}@subscriber",
            "DIALOG_CALLER_ID": "74950000000",
            "DIALOG_SOUNDS_DIR": str(self.lab.sounds),
            "DIALOG_RECORDINGS_DIR": str(self.lab.recordings),
            "DIALOG_SPEECH": "local",
            "DIALOG_SPEECH_LANGUAGE": "en-US",
        }
        return {**clean, **settings, **self._env, "PYTHONUNBUFFERED": "1"}

    def _ready_line(self) -> str:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], READY_S)
        line = process.stdout.readline() if ready else ""
        if not line.startswith("ready "):
            raise LabError(f"the backend did not start; its log ends:\n{self.log_tail()}")
        return line

    @property
    def dsn(self) -> str:
        """The backend's PostgreSQL."""
        return str(self.info["database"])

    def log_tail(self, lines: int = 40) -> str:
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # -- HTTP

    @property
    def url(self) -> str:
        return str(self.info["http"])

    def get(self, path: str, **query: str) -> tuple[int, Json]:
        """Status and JSON of a GET."""
        status, body = self._get(path, query)
        return status, json.loads(body)

    def text(self, path: str) -> str:
        """Body of a GET."""
        return self._get(path, {})[1].decode()

    def _get(self, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        tail = f"?{urlencode(query)}" if query else ""
        request = urllib.request.Request(  # noqa: S310  our own server
            f"{self.url}{path}{tail}", headers={"Authorization": f"Bearer {self.token}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def health(self) -> Json:
        return self.get("/health")[1]

    def originate(self, phone: str, **query: str) -> Json:
        """``GET /originate``. Raises LabError unless the task was accepted."""
        status, task = self.get("/originate", phone=phone, **query)
        if status >= 300:
            raise LabError(f"originate {phone}: {status} {task}")
        return task

    def task(self, task_id: str) -> Json:
        return self.get(f"/tasks/{task_id}")[1]

    def ended(self, task_id: str, timeout_s: float = 60) -> Json:
        """The task, once it is final."""

        def final() -> Json | None:
            task = self.task(task_id)
            return task if task.get("state") in FINAL else None

        try:
            return self.wait_for(f"task {task_id} to end", final, timeout_s)
        except LabError as error:
            raise LabError(f"{error}: {self.task(task_id)}\n{self.log_tail()}") from None

    def wait_for(self, what: str, probe: Callable[[], T | None], timeout_s: float = 30) -> T:
        """Ask ``probe`` until it has an answer. Raises LabError."""
        return wait_until(what, probe, time.monotonic() + timeout_s, POLL_S)

    def remove(self) -> None:
        """Delete everything it wrote."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
