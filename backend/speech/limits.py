"""SpeechKit's limits, as the local server holds its clients to them."""

from __future__ import annotations

import hmac
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc


class Refused(Exception):
    """The request is answered with this status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Limits:
    """yandex.cloud/docs/speechkit/concepts/limits."""

    session_s: float = 300
    session_bytes: int = 10 * 1024 * 1024
    idle_s: float = 5
    requests_per_s: int = 40
    synthesis_chars: int = 250


class Gatekeeper:
    """Checks the key and the rate of new requests. One per service; not thread-safe."""

    def __init__(
        self,
        requests_per_s: int,
        api_key: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = requests_per_s
        self._expected = f"Api-Key {api_key}".encode() if api_key else None
        self._clock = clock
        self._recent: deque[float] = deque()

    def admit(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Raises Refused: UNAUTHENTICATED or RESOURCE_EXHAUSTED."""
        if self._expected is not None:
            headers = dict(metadata or ())
            given = headers.get("authorization", "")
            given = given.encode() if isinstance(given, str) else given
            if not hmac.compare_digest(given, self._expected):
                raise Refused(grpc.StatusCode.UNAUTHENTICATED, "unknown api key")
        now = self._clock()
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        if len(self._recent) >= self._rate:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {self._rate} requests a second"
            )
        self._recent.append(now)
