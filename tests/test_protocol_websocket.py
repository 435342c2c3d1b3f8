from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from backend.protocol import websocket as wire

AUDIO = bytes(range(160)) * 2


def frame(opcode: Opcode, data: bytes, *, mask: bool, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=mask)


@pytest.mark.parametrize("mask", [True, False])
def test_whole_messages(mask: bool) -> None:
    data = frame(Opcode.TEXT, "канал".encode(), mask=mask) + frame(Opcode.BINARY, AUDIO, mask=mask)
    assert wire.FrameParser().feed(data) == [wire.Text("канал"), AUDIO]


messages = st.lists(
    st.tuples(
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG]),
        st.text(max_size=40).map(str.encode),
        st.booleans(),
        st.integers(1, 3),
    ),
    max_size=8,
)


@given(messages, st.data())
def test_any_segmentation_gives_the_same_messages(
    sent: list[tuple[Opcode, bytes, bool, int]], data: st.DataObject
) -> None:
    stream, expected = b"", []
    for opcode, payload, mask, parts in sent:
        if opcode in (Opcode.PING, Opcode.PONG):
            stream += frame(opcode, payload[:125], mask=mask)
            expected += [wire.Ping(payload[:125])] if opcode is Opcode.PING else []
            continue
        size = len(payload) // parts + 1
        pieces = [payload[i : i + size] for i in range(0, len(payload), size)] or [b""]
        for n, piece in enumerate(pieces):
            kind = opcode if n == 0 else Opcode.CONT
            stream += frame(kind, piece, mask=mask, fin=n == len(pieces) - 1)
        expected.append(payload if opcode is Opcode.BINARY else wire.Text(payload.decode()))  # type: ignore[arg-type]
    parser, got = wire.FrameParser(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        got += parser.feed(stream[:cut])
        stream = stream[cut:]
    assert got == expected


@pytest.mark.parametrize(
    ("data", "code", "why"),
    [
        (b"\xc2\x00", 1002, "reserved bits"),
        (b"\x83\x00", 1002, "unknown opcode"),
        (b"\x89\x7e\x00\x7e" + b"x" * 126, 1002, "control frame"),
        (b"\x09\x00", 1002, "control frame"),
        (b"\x80\x00", 1002, "continuation"),
        (b"\x01\x00\x81\x00", 1002, "continuation"),
        (b"\x81\x01\xff", 1007, "not UTF-8"),
        (b"\x82\x7f" + struct.pack("!Q", 2**40), 1009, "over 65536 bytes"),
        (b"\x02\x7e\xff\xff" + b"x" * 65535 + b"\x80\x02", 1009, "over 65536 bytes"),
        (b"\x02\x00" + b"\x00\x00" * 1025, 1009, "1024 parts"),
    ],
)
def test_violations(data: bytes, code: int, why: str) -> None:
    with pytest.raises(wire.Violation, match=why) as caught:
        wire.FrameParser().feed(data)
    assert caught.value.code == code


@given(st.binary(max_size=300))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    parser = wire.FrameParser()
    try:
        parser.feed(data)
    except wire.Violation:
        return


def test_an_oversized_frame_is_refused_by_its_head_alone() -> None:
    with pytest.raises(wire.Violation):
        wire.FrameParser(max_bytes=10).feed(b"\x82\x0b")


@pytest.mark.parametrize(
    ("payload", "close"),
    [(b"", (1005, "")), (struct.pack("!H", 1000) + b"bye", (1000, "bye"))],
)
def test_close(payload: bytes, close: tuple[int, str]) -> None:
    data = frame(Opcode.CLOSE, payload, mask=True)
    parser = wire.FrameParser()
    assert parser.feed(data + b"\xff\xff") == [wire.Close(*close)]
    assert parser.feed(b"\xff\xff") == []


def test_close_frame_cuts_its_reason_at_a_letter() -> None:
    data = wire.close_frame(1008, "я" * 100)
    assert len(data) <= 127
    assert wire.FrameParser().feed(data) == [wire.Close(1008, "я" * 61)]
