"""A real Redis of the test's own, on a loopback port; no service of the machine.

Debian's redis-tools is enough: its redis-check-rdb is the server's program under another name,
and which of the two it is goes by the name that it is called by (redis: server.c, main).
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

PASSWORD = "s3cret-of-redis"
PORTS = (32_100, 32_700)  # below the kernel's ephemeral ports: free again after a kill


def program() -> str:
    found = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    assert found, "apt install redis-tools (scripts/packages.sh)"
    return found


def free_port() -> int:
    for _ in range(50):
        port = random.randrange(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


class RedisServer:
    """``with RedisServer(folder) as server``. ``lines``: more of its configuration."""

    def __init__(self, folder: Path, *lines: str, tls: bool = False) -> None:
        self.port = free_port()
        self._config = folder / "redis.conf"
        self._log = folder / "redis.log"
        own = f"tls-port {self.port}\nport 0" if tls else f"port {self.port}"
        self._config.write_text(
            f"bind 127.0.0.1\n{own}\ndir {folder}\nlogfile {self._log}\nsave ''\n"
            f"daemonize no\nrequirepass {PASSWORD}\n" + "\n".join(lines) + "\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, again after kill() too, and wait until it accepts connections."""
        self._process = subprocess.Popen(
            ["redis-server", str(self._config)],
            executable=program(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                log = self._log.read_text() if self._log.exists() else ""
                assert self._process.poll() is None and time.monotonic() < end, log
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, as the machine's power would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self, on: bool) -> None:
        """It accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=10)

    def listen(self, channel: str) -> Listener:
        return Listener(self, channel)


class Listener:
    """Subscribed when it is made; ``get`` waits for the next message."""

    def __init__(self, server: RedisServer, channel: str) -> None:
        self._client = server.client()
        self._pubsub: Any = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(channel)
        assert self._pubsub.get_message(timeout=10)["type"] == "subscribe"

    def get(self, timeout_s: float = 20) -> bytes | None:
        """None: there is none in time."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            message = self._pubsub.get_message(timeout=left_s)
            if message is not None and message["type"] == "message":
                return bytes(message["data"])
        return None

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()
