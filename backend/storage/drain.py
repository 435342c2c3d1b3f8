"""From the journal to PostgreSQL, in order, as often as it takes."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Protocol

from backend.errors import ConfigError, StorageUnavailable
from backend.model import Record
from backend.storage.apply import RecordRefused
from backend.storage.codec import decode
from backend.storage.journal import Journal, JournalReader, lock_folder, segments

log = logging.getLogger(__name__)

BATCH = 1000
BACKOFF_S = (0.2, 10.0)  # first, longest
IDLE_S = 1.0
REJECTED_MAX_BYTES = 256 * 2**20


class Store(Protocol):
    """Where the records go: storage.apply.RecordStore."""

    def store(self, records: Sequence[Record], *, move_tasks: bool = True) -> int: ...


class Drainer:
    """A thread that applies a live journal. Owner: the process that has the journal.

    stop() asks it to end, join() waits; drain_and_stop() does both and first lets it finish.
    """

    def __init__(self, journal: Journal, store: Store) -> None:
        self._journal = journal
        self._pump = _Pump(journal.folder, JournalReader(journal.folder, journal), store)
        self._stop = threading.Event()
        self._turn = threading.Condition()  # guards the two below
        self._asked = 0  # calls of drained()
        self._answered = 0  # of those, how many saw the journal empty afterwards
        name = f"drainer-{journal.folder.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def stored(self) -> int:
        """Records brought to PostgreSQL by this drainer."""
        return self._pump.stored

    @property
    def rejected(self) -> int:
        """Records put aside in rejected.jsonl by this drainer."""
        return self._pump.rejected

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def drained(self, timeout_s: float) -> bool:
        """Wait until all that was appended before is in PostgreSQL; False: not in time."""
        with self._turn:
            self._asked += 1
            mine = self._asked
            self._journal.appended.set()
            return self._turn.wait_for(lambda: self._answered >= mine, timeout_s)

    def stop(self) -> None:
        self._stop.set()
        self._journal.appended.set()

    def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def drain_and_stop(self, timeout_s: float) -> bool:
        """Whether everything came to PostgreSQL in time; the rest waits for the next start."""
        end = monotonic() + timeout_s
        done = self.drained(timeout_s)
        self.stop()
        self.join(max(1.0, end - monotonic()))
        return done

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._journal.appended.clear()  # before reading: what comes later wakes us
                asked = self._asked
                if not self._pump.step(self._stop):
                    self._answer(asked)
                    self._journal.appended.wait(IDLE_S)
        except Exception:
            log.critical(
                "the journal %s is no longer brought to PostgreSQL: a mistake in this program; "
                "records are kept on disk until the backend is started anew",
                self._journal.folder,
                exc_info=True,
            )

    def _answer(self, asked: int) -> None:
        if asked != self._answered and not self._stop.is_set():
            with self._turn:
                self._answered = asked
                self._turn.notify_all()


def drain_leftovers(root: Path, store: Store, stop: threading.Event) -> int:
    """Apply what dead processes left under ``root`` (data_dir/journal); returns the records.

    Folders of living processes are left alone. Waits for PostgreSQL as long as it takes or until
    ``stop``; call it at start, in a thread.
    """
    total = 0
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    for folder in folders:
        if stop.is_set():
            break
        if not segments(folder):
            continue
        try:
            lock = lock_folder(folder, 0)
        except ConfigError:
            continue
        with lock:
            total += _drain_dead(folder, store, stop)
    if total:
        log.warning("%d records left by processes that died were brought to PostgreSQL", total)
    return total


def _drain_dead(folder: Path, store: Store, stop: threading.Event) -> int:
    reader = JournalReader(folder)
    pump = _Pump(folder, reader, store)
    while not stop.is_set():
        if not pump.step(stop):
            if not stop.is_set():
                reader.finish()
            break
    return pump.stored


class _Pump:
    """One batch at a time from a reader to the store."""

    def __init__(self, folder: Path, reader: JournalReader, store: Store) -> None:
        self._folder = folder
        self._reader = reader
        self._store = store
        self.stored = 0
        self.rejected = 0

    def step(self, stop: threading.Event) -> bool:
        """Bring one batch over. False: there was none, or ``stop`` came while PostgreSQL was
        away."""
        lines = self._reader.read(BATCH)
        if not lines:
            self._reader.commit()
            return False
        if not self._bring([(line, record) for line, record in self._decoded(lines)], stop):
            return False
        self._reader.commit()
        return True

    def _decoded(self, lines: Iterable[bytes]) -> Iterable[tuple[bytes, Record]]:
        for line in lines:
            try:
                yield line, decode(line)
            except ValueError as error:
                self._reject(line, str(error))

    def _bring(self, items: Sequence[tuple[bytes, Record]], stop: threading.Event) -> bool:
        """Store ``items``; what is refused is searched by halves and put aside. False: stopped."""
        if not items:
            return True
        try:
            if not self._store_when_there([record for _, record in items], stop):
                return False
            self.stored += len(items)
            return True
        except RecordRefused as error:
            if len(items) > 1:
                half = len(items) // 2
                return self._bring(items[:half], stop) and self._bring(items[half:], stop)
            return self._without_task(items[0], error, stop)

    def _without_task(
        self, item: tuple[bytes, Record], refused: RecordRefused, stop: threading.Event
    ) -> bool:
        line, record = item
        try:
            if not self._store_when_there([record], stop, move_tasks=False):
                return False
            self.stored += 1
            log.error("a record is stored, but its task does not take it: %s", refused)
        except RecordRefused as error:
            self._reject(line, str(error))
        return True

    def _store_when_there(
        self, records: Sequence[Record], stop: threading.Event, *, move_tasks: bool = True
    ) -> bool:
        pause_s, longest_s = BACKOFF_S
        away_since: float | None = None
        while True:
            try:
                self._store.store(records, move_tasks=move_tasks)
            except StorageUnavailable as error:
                if away_since is None:
                    away_since = monotonic()
                    log.error(
                        "PostgreSQL cannot be reached; records wait in %s and nothing is lost. %s",
                        self._folder,
                        error,
                    )
                if stop.wait(pause_s):
                    return False
                pause_s = min(pause_s * 2, longest_s)
            else:
                if away_since is not None:
                    away_s = monotonic() - away_since
                    log.warning("PostgreSQL is back after %.0f s (%s)", away_s, self._folder.name)
                return True

    def _reject(self, line: bytes, error: str) -> None:
        """Put a record aside; never in the way of the others."""
        self.rejected += 1
        path = self._folder / "rejected.jsonl"
        log.error("a record cannot be stored and was put aside in %s: %s", path, error)
        body = {
            "at": datetime.now(UTC).isoformat(),
            "error": error,
            "record": line.decode("utf-8", "replace"),
        }
        with suppress(OSError):
            if not path.exists() or path.stat().st_size < REJECTED_MAX_BYTES:
                with path.open("a", encoding="ascii") as file:
                    file.write(json.dumps(body) + "\n")
