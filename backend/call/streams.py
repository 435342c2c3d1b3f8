"""The frame sink as calls see it."""

from __future__ import annotations

from typing import Protocol

from backend.call.streaming import Link
from backend.protocol import fork


class StreamListener(Protocol):
    """Who a stream belongs to: ws_frames.Listener. Called in the audio loop, must not block."""

    def on_open(self, link: Link) -> None: ...
    def on_audio(self, pcm: bytes) -> None: ...
    def on_message(self, message: fork.FromModule) -> None: ...
    def on_tick(self) -> None: ...
    def on_close(self, reason: str) -> None: ...


class Streams(Protocol):
    """ws_frames.FrameSink. ``key``: a channel's name, or what stands behind ``/stream/`` in the
    fork's URL."""

    def claim(self, key: str, listener: StreamListener) -> None: ...
    def release(self, key: str) -> None: ...


def keyed_url(fork_url: str, key: str) -> str:
    """The sink's address for a fork with a key of its own."""
    return f"{fork_url.rstrip('/')}/stream/{key}"
