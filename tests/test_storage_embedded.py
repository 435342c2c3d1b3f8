"""storage.embedded: a PostgreSQL that comes and goes with its backend."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from backend.errors import ConfigError, StorageUnavailable
from backend.storage.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[1]
SLEEPER = """
import sys, time
from pathlib import Path
from backend.storage.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), {"fsync": "off"})
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data in it (to make it takes most of the time)."""
    folder = tmp_path_factory.mktemp("embedded") / "pg"
    server = EmbeddedPostgres(folder, {"fsync": "off"})
    server.start()
    server.stop()
    return folder


@pytest.fixture
def server(made: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(made, {"fsync": "off"})
    server.start()
    yield server
    server.stop()


def answers(dsn: str) -> bool:
    try:
        psycopg2.connect(dsn).close()
    except psycopg2.OperationalError:
        return False
    return True


def ended(pid: int) -> bool:
    """Also a zombie that nobody waits for has ended."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def wait_for_end(pid: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not ended(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return ended(pid)


def killed_backend(folder: Path) -> int:
    """Start a backend on ``folder`` and kill it; returns the pid of its PostgreSQL."""
    words = [sys.executable, "-c", SLEEPER, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    return pid


def test_starts_answers_and_stops(made: Path) -> None:
    server = EmbeddedPostgres(made)
    dsn = server.start()
    pid = server.pid
    assert pid is not None
    assert answers(dsn)
    server.stop()
    server.stop()
    assert ended(pid)
    assert not answers(dsn)


def test_it_listens_on_no_port(server: EmbeddedPostgres) -> None:
    connection = psycopg2.connect(server.dsn)
    with connection.cursor() as cursor:
        cursor.execute("SHOW listen_addresses")
        assert cursor.fetchone() == ("",)
    connection.close()


def test_restart_after_a_crash_of_the_server(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.pid is not None:
        time.sleep(0.01)
    server.restart()
    assert answers(server.dsn)


def test_it_dies_with_a_backend_that_is_killed(made: Path) -> None:
    assert wait_for_end(killed_backend(made), 10)


def test_it_is_taken_over_from_a_backend_that_was_killed(made: Path) -> None:
    killed_backend(made)  # its server may still be on its way down
    server = EmbeddedPostgres(made)
    assert answers(server.start())
    server.stop()


def test_one_backend_a_folder(server: EmbeddedPostgres, made: Path) -> None:
    with pytest.raises(ConfigError, match="data_dir"):
        EmbeddedPostgres(made).start()
    assert answers(server.dsn)


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    server = EmbeddedPostgres(folder, {"fsync": "off"})
    dsn = server.start()
    assert answers(dsn)
    sockets = Path(make_url(dsn).query["host"])  # type: ignore[arg-type]
    assert sockets.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert not sockets.exists()


@as_root
def test_root_may_keep_the_data_where_the_servers_user_cannot_go(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "pg", {"fsync": "off"})
    try:
        assert answers(server.start())
        assert server.pid is not None
        assert os.stat(f"/proc/{server.pid}").st_uid != 0  # noqa: PTH116
    finally:
        server.stop()
    assert closed.stat().st_mode & 0o777 == 0o700
    pid = killed_backend(closed / "pg")
    assert wait_for_end(pid, 10)


@as_root
def test_an_ordinary_user_needs_no_other(tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    packages = os.pathsep.join([str(ROOT), *(p for p in sys.path if p.endswith("-packages"))])
    words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", python, "-B", "-c"]
    same = subprocess.run(
        [*words, f"import sys; assert sys.version_info[:2] == {sys.version_info[:2]}; import sys"
         f"; sys.path[:0] = {packages.split(os.pathsep)}; import backend.storage.embedded"],
        capture_output=True, check=False,
    )  # fmt: skip
    if same.returncode:
        pytest.skip("another user cannot run this Python or read this folder")
    folder = tmp_path / "own"
    folder.mkdir()
    for path in (folder, *folder.parents):
        if path == Path("/tmp"):
            break
        path.chmod(path.stat().st_mode | 0o011)
    os.chown(folder, 65534, 65534)
    script = SLEEPER.replace("time.sleep(60)", "server.stop()")
    done = subprocess.run(
        [*words, script, str(folder / "pg")],
        env={"PYTHONPATH": packages, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert wait_for_end(int(done.stdout), 5)


def test_other_data_is_refused_by_its_version(tmp_path: Path) -> None:
    data = tmp_path / "pg" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    server = EmbeddedPostgres(tmp_path / "pg")
    with pytest.raises(ConfigError, match="made by PostgreSQL 9"):
        server.start()
    server.stop()


def test_a_server_that_does_not_start_says_why(made: Path) -> None:
    server = EmbeddedPostgres(made, {"shared_buffers": "nonsense"})
    with pytest.raises(StorageUnavailable, match="shared_buffers"):
        server.start()
    server.stop()


def test_not_installed_is_told(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"database_url.*embedded"):
        EmbeddedPostgres(made).start()
