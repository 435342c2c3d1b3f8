"""Runs as a small process of its own that becomes PostgreSQL. Started by storage.embedded.

    launch_postgres.py PARENT_PID UID GID [--bind FROM TO]… -- COMMAND…

It gives up root (PostgreSQL refuses to run as root), asks the kernel to end the server when the
parent dies, and executes the command. ``--bind`` shows a folder under another path, to this
process alone: so a server whose user may not enter /root can still have its data there, without
anybody else's permissions being changed.

The order matters: a change of user clears the death signal, so that is asked for afterwards.
Standard library only, and nothing of this package: it is run by path.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000  # sched.h
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000  # sys/mount.h
PR_SET_PDEATHSIG = 1  # sys/prctl.h

ROOM = "/mnt"  # covered by an empty file system of this process's own

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    split = arguments.index("--")
    parent, uid, gid = (int(word) for word in arguments[:3])
    binds = arguments[3:split]
    if binds:
        _own_mounts()
    for at in range(0, len(binds), 3):
        Path(binds[at + 2]).mkdir()
        _mount(binds[at + 1], binds[at + 2], None, MS_BIND)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    os.chdir("/")
    # SIGINT is PostgreSQL's fast shutdown: clients are dropped, the data is left clean.
    _check(_libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0), "prctl")
    if os.getppid() != parent:
        sys.exit("the backend ended before PostgreSQL was started")
    command = arguments[split + 1 :]
    os.execv(command[0], command)  # noqa: S606


def _own_mounts() -> None:
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("none", ROOM, "tmpfs", 0)
    Path(ROOM).chmod(0o755)


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() if kind else None, flags, None
    )
    _check(result, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(sys.argv[1:])
