"""What the wire knows of keys and prompts: every key when it began, every prompt to the sample."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lab_config import RTP_PORTS, Ports
from lab_wire import RTP_HEADER, KeptWire, Packet, stretches

GAP_S = 0.3  # a busy machine's packets may come so late; prompts and keys are further apart
EVENTS = "0123456789*#ABCD"  # RFC 4733, 3.2
TONES = 101  # payload type of events, as Asterisk offers it


@dataclass(frozen=True)
class Pressed:
    """A key of the subscriber's. ``at``: when it began, of SIP INFO: when it was told; seconds of
    CLOCK_REALTIME. ``key`` None: a tone in the voice, whichever."""

    at: float
    key: str | None


@dataclass(frozen=True)
class Dialled:
    """A call: its number and Call-ID, the port our PBX receives its audio on, and from when to when
    that port is this call's: later ones get it again."""

    number: str
    id: str
    port: int
    since: float
    until: float = math.inf

    def of(self, packets: list[Packet]) -> list[Packet]:
        """Those of its time."""
        return [packet for packet in packets if self.since <= packet.at < self.until]


class KeyWire(KeptWire):
    """Keeps all SIP and RTP of the lab."""

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports.pbx_sip, ports.subscriber_rtp + RTP_PORTS - 1)
        self._ports = ports

    def sounds(self, number: str) -> list[tuple[float, float]]:
        """What was played to the subscriber: begin and end of each sound."""
        call = self._call(number)
        found = stretches(call.of(self.sent(call.port)), GAP_S)
        return [(sound.begin, sound.end) for sound in found]

    def keys(self, number: str) -> list[Pressed]:
        """All that the subscriber pressed, whichever way."""
        call = self._call(number)
        theirs = call.of(self.received(call.port))
        tones = [Pressed(sound.begin, None) for sound in stretches(theirs, GAP_S)]
        found = [*self._events(theirs), *self._infos(call.id), *tones]
        return sorted(found, key=lambda key: key.at)

    def _call(self, number: str) -> Dialled:
        calls = list(self._calls())
        mine = next((call for call in calls if call.number == number), None)
        assert mine is not None, f"no INVITE to {number} was seen"
        later = (
            call.since
            for call in calls
            if call.port == mine.port and call.since > mine.since and call.id != mine.id
        )
        return replace(mine, until=min(later, default=math.inf))

    def _calls(self) -> Iterator[Dialled]:
        for packet in self.received(self._ports.subscriber_sip):
            line = re.match(rb"INVITE sip:(\d+)@", packet.payload)
            call = re.search(rb"^(?:Call-ID|i) *: *(\S+)", packet.payload, re.MULTILINE)
            media = re.search(rb"^m=audio (\d+)", packet.payload, re.MULTILINE)
            if line and call and media:
                yield Dialled(line[1].decode(), call[1].decode(), int(media[1]), packet.at)

    def _events(self, packets: list[Packet]) -> list[Pressed]:
        found: dict[bytes, Pressed] = {}
        for packet in packets:
            if len(packet.payload) == RTP_HEADER + 4 and packet.payload[1] & 0x7F == TONES:
                key = EVENTS[packet.payload[RTP_HEADER]]
                found.setdefault(packet.payload[4:8], Pressed(packet.at, key))
        return list(found.values())

    def _infos(self, call: str) -> list[Pressed]:
        found: dict[bytes, Pressed] = {}
        for packet in self.received(self._ports.pbx_sip):
            text = packet.payload
            if not text.startswith(b"INFO "):
                continue
            signal = re.search(rb"^Signal *= *(\S)", text, re.MULTILINE)
            number = re.search(rb"^CSeq *: *(\d+)", text, re.MULTILINE)
            if call.encode() in text and signal and number:
                found.setdefault(number[1], Pressed(packet.at, signal[1].decode()))
        return list(found.values())
