"""Ports for labs that run at the same time: blocks of 1,000, each leased by a lock on a file.

The lease is a file descriptor that the lab's Asterisks inherit: it ends exactly when the last of
them does, however that comes.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from lab_config import RTP_PORTS, LabError, Ports

LEASES = Path("/run/lock/asterisk-dialog")
FIRST, END, BLOCK = 10_000, 32_000, 1_000  # below the kernel's ephemeral ports


def block(base: int) -> Ports:
    """The ports of the block that begins at BASE."""
    rtp = base + 100
    return Ports(base, base + 1, base + 2, base + 3, rtp, rtp + RTP_PORTS)


def lease() -> tuple[Ports, int]:
    """Lease the first free block: its ports and the descriptor that holds the lease.

    Raises LabError when all are taken.
    """
    LEASES.mkdir(parents=True, exist_ok=True)
    for base, held in _leasable():
        ports = block(base)
        if is_free(ports):
            return ports, held
        os.close(held)
    raise LabError(f"no free block of ports between {FIRST} and {END}: too many labs run")


def _leasable() -> Iterator[tuple[int, int]]:
    for base in range(FIRST, END, BLOCK):
        held = try_lock(LEASES / str(base))
        if held is not None:
            yield base, held


def try_lock(path: Path) -> int | None:
    """Lock a file for this process and all that inherit the descriptor; None: it is taken."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held


def is_free(ports: Ports) -> bool:
    """Whether nobody listens where the lab's SIP and AMI are going to."""
    sip = ((socket.SOCK_DGRAM, ports.pbx_sip), (socket.SOCK_DGRAM, ports.subscriber_sip))
    ami = ((socket.SOCK_STREAM, ports.pbx_ami), (socket.SOCK_STREAM, ports.subscriber_ami))
    return all(_can_bind(kind, port) for kind, port in sip + ami)


def _can_bind(kind: socket.SocketKind, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:  # connections that linger in TIME_WAIT are no hindrance
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def check(ports: Ports) -> None:
    """Refuse ports chosen by hand that are out of range or clash. Raises LabError."""
    numbers, last = astuple(ports), 65_535 - RTP_PORTS
    if len(set(numbers)) != len(numbers) or not all(1024 <= number <= last for number in numbers):
        raise LabError(f"ports must differ and lie between 1024 and {last}: {ports}")
    if not is_free(ports):
        raise LabError(f"one of these ports is in use: {ports}")
