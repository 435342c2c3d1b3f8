"""Kafka: one topic; the key is the call's id, so that a call's events stay in order."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from backend.errors import BusUnavailable, ConfigError
from backend.ports import SEND_S, Letter, Sent

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

log = logging.getLogger(__name__)

EXPECTED = (
    "bus_url: expected kafka://user:password@host:9092,host:9092 (kafkas:// for TLS), and after ? "
    "of acks=all|1|0, mechanism=SCRAM-SHA-512|SCRAM-SHA-256|PLAIN, ca=/file, cert=/file, key=/file"
)
_URL = re.compile(r"(kafkas?)://(?:([^@]*)@)?([^/?@\s]+)/?(?:\?(.*))?")
_OPTIONS = {"ca": "ssl.ca.location", "cert": "ssl.certificate.location", "key": "ssl.key.location"}
_ALLOWED = {
    "acks": {"all", "1", "0"},
    "mechanism": {"SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"},
}


def read_url(url: str) -> dict[str, Any]:
    """librdkafka's settings of an address. Raises ConfigError, without what the address holds."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigError(EXPECTED)
    scheme, account, hosts, query = found.groups()
    options = dict(parse_qsl(query or ""))
    for name, value in options.items():
        if name not in _OPTIONS and value not in _ALLOWED.get(name, set()):
            raise ConfigError(f"{EXPECTED}; not {name}")
    config: dict[str, Any] = {"bootstrap.servers": hosts, "acks": options.pop("acks", "all")}
    secured = scheme == "kafkas"
    config["security.protocol"] = ("SASL_" if account else "") + ("SSL" if secured else "PLAINTEXT")
    mechanism = options.pop("mechanism", "SCRAM-SHA-512")
    if account:
        user, colon, password = account.partition(":")
        if not user or not colon:
            raise ConfigError(EXPECTED)
        config["sasl.mechanism"] = mechanism
        config["sasl.username"], config["sasl.password"] = unquote(user), unquote(password)
    return config | {_OPTIONS[name]: value for name, value in options.items()}


class KafkaCarrier:
    """ports.BusCarrier. ``more``: further settings of librdkafka. Raises ConfigError for an
    address that is none, or without the package."""

    limit_bytes = 900_000  # brokers take 1 MB unless told otherwise

    def __init__(self, url: str, topic: str, **more: object) -> None:
        config = read_url(url)
        try:
            import confluent_kafka
        except ImportError:
            raise ConfigError(
                "bus=kafka needs the package confluent-kafka: pip install 'asterisk-dialog[bus]'"
            ) from None
        self._kafka = confluent_kafka
        self._topic = topic
        self.where = f"kafka {config['bootstrap.servers']} topic {topic}"
        self._said = ""  # librdkafka's last word on the connection
        settings = {
            **config,
            "client.id": "asterisk-dialog",
            # With one request under way a retry cannot overtake; an idempotent producer could
            # not take back what it has not delivered.
            "max.in.flight.requests.per.connection": 1,
            "message.timeout.ms": int(SEND_S * 2000),  # beyond ours: we take it back before
            "socket.timeout.ms": int(SEND_S * 1000),
            "reconnect.backoff.max.ms": 2000,
            "error_cb": self._heard,
            "logger": log,
            "log_level": 2,  # what matters comes by error_cb
            **{name.replace("_", "."): value for name, value in more.items()},
        }
        try:
            self._producer = confluent_kafka.Producer(settings)
        except (confluent_kafka.KafkaException, ValueError) as error:
            raise ConfigError(f"bus_url: {_reason(error)}") from None
        never = confluent_kafka.KafkaError
        self._refusals = {
            never.MSG_SIZE_TOO_LARGE,
            never.INVALID_MSG,
            never.INVALID_RECORD,
            never.RECORD_LIST_TOO_LARGE,
        }

    def connect(self) -> None:
        try:
            found = self._producer.list_topics(self._topic, timeout=SEND_S)
        except self._kafka.KafkaException as error:
            self._producer.poll(0)  # error_cb runs here, and knows more
            raise BusUnavailable(self._said or _reason(error)) from None
        error_of_topic = found.topics[self._topic].error
        if error_of_topic is not None and not error_of_topic.retriable():
            raise BusUnavailable(f"topic {self._topic}: {error_of_topic.str()}")
        self._said = ""

    def send(self, letters: Sequence[Letter]) -> Sent:
        reports: dict[int, KafkaError | None] = {}
        for number, letter in enumerate(letters):
            noted = partial(_note, reports, number)
            try:
                self._producer.produce(self._topic, letter.payload, letter.key, on_delivery=noted)
            except self._kafka.KafkaException as error:  # too large by its own settings
                reports[number] = error.args[0]
            except BufferError:  # its queue is full: nothing goes out
                break
        if self._producer.flush(SEND_S):
            self._producer.purge()  # taken back: each is reported now, as not delivered
            self._producer.flush(1.0)
        return self._judged(letters, reports)

    def close(self) -> None:
        self._producer.purge()
        self._producer.flush(1.0)

    def _judged(self, letters: Sequence[Letter], reports: dict[int, KafkaError | None]) -> Sent:
        left, why, refused = [], "", 0
        for number, letter in enumerate(letters):
            error = reports[number] if number in reports else self._no_report()
            if error is None:
                continue
            why = why or self._said or error.str()
            if error.code() in self._refusals:
                refused += 1
            else:
                left.append(letter)
        return Sent(left, refused, why)

    def _no_report(self) -> KafkaError:
        return self._kafka.KafkaError(self._kafka.KafkaError._MSG_TIMED_OUT)

    def _heard(self, error: KafkaError) -> None:
        """error_cb: the connection's state; the password is never in it."""
        known = self._kafka.KafkaError
        if error.code() == known._AUTHENTICATION:
            self._said = f"Kafka refuses the user or password of bus_url: {error.str()}"
        elif error.code() != known._ALL_BROKERS_DOWN or not self._said:
            self._said = error.str()


def _note(
    reports: dict[int, KafkaError | None], number: int, error: KafkaError | None, _: Message
) -> None:
    reports[number] = error


def _reason(error: BaseException) -> str:
    first = error.args[0] if error.args else error
    return first.str() if hasattr(first, "str") else str(first)
