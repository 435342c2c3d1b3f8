"""Asterisk's side of an AGI connection, scripted, over a real socket pair."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping

ENVIRONMENT = {
    "agi_network": "yes",
    "agi_request": "agi://127.0.0.1:4573/article",
    "agi_channel": "PJSIP/trunk-00000001",
    "agi_uniqueid": "dialog-1",
    "agi_callerid": "100",
    "agi_extension": "s",
}


def environment(values: Mapping[str, str] = ENVIRONMENT) -> bytes:
    return "".join(f"{key}: {value}\n" for key, value in values.items()).encode() + b"\n"


class AgiPeer:
    """Sends the environment, then answers each command line with ``answer(line)``; None: nothing.

    ``commands`` holds the lines that came.
    """

    def __init__(
        self, answer: Callable[[str], bytes | None], env: Mapping[str, str] = ENVIRONMENT
    ) -> None:
        self.mine, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.commands: list[str] = []
        self._answer = answer
        self.mine.sendall(environment(env))
        self._thread = threading.Thread(target=self._serve, name="fake-asterisk", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self.mine.makefile("rb") as lines:
            for line in lines:
                text = line.decode().rstrip("\n")
                self.commands.append(text)
                reply = self._answer(text)
                if reply:
                    self.mine.sendall(reply)

    def send(self, data: bytes) -> None:
        self.mine.sendall(data)

    def close(self) -> None:
        self.mine.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self.mine.close()
