"""Settings: from the environment (``DIALOG_…``), then a TOML file, then defaults.

Checked once, at start: a wrong or missing value is a ConfigError that names the setting as the
admin wrote it and says what was expected. The list with explanations is what
``asterisk-dialog settings`` prints.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from backend.errors import ConfigError

ENV_PREFIX = "DIALOG_"
DEFAULT_FILE = "/etc/asterisk-dialog.toml"

# Names (comma separated in the environment, an array in TOML).
Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """All settings. Times in seconds unless the name says ``_ms``."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    # This machine
    node: str = Field(default_factory=socket.gethostname, description="Name of this machine.")
    data_dir: Path = Field(
        default=Path("var"),
        description="Journal, synthesised prompts, embedded PostgreSQL. One backend per folder.",
    )
    scenarios_dir: Path | None = Field(
        default=None, description="Folder of your own scenario files (*.py)."
    )
    workers: int = Field(default=1, ge=1, le=64, description="Voice worker processes.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    # PostgreSQL
    database_url: SecretStr | None = Field(
        default=None,
        description="postgresql://user:password@host/database; empty: an embedded server.",
    )
    events_keep_days: int = Field(
        default=90, ge=1, description="AMI events older than this are deleted."
    )

    steps_keep_days: int = Field(
        default=90,
        ge=1,
        description="Steps of calls (keys, states, nodes of flows) older than this are deleted.",
    )

    # The bus: what other systems are told of calls as it happens
    bus: Literal["postgres", "redis", "kafka", "off"] = Field(
        default="postgres", description="postgres: NOTIFY in the backend's own database."
    )
    bus_url: SecretStr | None = Field(
        default=None,
        description="redis://user:password@host:6379/0 (rediss: TLS), or "
        "kafka://user:password@host:9092,host:9092 (kafkas: TLS).",
    )
    bus_topic: str = Field(
        default="dialog_events",
        pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$",
        description="Channel of NOTIFY and of Redis, topic of Kafka.",
    )
    bus_queue: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Events that may wait in each process while the bus is away.",
    )

    # Asterisk: AMI
    ami_host: str = "127.0.0.1"
    ami_port: int = Field(default=5038, ge=1, le=65535)
    ami_user: str = "asterisk-dialog"
    ami_secret: SecretStr = Field(
        default=SecretStr(""), description="Secret of the manager user (manager.conf)."
    )

    # Asterisk: FastAGI and the fork's WebSocket
    agi_host: str = Field(default="127.0.0.1", description="Address the FastAGI server listens on.")
    agi_port: int = Field(default=4573, ge=0, le=65535)
    agi_allow: Names = Field(
        default=("127.0.0.0/8", "::1/128"),
        description="Networks that may connect to FastAGI and to the frame sink.",
    )
    ws_host: str = Field(default="127.0.0.1", description="Address the frame sink listens on.")
    ws_port: int = Field(
        default=8081,
        ge=0,
        le=65535,
        description="Frame sink of worker 0; worker n listens on this port + n.",
    )
    ws_public_host: str | None = Field(
        default=None,
        description="Address of the frame sink, and of legs, as Asterisk sees it, if another.",
    )
    legs_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="FastAGI port for legs of worker 0; worker n listens on this port + n. 0: free"
        " ones, which Asterisk must be able to reach.",
    )
    max_calls: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Calls at once: this machine dials no more, a worker takes no more.",
    )
    max_call_s: float = Field(
        default=1800, gt=0, description="A call that lasts longer is ended, with the fall-back."
    )
    agi_command_s: float = Field(
        default=30, gt=0, description="Longest wait for a command beyond its own length."
    )

    # Dialling
    channels: Annotated[dict[str, str], NoDecode] = Field(
        default={"default": "PJSIP/{phone}@trunk"},
        description="Trunks a request may name: name=dial string with {phone}, comma separated.",
    )
    contexts: Names = Field(
        default=("dialog-outbound",),
        description="Dialplan contexts a request may name; the first is the default.",
    )
    caller_ids: Names = Field(
        default=(), description="Caller ids a request may name; '*' allows every number."
    )
    caller_id: str | None = Field(default=None, description="Caller id when none is named.")
    variables: Names = Field(
        default=(),
        description="Channel variables a request may set (letters, digits, underscore).",
    )
    dial_timeout_s: float = Field(default=30, ge=1, le=300)
    dial_rate_per_s: float = Field(
        default=20, gt=0, le=1000, description="New calls per second at most."
    )
    dial_pinned_only: bool = Field(
        default=False,
        description="This machine dials tasks of flows that are pinned to it, and no others.",
    )
    tones_country: str = Field(
        default="ru",
        description="Whose ringing, busy and other tones dial_screened listens for.",
    )
    tones_file: Path | None = Field(
        default=None, description="Your own table of tones (a copy of media/tones.toml)."
    )
    announcements_file: Path | None = Field(
        default=None,
        description="Your own list of carriers' announcements (a copy of "
        "media/announcements.toml).",
    )
    answer_initial_silence_ms: int = Field(
        default=4000,
        ge=500,
        le=30_000,
        description="dial_screened: answered, and no voice so long: silence.",
    )
    answer_greeting_ms: int = Field(
        default=2500,
        ge=500,
        le=10_000,
        description="dial_screened: who greets longer than this is a machine.",
    )
    answer_silence_ms: int = Field(
        default=1000,
        ge=200,
        le=5000,
        description="dial_screened: silence after a shorter greeting; then it is a person.",
    )
    default_scenario: str = Field(default="article", description="Scenario when none is named.")
    scenario_config: Annotated[dict[str, Any], NoDecode] = Field(
        default={},
        description="What scenarios read as call.config: a table; JSON in the environment.",
    )

    # Flows
    flow_http_hosts: Names = Field(
        default=(),
        description="Hosts that a flow's http nodes may ask: name (ports 80 and 443) or name:port,"
        " comma separated. None: none.",
    )
    flow_http_secrets: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default={},
        description="What http nodes name under secret_headers: name=value, comma separated.",
    )
    flow_http_ca_file: Path | None = Field(
        default=None, description="Own root CA for https of http nodes, PEM."
    )

    # Sound
    sounds_dir: Path | None = Field(
        default=None,
        description="Folder of your own sounds, and of synthesised prompts; default "
        "data_dir/prompts. Asterisk must be able to read it only where AudioFork has no option j.",
    )
    sounds_dir_asterisk: str | None = Field(
        default=None, description="The same folder as Asterisk sees it, if its path differs there."
    )
    sounds_memory_mb: int = Field(
        default=64,
        ge=0,
        le=4096,
        description="Prompts that each worker keeps decoded in memory, MiB: those played last.",
    )
    recordings_dir: str = Field(
        default="/var/spool/asterisk/monitor",
        description="Folder for recordings, as Asterisk sees it.",
    )
    recordings_url: str = Field(
        default="/recordings",
        description="Address of that folder, for recording.url; the default: on the HTTP door.",
    )

    # Speech
    speech: Literal["speechkit", "local"] = Field(
        default="local",
        description="speechkit: Yandex SpeechKit v3; local: the server of this package.",
    )
    speech_language: str = Field(default="ru-RU", description="BCP 47 tag.")
    speech_voice: str = Field(default="marina", description="SpeechKit voice.")
    speechkit_api_key: SecretStr | None = None
    speechkit_iam_token: SecretStr | None = None
    speechkit_folder_id: str | None = None
    speechkit_stt: str = Field(default="stt.api.cloud.yandex.net:443", description="host:port")
    speechkit_tts: str = Field(default="tts.api.cloud.yandex.net:443", description="host:port")
    speechkit_ca_file: Path | None = Field(default=None, description="Own root CA, PEM.")
    speechkit_insecure: bool = Field(
        default=False, description="Plain text towards the endpoints (own servers on loopback)."
    )
    speech_local_port: int = Field(default=0, ge=0, le=65535, description="0: a free port.")
    speech_local_phrases: Names = Field(
        default=(),
        description="Phrases that the local server's small grammar gets besides yes, no, operator "
        "and the like; English, comma separated.",
    )
    end_of_utterance: Literal["silence", "speechkit"] = Field(
        default="silence",
        description="Who ends an utterance: our measure of silence, or SpeechKit's classifier.",
    )
    end_silence_ms: int = Field(
        default=600, ge=100, le=5000, description="Silence that ends an utterance."
    )
    recognition_s: float = Field(
        default=5, gt=0, description="Longest wait for the final after an utterance's end."
    )
    vad_mode: int = Field(
        default=2, ge=0, le=3, description="WebRTC voice detection, 3 the strictest."
    )
    vad_onset_ms: int = Field(
        default=40, ge=20, le=400, description="Voice this long counts as speech (barge-in)."
    )
    # A word takes 0.3 to 0.6 s, its partial text comes some 0.3 s later: in a second most words
    # are known, and a prompt that a cough has paused goes on before the caller asks what is wrong.
    decide_ms: int = Field(
        default=1000,
        ge=200,
        le=5000,
        description='With barge_in="words": a pause without words is no longer than this.',
    )
    backchannel_file: Path | None = Field(
        default=None,
        description='Words that stop no prompt ("uh-huh"), a list per language; default: those '
        "of the package, backend/call/backchannel.toml.",
    )

    # HTTP
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535)
    http_tokens: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default={}, description="Clients: name=token, comma separated. None: every request is 401."
    )
    http_admins: Names = Field(
        default=(), description="Clients that may change routes and flows; none named: all of them."
    )
    http_token_in_query: bool = Field(
        default=False, description="Accept ?token=… (for old 1C; tokens end up in access logs)."
    )
    http_threads: int = Field(default=8, ge=1, le=64)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    @field_validator(
        "agi_allow",
        "contexts",
        "caller_ids",
        "variables",
        "flow_http_hosts",
        "http_admins",
        "speech_local_phrases",
        mode="before",
    )
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("channels", "http_tokens", "flow_http_secrets", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if bad := [name for name, sign, _ in pairs if not sign]:
            raise ValueError(f"expected name=value, comma separated; no '=' in {bad[0]!r}")
        return {name.strip(): text.strip() for name, _, text in pairs}

    @field_validator("scenario_config", mode="before")
    @classmethod
    def _json_object(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"expected a JSON object: {error}") from None

    @field_validator("scenario_config")
    @classmethod
    def _json_values(cls, value: dict[str, Any]) -> dict[str, Any]:
        _refuse_no_json(value, "")
        return value

    @field_validator("channels")
    @classmethod
    def _dial_strings(cls, value: dict[str, str]) -> dict[str, str]:
        for name, dial in value.items():
            if not re.fullmatch(r"(PJSIP|SIP|Local|DAHDI|IAX2)/[\w.@:;/{}+-]+", dial):
                raise ValueError(f"{name}: {dial!r} is no dial string like PJSIP/{{phone}}@trunk")
            if dial.count("{phone}") != 1:
                raise ValueError(f"{name}: {dial!r} must hold {{phone}} exactly once")
        if "default" not in value:
            raise ValueError("one trunk must be named 'default'")
        return value

    @field_validator("variables")
    @classmethod
    def _variable_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
                raise ValueError(f"{name!r} is no plain variable name")
            if name.upper().startswith("DIALOG_"):
                raise ValueError(f"{name!r}: names beginning with DIALOG_ are the backend's own")
        return value

    @field_validator("recordings_dir")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not re.fullmatch(r"/[^,|&${}()\s]*", value):
            raise ValueError("expected an absolute path, without ',', '&', '$', brackets or spaces")
        return value

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if urlsplit(value.get_secret_value()).scheme not in ("postgresql", "postgres"):
            raise ValueError("expected postgresql://user:password@host/database")
        return value

    @model_validator(mode="after")
    def _known_admins(self) -> Settings:
        for name in self.http_admins:
            if name not in self.http_tokens:
                raise ValueError(f"http_admins: there is no client {name!r} in http_tokens")
        return self

    @model_validator(mode="after")
    def _bus_address(self) -> Settings:
        url = self.bus_url.get_secret_value() if self.bus_url else ""
        schemes = {"redis": ("redis", "rediss", "unix"), "kafka": ("kafka", "kafkas")}
        if self.bus == "postgres" and url:
            raise ValueError("bus_url: bus=postgres goes by database_url; leave bus_url out")
        if self.bus in schemes and url.partition("://")[0] not in schemes[self.bus]:
            raise ValueError(
                f"bus_url: bus={self.bus} needs an address that begins with "
                + " or ".join(f"{scheme}://" for scheme in schemes[self.bus])
            )
        return self

    @model_validator(mode="after")
    def _speech_key(self) -> Settings:
        if self.speech == "speechkit" and not (self.speechkit_api_key or self.speechkit_iam_token):
            raise ValueError("speech=speechkit needs speechkit_api_key or speechkit_iam_token")
        return self

    @property
    def prompts_dir(self) -> Path:
        """Where synthesised prompts are written."""
        return (self.sounds_dir or self.data_dir / "prompts").absolute()

    def prompt_for_asterisk(self, path: Path) -> str:
        """The name Asterisk plays ``path`` by: its own view of the folder, without extension."""
        folder = self.sounds_dir_asterisk or str(self.prompts_dir)
        return f"{folder.rstrip('/')}/{path.relative_to(self.prompts_dir).with_suffix('')}"

    def redacted(self) -> dict[str, Any]:
        """Every setting for a person to read; secrets as stars, also what may be some."""
        values = self.model_dump(mode="json")
        values["scenario_config"] = _starred(values["scenario_config"])
        return values


def _refuse_no_json(value: object, place: str) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            _refuse_no_json(part, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _refuse_no_json(part, f"{place}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: {value} is no number in JSON")
    elif value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"{place}: a {type(value).__name__} is none of JSON's; write it as text")


def _starred(value: object) -> object:
    if isinstance(value, dict):
        return {name: _starred(part) for name, part in value.items()}
    return [_starred(part) for part in value] if isinstance(value, list) else "**********"


def load(file: str | Path | None = None, **overrides: Any) -> Settings:
    """Settings from the environment over ``file`` (default: $DIALOG_CONFIG, or
    /etc/asterisk-dialog.toml when it exists).

    Raises ConfigError, one line per wrong setting.
    """
    chosen = Path(file or os.environ.get(f"{ENV_PREFIX}CONFIG") or DEFAULT_FILE)
    if not chosen.exists() and (file or f"{ENV_PREFIX}CONFIG" in os.environ):
        raise ConfigError(f"settings file {chosen}: there is no such file")
    _refuse_unknown_variables()
    config = SettingsConfigDict(**{**Settings.model_config, "toml_file": chosen})
    configured = type("Settings", (Settings,), {"model_config": config, "__module__": __name__})
    try:
        checked = configured(**overrides)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"settings file {chosen}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item) for item in error.errors())) from None
    # Of the plain class: it can be handed to child processes.
    return Settings.model_construct(**checked.__dict__)


def _refuse_unknown_variables() -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | {f"{ENV_PREFIX}CONFIG"}
    unknown = sorted(n for n in os.environ if n.startswith(ENV_PREFIX) and n not in known)
    if unknown:
        raise ConfigError(f"{unknown[0]}: there is no such setting (asterisk-dialog settings)")


def _explain(item: Any) -> str:
    place = [str(part) for part in item["loc"]]
    name = place[0] if place else "settings"
    where = f"{name} (environment {ENV_PREFIX}{name.upper()})" if place else name
    return f"{where}: {item['msg'].removeprefix('Value error, ')}"
