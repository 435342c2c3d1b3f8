"""The keys of the wire: RFC 4733, SIP INFO, tones."""

from __future__ import annotations

from pathlib import Path

import lab_keys
import lab_sound
import pytest
from lab_keys import EVENTS, KeyWatch, WireKey, dtmf, tone_keys
from lab_wire import Packet, linear

BEGIN = 1_000_000.0


def event(at_ms: float, number: int, stamp: int, *, end: bool = False, kind: int = 101) -> Packet:
    head = bytes([0x80, kind, 0, 0]) + stamp.to_bytes(4, "big") + bytes(4)
    return Packet(BEGIN + at_ms / 1000, 1, 2, head + bytes([number, 0x80 * end + 10, 3, 32]))


def info(at_ms: float, sequence: int, body: str) -> Packet:
    text = f"INFO sip:1@x SIP/2.0\r\nCSeq: {sequence} INFO\r\nX: y\r\n\r\n{body}"
    return Packet(BEGIN + at_ms / 1000, 1, 2, text.encode())


def told(watch: KeyWatch) -> list[tuple[str, str, int, int]]:
    keys = watch.keys(BEGIN)
    return [(key.key, key.way, round(key.down_ms), round(key.up_ms)) for key in keys]


def test_an_event_is_one_key_from_its_first_packet_to_its_first_end() -> None:
    watch = KeyWatch()
    for at_ms in (100, 120, 140):
        watch.media(event(at_ms, 11, 7000))
    for at_ms in (200, 201, 202):
        watch.media(event(at_ms, 11, 7000, end=True))
    watch.media(event(300, 5, 9000, end=True))
    assert told(watch) == [("#", "rfc4733", 100, 200), ("5", "rfc4733", 300, 300)]


def test_the_same_key_twice_is_two() -> None:
    watch = KeyWatch()
    for stamp in (1, 2):
        watch.media(event(stamp * 100, 1, stamp, end=True))
    assert [key for key, *_ in told(watch)] == ["1", "1"]


@pytest.mark.parametrize(
    "packet",
    [event(0, 16, 1), event(0, 1, 1, kind=8), Packet(BEGIN, 1, 2, bytes(172))],
    ids=["a flash", "another payload", "audio"],
)
def test_what_is_no_key(packet: Packet) -> None:
    watch = KeyWatch()
    watch.media(packet)
    assert told(watch) == []


def test_an_info_counts_once_and_tells_its_length() -> None:
    watch = KeyWatch()
    for at_ms in (400, 900):
        watch.signal(info(at_ms, 3, "Signal=4\r\nDuration=250\r\n"))
    watch.signal(info(1000, 4, "Signal= *\r\n"))
    watch.signal(info(1100, 5, "picture_fast_update"))
    watch.signal(Packet(BEGIN, 1, 2, b"BYE sip:1@x SIP/2.0\r\nCSeq: 6 BYE\r\n\r\nSignal=1"))
    assert told(watch) == [("4", "info", 150, 400), ("*", "info", 1000, 1000)]


@pytest.mark.parametrize("key", EVENTS)
def test_tones(key: str) -> None:
    tape = lab_sound.silence(123) + dtmf(key, 80) + lab_sound.silence(200)
    (found,) = tone_keys(tape)
    assert (found.key, found.way) == (key, "inband")
    assert found.down_ms == pytest.approx(123, abs=1)
    assert found.up_ms == pytest.approx(203, abs=1)


def test_a_tone_with_a_hole_is_one_key() -> None:
    tape = dtmf("8", 43) + lab_sound.silence(20) + dtmf("8", 57) + lab_sound.silence(100)
    assert [key.key for key in tone_keys(tape)] == ["8"]


@pytest.mark.parametrize(
    "sound",
    [lab_sound.tone(300, 770), lab_sound.tone(300, 1000), dtmf("1", 20), lab_sound.silence(300)],
    ids=["half a key", "no key's", "too short", "nothing"],
)
def test_other_sounds_are_no_keys(sound: lab_sound.Samples[int]) -> None:
    assert tone_keys(sound + lab_sound.silence(100)) == []


def test_what_is_no_key_has_no_tones() -> None:
    for wrong in ("E", "12", ""):
        with pytest.raises(ValueError, match="no key"):
            dtmf(wrong)


def alaw_of(sound: lab_sound.Samples[int]) -> bytes:
    return bytes(min(range(256), key=lambda code: abs(linear(code) - one)) for one in sound)


def test_kept_on_disk_with_the_tones(tmp_path: Path) -> None:
    """The third packet of the tone came 200 ms late: it is one key all the same."""
    keys = [WireKey("1", "info", 1.5, 2.5)]
    audio = alaw_of(lab_sound.silence(20) + dtmf("7", 80) + lab_sound.silence(60))
    times = [0, 20, 40, 260, 260, 260, 260, 260]
    pieces = [
        (BEGIN + at / 1000, audio[160 * number : 160 * number + 160])
        for number, at in enumerate(times)
    ]
    lab_keys.write(tmp_path / "1.keys", BEGIN, keys, pieces)
    begin, found = lab_keys.read(tmp_path / "1.keys")
    assert begin == BEGIN
    assert found[0] == keys[0]
    assert (found[1].key, found[1].way, len(found)) == ("7", "inband", 2)
    assert (found[1].down_ms, found[1].up_ms) == pytest.approx((20, 260), abs=2)
