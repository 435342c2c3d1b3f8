"""A WebSocket server that takes whatever comes and looks at none of it, in a process of its own.

Prints its port. For each line of its input it prints the bytes received so far; it ends with it.
Each message wakes it, but it takes no core away from the sender (SCHED_BATCH): it stands for a
server elsewhere, and what is measured is Asterisk.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import select
import socket
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Drain:
    """All of it on one thread, one recv() for each time a socket has something."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(sys.stdin, select.EPOLLIN)
        self._sockets: dict[int, socket.socket] = {}
        self._buffer = bytearray(1 << 16)
        self._bytes = 0

    def run(self) -> None:
        """Serve until the end of the input."""
        print(self._listener.getsockname()[1], flush=True)
        stdin = sys.stdin.fileno()
        while True:
            for number, _ in self._poll.poll():
                if (one := self._sockets.get(number)) is not None:
                    self._receive(one)
                elif number != stdin:
                    self._accept()
                elif sys.stdin.readline():
                    print(self._bytes, flush=True)
                else:
                    return

    def _accept(self) -> None:
        one, _ = self._listener.accept()
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += one.recv(4096)
        key = re.search(rb"(?im)^Sec-WebSocket-Key: *(\S+)", request)
        assert key, request
        accept = base64.b64encode(hashlib.sha1(key[1] + GUID, usedforsecurity=False).digest())
        one.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: echo\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._sockets[one.fileno()] = one
        self._poll.register(one, select.EPOLLIN)

    def _receive(self, one: socket.socket) -> None:
        try:
            count = one.recv_into(self._buffer)
        except OSError:
            count = 0
        self._bytes += count
        if not count:
            del self._sockets[one.fileno()]
            one.close()


if __name__ == "__main__":
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    Drain().run()
