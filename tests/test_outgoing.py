"""Requests to other systems, against real servers on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from backend import outgoing
from backend.errors import BadRequest, ConfigError, HttpFailed
from backend.outgoing import Outgoing
from backend.ports import HttpRequest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Takes connections one by one and does with each what ``does`` says."""

    def __init__(self, does: Callable[[socket.socket, Server], None]) -> None:
        self._does = does
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.stop = threading.Event()
        self.requests: list[bytes] = []
        self.threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, name="server")
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _accept(self) -> None:
        while not self.stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="connection")
            thread.start()
            self.threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(30)
            data = b""
            while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            length = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
            while length and len(body) < int(length[0].split(b":")[1]):
                body += connection.recv(65536)
            self.requests.append(head + b"\r\n\r\n" + body)
            try:
                self._does(connection, self)
            except OSError:
                return  # the other side has closed it

    def close(self) -> None:
        self.stop.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in (self._thread, *self.threads):
            thread.join(10)
            assert not thread.is_alive()


@contextmanager
def serving(does: Callable[[socket.socket, Server], None] | bytes) -> Iterator[Server]:
    def answer(connection: socket.socket, _: Server) -> None:
        assert isinstance(does, bytes)
        connection.sendall(does)

    server = Server(answer if isinstance(does, bytes) else does)
    try:
        yield server
    finally:
        server.close()


def get(server: Server, path: str = "/x", **more: object) -> HttpRequest:
    return replace(HttpRequest("GET", f"http://{server.host}{path}"), **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("http-")]
    for thread in mine:
        thread.join(5)
        assert not thread.is_alive()


def test_a_request_and_its_answer() -> None:
    with serving(OK) as server:
        out = Outgoing([server.host], {"key": "Bearer s"})
        request = HttpRequest(
            "POST",
            f"http://{server.host}/a/b%20c?d=e",
            {"X-Call": "1"},
            {"Authorization": "key"},
            b'{"a": 1}',
        )
        answer = out.send(request)
        assert (answer.status, answer.body) == (200, b"{}")
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /a/b%20c?d=e HTTP/1.1\r\n")
        assert b"\r\nX-Call: 1" in head
        assert b"\r\nAuthorization: Bearer s" in head
        assert body == b'{"a": 1}'


def test_a_status_is_an_answer() -> None:
    with serving(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n") as server:
        assert Outgoing([server.host]).send(get(server)).status == 503


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://other.example.com/", "host other.example.com:80 is not in the setting flow_http"),
        ("http://127.0.0.1:1/", "host 127.0.0.1:1 is not in"),
        ("https://1c:8080@evil.example.com/", "expected http:// or https:// and a host"),
        ("file:///etc/passwd", "expected http:// or https:// and a host"),
        ("http://", "expected http:// or https:// and a host"),
        ("http://[/", "no address of a web server"),
    ],
)
def test_hosts_that_are_not_allowed(url: str, why: str) -> None:
    with pytest.raises(BadRequest, match="url: ") as raised:
        Outgoing(["1c.example.com", "1c:8080"]).send(HttpRequest("GET", url))
    assert why in str(raised.value)


def test_none_is_allowed_by_default() -> None:
    with pytest.raises(BadRequest, match="flow_http_hosts"):
        Outgoing().send(HttpRequest("GET", "http://127.0.0.1/"))


def test_a_secret_that_is_not_set() -> None:
    with serving(OK) as server, pytest.raises(BadRequest, match="'key' is not in the setting"):
        Outgoing([server.host]).send(get(server, secret_headers={"Authorization": "key"}))


@pytest.mark.parametrize("hosts", [["1c/path"], ["user@1c"], ["1c:port"], [""], ["http://1c"]])
def test_wrong_settings(hosts: list[str]) -> None:
    with pytest.raises(ConfigError, match="flow_http_hosts"):
        Outgoing(hosts)


def test_a_secret_is_one_line_and_the_error_does_not_tell_it() -> None:
    with pytest.raises(ConfigError, match="flow_http_secrets: key") as raised:
        Outgoing([], {"key": "s3cr3t\r\nX-Evil: 1"})
    assert "s3cr3t" not in str(raised.value)


def silent(_: socket.socket, server: Server) -> None:
    server.stop.wait(20)


def drip(connection: socket.socket, server: Server) -> None:
    """A byte now and then: no single wait is too long, all of it is."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not server.stop.wait(0.05):
        connection.sendall(b"x")


@pytest.mark.parametrize("does", [silent, drip])
def test_the_deadline_is_for_all_of_it(does: Callable[[socket.socket, Server], None]) -> None:
    with serving(does) as server:
        began = time.monotonic()
        with pytest.raises(HttpFailed, match=r"no answer within 0\.4 s") as raised:
            Outgoing([server.host]).send(get(server, timeout_s=0.4))
        assert time.monotonic() - began < 10
        assert raised.value.timeout


def test_an_answer_that_is_too_long() -> None:
    long = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000
    with serving(long) as server:
        with pytest.raises(HttpFailed, match="more than 1000 bytes"):
            Outgoing([server.host]).send(get(server, max_bytes=1000))
        assert len(Outgoing([server.host]).send(get(server, max_bytes=5000)).body) == 5000


BROKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}"


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 twohundred\r\n\r\n", b"SSH-2.0\r\n\r\n", BROKEN, CHUNKED]
)
def test_what_is_no_answer(answer: bytes) -> None:
    with serving(answer) as server, pytest.raises(HttpFailed) as raised:
        Outgoing([server.host]).send(get(server))
    assert not raised.value.timeout


def test_nobody_listens() -> None:
    with socket.socket() as held:  # bound, and nobody accepts
        held.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(HttpFailed, match="ConnectionRefusedError"):
            Outgoing([host]).send(HttpRequest("GET", f"http://{host}/"))


def test_redirects_stay_at_home() -> None:
    def lead(connection: socket.socket, server: Server) -> None:
        where = {b"GET /a": "/b", b"GET /b": f"http://{server.host}/c", b"GET /o": "/o"}
        where |= {b"GET /e": "http://evil.example.com/", b"POST /": "/c"}
        found = next((to for at, to in where.items() if server.requests[-1].startswith(at)), None)
        answer = f"HTTP/1.1 302 Found\r\nLocation: {found}\r\nContent-Length: 0\r\n\r\n".encode()
        connection.sendall(OK if found is None else answer)

    with serving(lead) as server:
        out = Outgoing([server.host, "evil.example.com"], {"key": "s"})
        headers = {"Authorization": "key"}
        assert out.send(get(server, "/a", secret_headers=headers)).status == 200
        assert len(server.requests) == 3
        with pytest.raises(HttpFailed, match="leads to another host: not followed"):
            out.send(get(server, "/e", secret_headers=headers))
        with pytest.raises(HttpFailed, match="leads on more than 3 times"):
            out.send(get(server, "/o"))
        post = out.send(HttpRequest("POST", f"http://{server.host}/"))
        assert post.status == 302, "a POST is not made a GET"


def test_too_many_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_AT_ONCE", 2)
    with serving(silent) as server:
        out = Outgoing([server.host])
        errors: list[str] = []

        def ask() -> None:
            with pytest.raises(HttpFailed) as raised:
                out.send(get(server, timeout_s=20))
            errors.append(str(raised.value))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        while len(server.requests) < 2:
            time.sleep(0.01)
        with pytest.raises(HttpFailed, match="2 requests are under way already"):
            out.send(get(server))
        server.stop.set()  # both are answered with nothing
        for thread in threads:
            thread.join(10)
        assert len(errors) == 2
        with pytest.raises(HttpFailed) as raised:
            out.send(get(server))
        assert "under way" not in str(raised.value), "the places are free again"
