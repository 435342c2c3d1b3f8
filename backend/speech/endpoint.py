"""Where SpeechKit (or a server with its API) is, who we are there, and what its errors mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import grpc

from backend.errors import ConfigError

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A service account's API key."""

    secret: str = field(repr=False)

    @property
    def header(self) -> str:
        return f"Api-Key {self.secret}"


@dataclass(frozen=True, slots=True)
class IamToken:
    """An IAM token; lives 12 hours at most."""

    secret: str = field(repr=False)

    @property
    def header(self) -> str:
        return f"Bearer {self.secret}"


Credentials = ApiKey | IamToken

# The codes SpeechKit documents (yandex.cloud/docs/speechkit/concepts/response), and gRPC's own for
# a connection that broke: a new session may succeed.
_RETRYABLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    }
)

_ADVICE = {
    grpc.StatusCode.UNAVAILABLE: "cannot be reached; check {setting}, the network and, for TLS, "
    "speechkit_ca_file and speechkit_insecure",
    grpc.StatusCode.DEADLINE_EXCEEDED: "did not answer in time; check the network to {setting}",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "refused for its quota; wait, or have the quota raised",
    grpc.StatusCode.UNAUTHENTICATED: "does not know our key; check speechkit_api_key or "
    "speechkit_iam_token (a token lives 12 hours)",
    grpc.StatusCode.PERMISSION_DENIED: "denies this account; check its roles (ai.speechkit-stt.user"
    ", ai.speechkit-tts.user) and speechkit_folder_id",
    grpc.StatusCode.INVALID_ARGUMENT: "refused the request; check language, model and voice",
    grpc.StatusCode.UNIMPLEMENTED: "is no SpeechKit v3 service; check {setting}",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One gRPC service. ``setting`` is the setting an admin would have to check."""

    address: str  # host:port
    setting: str
    credentials: Credentials | None = None
    folder_id: str | None = None
    ca_file: Path | None = None
    insecure: bool = False

    def connect(self) -> grpc.Channel:
        """A channel; does not wait for the connection. Raises ConfigError for a bad CA file."""
        options = (
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # A server that was away for a moment is found again within a second.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 5_000),  # in truth: how long connecting may take
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.enable_http_proxy", 0 if self.insecure else 1),
            ("grpc.use_local_subchannel_pool", 1),
        )
        if self.insecure:
            return grpc.insecure_channel(self.address, options)
        return grpc.secure_channel(
            self.address, grpc.ssl_channel_credentials(self._root_certificates()), options
        )

    def metadata(self) -> Metadata:
        """Headers of one request; x-client-request-id is what Yandex's support asks for."""
        headers = [("x-client-request-id", str(uuid4()))]
        if self.credentials:
            headers.append(("authorization", self.credentials.header))
        if self.folder_id:
            headers.append(("x-folder-id", self.folder_id))
        return tuple(headers)

    def explain(self, what: str, code: grpc.StatusCode, details: str | None) -> str:
        """A sentence for an admin: which service where, what to check, its own words. No keys."""
        advice = _ADVICE.get(code, "failed").format(setting=self.setting)
        words = (details or "").strip()
        if self.credentials:
            words = words.replace(self.credentials.secret, "***")
        return (
            f"{what} at {self.address} {advice} [{code.name}{': ' if words else ''}{words[:300]}]"
        )

    def _root_certificates(self) -> bytes | None:
        if self.ca_file is None:
            return None
        try:
            return self.ca_file.read_bytes()
        except OSError as error:
            raise ConfigError(f"speechkit_ca_file {self.ca_file}: {error.strerror}") from None


def retryable(code: grpc.StatusCode) -> bool:
    """Whether the same request may succeed a little later."""
    return code in _RETRYABLE
