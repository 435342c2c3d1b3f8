"""The tapes: every packet once, in order, at its time."""

from __future__ import annotations

from pathlib import Path

import lab_sound
import pytest
from lab_sound import spans
from lab_tapes import Piece, Recorder, assemble
from lab_wire import Packet

BEGIN = 1_000_000.0
LOUD, QUIET = b"\x2a" * 160, b"\xd5" * 160  # alaw
PBX_SIP, SUBSCRIBER_SIP, PBX_RTP, SUBSCRIBER_RTP = 20000, 20001, 20100, 20500


def stream(*at_ms: float, audio: bytes = LOUD) -> list[Piece]:
    return [Piece(BEGIN + at / 1000, audio) for at in at_ms]


def sounds(pieces: list[Piece], length_ms: int = 3000) -> list[tuple[float, float]]:
    tape = assemble(pieces, BEGIN, BEGIN + length_ms / 1000)
    assert lab_sound.length_ms(tape.samples) == length_ms
    return [(span.start_ms, span.end_ms) for span in spans(tape.samples, gap_ms=10)]


def test_an_empty_tape_is_silence() -> None:
    assert sounds([]) == []


def test_a_packet_that_came_just_before_the_end_is_whole() -> None:
    tape = assemble(stream(0, 20, 40), BEGIN, BEGIN + 0.045)
    assert len(tape.samples) == 480


def test_packets_stand_one_after_the_other() -> None:
    assert sounds(stream(*range(500, 1500, 20))) == [(500, 1500)]


def test_a_late_packet_stands_where_it_belongs() -> None:
    """A machine that was busy for 300 ms brings fifteen at once."""
    times = [*range(0, 500, 20), *[800] * 15, *range(800, 1500, 20)]
    assert sounds(stream(*times)) == [(0, 1500)]
    tape = assemble(stream(*times), BEGIN, BEGIN + 2)
    assert tape.late_ms == pytest.approx(300)


def test_what_never_came_is_silence() -> None:
    assert sounds(stream(*range(0, 500, 20), *range(700, 1000, 20))) == [(0, 500), (700, 1000)]


def test_lost_ticks_of_the_sender_move_what_follows() -> None:
    """It stood still for 60 ms and did not catch up."""
    assert sounds(stream(*range(0, 500, 20), *range(560, 1000, 20))) == [(0, 500), (560, 1000)]


def test_jitter_moves_nothing() -> None:
    times = [at + 9 * (at // 20 % 3) for at in range(100, 1500, 20)]
    assert sounds(stream(*times)) == [(100, 1500)]


def test_a_pause_ends_when_the_next_packet_comes_however_late_the_last_were() -> None:
    times = [*range(0, 400, 20), 460, 460, 460, 460, *range(2000, 2200, 20)]
    starts = sounds(stream(*times))
    assert starts[-1] == (2000, 2200)
    assert sum(end - start for start, end in starts) == 480 + 200


def test_what_came_before_and_after_is_not_on_it() -> None:
    assert sounds(stream(*range(-200, 3200, 20))) == [(0, 3000)]


class TestRecorder:
    """It follows the calls by their SIP."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        for name in ("calls", "heard", "said"):
            (tmp_path / name).mkdir()
        return tmp_path

    @pytest.fixture
    def recorder(self, home: Path) -> Recorder:
        return Recorder(home, PBX_SIP, SUBSCRIBER_SIP)

    @staticmethod
    def sip(line: str, call: str, at: float, *, ours: bool, media: int | None = None) -> Packet:
        ports = (PBX_SIP, SUBSCRIBER_SIP) if ours else (SUBSCRIBER_SIP, PBX_SIP)
        body = f"\r\nm=audio {media} RTP/AVP 8\r\n" if media else "\r\n"
        text = f"{line}\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\n{body}"
        return Packet(BEGIN + at, *ports, text.encode())

    @staticmethod
    def rtp(target: int, at: float, audio: bytes = LOUD, kind: int = 8) -> Packet:
        return Packet(BEGIN + at, 9, target, bytes([0x80, kind]) + bytes(10) + audio)

    def dialled(
        self, recorder: Recorder, call: str, pbx: int, subscriber: int, at: float = 0
    ) -> None:
        recorder.feed(self.sip("INVITE sip:1@x SIP/2.0", call, at, ours=True, media=pbx))
        recorder.feed(self.sip("SIP/2.0 100 Trying", call, at, ours=False))
        recorder.feed(self.sip("SIP/2.0 200 OK", call, at, ours=False, media=subscriber))

    def begins(self, home: Path, call: str, number: str, at: float = 0.0) -> None:
        (home / "calls" / number).write_text(f"{call} {BEGIN + at:.6f}\n")

    def test_two_calls_have_their_own_tapes(self, recorder: Recorder, home: Path) -> None:
        for number in range(2):
            ports = PBX_RTP + 2 * number, SUBSCRIBER_RTP + 2 * number
            self.dialled(recorder, f"call-{number}", *ports)
            self.begins(home, f"call-{number}", f"100000{number}")
        recorder.begin()
        assert list((home / "calls").iterdir()) == []
        for packet in range(50):
            recorder.feed(self.rtp(SUBSCRIBER_RTP, packet / 50))
            recorder.feed(self.rtp(PBX_RTP + 2, packet / 50))
            recorder.feed(self.rtp(PBX_RTP, packet / 50, kind=101))
        for number in range(2):
            recorder.feed(self.sip("BYE sip:x SIP/2.0", f"call-{number}", 1.5, ours=number == 0))
        loud = {
            f"{side}{number}": bool(spans(lab_sound.read(home / side / f"100000{number}.wav")))
            for number in range(2)
            for side in ("heard", "said")
        }
        assert loud == {"heard0": True, "said0": False, "heard1": False, "said1": True}

    def test_a_port_that_is_used_again_belongs_to_the_new_call(
        self, recorder: Recorder, home: Path
    ) -> None:
        for number in range(2):
            self.dialled(recorder, f"call-{number}", PBX_RTP, SUBSCRIBER_RTP, number)
            self.begins(home, f"call-{number}", f"100000{number}", number + 0.1)
            recorder.feed(self.rtp(SUBSCRIBER_RTP, number + 0.5))
            recorder.feed(self.sip("BYE sip:x SIP/2.0", f"call-{number}", number + 0.9, ours=True))
        for number in range(2):
            tape = lab_sound.read(home / "heard" / f"100000{number}.wav")
            assert [span.start_ms for span in spans(tape)] == [500]

    def test_a_tape_begins_with_the_answer_though_it_is_told_later(
        self, recorder: Recorder, home: Path
    ) -> None:
        self.dialled(recorder, "c", PBX_RTP, SUBSCRIBER_RTP)
        recorder.feed(self.rtp(SUBSCRIBER_RTP, 0.1))
        self.begins(home, "c", "1000001", 0.3)
        recorder.feed(self.sip("BYE sip:x SIP/2.0", "c", 1, ours=True))
        assert len(spans(lab_sound.read(home / "heard" / "1000001.wav"))) == 1

    def test_a_refused_call_ends_its_tape(self, recorder: Recorder, home: Path) -> None:
        recorder.feed(self.sip("INVITE sip:1@x SIP/2.0", "c", 0, ours=True, media=PBX_RTP))
        recorder.feed(self.sip("SIP/2.0 183 Progress", "c", 0, ours=False, media=SUBSCRIBER_RTP))
        self.begins(home, "c", "1090001")
        recorder.feed(self.rtp(PBX_RTP, 0.2))
        recorder.feed(self.sip("SIP/2.0 480 Gone", "c", 1, ours=False))
        assert spans(lab_sound.read(home / "said" / "1090001.wav")) != []

    def test_a_refused_reinvite_does_not(self, recorder: Recorder, home: Path) -> None:
        self.dialled(recorder, "c", PBX_RTP, SUBSCRIBER_RTP)
        self.begins(home, "c", "1000001")
        recorder.feed(self.sip("SIP/2.0 488 No", "c", 1, ours=False))
        assert not list((home / "heard").iterdir())

    def test_a_call_without_a_beginning_leaves_no_tape(
        self, recorder: Recorder, home: Path
    ) -> None:
        self.dialled(recorder, "c", PBX_RTP, SUBSCRIBER_RTP)
        recorder.feed(self.rtp(SUBSCRIBER_RTP, 0.2))
        recorder.feed(self.sip("BYE sip:x SIP/2.0", "c", 1, ours=True))
        assert not list((home / "heard").iterdir())

    def test_a_beginning_that_is_half_written_is_read_again(
        self, recorder: Recorder, home: Path
    ) -> None:
        self.dialled(recorder, "c", PBX_RTP, SUBSCRIBER_RTP)
        (home / "calls" / "1000001").write_text("c 10000")
        recorder.begin()
        self.begins(home, "c", "1000001")
        recorder.feed(self.sip("BYE sip:x SIP/2.0", "c", 1, ours=True))
        assert (home / "heard" / "1000001.wav").exists()
