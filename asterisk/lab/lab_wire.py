"""The wire: SIP and RTP on the loopback as the kernel sees them, with its own time stamps.

An AF_PACKET socket with a filter in the kernel. Times are seconds of CLOCK_REALTIME at which the
packet passed the loopback device, however late it is read here.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lab_sound import LOUD, RATE_HZ

ETH_P_IP = 0x0800
SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 26, 33, 35
SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 6, 23
IP_UDP = 28
RTP_HEADER, RTP_ALAW = 12, 8
BUFFER_BYTES = 64 * 2**20
READ_S = 0.02


@dataclass(frozen=True, slots=True)
class Packet:
    """A UDP datagram. ``at``: seconds of CLOCK_REALTIME; ``source``, ``target``: ports."""

    at: float
    source: int
    target: int
    payload: bytes


class Sniffer:
    """The UDP datagrams of the loopback to the ports FIRST … LAST, each once. Needs root."""

    def __init__(self, first: int, last: int) -> None:
        self._socket = _open(first, last)

    def close(self) -> None:
        self._socket.close()

    def packets(self) -> Iterator[Packet]:
        """Those that have come since the last call; waits for none."""
        while True:
            try:
                data, extra, _, _ = self._socket.recvmsg(65536, 64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
            source, target = struct.unpack_from("!HH", data, IP_UDP - 8)
            yield Packet(seconds + nanoseconds / 1e9, source, target, data[IP_UDP:])

    def lost(self) -> int:
        """Packets that the kernel could not keep for us since the last call."""
        found = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int(struct.unpack("II", found)[1])


class KeptWire:
    """Keeps what a Sniffer of the ports FIRST … LAST reads, while the block lasts."""

    def __init__(self, first: int, last: int) -> None:
        self._sniffer = Sniffer(first, last)
        self._sent: dict[int, list[Packet]] = {}
        self._received: dict[int, list[Packet]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="wire")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sniffer.close()

    def sent(self, port: int) -> list[Packet]:
        """What has come from a port until now."""
        return list(self._sent.get(port, ()))

    def received(self, port: int) -> list[Packet]:
        """What has gone to a port until now."""
        return list(self._received.get(port, ()))

    def _read(self) -> None:
        while not self._stop.wait(READ_S):
            for packet in self._sniffer.packets():
                self._sent.setdefault(packet.source, []).append(packet)
                self._received.setdefault(packet.target, []).append(packet)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Uninterrupted sound, exact to the sample: the time of a packet plus the place in it.
    ``packet_at``: its first packet's time. All in seconds of CLOCK_REALTIME."""

    begin: float
    end: float
    packet_at: float


def stretches(packets: Iterable[Packet], gap_s: float) -> list[Stretch]:
    """The sounds of a stream of G.711 alaw; silence of more than ``gap_s`` parts two."""
    found: list[Stretch] = []
    for packet in packets:
        marks = (alaw(packet) or b"").translate(_LOUD)
        first = marks.find(1)
        if first < 0:
            continue
        begin = packet.at + first / RATE_HZ
        end = packet.at + (marks.rfind(1) + 1) / RATE_HZ
        if found and begin - found[-1].end <= gap_s:
            found[-1] = Stretch(found[-1].begin, end, found[-1].packet_at)
        else:
            found.append(Stretch(begin, end, packet.at))
    return found


def alaw(packet: Packet) -> bytes | None:
    """The audio of an RTP packet, G.711 alaw; None: it holds something else (RFC 3550 5.1)."""
    if len(packet.payload) <= RTP_HEADER or packet.payload[1] & 0x7F != RTP_ALAW:
        return None
    return packet.payload[RTP_HEADER:]


def linear(code: int) -> int:
    """An alaw octet's sample (G.711), 16 bit."""
    code ^= 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    value = (mantissa << 4) + 8
    if exponent:
        value = (value + 0x100) << (exponent - 1)
    return value if code & 0x80 else -value


_LOUD = bytes(int(abs(linear(code)) > LOUD) for code in range(256))


def _open(first: int, last: int) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    program = b"".join(
        struct.pack("HBBI", *step)
        for step in (
            (0x30, 0, 0, 9),  # ldb [9]: the protocol
            (0x15, 0, 4, 17),  # UDP, or drop
            (0x28, 0, 0, 22),  # ldh [22]: the port it goes to
            (0x35, 0, 2, first),  # at least `first`, or drop
            (0x25, 1, 0, last),  # more than `last`: drop
            (0x06, 0, 0, 0xFFFF),  # keep
            (0x06, 0, 0, 0),  # drop
        )
    )
    kept = ctypes.create_string_buffer(program)
    made.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 7, ctypes.addressof(kept))
    )
    made.bind(("lo", ETH_P_IP))
    return made
