"""Requests to other systems (1C and the like), as flows make them: allowed hosts only, a deadline
for the whole, a bounded answer. The adapter of ports.HttpDoor.

Each exchange has a thread of its own, so that the deadline holds for name look-up, connecting,
and a server that sends one byte a second alike; the caller's thread waits for it, and closes the
connection when the time is over, which ends the thread.
"""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Mapping
from itertools import count
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from backend.errors import BadRequest, ConfigError, DialogError, HttpFailed
from backend.ports import HttpAnswer, HttpRequest

if TYPE_CHECKING:
    from backend.config import Settings

log = logging.getLogger(__name__)

MAX_AT_ONCE = 200  # exchanges; more is refused at once: calls must not pile up behind a slow server
MAX_REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
JOIN_S = 0.2  # for a thread whose connection was closed; it ends by itself if name look-up hangs


class Outgoing:
    """``hosts``: ``name`` (ports 80 and 443), ``name:port``. ``secrets``: what a request's
    ``secret_headers`` name. ``ca_file``: own root certificates, PEM. Thread-safe."""

    def __init__(
        self,
        hosts: Collection[str] = (),
        secrets: Mapping[str, str] | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._allowed = {place for host in hosts for place in _places(host)}
        self._secrets = dict(secrets or {})
        for name, value in self._secrets.items():
            if not value.isprintable() or not value.isascii():
                raise ConfigError(f"flow_http_secrets: {name}: expected plain ASCII on one line")
        self._free = threading.BoundedSemaphore(MAX_AT_ONCE)
        self._numbers = count(1)
        try:
            self._tls = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"flow_http_ca_file {ca_file}: {error}") from None

    @classmethod
    def of(cls, settings: Settings) -> Outgoing:
        """As the settings say. Raises ConfigError."""
        secrets = settings.flow_http_secrets.items()
        return cls(
            settings.flow_http_hosts,
            {name: value.get_secret_value() for name, value in secrets},
            settings.flow_http_ca_file,
        )

    def send(self, request: HttpRequest) -> HttpAnswer:
        """See ports.HttpDoor. A redirect is followed only where it leads to the same host and port
        and the method stays what it is."""
        ends = monotonic() + request.timeout_s
        url, seen = request.url, 0
        while True:
            where = self._checked(url)
            answer, leads_to = self._exchange(request, where, ends)
            if leads_to is None:
                return answer
            seen += 1
            further = urljoin(url, leads_to)
            if _origin(urlsplit(further)) != _origin(where):
                raise HttpFailed(f"{_shown(where)} leads to another host: not followed")
            if seen > MAX_REDIRECTS:
                raise HttpFailed(f"{_shown(where)} leads on more than {MAX_REDIRECTS} times")
            url = further

    def _checked(self, url: str) -> SplitResult:
        try:
            where = urlsplit(url)
            origin = _origin(where)
        except ValueError:
            raise BadRequest("url", "no address of a web server") from None
        if where.scheme not in PORTS or not where.hostname or where.username is not None:
            raise BadRequest("url", "expected http:// or https:// and a host")
        if origin[1:] not in self._allowed:
            host = f"{origin[1]}:{origin[2]}"
            raise BadRequest("url", f"host {host} is not in the setting flow_http_hosts")
        return where

    def _exchange(
        self, request: HttpRequest, where: SplitResult, ends: float
    ) -> tuple[HttpAnswer, str | None]:
        headers = {**request.headers, **self._secret(request.secret_headers)}
        if not self._free.acquire(blocking=False):
            raise HttpFailed(f"{_shown(where)}: {MAX_AT_ONCE} requests are under way already")
        try:
            exchange = _Exchange(request, where, headers, self._tls, ends)
        except BaseException:
            self._free.release()
            raise
        return exchange.run(f"http-{next(self._numbers)}", self._free.release)

    def _secret(self, names: Mapping[str, str]) -> dict[str, str]:
        missing = next((name for name in names.values() if name not in self._secrets), None)
        if missing is not None:
            raise BadRequest(
                "secret_headers", f"{missing!r} is not in the setting flow_http_secrets"
            )
        return {header: self._secrets[name] for header, name in names.items()}


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        request: HttpRequest,
        where: SplitResult,
        headers: Mapping[str, str],
        tls: ssl.SSLContext,
        ends: float,
    ) -> None:
        self._request = request
        self._where = where
        self._headers = headers
        self._ends = ends
        _, host, port = _origin(where)
        left_s = max(ends - monotonic(), 0.001)
        if where.scheme == "https":
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=left_s, context=tls
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=left_s)
        self._done = threading.Event()
        self._result: tuple[HttpAnswer, str | None] | None = None
        self._error: Exception | None = None

    def run(self, name: str, on_end: Callable[[], None]) -> tuple[HttpAnswer, str | None]:
        """Raises HttpFailed. ``on_end``: called when the thread is over."""
        thread = threading.Thread(target=self._work, args=(on_end,), name=name, daemon=True)
        thread.start()
        in_time = self._done.wait(max(self._ends - monotonic(), 0))
        if not in_time:
            self._cut()
        thread.join(JOIN_S)
        if in_time and self._result is not None:
            return self._result
        what = f"{self._request.method} {_shown(self._where)}"
        if not in_time or isinstance(self._error, TimeoutError):
            raise HttpFailed(
                f"{what}: no answer within {self._request.timeout_s:g} s", timeout=True
            )
        if isinstance(self._error, DialogError):
            raise self._error
        raise HttpFailed(f"{what}: {type(self._error).__name__}: {self._error}")

    def _work(self, on_end: Callable[[], None]) -> None:
        try:
            self._result = self._talk()
        except Exception as error:  # noqa: BLE001  a thread's beginning: told to who waits
            self._error = error
        finally:
            self._connection.close()
            self._done.set()
            on_end()

    def _talk(self) -> tuple[HttpAnswer, str | None]:
        path = self._where.path or "/"
        target = f"{path}?{self._where.query}" if self._where.query else path
        self._connection.request(
            self._request.method, target, self._request.body, dict(self._headers)
        )
        with self._connection.getresponse() as response:
            body = response.read(self._request.max_bytes + 1)
            what = f"{self._request.method} {_shown(self._where)}"
            if len(body) > self._request.max_bytes:
                raise HttpFailed(
                    f"{what}: the answer has more than {self._request.max_bytes} bytes"
                )
            if response.length:  # what was announced, and did not come
                raise HttpFailed(f"{what}: the answer breaks off")
            leads_to = response.headers.get("Location") if self._follows(response.status) else None
            return HttpAnswer(response.status, body), leads_to

    def _follows(self, status: int) -> bool:
        if self._request.method == "GET":
            return status in (301, 302, 303, 307, 308)
        return status in (307, 308)

    def _cut(self) -> None:
        """The thread's reading or writing ends at once."""
        connected = self._connection.sock
        if connected is not None:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                log.debug("%s: %s", _shown(self._where), error)


def _places(host: str) -> list[tuple[str, int]]:
    """(name, port) of a host of the settings. Raises ConfigError."""
    try:
        where = urlsplit(f"//{host}")
        port = where.port
    except ValueError:
        where, port = urlsplit("//"), None
    if not where.hostname or where.path or where.query or where.username is not None:
        raise ConfigError(f"flow_http_hosts: {host!r}: expected name or name:port")
    return [(where.hostname, one) for one in ([port] if port else PORTS.values())]


def _origin(where: SplitResult) -> tuple[str, str, int]:
    return where.scheme, where.hostname or "", where.port or PORTS.get(where.scheme, 0)


def _shown(where: SplitResult) -> str:
    """Without the query and the path's end: there may be somebody's number in it."""
    return f"{where.scheme}://{where.netloc}"
