"""The journal: records on disk before anything else is done with them.

A folder per process holds segments of JSON lines, numbered upwards::

    00000001.jsonl   finished, being drained
    00000002.jsonl   the one appended to
    position         segment and offset up to which PostgreSQL has everything
    rejected.jsonl   records that PostgreSQL refuses for what is in them, with its words
    lock             held by the living process (flock)

An append is one write(2): it survives the death of the process (SIGKILL too); a loss of power may
take what the kernel had not yet written to the disk. A torn last line is left out with a log line.
Every life of a process begins a new segment, so a torn line can only stand at a segment's end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
import time
from pathlib import Path
from typing import IO

from backend.errors import ConfigError
from backend.model import Record
from backend.storage.codec import encode

log = logging.getLogger(__name__)

SEGMENT_BYTES = 16 * 2**20
MAX_BYTES = 2 * 2**30  # of all segments of one process that wait for PostgreSQL
ALARM_SHARE = 0.8
LOCK_WAIT_S = 10.0  # for an earlier process of the same name that is still ending

_ENDING = ".jsonl"


class Journal:
    """The writer; implements ports.RecordSink. One per process, thread-safe.

    Raises ConfigError when another living process writes to the folder, OSError when the disk
    refuses.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder = folder
        self.appended = threading.Event()  # set after every append; the drainer clears it
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()  # the file, its size, the sum; held over one write
        self._alarmed = False
        self._refusing = False
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(folder, LOCK_WAIT_S)
        found = segments(folder)
        self._waiting = sum(size_of(segment_path(folder, number)) for number in found)
        self._number = found[-1] if found else read_position(folder)[0]
        self._file = -1
        self._size = 0
        self._next_segment()

    @property
    def backlog_bytes(self) -> int:
        """Bytes in segments that are not yet deleted, an upper bound of what waits."""
        return self._waiting

    def append(self, *records: Record) -> None:
        """See ports.RecordSink. Raises OSError when the disk refuses or the journal is full;
        then none of ``records`` is in it."""
        if not records:
            return
        data = b"".join(map(encode, records))
        with self._mutex:
            if self._file < 0:
                raise OSError(errno.EBADF, "the journal is closed", str(self.folder))
            self._check_room(len(data))
            self._write(data)
            self._size += len(data)
            self._waiting += len(data)
            if self._size >= self._segment_bytes:
                self._roll()
        self.appended.set()

    def freed(self, count: int) -> None:
        """``count`` bytes of segments were deleted (told by the drainer)."""
        with self._mutex:
            self._waiting -= count
            if self._alarmed and self._waiting < ALARM_SHARE * self._max_bytes / 2:
                self._alarmed = False
                log.warning("journal %s: has room again", self.folder)

    def close(self) -> None:
        """No more appends. What is in it stays for the drainer or the next start."""
        with self._mutex:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
                self._lock.close()
        self.appended.set()

    def _check_room(self, count: int) -> None:
        total = self._waiting + count
        if total > ALARM_SHARE * self._max_bytes and not self._alarmed:
            self._alarmed = True
            log.critical(
                "journal %s: %d MB wait for PostgreSQL, the limit is %d MB; when it is reached "
                "records are LOST. Bring PostgreSQL back (database_url)",
                self.folder,
                total >> 20,
                self._max_bytes >> 20,
            )
        if total > self._max_bytes:
            self._refuse(OSError(errno.ENOSPC, "the journal is full", str(self.folder)))

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._file, data)
        except OSError as error:
            self._refuse(error)
        if written == len(data):
            if self._refusing:
                self._refusing = False
                log.warning("journal %s: the disk takes records again", self.folder)
            return
        os.ftruncate(self._file, self._size)  # a part of a line must not stay before others
        self._refuse(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder)))

    def _refuse(self, error: OSError) -> None:
        if not self._refusing:
            self._refusing = True
            log.critical(
                "journal %s: %s: records are LOST until this is mended", self.folder, error
            )
        raise error

    def _roll(self) -> None:
        """Begin a new segment; if the disk refuses one, stay in the old: it is only larger."""
        try:
            self._next_segment()
        except OSError as error:
            log.error("journal %s: no new segment: %s", self.folder, error)

    def _next_segment(self) -> None:
        path = segment_path(self.folder, self._number + 1)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        file = os.open(path, flags, 0o640)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._number, self._size = file, self._number + 1, 0


class JournalReader:
    """Reads a folder in order from its position. One per folder, for one thread.

    ``live``: the journal that is still written to; None when its process is dead.
    """

    def __init__(self, folder: Path, live: Journal | None = None) -> None:
        self._folder = folder
        self._live = live
        self._number, self._offset = self._first()
        self._next = (self._number, self._offset)

    def read(self, limit: int = 1000, most_bytes: int = 4 * 2**20) -> list[bytes]:
        """Up to ``limit`` whole lines (without newline) that follow; none: there are no more now.

        Called again without commit() it goes on behind them.
        """
        lines: list[bytes] = []
        room = most_bytes
        while len(lines) < limit and room > 0:
            number, offset = self._next
            more = self._newer_than(number)  # asked first: a finished segment does not grow
            found = _lines_at(segment_path(self._folder, number), offset, limit - len(lines), room)
            if found:
                size = sum(map(len, found)) + len(found)
                room -= size
                lines += found
                self._next = (number, offset + size)
            elif more is not None:
                self._warn_of_torn(number, offset)
                self._next = (more, 0)
            else:
                break
        return lines

    def commit(self) -> None:
        """All that was read is in PostgreSQL: remember that, delete finished segments."""
        if self._next == (self._number, self._offset):
            return
        with contextlib.suppress(OSError):  # a full disk: what follows makes room, and what is
            write_position(self._folder, *self._next)  # read twice is stored once
        for number in segments(self._folder):
            if number >= self._next[0]:
                break
            self._delete(number)
        self._number, self._offset = self._next

    def finish(self) -> None:
        """The folder's process is dead and all is read and committed: delete its last segment."""
        if self._live is None:
            self._warn_of_torn(self._number, self._offset)
            self._delete(self._number)

    def _delete(self, number: int) -> None:
        path = segment_path(self._folder, number)
        size = size_of(path)
        path.unlink(missing_ok=True)
        if self._live is not None:
            self._live.freed(size)

    def _first(self) -> tuple[int, int]:
        number, offset = read_position(self._folder)
        found = segments(self._folder)
        if number in found:
            return number, offset
        return (found[0], 0) if found else (number + 1, 0)

    def _newer_than(self, number: int) -> int | None:
        return next((other for other in segments(self._folder) if other > number), None)

    def _warn_of_torn(self, number: int, offset: int) -> None:
        path = segment_path(self._folder, number)
        rest = size_of(path) - offset
        if rest > 0:
            log.error(
                "journal %s: its last %d bytes are no whole record (loss of power?), left out",
                path,
                rest,
            )


def _lines_at(path: Path, offset: int, limit: int, most_bytes: int) -> list[bytes]:
    """Whole lines at ``offset``, at least one if there is one."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(most_bytes)
            while data and b"\n" not in data:
                more = file.read(most_bytes)
                if not more:
                    break
                data += more
    except FileNotFoundError:
        return []
    return (
        data.split(b"\n", limit)[:limit] if data.count(b"\n") >= limit else data.split(b"\n")[:-1]
    )


def segments(folder: Path) -> list[int]:
    """The numbers of the folder's segments, ascending."""
    names = (name for name in os.listdir(folder) if name.endswith(_ENDING))  # noqa: PTH208 (hot)
    return sorted(int(stem) for name in names if (stem := name[: -len(_ENDING)]).isdecimal())


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{_ENDING}"


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def read_position(folder: Path) -> tuple[int, int]:
    """(segment, offset); (0, 0) when there is none that can be read: then all is read again,
    and PostgreSQL knows what it has."""
    try:
        number, offset = (folder / "position").read_text().split()
        return int(number), int(offset)
    except (OSError, ValueError):
        return 0, 0


def write_position(folder: Path, number: int, offset: int) -> None:
    file = os.open(folder / "position", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        os.pwrite(file, b"%020d %020d\n" % (number, offset), 0)
    finally:
        os.close(file)


def lock_folder(folder: Path, wait_s: float) -> IO[str]:
    """The lock of a journal folder. Raises ConfigError when a living process keeps it."""
    lock = (folder / "lock").open("a")
    deadline = time.monotonic() + wait_s
    while True:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        if time.monotonic() >= deadline:
            lock.close()
            raise ConfigError(
                f"data_dir: another process writes to {folder}; is a second backend running on "
                "the same data_dir?"
            )
        time.sleep(0.05)
