"""gunicorn around the Flask app, in the process that calls serve()."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any, Protocol

from flask import Flask
from gunicorn.app.base import BaseApplication

from backend.errors import ConfigError

BACKLOG = 512
STOP_S = 10  # a request under way may take so long when the server is stopped
STUCK_S = 60  # a worker that gave no sign for so long is replaced


class Ready(Protocol):
    """Told once that requests are answered, and on which port: a multiprocessing Connection."""

    def send(self, obj: Any) -> None: ...


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ``port`` 0: a free one. Raises ConfigError naming the settings."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        listener.close()
        raise ConfigError(
            f"http_host, http_port: cannot listen on {host}:{port}: {error}"
        ) from None
    return listener


def serve(
    build: Callable[[], Flask],
    host: str,
    port: int,
    *,
    threads: int,
    ready: Ready | None = None,
    at_exit: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM, then finish what is under way and leave by SystemExit.

    Must be called in the main thread of a process of its own. ``build`` runs in gunicorn's worker,
    after its fork: connections to PostgreSQL are made there. ``ready`` gets the port when the
    application is built; ``at_exit`` runs in the worker when it ends in order. When this process is
    killed, the worker notices and ends by itself.
    """
    _Server(build, listen(host, port), threads, ready, at_exit).run()


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(
        self,
        build: Callable[[], Flask],
        listener: socket.socket,
        threads: int,
        ready: Ready | None,
        at_exit: Callable[[], None],
    ) -> None:
        self._build = build
        self._port = listener.getsockname()[1]
        self._descriptor = listener.detach()  # gunicorn closes it
        self._threads = threads
        self._ready = ready
        self._at_exit = at_exit
        super().__init__()

    def load_config(self) -> None:
        settings = {
            "bind": f"fd://{self._descriptor}",
            "worker_class": "gthread",
            "workers": 1,
            "threads": self._threads,
            "timeout": STUCK_S,
            "graceful_timeout": STOP_S,
            "keepalive": 75,
            "limit_request_line": 8190,
            "limit_request_fields": 64,
            "accesslog": None,
            "loglevel": "warning",
            "proc_name": "asterisk-dialog web",
            "post_worker_init": self._tell,
            "worker_exit": self._exit,
            "control_socket_disable": True,  # since gunicorn 25; no file in the working folder
        }
        for name, value in settings.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._build()

    def _exit(self, _server: object, _worker: object) -> None:
        self._at_exit()

    def _tell(self, _worker: object) -> None:
        if self._ready is not None:
            with contextlib.suppress(OSError):  # a worker's replacement tells nobody
                self._ready.send(self._port)
