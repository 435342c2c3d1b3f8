"""The bus of PostgreSQL: NOTIFY, for whoever LISTENs in the same database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ARRAY, Text, bindparam, text

from backend.errors import BusUnavailable, StorageUnavailable
from backend.ports import SEND_S, Letter, Sent
from backend.storage.deadline import within
from backend.storage.engine import make_engine, reaching

# Told in the order of the list: an event's place in it is its place in the transaction.
_NOTIFY = text(
    "SELECT count(pg_notify(:topic, payload)) FROM unnest(:payloads) WITH ORDINALITY"
    " AS letters (payload, place)"
).bindparams(bindparam("payloads", type_=ARRAY(Text)))


class NotifyCarrier:
    """ports.BusCarrier. A batch is one transaction: all of it is told, or nothing.

    ``name``: as in make_engine. PostgreSQL tells listeners when the transaction is committed; it
    keeps nothing for those that are not there.
    """

    limit_bytes = 7999  # src/backend/commands/async.c: NOTIFY_PAYLOAD_MAX_LENGTH is one more

    def __init__(self, dsn: str, topic: str, *, name: str) -> None:
        self._engine = make_engine(dsn, name=name, pool=1)
        self._topic = topic
        self.where = f"postgres channel {topic}"

    def connect(self) -> None:
        try:
            with within(SEND_S), reaching("bus"), self._engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except StorageUnavailable as error:
            raise BusUnavailable(str(error)) from None

    def send(self, letters: Sequence[Letter]) -> Sent:
        payloads = [letter.payload.decode() for letter in letters]
        values = {"topic": self._topic, "payloads": payloads}
        try:
            with within(SEND_S), reaching("bus"), self._engine.begin() as connection:
                connection.execute(_NOTIFY, values)
        except StorageUnavailable as error:
            return Sent(left=letters, why=str(error))
        return Sent()

    def close(self) -> None:
        self._engine.dispose()
