"""A fork's server in a process of its own, to be stopped by a signal. It blocks the keys for 2 s.

Prints its port, then the `guard` and `digit` messages that it gets.
"""

from __future__ import annotations

import json
import sys

from websockets.sync.server import ServerConnection, serve

LIMIT_MS = 2000


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def talk(connection: ServerConnection) -> None:
    ask = {"type": "guard", "name": "g", "mode": "block", "limit_ms": LIMIT_MS}
    connection.send(json.dumps(ask))
    for message in connection:
        if isinstance(message, str) and json.loads(message)["type"] in ("guard", "digit"):
            tell(message)


if __name__ == "__main__":
    with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        tell(str(server.socket.getsockname()[1]))
        server.serve_forever()
