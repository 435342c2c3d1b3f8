"""A frame sink alone, in a process of its own: the product's code, a listener that only counts.

Prints its port; takes a channel's name per line; at the end of its input prints what it received.
"""

from __future__ import annotations

import json
import sys

from backend.protocol import fork
from backend.ws_connection import Connection
from backend.ws_frames import FrameSink


class Counter:
    """A listener."""

    def __init__(self) -> None:
        self.messages = 0

    def on_open(self, link: Connection) -> None: ...

    def on_audio(self, pcm: bytes) -> None:
        self.messages += 1

    def on_message(self, message: fork.FromModule) -> None: ...

    def on_tick(self) -> None: ...

    def on_close(self, reason: str) -> None: ...


def main() -> None:
    sink = FrameSink("127.0.0.1", 0)
    sink.start()
    ears: dict[str, Counter] = {}
    print(sink.port, flush=True)
    try:
        for line in sys.stdin:
            ears[line.strip()] = Counter()
            sink.claim(line.strip(), ears[line.strip()])
    finally:
        sink.stop()
    print(json.dumps({channel: ear.messages for channel, ear in ears.items()}), flush=True)


if __name__ == "__main__":
    main()
