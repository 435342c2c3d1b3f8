"""What the benchmark reads off the wire: when a call was dialled, and its sounds to the sample.

What goes to the subscriber is what the caller's phone receives. Times are seconds of
CLOCK_REALTIME: the kernel's at the packet (lab_wire.py), plus the sample's place in it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lab_config import RTP_PORTS, Ports
from lab_sound import LOUD
from lab_wire import READ_S, RTP_HEADER, KeptWire, linear

SAMPLES_MS = 8


@dataclass(frozen=True)
class Invite:
    """The first INVITE of a call: when, and the port our PBX receives its audio on."""

    at: float
    rtp_port: int


@dataclass(frozen=True)
class Cut:
    """A barge-in as the wire saw it. Seconds of CLOCK_REALTIME, exact to the sample: the time of
    the packet plus the sample's place in it."""

    speech_at: float
    speech_packet_at: float
    prompt_ended_at: float
    speech_ended_at: float
    next_prompt_at: float


class Wire(KeptWire):
    """Keeps what goes to the subscriber's SIP port and, with ``rtp``, all RTP of the lab."""

    def __init__(self, ports: Ports, *, rtp: bool) -> None:
        last = ports.subscriber_rtp + RTP_PORTS - 1 if rtp else ports.subscriber_sip
        super().__init__(ports.subscriber_sip, last)
        self._ports = ports

    def lost(self) -> int:
        """Packets that the kernel could not keep for us since the last call."""
        return self._sniffer.lost()

    def invites(self) -> dict[str, Invite]:
        """The first INVITE to each number."""
        found: dict[str, Invite] = {}
        for packet in list(self._packets):
            if packet.target != self._ports.subscriber_sip:
                continue
            line = re.match(rb"INVITE sip:(\d+)@", packet.payload)
            media = re.search(rb"^m=audio (\d+)", packet.payload, re.MULTILINE)
            if line and media:
                found.setdefault(line[1].decode(), Invite(packet.at, int(media[1])))
        return found

    def invite(self, number: str, timeout_s: float = 5) -> Invite | None:
        """The INVITE to NUMBER, once it is there."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if (found := self.invites().get(number)) is not None:
                return found
            time.sleep(READ_S)
        return None

    def cut(self, rtp_port: int) -> Cut | None:
        """The barge-in of the call whose audio our PBX receives on ``rtp_port``. None: it was
        not one utterance over one prompt, both without a gap, and a second prompt."""
        speech = list(self._loud("target", rtp_port))
        tone = list(self._loud("source", rtp_port))
        said = next(_stretches(speech, 0.3), None)
        heard = list(_stretches(tone, 0.2))
        if said is None or len(heard) != 2:
            return None
        return Cut(said[0], said[2], heard[0][1], said[1], heard[1][0])

    def first_played(self, rtp_port: int, since: float) -> float | None:
        """When our PBX first sent audio in that call, at ``since`` or later: it sends only what is
        played, silence of its own never."""
        sent = (packet.at for packet in self._packets if packet.source == rtp_port)
        return next((at for at in sent if at >= since), None)

    def onsets(self, rtp_port: int, gap_s: float = 0.2) -> list[float]:
        """When each sound of our PBX began in that call; quieter than ``gap_s``: a new one."""
        return [begun for begun, _, _ in _stretches(list(self._loud("source", rtp_port)), gap_s)]

    def _loud(self, side: str, port: int) -> Iterator[tuple[float, float, float]]:
        """(first loud sample, end of the last, packet) of each packet with sound."""
        for packet in self._packets:
            if getattr(packet, side) == port:
                marks = packet.payload[RTP_HEADER:].translate(_LOUD)
                first = marks.find(b"\1")
                if first >= 0:
                    last = marks.rfind(b"\1") + 1
                    yield (
                        packet.at + first / SAMPLES_MS / 1000,
                        packet.at + last / SAMPLES_MS / 1000,
                        packet.at,
                    )


def _stretches(
    packets: list[tuple[float, float, float]], gap_s: float
) -> Iterator[tuple[float, float, float]]:
    """Uninterrupted sound: (its first sample, its end, its first packet)."""
    start: tuple[float, float] | None = None
    end = 0.0
    for first, last, at in packets:
        if start is not None and first - end > gap_s:
            yield start[0], end, start[1]
            start = None
        start = start or (first, at)
        end = last
    if start is not None:
        yield start[0], end, start[1]


_LOUD = bytes(int(abs(linear(code)) > LOUD) for code in range(256))
