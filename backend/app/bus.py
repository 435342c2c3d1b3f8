"""The bus of a process: by the settings, closed with its rooms."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from backend.app.home import Home
from backend.bus.kafka import KafkaCarrier
from backend.bus.publisher import NoBus, Publisher
from backend.bus.records import ToldRecords
from backend.bus.redis_pubsub import RedisCarrier
from backend.bus.telling import Teller
from backend.config import Settings
from backend.ports import BusCarrier, RecordSink
from backend.storage.notify import NotifyCarrier


class ProcessBus:
    """What a process publishes by. ``teller`` makes its events, ``out`` takes them."""

    def __init__(self, home: Home, name: str, rooms: ExitStack) -> None:
        """``name``: of the process. Raises ConfigError: bus_url, or a package is missing."""
        settings = home.settings
        self.teller = Teller(settings.node, name)
        self.out: Publisher | NoBus = NoBus()
        carrier = open_carrier(settings, home.dsn, name)
        if carrier is not None:
            self.out = Publisher(carrier, settings.bus_queue)
            self.out.start()
            rooms.callback(self.out.stop)

    def told(self, records: RecordSink) -> ToldRecords:
        """``records``, and other systems are told of them."""
        return ToldRecords(records, self.out, self.teller)

    def figures(self) -> dict[str, Any]:
        return self.out.figures()


def open_carrier(settings: Settings, dsn: str, name: str) -> BusCarrier | None:
    """None: the bus is off. Connects nowhere yet. Raises ConfigError."""
    url = settings.bus_url.get_secret_value() if settings.bus_url else ""
    if settings.bus == "redis":
        return RedisCarrier(url, settings.bus_topic)
    if settings.bus == "kafka":
        return KafkaCarrier(url, settings.bus_topic)
    if settings.bus == "postgres":
        return NotifyCarrier(dsn, settings.bus_topic, name=f"{name} bus")
    return None
