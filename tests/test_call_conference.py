"""Conferences: seats, who is there, who said what, whispers; nothing is left of one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from backend.call import conference as module
from backend.call import tap as taps
from backend.call import whisper as whispers
from backend.call.conference import Conference
from backend.call.lent import LentAgi
from backend.call.others import OtherChannels
from backend.call.playback import PlayEnd
from backend.call.prompt import Sound
from backend.errors import (
    AsteriskUnavailable,
    BadRequest,
    CommandRefused,
    CommandTimeout,
    Hangup,
    RecognitionUnavailable,
)
from backend.ports import AmiReply
from backend.protocol import fork
from backend.protocol.agi import Reply
from tests.fakes.pbx import FakePbx, FakeStreams, Headers, info, refusal, services
from tests.fakes.speech import FakeRecognizer, quiet, spoken

ME = "PJSIP/x-1"


class Room:
    """ConfBridge: who sits in the room ``talk``; kicks and mutes obeyed, forks given."""

    def __init__(self, pbx: FakePbx) -> None:
        self.pbx = pbx
        self.seats: dict[str, str] = {}  # unique id → channel
        self.muted: set[str] = set()
        self.kicked = threading.Event()  # the call itself
        self.deaf = False  # kicks do nothing
        self.urls: dict[str, str] = {}  # channel → where its fork was sent
        pbx.answers |= {
            "ConfbridgeList": self._list,
            "ConfbridgeKick": self._kick,
            "ConfbridgeMute": lambda h: self._mute(h, on=True),
            "ConfbridgeUnmute": lambda h: self._mute(h, on=False),
            "AudioFork": self._fork,
        }

    def sit(self, uniqueid: str, channel: str) -> None:
        self.seats[uniqueid] = channel
        self._told("ConfbridgeJoin", uniqueid)

    def go(self, uniqueid: str) -> None:
        del self.seats[uniqueid]
        self._told("ConfbridgeLeave", uniqueid)

    def _told(self, name: str, uniqueid: str) -> None:
        self.pbx.event(name, uniqueid, Conference="talk")

    def _list(self, headers: Headers) -> AmiReply:
        if not self.seats:
            return refusal("No Conference by that name found.")
        events = tuple(
            {
                "Event": "ConfbridgeList",
                "Uniqueid": uniqueid,
                "Channel": channel,
                "CallerIDNum": "100",
                "CallerIDName": "<unknown>",
                "Muted": "Yes" if channel in self.muted else "No",
                "Talking": "No",
            }
            for uniqueid, channel in self.seats.items()
        )
        return AmiReply(True, "", {}, (*events, {"Event": "ConfbridgeListComplete"}))

    def _kick(self, headers: Headers) -> AmiReply:
        ids = {channel: uniqueid for uniqueid, channel in self.seats.items()}
        channel = str(headers["Channel"])
        if channel not in ids:
            return refusal("No Channel by that name found in Conference.")
        if not self.deaf:
            self.go(ids[channel])
            if channel == ME:
                self.kicked.set()
        return AmiReply(True, "User kicked", {})

    def _mute(self, headers: Headers, *, on: bool) -> AmiReply:
        (self.muted.add if on else self.muted.discard)(str(headers["Channel"]))
        return AmiReply(True, "", {})

    def _fork(self, headers: Headers) -> AmiReply:
        channel = str(headers["Channel"])
        if channel not in self.seats.values():
            return refusal("No such channel")
        self.urls[channel] = str(headers["WsServer"])
        return AmiReply(True, "", {"AudioForkID": f"fork-{channel}"})


class SeatAgi:
    """The call's AGI: EXEC ConfBridge takes a seat in the room and blocks until the kick."""

    def __init__(self, room: Room) -> None:
        self.env: dict[str, str] = {}
        self.asterisk_lost = False
        self.aborted: str | None = None
        self.commands: list[tuple[str, ...]] = []
        self.hung_up = False
        self.full = False
        self._room = room

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        self.poll_hangup()
        self.commands.append((command, *map(str, args)))
        if command == "GET VARIABLE":
            return Reply(200, "", "1", "FULL")
        if command == "EXEC" and not self.full:
            self._room.sit("u-1", ME)
            assert self._room.kicked.wait(10)
            self.poll_hangup()
        return Reply(200, "", "0")

    def poll_hangup(self) -> None:
        if self.hung_up:
            raise Hangup("the caller hung up")

    def hang_up(self) -> None:
        self.hung_up = True
        self._room.kicked.set()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.02)
    monkeypatch.setattr(module, "SEAT_S", 0.5)
    monkeypatch.setattr(taps, "CONNECT_S", 0.3)
    monkeypatch.setattr(whispers, "POLL_S", 0.02)
    monkeypatch.setattr(whispers, "STALL_S", 0.3)


@pytest.fixture
def pbx() -> FakePbx:
    return FakePbx()


@pytest.fixture
def room(pbx: FakePbx) -> Room:
    return Room(pbx)


@pytest.fixture
def agi(room: Room) -> SeatAgi:
    return SeatAgi(room)


@pytest.fixture
def streams() -> FakeStreams:
    return FakeStreams()


@pytest.fixture
def recognizer() -> FakeRecognizer:
    return FakeRecognizer()


@pytest.fixture
def talk(
    pbx: FakePbx,
    room: Room,
    agi: SeatAgi,
    streams: FakeStreams,
    recognizer: FakeRecognizer,
) -> Iterator[Conference]:
    """The conference ``talk``; at the end nobody listens, and no stream is claimed."""
    lent = LentAgi(agi)
    others = OtherChannels(lent, info(), services(pbx, streams=streams, recognizer=recognizer))
    yield others.conference("talk")
    others.close()
    room.kicked.set()
    assert pbx.watch.watched == 0
    assert sorted(streams.released) == sorted(streams.claimed)
    assert all(stream.closed for stream in recognizer.streams)


class Module:
    """A participant's fork: hears whispers as fast as they come."""

    def __init__(self, streams: FakeStreams, url: str, *, rate_hz: int = 8000) -> None:
        self.key = url.rpartition("/")[2]
        self.listener = streams.claimed[self.key]
        self.start: fork.Start | None = fork.Start(
            "f", "PJSIP/a-1", channel_rate_hz=rate_hz, play_buffer_ms=4000
        )
        self.ready = True
        self.items: list[fork.ToModule | bytes] = []
        self.silent = False  # the channel is sent nothing: whispers stand still
        self._lock = threading.RLock()
        self.listener.on_open(self)

    def run(self, action: Callable[[], None]) -> None:
        with self._lock:
            action()

    def send(self, *items: fork.ToModule | bytes) -> None:
        for item in items:
            self.items.append(item)
            if isinstance(item, fork.End) and not self.silent:
                how, heard_ms = "end", len(self.pcm) * 500 // self.rate_hz
            elif isinstance(item, fork.Clear) and item.play is not None:
                how, heard_ms = "clear", 0
            else:
                if isinstance(item, bytes) and not self.silent:
                    heard_ms = len(self.pcm) * 500 // self.rate_hz
                    self.listener.on_message(fork.Buffer(self.play, heard_ms, 0))
                continue
            self.listener.on_message(fork.PlayOver(self.play, how, heard_ms))

    @property
    def rate_hz(self) -> int:
        assert self.start is not None
        return self.start.channel_rate_hz

    @property
    def play(self) -> str:
        return next(one.play for one in reversed(self.items) if isinstance(one, fork.Play))

    @property
    def pcm(self) -> bytes:
        return b"".join(item for item in self.items if isinstance(item, bytes))


def forked(room: Room, streams: FakeStreams, channel: str, *, rate_hz: int = 8000) -> Module:
    """The participant's fork connects, once it was asked for."""
    for _ in range(500):
        if channel in room.urls:
            return Module(streams, room.urls[channel], rate_hz=rate_hz)
        threading.Event().wait(0.01)
    raise AssertionError(f"no fork of {channel} was asked for")


def meanwhile(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a,b", "${X}", "a/b"])
def test_a_name_is_checked(pbx: FakePbx, agi: SeatAgi, name: str) -> None:
    with pytest.raises(BadRequest, match="id:"):
        OtherChannels(LentAgi(agi), info(), services(pbx)).conference(name)


# -- a seat


def test_a_seat_is_taken_and_left(talk: Conference, agi: SeatAgi, room: Room) -> None:
    talk.create(max_participants=3)
    talk.join(muted=True)
    assert talk.joined
    assert [one.own for one in talk.participants()] == [True]
    assert ("SET VARIABLE", "CONFBRIDGE(user,startmuted)", "yes") in agi.commands
    assert ("SET VARIABLE", "CONFBRIDGE(bridge,max_members)", "3") in agi.commands
    assert agi.commands[-1] == ("EXEC", "ConfBridge", "talk")
    talk.join()
    talk.leave()
    assert not talk.joined
    assert talk.participants() == ()
    talk.leave()


def test_while_it_sits_its_channel_is_busy(pbx: FakePbx, room: Room, agi: SeatAgi) -> None:
    lent = LentAgi(agi)
    talk = OtherChannels(lent, info(), services(pbx)).conference("talk")
    talk.join()
    with pytest.raises(BadRequest, match=r"it sits in conference talk: leave\(\) first"):
        lent.command("STREAM FILE", "x", timeout_s=1)
    lent.poll_hangup()
    room.go("u-1")
    room.kicked.set()  # somebody else puts it out
    talk.leave()
    assert lent.command("NOOP", timeout_s=1).result == "0"
    talk.close()


def test_seats_are_left_before_the_robot_hangs_up(pbx: FakePbx, room: Room, agi: SeatAgi) -> None:
    lent = LentAgi(agi)
    others = OtherChannels(lent, info(), services(pbx))
    talk = others.conference("talk")
    talk.join()
    others.leave_seats()
    assert not talk.joined
    assert lent.command("HANGUP", timeout_s=1).result == "0"
    talk.close()


def test_a_caller_in_his_seat_hangs_up(talk: Conference, agi: SeatAgi, room: Room) -> None:
    talk.join()
    room.go("u-1")
    agi.hang_up()
    with pytest.raises(Hangup):
        talk.hear(timeout_s=5)


def test_the_room_is_full(talk: Conference, agi: SeatAgi) -> None:
    agi.full = True
    with pytest.raises(CommandRefused, match="no seat: FULL"):
        talk.join()


def test_a_kick_that_does_nothing(talk: Conference, room: Room) -> None:
    talk.join()
    room.deaf = True
    with pytest.raises(CommandTimeout, match="still seated"):
        talk.leave()
    room.deaf = False


def test_create_wants_a_new_room(talk: Conference, room: Room) -> None:
    room.sit("a", "PJSIP/a-1")
    with pytest.raises(BadRequest, match="exists, with 1 participants"):
        talk.create()
    with pytest.raises(BadRequest, match="max_participants"):
        talk.create(max_participants=0)


# -- who is there


def test_participants_are_muted_and_put_out(talk: Conference, room: Room) -> None:
    room.sit("a", "PJSIP/a-1")
    room.sit("b", "PJSIP/b-1")
    first, second = talk.participants()
    assert (first.id, first.channel, first.number, first.name) == ("a", "PJSIP/a-1", "100", "")
    talk.mute(first)
    assert [one.muted for one in talk.participants()] == [True, False]
    talk.unmute("a")
    talk.kick("PJSIP/b-1")
    assert [one.id for one in talk.participants()] == ["a"]
    with pytest.raises(BadRequest, match="No Channel by that name"):
        talk.kick(second)
    with pytest.raises(BadRequest, match="'nobody' is not in conference talk"):
        talk.mute("nobody")
    room.deaf = True
    with pytest.raises(CommandTimeout, match="does not leave"):
        talk.kick("a")


def test_without_ami(talk: Conference, pbx: FakePbx) -> None:
    def away(headers: Headers) -> AmiReply:
        raise AsteriskUnavailable("away")

    pbx.answers["ConfbridgeList"] = away
    with pytest.raises(AsteriskUnavailable):
        talk.participants()
    assert not talk.hear(timeout_s=0.1).recognized, "who is heard already would be heard on"


# -- hearing


def say(module_: Module, word: int) -> None:
    module_.listener.on_audio(quiet(10) + spoken(word) + quiet(40))


def test_who_said_what(talk: Conference, room: Room, streams: FakeStreams) -> None:
    room.sit("a", "PJSIP/a-1")
    assert not talk.hear(timeout_s=0.05).recognized
    first = forked(room, streams, "PJSIP/a-1")
    say(first, 7)
    heard = talk.hear(timeout_s=5)
    assert (heard.text, heard.participant and heard.participant.id) == ("7", "a")
    room.sit("b", "PJSIP/b-1")
    late = meanwhile(lambda: say(forked(room, streams, "PJSIP/b-1"), 8))
    heard = talk.hear(timeout_s=5)
    late.join()
    assert (heard.text, heard.participant and heard.participant.id) == ("8", "b")
    say(first, 9)
    room.go("b")
    assert talk.hear(timeout_s=5).text == "9"
    assert not talk.hear(timeout_s=0.1).recognized
    assert len(streams.released) == 1, "of him who went"


def test_recognition_fails(
    talk: Conference, room: Room, streams: FakeStreams, recognizer: FakeRecognizer
) -> None:
    room.sit("a", "PJSIP/a-1")
    talk.hear(timeout_s=0.05)
    recognizer.streams[0].fail("no more")
    with pytest.raises(RecognitionUnavailable, match="PJSIP/a-1: no more"):
        talk.hear(timeout_s=5)
    talk.hear(timeout_s=0.05)
    assert len(recognizer.streams) == 2, "it begins anew"


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_a_time_limit_is_checked(talk: Conference, timeout_s: float) -> None:
    with pytest.raises(BadRequest, match="timeout_s"):
        talk.hear(timeout_s=timeout_s)


# -- whispers


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
def test_a_whisper_goes_to_one(
    talk: Conference, room: Room, streams: FakeStreams, recognizer: FakeRecognizer, rate_hz: int
) -> None:
    room.sit("a", "PJSIP/a-1")
    room.sit("b", "PJSIP/b-1")
    modules: list[Module] = []
    late = meanwhile(lambda: modules.append(forked(room, streams, "PJSIP/a-1", rate_hz=rate_hz)))
    played = talk.whisper("a", "hello")
    late.join()
    assert (played.end, played.end_ms) == (PlayEnd.COMPLETED, 2000)
    (module_,) = modules
    opened = [item for item in module_.items if isinstance(item, fork.Play)]
    assert [(one.rate_hz, one.whisper) for one in opened] == [(rate_hz, True)]
    assert len(module_.pcm) == 2000 * rate_hz // 500
    assert "PJSIP/b-1" not in room.urls
    assert recognizer.streams == [], "nobody is listened to for it"


def test_all_hear_what_is_played(talk: Conference, room: Room, streams: FakeStreams) -> None:
    room.sit("a", "PJSIP/a-1")
    room.sit("b", "PJSIP/b-1")
    late = [
        meanwhile(lambda name=name: forked(room, streams, name))  # type: ignore[misc]
        for name in ("PJSIP/a-1", "PJSIP/b-1")
    ]
    ends = talk.play("hello")
    for thread in late:
        thread.join()
    assert {key: played.end for key, played in ends.items()} == {
        "a": PlayEnd.COMPLETED,
        "b": PlayEnd.COMPLETED,
    }


def test_a_whisper_whose_channel_is_sent_nothing_is_lost(
    talk: Conference, room: Room, streams: FakeStreams
) -> None:
    room.sit("a", "PJSIP/a-1")
    talk.hear(timeout_s=0.05)
    module_ = forked(room, streams, "PJSIP/a-1")
    module_.silent = True
    assert talk.whisper("a", "hello").end is PlayEnd.LOST
    assert isinstance(module_.items[-1], fork.Clear)


def test_a_fork_that_does_not_come(talk: Conference, room: Room) -> None:
    room.sit("a", "PJSIP/a-1")
    played = talk.whisper("a", "hello")
    assert (played.end, played.end_ms) == (PlayEnd.LOST, 0)


def test_the_caller_hangs_up_in_a_whisper(
    talk: Conference, room: Room, streams: FakeStreams, agi: SeatAgi
) -> None:
    room.sit("a", "PJSIP/a-1")
    talk.hear(timeout_s=0.05)
    module_ = forked(room, streams, "PJSIP/a-1")
    module_.silent = True
    agi.hung_up = True
    with pytest.raises(Hangup):
        talk.whisper("a", "hello")
    assert any(isinstance(item, fork.Clear) for item in module_.items), "it is stopped"


def test_asterisks_own_sounds_cannot_be_whispered(talk: Conference, room: Room) -> None:
    room.sit("a", "PJSIP/a-1")
    with pytest.raises(BadRequest, match="sound of Asterisk's own"):
        talk.whisper("a", Sound("demo-thanks"))
