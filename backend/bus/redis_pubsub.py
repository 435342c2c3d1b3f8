"""Redis Pub/Sub: PUBLISH to one channel. Whoever is subscribed gets it; nobody need be."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from backend.errors import BusUnavailable, ConfigError
from backend.ports import SEND_S, Letter, Sent


class RedisCarrier:
    """ports.BusCarrier. Raises ConfigError for an address that is none, or without the package."""

    limit_bytes = 512 * 1024  # Redis takes far more; subscribers' buffers are small

    def __init__(self, url: str, topic: str) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise ConfigError(
                "bus=redis needs the package redis: pip install 'asterisk-dialog[bus]'"
            ) from None
        self._topic = topic
        self._errors = redis.exceptions
        parts = urlsplit(url)
        try:
            place = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
            self._redis = redis.Redis.from_url(
                url,
                socket_timeout=SEND_S,
                socket_connect_timeout=SEND_S,
                retry=Retry(NoBackoff(), 0),  # the publisher tries again, and counts
            )
            pool = self._redis.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # connects nowhere: refuses options
        except (ValueError, TypeError, redis.exceptions.RedisError):
            raise ConfigError(
                "bus_url: expected redis://user:password@host:6379/0, rediss://… for TLS, or "
                "unix:///path"
            ) from None
        self.where = f"redis {place} channel {topic}"

    def connect(self) -> None:
        try:
            self._redis.ping()
        except (self._errors.RedisError, OSError) as error:
            raise BusUnavailable(self._words(error)) from None

    def send(self, letters: Sequence[Letter]) -> Sent:
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for letter in letters:
                    pipe.publish(self._topic, letter.payload)
                replies = pipe.execute(raise_on_error=False)
        except (self._errors.RedisError, OSError) as error:
            return Sent(left=letters, why=self._words(error))
        left = [
            letter
            for letter, reply in zip(letters, replies, strict=True)
            if isinstance(reply, Exception)
        ]
        why = next((self._words(r) for r in replies if isinstance(r, Exception)), "")
        return Sent(left=left, why=why)

    def close(self) -> None:
        with suppress(self._errors.RedisError, OSError):
            self._redis.close()

    def _words(self, error: Exception) -> str:
        """What an admin can act on; redis-py's texts hold no password."""
        text = str(error) or type(error).__name__
        if isinstance(error, self._errors.NoPermissionError):
            return (
                f"the user of bus_url may not do that: {text} (its ACL needs +ping, +publish and "
                f"&{self._topic})"
            )
        refused = isinstance(error, self._errors.AuthenticationError)
        if refused or text.startswith(("NOAUTH", "WRONGPASS")):
            return f"Redis refuses the user or password of bus_url: {text}"
        return text
