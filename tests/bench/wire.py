"""What the benchmark reads off the wire: when a call was dialled, and its sounds to the sample.

What goes to the subscriber is what the caller's phone receives. Times are seconds of
CLOCK_REALTIME: the kernel's at the packet (lab_wire.py), plus the sample's place in it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from lab_config import RTP_PORTS, Ports
from lab_wire import READ_S, KeptWire, stretches

PROMPT_GAP_S, SPEECH_GAP_S = 0.2, 0.3


@dataclass(frozen=True)
class Invite:
    """The first INVITE of a call: when, and the port our PBX receives its audio on."""

    at: float
    rtp_port: int


@dataclass(frozen=True)
class Cut:
    """A barge-in as the wire saw it. Seconds of CLOCK_REALTIME, exact to the sample."""

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
        for packet in self.received(self._ports.subscriber_sip):
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
        said = stretches(self.received(rtp_port), SPEECH_GAP_S)
        heard = stretches(self.sent(rtp_port), PROMPT_GAP_S)
        if not said or len(heard) != 2:
            return None
        first, (prompt, following) = said[0], heard
        return Cut(first.begin, first.packet_at, prompt.end, first.end, following.begin)

    def first_played(self, rtp_port: int, since: float) -> float | None:
        """When our PBX first sent audio in that call, at ``since`` or later: it sends only what is
        played, silence of its own never."""
        return next((packet.at for packet in self.sent(rtp_port) if packet.at >= since), None)

    def onsets(self, rtp_port: int) -> list[float]:
        """When each sound of our PBX began in that call."""
        return [sound.begin for sound in stretches(self.sent(rtp_port), PROMPT_GAP_S)]
