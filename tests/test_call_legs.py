"""Legs: how each ends, and that nothing of one is left; a bridge; a transfer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from backend.call import bridge, leg_dialling, legs
from backend.call.bridge import BridgeEnd, BridgeSide, TransferStatus
from backend.call.legs import Leg, LegStatus
from backend.call.lent import LentAgi
from backend.call.others import MAX_LEGS, OtherChannels
from backend.errors import AsteriskUnavailable, BadRequest, CommandTimeout, Hangup
from backend.model import Reason
from backend.ports import AmiReply
from backend.protocol.agi import Reply
from tests.fakes.pbx import FakePbx, FakeStreams, Headers, info, refusal, services

QUICK_S = 0.05


class CallAgi:
    """The call's own AGI session. ``on_exec``: what the application does; its result's data."""

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        self.asterisk_lost = False
        self.aborted: str | None = None
        self.hung_up = False
        self.variables: dict[str, str] = {}
        self.executed: list[tuple[str, str]] = []
        self.on_exec: Callable[[str, str], None] = lambda name, data: None

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        self.poll_hangup()
        if command == "EXEC":
            self.executed.append((str(args[0]), str(args[1])))
            self.on_exec(str(args[0]), str(args[1]))
        if command == "GET VARIABLE":
            return Reply(200, "", "1", self.variables.get(str(args[0])))
        if command == "GET FULL VARIABLE":
            found = [self.variables.get(n, "") for n in ("DIALSTATUS", "HANGUPCAUSE", "TIME")]
            return Reply(200, "", "1", "|".join(found))
        return Reply(200, "", "0")

    def poll_hangup(self) -> None:
        if self.hung_up:
            raise Hangup("the caller hung up")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_S", "CHANNEL_S", "CAUSE_S", "ANSWER_GRACE_S"):
        monkeypatch.setattr(legs, name, QUICK_S)
    monkeypatch.setattr(leg_dialling, "SECOND_EVENT_S", QUICK_S)
    monkeypatch.setattr(leg_dialling, "NO_CHANNEL_S", QUICK_S)
    monkeypatch.setattr(legs, "BACK_S", 1.0)
    monkeypatch.setattr(bridge, "EVENT_S", QUICK_S)
    monkeypatch.setattr("backend.call.others.ANSWER_GRACE_S", QUICK_S)


@pytest.fixture
def pbx() -> Iterator[FakePbx]:
    """Whatever a test does: no thread of a leg is left, none is expected, nobody listens."""
    pbx = FakePbx()
    yield pbx
    for session in pbx.sessions.values():
        assert session.aborted or session.env
    pbx.join()
    assert pbx.desk.legs == 0
    assert pbx.watch.watched == 0
    assert not [t for t in threading.enumerate() if t.name.endswith("-hangup")]


@pytest.fixture
def agi() -> CallAgi:
    return CallAgi()


@pytest.fixture
def others(pbx: FakePbx, agi: CallAgi) -> Iterator[OtherChannels]:
    others = OtherChannels(LentAgi(agi), info(), services(pbx))
    yield others
    others.close()


def dial(others: OtherChannels, timeout_s: float = 5.0) -> Leg:
    return others.dial("74951234567", timeout_s, None, "default")


# -- dial


@pytest.mark.parametrize(
    ("cause", "originate", "status"),
    [
        ("17", "0", LegStatus.BUSY),
        ("21", "0", LegStatus.REJECTED),
        ("1", "0", LegStatus.INVALID_NUMBER),
        ("20", "0", LegStatus.UNREACHABLE),
        ("34", "0", LegStatus.CONGESTION),
        ("0", "3", LegStatus.NO_ANSWER),
        ("16", "0", LegStatus.FAILED),
    ],
)
@pytest.mark.parametrize("order", ["hangup first", "response first"])
def test_nobody_answers(
    pbx: FakePbx, others: OtherChannels, cause: str, originate: str, status: str, order: str
) -> None:
    def fails(leg: str) -> None:
        pbx.rings(leg)
        if order == "hangup first":
            pbx.gone(leg, cause)
            pbx.failed(leg, originate)
        else:
            pbx.failed(leg, originate)
            pbx.gone(leg, cause)

    pbx.on_originate = fails
    leg = dial(others)
    assert (leg.status, leg.over, leg.parked) == (status, True, False)
    assert leg.cause == int(cause)
    assert leg.reason is not None
    with pytest.raises(Hangup):
        leg.speak("hello")
    assert "Hangup" not in pbx.names(), "there is nothing to hang up"


def test_one_of_the_two_events_is_lost(pbx: FakePbx, others: OtherChannels) -> None:
    def busy(leg: str) -> None:
        pbx.rings(leg)
        pbx.gone(leg, "17")

    pbx.on_originate = busy
    assert dial(others).status is LegStatus.BUSY


def test_no_channel_could_be_made(pbx: FakePbx, others: OtherChannels) -> None:
    pbx.on_originate = lambda leg: pbx.failed(leg, "0")
    leg = dial(others)
    assert (leg.status, leg.reason, leg.cause) == (LegStatus.FAILED, Reason.OTHER, None)


def test_asterisk_says_nothing(pbx: FakePbx, others: OtherChannels) -> None:
    """The events are lost: it is hung up, be it there or not."""
    leg = others.dial("74951234567", 1.0, None, "default")
    assert leg.status is LegStatus.NO_ANSWER
    assert pbx.names() == ["Originate", "Hangup"]


def test_originate_is_refused(pbx: FakePbx, others: OtherChannels) -> None:
    pbx.answers["Originate"] = lambda _: refusal("Extension does not exist.")
    leg = dial(others)
    assert (leg.status, leg.reason) == (LegStatus.FAILED, Reason.ASTERISK_REFUSED)
    assert pbx.names() == ["Originate"]


@pytest.mark.parametrize("error", [AsteriskUnavailable("away"), CommandTimeout("late")])
def test_no_word_about_originate(pbx: FakePbx, others: OtherChannels, error: Exception) -> None:
    """It may have been carried out: the leg is hung up, and refused should it come."""

    def lost(headers: object) -> AmiReply:
        raise error

    pbx.answers["Originate"] = lost
    leg = dial(others)
    assert (leg.status, leg.reason) == (LegStatus.FAILED, Reason.ASTERISK_LOST)
    assert pbx.names() == ["Originate", "Hangup"]
    late = pbx.comes(leg.id)
    pbx.join()
    assert not late.commands, "nobody took it: its thread is over, its connection closed"


def test_what_is_sent(pbx: FakePbx, others: OtherChannels) -> None:
    pbx.on_originate = lambda leg: pbx.failed(leg, "0")
    others.dial("+74951234567", 12.5, "74950000000", "default")
    headers = pbx.actions[0][1]
    assert headers["Channel"] == "PJSIP/+74951234567@trunk"
    assert (headers["Context"], headers["Exten"]) == ("dialog-leg", "s")
    assert headers["Timeout"] == "12500"
    assert headers["CallerID"] == "74950000000"
    assert headers["Variable"] == ["DIALOG_LEG=127.0.0.1:4999/leg"]
    assert str(headers["ChannelId"]).startswith("leg-")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("12x", 5.0, None, "default"), "number"),
        (("1234", 0.1, None, "default"), "timeout_s"),
        (("1234", 5.0, "666666", "default"), "caller_id"),
        (("1234", 5.0, None, "sip:evil"), "trunk"),
    ],
)
def test_arguments_are_checked(
    pbx: FakePbx, others: OtherChannels, arguments: tuple[str, float, str | None, str], names: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        others.dial(*arguments)
    assert refused.value.parameter == names
    assert pbx.actions == []


def test_a_call_has_so_many_legs(pbx: FakePbx, others: OtherChannels) -> None:
    pbx.on_originate = pbx.answered
    alive = [dial(others) for _ in range(MAX_LEGS)]
    with pytest.raises(BadRequest, match="hang up some first"):
        dial(others)
    alive[0].hangup()
    assert dial(others).parked


def test_the_caller_hangs_up_while_it_rings(
    pbx: FakePbx, agi: CallAgi, others: OtherChannels
) -> None:
    def rings(leg: str) -> None:
        pbx.rings(leg)
        agi.hung_up = True

    pbx.on_originate = rings
    with pytest.raises(Hangup):
        dial(others)
    assert pbx.names() == ["Originate", "Hangup"]


# -- a parked leg


def test_a_parked_leg_has_a_fork_and_is_hung_up(pbx: FakePbx, agi: CallAgi) -> None:
    streams = FakeStreams()
    others = OtherChannels(LentAgi(agi), info(), services(pbx, streams=streams))
    pbx.on_originate = pbx.answered
    leg = dial(others)
    assert leg.parked
    assert list(streams.claimed) == [leg.id]
    url = f"ws://127.0.0.1:8081/stream/{leg.id},D(read)j"
    assert pbx.sessions[leg.id].commands == [("EXEC", "AudioFork", url)]
    leg.hangup(17)
    assert (leg.status, leg.cause, leg.reason) == (LegStatus.ENDED, 17, None)
    assert streams.released == [leg.id]
    leg.hangup()
    assert pbx.names() == ["Originate", "Hangup"], "a second time nothing happens"
    with pytest.raises(Hangup):
        leg.hear()


@pytest.mark.parametrize("cause", [0, 128, "16", True])
def test_a_cause_is_checked(pbx: FakePbx, others: OtherChannels, cause: int) -> None:
    pbx.on_originate = pbx.answered
    with pytest.raises(BadRequest, match=r"Q\.850"):
        dial(others).hangup(cause)


def test_it_hangs_up_by_itself(pbx: FakePbx, others: OtherChannels) -> None:
    pbx.on_originate = pbx.answered
    leg = dial(others)
    told: list[LegStatus] = []
    over = threading.Event()
    leg.on_hangup(lambda leg: told.append(leg.status))
    leg.on_hangup(lambda leg: 1 / 0)
    leg.on_hangup(lambda leg: over.set())
    pbx.gone(leg.id, "16")
    assert over.wait(5)
    assert (told, leg.cause) == ([LegStatus.ENDED], 16)
    late = threading.Event()
    leg.on_hangup(lambda leg: late.set())
    assert late.wait(5), "one that is over calls back at once"


def test_without_ami_its_session_is_cut(pbx: FakePbx, others: OtherChannels) -> None:
    def away(headers: object) -> AmiReply:
        raise AsteriskUnavailable("away")

    pbx.on_originate = pbx.answered
    leg = dial(others)
    pbx.answers["Hangup"] = away
    leg.hangup()
    assert pbx.sessions[leg.id].aborted == "the leg was hung up"
    assert leg.status is LegStatus.ENDED


def test_the_call_ends_and_its_legs_with_it(pbx: FakePbx, agi: CallAgi) -> None:
    pbx.on_originate = pbx.answered
    others = OtherChannels(LentAgi(agi), info(), services(pbx))
    mine = [dial(others) for _ in range(3)]
    agi.hung_up = True
    others.close()
    assert [leg.status for leg in mine] == [LegStatus.ENDED] * 3


def test_a_stranger_is_refused(pbx: FakePbx, caplog: pytest.LogCaptureFixture) -> None:
    pbx.comes("leg-of-somebody-else")
    pbx.join()
    assert "nobody waits for 'leg-of-somebody-else'" in caplog.text


# -- bridge


def parked(pbx: FakePbx, others: OtherChannels) -> Leg:
    pbx.on_originate = pbx.answered
    leg = dial(others)
    assert leg.parked
    return leg


def test_the_leg_ends_the_bridge(pbx: FakePbx, agi: CallAgi, others: OtherChannels) -> None:
    leg = parked(pbx, others)

    def talk(name: str, data: str) -> None:
        held = ("EXEC", "BridgeWait", f"{leg.id},participant,e(n)")
        assert pbx.sessions[leg.id].commands[-1] == held
        assert (name, data, leg.status) == ("Bridge", "PJSIP/t-1", LegStatus.BRIDGED)
        with pytest.raises(BadRequest, match="is bridged"):
            leg.speak("hello")
        pbx.sessions[leg.id].hang_up()  # Bridge() takes it out of AGI
        pbx.gone(leg.id)
        agi.variables["BRIDGERESULT"] = "SUCCESS"

    agi.on_exec = talk
    end = others.bridge(leg, keep_after=False)
    assert (end.ended_by, leg.status) == (BridgeSide.OTHER, LegStatus.ENDED)


@pytest.mark.parametrize("keep", [True, False])
def test_the_caller_ends_the_bridge(
    pbx: FakePbx, agi: CallAgi, others: OtherChannels, keep: bool
) -> None:
    leg = parked(pbx, others)
    first = pbx.sessions[leg.id]

    def talk(name: str, data: str) -> None:
        assert data == ("PJSIP/t-1,F(dialog-leg^s^back)" if keep else "PJSIP/t-1")
        first.hang_up()
        agi.hung_up = True
        if keep:
            pbx.comes(leg.id)
        raise Hangup("the caller hung up")

    agi.on_exec = talk
    end = others.bridge(leg, keep_after=keep)
    assert end.ended_by is BridgeSide.CALLER
    assert leg.status is (LegStatus.PARKED if keep else LegStatus.ENDED)
    if keep:
        leg.hangup()


def test_a_leg_that_does_not_come_back_is_hung_up(
    pbx: FakePbx, agi: CallAgi, others: OtherChannels
) -> None:
    leg = parked(pbx, others)

    def talk(name: str, data: str) -> None:
        pbx.sessions[leg.id].hang_up()
        raise Hangup("the caller hung up")

    agi.on_exec = talk
    assert others.bridge(leg, keep_after=True).ended_by is BridgeSide.CALLER
    assert leg.status is LegStatus.ENDED
    assert pbx.names()[-1] == "Hangup"


def test_bridge_did_nothing(pbx: FakePbx, agi: CallAgi, others: OtherChannels) -> None:
    leg = parked(pbx, others)
    agi.variables["BRIDGERESULT"] = "INCOMPATIBLE"

    def redirect(headers: Headers) -> AmiReply:
        assert (headers["Channel"], headers["Priority"]) == (leg.id, "back")
        pbx.sessions[leg.id].hang_up()
        pbx.comes(leg.id)
        return AmiReply(True, "", {})

    pbx.answers["Redirect"] = redirect
    end = others.bridge(leg, keep_after=True)
    assert (end.ended_by, end.duration_s) == (BridgeSide.NOBODY, 0.0)
    assert leg.parked


def test_only_the_calls_own_parked_legs_are_bridged(pbx: FakePbx, others: OtherChannels) -> None:
    leg = parked(pbx, others)
    with pytest.raises(BadRequest, match="no leg that this call has dialled"):
        OtherChannels(LentAgi(CallAgi()), info(), services(pbx)).bridge(leg, keep_after=False)
    leg.hangup()
    assert others.bridge(leg, keep_after=False) == BridgeEnd(BridgeSide.OTHER, 0.0)


# -- transfer


@pytest.mark.parametrize(
    ("dial_status", "cause", "status"),
    [
        ("BUSY", "17", TransferStatus.BUSY),
        ("NOANSWER", "17", TransferStatus.NO_ANSWER),
        ("CHANUNAVAIL", "21", TransferStatus.REJECTED),
        ("CHANUNAVAIL", "1", TransferStatus.INVALID_NUMBER),
        ("CHANUNAVAIL", "20", TransferStatus.UNREACHABLE),
        ("CONGESTION", "34", TransferStatus.CONGESTION),
        ("CONGESTION", "0", TransferStatus.FAILED),
        ("", "", TransferStatus.FAILED),
    ],
)
def test_a_transfer_that_nobody_answers(
    pbx: FakePbx, agi: CallAgi, others: OtherChannels, dial_status: str, cause: str, status: str
) -> None:
    agi.variables |= {"DIALSTATUS": dial_status, "HANGUPCAUSE": cause}
    end = others.transfer("1234", 7.4, "74950000000", "default")
    assert (end.status, end.ended_by, end.duration_s) == (status, BridgeSide.NOBODY, 0.0)
    assert agi.executed == [("Dial", "PJSIP/1234@trunk,7,gf(74950000000)")]
    assert pbx.watch.watched == 0


@pytest.mark.parametrize("by", [BridgeSide.OTHER, BridgeSide.CALLER])
def test_a_transfer_that_was_answered(
    pbx: FakePbx, agi: CallAgi, others: OtherChannels, by: BridgeSide
) -> None:
    agi.variables |= {"DIALSTATUS": "ANSWER", "HANGUPCAUSE": "16"}

    def talk(name: str, data: str) -> None:
        pbx.event("DialEnd", "u-1", DialStatus="ANSWER")
        agi.hung_up = by is BridgeSide.CALLER
        agi.poll_hangup()

    agi.on_exec = talk
    end = others.transfer("1234", 7, None, "default")
    assert (end.status, end.ended_by, end.completed) == (TransferStatus.COMPLETED, by, True)


def test_the_caller_hangs_up_before_a_transfer_is_answered(
    pbx: FakePbx, agi: CallAgi, others: OtherChannels
) -> None:
    def rings(name: str, data: str) -> None:
        pbx.event("DialEnd", "u-1", DialStatus="CANCEL")
        raise Hangup("gone")

    agi.on_exec = rings
    with pytest.raises(Hangup, match="before the transfer was answered"):
        others.transfer("1234", 7, None, "default")
    assert pbx.watch.watched == 0
