"""backend.web_server: gunicorn in a process of its own."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from flask import Flask

from backend.errors import ConfigError
from backend.web_server import listen, serve


def build() -> Flask:
    app = Flask("test", static_folder=None)

    @app.get("/pid")
    def pid() -> str:
        return f"{os.getpid()} {os.getppid()}"

    @app.get("/slow")
    def slow() -> str:
        time.sleep(0.5)
        return "done"

    return app


def run(ready: Connection) -> None:
    def tell() -> None:
        ready.send("over")

    serve(build, "127.0.0.1", 0, threads=4, ready=ready, at_exit=tell)


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def server() -> Iterator[tuple[BaseProcess, int]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(theirs,), name="web")
    process.start()
    theirs.close()
    try:
        assert ours.poll(20)
        yield process, ours.recv()
    finally:
        process.kill()
        process.join(10)
        process.close()
        ours.close()


def gone(pid: int) -> bool:
    with suppress(OSError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


def test_it_tells_its_port_and_finishes_what_is_under_way(
    server: tuple[BaseProcess, int],
) -> None:
    process, port = server
    with socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert get(port, "/pid")[0] == 200
        process.terminate()
        assert b"done" in slow.makefile("rb").read()
    process.join(10)
    assert process.exitcode == 0


def test_the_worker_does_not_outlive_a_kill(server: tuple[BaseProcess, int]) -> None:
    process, port = server
    worker, parent = (int(word) for word in get(port, "/pid")[1].split())
    assert parent == process.pid != worker
    os.kill(parent, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while not gone(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(worker)


def test_a_taken_port_is_told_by_its_setting() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=r"http_port.*in use"):
            listen("127.0.0.1", port)


def test_the_worker_closes_its_rooms_when_it_is_stopped() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(theirs,), name="web")
    process.start()
    theirs.close()
    try:
        assert ours.poll(20)
        ours.recv()
        process.terminate()
        assert ours.poll(20)
        assert ours.recv() == "over"
    finally:
        process.kill()
        process.join(10)
        process.close()
        ours.close()
