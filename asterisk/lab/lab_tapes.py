"""The lab's tapes: what a subscriber heard and said, recorded on the wire.

A process of its own watches SIP and RTP between the two PBXs. The subscriber's dialplan says of
which call there are tapes (a line in the folder ``calls``). They begin with the answer, or with
the dialplan's word where that comes first, and end with the call. On them is every packet, once, in
order, at the time when it came: one that is late stands where it belongs when those after it are
in time again, and only where none came there is silence. A recorder inside Asterisk cannot do
that: MixMonitor leaves packets out when a busy machine brings two at once.

    lab_tapes.py HOME PBX_SIP SUBSCRIBER_SIP FIRST LAST    until its standard input ends
"""

from __future__ import annotations

import math
import re
import select
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import lab_keys
import lab_sound
from lab_keys import KeyWatch
from lab_sound import RATE_HZ, Samples
from lab_wire import Packet, Sniffer, alaw, linear

READ_S = 0.02
PACKET_MS = 20
WINDOW_S = 1.0
"""A packet counts as late, and not as the first after a pause, when one of those that come within
so long is in time again."""
PAUSE_MS = 60.0
"""No packet is as late as that without a packet in time behind it: what comes then begins anew."""
STEADY_PACKETS = 10
"""Fewer, at the end of a sound, are late rather than moved."""
EARLY_PACKETS = 500
"""Kept of a call that has no tape yet: its beginning is told a moment later."""

_CALL_ID = re.compile(rb"^(?:Call-ID|i) *: *(\S+)", re.MULTILINE | re.IGNORECASE)
_MEDIA = re.compile(rb"^m=audio (\d+) ", re.MULTILINE)
_CSEQ = re.compile(rb"^CSeq *: *\d+ +(\w+)", re.MULTILINE | re.IGNORECASE)
_BEGIN = re.compile(r"(\S+) (\d+\.\d{6})\s*")
_LOW = bytes(linear(code) & 0xFF for code in range(256))
_HIGH = bytes(linear(code) >> 8 & 0xFF for code in range(256))


@dataclass(frozen=True, slots=True)
class Piece:
    """A packet's audio, alaw. ``at``: when it came, seconds of CLOCK_REALTIME."""

    at: float
    audio: bytes


@dataclass(frozen=True, slots=True)
class Tape:
    """``late_ms``: by how much the latest packet came after its place."""

    samples: Samples[int]
    late_ms: float


def assemble(pieces: Sequence[Piece], begin: float, end: float) -> Tape:
    """The tape from BEGIN to END: each piece that came in this time, whole, at its place; the last
    may reach beyond END."""
    pieces = [piece for piece in pieces if begin <= piece.at < end]
    pcm = bytearray(2 * max(0, round((end - begin) * RATE_HZ)))
    own_ms, late_ms = 0.0, 0.0
    for piece, shift_ms in zip(pieces, _shifts(_in_time(pieces, begin)), strict=True):
        late_ms = max(late_ms, (piece.at - begin) * 1000 - own_ms - shift_ms)
        place = 2 * round((own_ms + shift_ms) * RATE_HZ / 1000)
        sound = bytearray(2 * len(piece.audio))
        sound[0::2], sound[1::2] = piece.audio.translate(_LOW), piece.audio.translate(_HIGH)
        pcm.extend(bytes(max(0, place - len(pcm))))
        pcm[place : place + len(sound)] = sound
        own_ms += len(piece.audio) * 1000 / RATE_HZ
    samples = Samples("h")
    samples.frombytes(bytes(pcm))
    return Tape(samples, late_ms)


def _shifts(best: Sequence[float]) -> Iterator[float]:
    """From the pieces' own time to the tape's, ms: whole packets apart, for the tape consists of
    such."""
    starts = [at for at, (one, two) in enumerate(pairwise(best), 1) if two - one >= PAUSE_MS]
    starts.append(len(best))
    shift = best[0] if best else 0.0
    for index, best_ms in enumerate(best):
        if index == starts[0]:
            starts.pop(0)
        if best_ms - shift >= PAUSE_MS or starts[0] - index >= STEADY_PACKETS:
            shift += max(0, round((best_ms - shift) / PACKET_MS)) * PACKET_MS
        yield shift


def _in_time(pieces: Sequence[Piece], begin: float) -> list[float]:
    """For each piece: how long after its place in an unbroken stream the most punctual of it and
    those within WINDOW_S after it came, ms."""
    own_ms = 0.0
    offsets = []
    for piece in pieces:
        offsets.append((piece.at - begin) * 1000 - own_ms)
        own_ms += len(piece.audio) * 1000 / RATE_HZ
    best = [0.0] * len(pieces)
    ahead: deque[int] = deque()  # of those within the window, smaller ones only; best at the right
    for index in range(len(pieces) - 1, -1, -1):
        while ahead and pieces[ahead[-1]].at > pieces[index].at + WINDOW_S:
            ahead.pop()
        while ahead and offsets[ahead[0]] >= offsets[index]:
            ahead.popleft()
        ahead.appendleft(index)
        best[index] = offsets[ahead[-1]]
    return best


@dataclass
class Talk:
    """One SIP call between the PBXs."""

    heard: deque[Piece] = field(default_factory=deque)
    said: deque[Piece] = field(default_factory=deque)
    number: str = ""
    """Of its tapes; empty: there are none, or not yet."""
    begin: float = 0.0
    answered_at: float = math.inf
    keys: KeyWatch = field(default_factory=KeyWatch)
    """What the subscriber presses."""

    def keep(self, side: str, piece: Piece) -> None:
        """SIDE: ``heard`` or ``said``."""
        pieces: deque[Piece] = getattr(self, side)
        pieces.append(piece)
        if not self.number and len(pieces) > EARLY_PACKETS:
            pieces.popleft()


class Recorder:
    """Makes tapes of the packets it is fed. ``home``: the subscriber's folder."""

    def __init__(self, home: Path, pbx_sip: int, subscriber_sip: int) -> None:
        self._home = home
        self._sip = {pbx_sip: "said", subscriber_sip: "heard"}
        """The port of who receives, by its SDP, what the subscriber …"""
        self._talks: dict[str, Talk] = {}
        self._media: dict[int, tuple[Talk, str]] = {}

    def feed(self, packet: Packet) -> None:
        """The next packet."""
        if packet.target in self._sip:
            self._signal(packet)
        elif found := self._media.get(packet.target):
            talk, side = found
            if (audio := alaw(packet)) is not None:
                talk.keep(side, Piece(packet.at, audio))
            elif side == "said":
                talk.keys.media(packet)

    def begin(self) -> None:
        """Learn which tapes have begun."""
        for file in (self._home / "calls").iterdir():
            told = _BEGIN.fullmatch(file.read_text())
            talk = self._talks.get(told[1]) if told else None
            if told and talk is not None:
                talk.number, talk.begin = file.name, float(told[2])
                file.unlink()

    def _signal(self, packet: Packet) -> None:
        name = _CALL_ID.search(packet.payload)
        if name is None:
            return
        call = name[1].decode()
        invite = (found := _CSEQ.search(packet.payload)) is not None and found[1] == b"INVITE"
        status = packet.payload[8:11] if packet.payload.startswith(b"SIP/2.0 ") else b""
        media = _MEDIA.search(packet.payload)
        talk = self._talks.get(call) or (Talk() if media else None)
        if talk is None:
            return
        self._talks[call] = talk
        if self._sip[packet.target] == "said":
            talk.keys.signal(packet)
        if media and packet.source in self._sip:
            self._media[int(media[1])] = talk, self._sip[packet.source]
        if invite and status[:1] == b"2":
            talk.answered_at = min(talk.answered_at, packet.at)
        refused = invite and status[:1] > b"2" and status not in (b"401", b"407")
        if packet.payload.startswith((b"BYE ", b"CANCEL ")) or (
            refused and talk.answered_at == math.inf
        ):
            self._end(call, talk, packet.at)

    def _end(self, call: str, talk: Talk, at: float) -> None:
        self.begin()
        del self._talks[call]
        self._media = {port: of for port, of in self._media.items() if of[0] is not talk}
        if not talk.number:
            return
        begin = min(talk.begin, talk.answered_at)
        keys = self._home / "said" / f"{talk.number}.keys"
        audio = [(piece.at, piece.audio) for piece in talk.said if piece.at >= begin]
        lab_keys.write(keys, begin, talk.keys.keys(begin), audio)
        both = {side: assemble(list(getattr(talk, side)), begin, at) for side in ("said", "heard")}
        length = max(len(tape.samples) for tape in both.values())
        for side, tape in both.items():
            tape.samples.frombytes(bytes(2 * (length - len(tape.samples))))
            folder = self._home / side
            (folder / f"{talk.number}.late").write_text(f"{tape.late_ms:.1f}\n")
            lab_sound.write(folder / f"{talk.number}.part", tape.samples)
            (folder / f"{talk.number}.part").rename(folder / f"{talk.number}.wav")


def main(arguments: Sequence[str]) -> None:
    """Record until standard input ends."""
    home, numbers = Path(arguments[0]), [int(text) for text in arguments[1:]]
    recorder, sniffer = Recorder(home, numbers[0], numbers[1]), Sniffer(numbers[2], numbers[3])
    print("ready", flush=True)
    over = False
    while not over:
        over = bool(select.select([sys.stdin], [], [], READ_S)[0])
        recorder.begin()
        for packet in sniffer.packets():
            recorder.feed(packet)


if __name__ == "__main__":
    main(sys.argv[1:])
