"""The local speech server as a child process, for whoever needs one: supervisor, demo, tests."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence

from backend.errors import SpeechError
from backend.speech.local_server import READY


class LocalSpeechServer:
    """Starts the server and waits until it serves. Raises SpeechError when it does not.

    ``port`` 0: a free one, then in ``address``. ``arguments``: further options of
    ``backend.speech.local_server``. The child dies with the *thread* that made this object: make
    it on a thread that lives as long as the server shall.
    """

    def __init__(
        self, *, port: int = 0, arguments: Sequence[str] = (), start_timeout_s: float = 20.0
    ) -> None:
        command = [sys.executable, "-m", "backend.speech.local_server", "--port", str(port)]
        self._process = subprocess.Popen(  # its errors go to our own standard error
            [*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        try:
            self.port = self._ready(start_timeout_s)
        except BaseException:
            self.stop()
            raise
        self.address = f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()
        self.stop()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End it; after ``timeout_s`` without warning. May be called again."""
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout_s)
        if self._process.stdout:
            self._process.stdout.close()

    def _ready(self, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        output = self._process.stdout
        assert output is not None
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise SpeechError(f"the local speech server is not ready after {timeout_s:g} s")
                part = os.read(output.fileno(), 4096)
                if not part:
                    code = self._process.wait(timeout_s)
                    raise SpeechError(f"the local speech server ended at once, exit code {code}")
                line += part
        text = line.decode().strip()
        if not text.startswith(READY):
            raise SpeechError(f"the local speech server says {text!r}")
        return int(text.removeprefix(READY))
