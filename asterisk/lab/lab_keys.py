"""The keys that a subscriber pressed, read off the wire: by RFC 4733, by SIP INFO, by tones.

Times are milliseconds from the beginning of the call's tapes, and the kernel's: what Asterisk made
of a key is not asked. An RFC 4733 key goes down with its first packet; a tone's begins with its
first sample; of an INFO only the end is on the wire, with the key's length.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab_sound import RATE_HZ, SAMPLES_MS, Samples, Span, spans
from lab_wire import RTP_HEADER, Packet, linear

RFC4733, INFO, INBAND = "rfc4733", "info", "inband"
EVENT_PAYLOAD = 101  # what chan_pjsip offers for telephone-event
EVENTS = "0123456789*#ABCD"  # RFC 4733 3.2, by number
LOW_HZ, HIGH_HZ = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
PAD = ("123A", "456B", "789C", "*0#D")
TONE_LEVEL = 8000
SHORTEST_MS = 30
WINDOW_MS = 20
WINDOW = WINDOW_MS * SAMPLES_MS
_INFO = re.compile(rb"^INFO sip:.*?^CSeq *: *(\d+).*?\r\n\r\n(.*)", re.DOTALL | re.MULTILINE)
_SIGNAL = re.compile(rb"^Signal *= *([0-9*#A-D])", re.MULTILINE)
_DURATION = re.compile(rb"^Duration *= *(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class WireKey:
    """One key; ms. ``up_ms``: when its end was sent, INFO: when it was told of."""

    key: str
    way: str
    down_ms: float
    up_ms: float


@dataclass(slots=True)
class _Event:
    """An RFC 4733 event on its way."""

    key: str
    down: float
    up: float = 0.0


class KeyWatch:
    """One call's keys, of the packets that the subscriber sends."""

    def __init__(self) -> None:
        self._events: dict[int, _Event] = {}  # by RTP's time stamp, which an event keeps
        self._infos: dict[int, tuple[str, float, int]] = {}  # by CSeq: one is sent again when late

    def media(self, packet: Packet) -> None:
        """An RTP packet of his."""
        payload = packet.payload
        if len(payload) != RTP_HEADER + 4 or payload[1] & 0x7F != EVENT_PAYLOAD:
            return
        number, stamp = payload[RTP_HEADER], int.from_bytes(payload[4:8], "big")
        if number >= len(EVENTS):
            return
        event = self._events.setdefault(stamp, _Event(EVENTS[number], packet.at))
        if payload[RTP_HEADER + 1] & 0x80:  # the end, sent three times
            event.up = event.up or packet.at

    def signal(self, packet: Packet) -> None:
        """A SIP message of his."""
        found = _INFO.match(packet.payload)
        if found is None or (signal := _SIGNAL.search(found[2])) is None:
            return
        length = _DURATION.search(found[2])
        told = signal[1].decode(), packet.at, int(length[1]) if length else 0
        self._infos.setdefault(int(found[1]), told)

    def keys(self, begin: float) -> list[WireKey]:
        """All of them, in order, from BEGIN, seconds, on."""
        found = [
            WireKey(e.key, RFC4733, (e.down - begin) * 1000, (max(e.up, e.down) - begin) * 1000)
            for e in self._events.values()
        ]
        for key, at, length_ms in self._infos.values():
            up_ms = (at - begin) * 1000
            found.append(WireKey(key, INFO, up_ms - length_ms, up_ms))
        return sorted(found, key=lambda key: key.down_ms)


def write(
    path: Path, begin: float, keys: Iterable[WireKey], audio: Sequence[tuple[float, bytes]]
) -> None:
    """BEGIN: of the tapes, seconds of CLOCK_REALTIME. AUDIO: his packets, when they came, alaw."""
    packets = [(round((at - begin) * 1000, 3), len(sound)) for at, sound in audio]
    told = {"begin": begin, "keys": [asdict(key) for key in keys], "packets": packets}
    path.with_suffix(".alaw").write_bytes(b"".join(sound for _, sound in audio))
    path.write_text(json.dumps(told))


def read(path: Path) -> tuple[float, list[WireKey]]:
    """What was written: when the tapes begin, and all keys, tones too, in order."""
    told = json.loads(path.read_text())
    keys = [WireKey(**key) for key in told["keys"]]
    keys += _tones(path.with_suffix(".alaw").read_bytes(), told["packets"])
    return told["begin"], sorted(keys, key=lambda key: key.down_ms)


def _tones(audio: bytes, packets: Sequence[tuple[float, int]]) -> Iterator[WireKey]:
    """As a detector hears them, which is given one packet after the other: a late one leaves no
    hole. Each sample's time is its packet's."""
    starts = [0, *itertools.accumulate(size for _, size in packets)]

    def time_ms(own_ms: float) -> float:
        number = bisect_right(starts, round(own_ms * SAMPLES_MS)) - 1
        number = min(number, len(packets) - 1)
        return packets[number][0] + own_ms - starts[number] / SAMPLES_MS

    for key in tone_keys(Samples("h", map(linear, audio))):
        yield WireKey(key.key, key.way, time_ms(key.down_ms), time_ms(key.up_ms))


# -- tones


def dtmf(key: str, length_ms: int = 100) -> Samples[int]:
    """A key's two tones (Q.23). Raises ValueError for what is no key."""
    low, high = _pair(key)
    turns = [2 * math.pi * hz / RATE_HZ for hz in (low, high)]
    count = length_ms * SAMPLES_MS
    waves = (sum(math.sin(turn * at) for turn in turns) for at in range(count))
    return Samples("h", (round(TONE_LEVEL * wave) for wave in waves))


def tone_keys(said: Samples[int]) -> list[WireKey]:
    """The keys that are tones in SAID; other sounds are none."""
    found = []
    for span in spans(said, gap_ms=SHORTEST_MS):
        key = _key_of(said, span) if span.length_ms >= SHORTEST_MS else None
        if key is not None:
            found.append(WireKey(key, INBAND, span.start_ms, span.end_ms))
    return found


def _pair(key: str) -> tuple[int, int]:
    for row, keys in enumerate(PAD):
        if key in keys and len(key) == 1:
            return LOW_HZ[row], HIGH_HZ[keys.index(key)]
    raise ValueError(f"{key!r} is no key")


def _key_of(said: Samples[int], span: Span) -> str | None:
    """What most of its windows are: a late packet may have left a hole in it."""
    first, last = (round(ms * SAMPLES_MS) for ms in (span.start_ms, span.end_ms))
    votes = Counter(
        key
        for at in range(first, last - WINDOW + 1, WINDOW)
        if (key := _key_in(said[at : at + WINDOW])) is not None
    )
    best = votes.most_common(1)
    enough = best and best[0][1] * WINDOW_MS >= max(SHORTEST_MS, 0.5 * span.length_ms)
    return best[0][0] if enough else None


def _key_in(part: Samples[int]) -> str | None:
    whole = sum(sample * sample for sample in part)
    (low, low_hz), (high, high_hz) = _strongest(part, LOW_HZ), _strongest(part, HIGH_HZ)
    if not whole or low + high < 0.6 * whole or min(low, high) < 0.2 * whole:
        return None
    return PAD[LOW_HZ.index(low_hz)][HIGH_HZ.index(high_hz)]


def _strongest(part: Sequence[int], pitches: Sequence[int]) -> tuple[float, int]:
    """How much of the part's power is in the strongest pitch, and which that is."""
    return max((_power(part, hz), hz) for hz in pitches)


def _power(part: Sequence[int], hz: int) -> float:
    """Goertzel's: of a pure tone its whole power."""
    turn = 2 * math.cos(2 * math.pi * hz / RATE_HZ)
    one = two = 0.0
    for sample in part:
        one, two = sample + turn * one - two, one
    return 2 * (one * one + two * two - turn * one * two) / len(part)
