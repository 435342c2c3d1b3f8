"""Screened dialling: what is heard before the answer decides at once, and nothing is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from backend.call import leg_dialling, legs
from backend.call.legs import Leg, LegStatus
from backend.call.lent import LentAgi
from backend.call.others import OtherChannels
from backend.call.screening import Judge, Verdict, Wishes
from backend.errors import AsteriskUnavailable, BadRequest, Hangup
from backend.media.screening import CallScreening, Stage
from backend.model import Reason
from backend.ports import AmiReply
from backend.protocol import fork
from tests.fakes.pbx import FakePbx, FakeStreams, Headers, info, refusal, services
from tests.fakes.speech import FakeRecognizer, quiet, spoken
from tests.test_call_legs import CallAgi

BUSY_TONE, FAX_TONE = b"\x01\x02" * 160, b"\x03\x04" * 160


@dataclass(frozen=True)
class Said:
    result: str
    reason: str
    at_ms: int
    answered: bool
    hang_up: bool


@dataclass
class FakeJudge:
    """Knows two tones, and the word 7; whoever answers is a person when he says 9."""

    wishes: Wishes
    came: list[tuple[str, object]] = field(default_factory=list)
    answered: bool = False
    pcm: bytes = b""

    def _verdict(self, result: str, at_ms: int, *, hang_up: bool = True) -> Verdict:
        return Said(result, "test", at_ms, self.answered, hang_up)

    def feed(self, pcm: bytes, at_ms: int) -> Verdict | None:
        self.pcm += pcm
        for tone, result in ((BUSY_TONE, "busy"), (FAX_TONE, "fax")):
            if pcm == tone:
                return self._verdict(result, at_ms)
        return None

    def signalled(self, stage: Stage, at_ms: int) -> Verdict | None:
        self.came.append(("signalled", stage))
        self.answered = stage is Stage.ANSWERED
        if self.answered and not self.wishes.who_answered:
            return self._verdict("answered", at_ms, hang_up=False)
        return None

    def ended(self, reason: Reason, at_ms: int, cause: int | None = None) -> Verdict | None:
        self.came.append(("ended", (reason, cause)))
        return self._verdict(str(reason), at_ms)

    def recognised(self, text: str, at_ms: int, *, final: bool) -> Verdict | None:
        self.came.append(("recognised", (text, final)))
        if text == "7" and not self.answered:
            return self._verdict("unavailable", at_ms)
        return self._verdict("person", at_ms, hang_up=False) if text == "9" else None

    def tick(self, at_ms: int) -> Verdict | None:
        self.came.append(("tick", None))
        return None


class Rig:
    """A call, its Asterisk, and the fork of the leg that is dialled."""

    def __init__(self) -> None:
        self.pbx = FakePbx()
        self.agi = CallAgi()
        self.streams = FakeStreams()
        self.recognizer = FakeRecognizer()
        self.judges: list[FakeJudge] = []
        self.services = services(
            self.pbx, streams=self.streams, recognizer=self.recognizer, judge=self._judge
        )
        self.others = OtherChannels(LentAgi(self.agi), info(), self.services)
        self.forked = threading.Event()
        self.pbx.answers["AudioFork"] = self._fork

    def _judge(self, wishes: Wishes) -> FakeJudge:
        self.judges.append(FakeJudge(wishes))
        return self.judges[-1]

    def _fork(self, headers: Headers) -> AmiReply:
        assert headers["WsServer"] == f"ws://127.0.0.1:8081/stream/{headers['Channel']}"
        self.forked.set()
        return AmiReply(True, "", {"AudioForkID": "f"})

    def dial(self, happens: Callable[[str], object], *, who_answered: bool = True) -> Leg:
        """Dial; ``happens(leg's id)`` once the leg is forked."""

        def behave(leg: str) -> None:
            self.pbx.rings(leg)
            assert self.forked.wait(5)
            happens(leg)

        self.pbx.on_originate = behave
        return self.others.dial_screened("1234", 5.0, None, "default", who_answered)

    def hears(self, leg: str, *pcm: bytes) -> None:
        for piece in pcm:
            self.streams.claimed[leg].on_audio(piece)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    for name in ("CHANNEL_S", "CAUSE_S"):
        monkeypatch.setattr(legs, name, 0.05)
    for name in ("SECOND_EVENT_S", "NO_CHANNEL_S"):
        monkeypatch.setattr(leg_dialling, name, 0.05)
    rig = Rig()
    yield rig
    rig.others.close()
    rig.pbx.join()
    assert rig.pbx.desk.legs == rig.pbx.watch.watched == 0
    assert set(rig.streams.released) == set(rig.streams.claimed)
    assert all(stream.closed for stream in rig.recognizer.streams)


def test_a_tone_before_the_answer_hangs_up_at_once(rig: Rig) -> None:
    leg = rig.dial(lambda leg: rig.hears(leg, quiet(), BUSY_TONE))
    assert (leg.status, leg.cause) == (LegStatus.SCREENED, 16)
    assert leg.screening is not None
    assert (leg.screening.result, leg.screening.answered) == ("busy", False)
    assert rig.pbx.names()[:3] == ["Originate", "AudioFork", "Hangup"]
    assert rig.judges[0].wishes == Wishes("en-US", 5000, who_answered=True)
    stages = [what for kind, what in rig.judges[0].came if kind == "signalled"]
    assert stages == ["ringing", "early_media"]


def test_words_before_the_answer(rig: Rig) -> None:
    leg = rig.dial(lambda leg: rig.hears(leg, quiet(10) + spoken(7) + quiet(40)))
    assert leg.status is LegStatus.SCREENED
    assert leg.screening is not None
    assert leg.screening.result == "unavailable"


def test_nobody_answers_and_nothing_was_heard(rig: Rig) -> None:
    def busy(leg: str) -> None:
        rig.pbx.failed(leg, "0")
        rig.pbx.gone(leg, "17")

    leg = rig.dial(busy)
    assert leg.status is LegStatus.BUSY
    assert ("ended", (Reason.BUSY, 17)) in rig.judges[0].came
    assert leg.screening is not None
    assert leg.screening.result == "busy"


def test_a_person_answers(rig: Rig) -> None:
    """The fork of the early media is the leg's own after the answer: no second one is started."""

    def answers(leg: str) -> None:
        rig.hears(leg, quiet(10) + spoken(8) + quiet(40))
        session = rig.pbx.answered(leg)
        until(lambda: rig.judges[0].answered)
        rig.hears(leg, quiet(10) + spoken(9) + quiet(40))
        assert session.commands == []

    leg = rig.dial(answers)
    assert leg.parked
    assert leg.screening is not None
    assert (leg.screening.result, leg.screening.answered) == ("person", True)


def test_a_fax_answers(rig: Rig) -> None:
    def answers(leg: str) -> None:
        rig.pbx.answered(leg)
        until(lambda: rig.judges[0].answered)
        rig.hears(leg, FAX_TONE)

    leg = rig.dial(answers)
    assert leg.status is LegStatus.ENDED
    assert leg.screening is not None
    assert (leg.screening.result, leg.screening.answered) == ("fax", True)


def test_who_it_is_is_not_asked(rig: Rig) -> None:
    leg = rig.dial(rig.pbx.answered, who_answered=False)
    assert leg.parked
    assert leg.screening is not None
    assert leg.screening.result == "answered"


def test_it_hangs_up_while_it_is_judged(rig: Rig) -> None:
    def answers(leg: str) -> None:
        rig.pbx.answered(leg)
        until(lambda: rig.judges[0].answered)
        rig.pbx.gone(leg)

    assert rig.dial(answers).status is LegStatus.ENDED


@pytest.mark.parametrize("stage", ["ringing", "answered"])
def test_the_caller_hangs_up(rig: Rig, stage: str) -> None:
    def goes(leg: str) -> None:
        if stage == "answered":
            rig.pbx.answered(leg)
            until(lambda: rig.judges[0].answered)
        rig.agi.hung_up = True

    with pytest.raises(Hangup):
        rig.dial(goes)
    assert "Hangup" in rig.pbx.names()


@pytest.mark.parametrize("refused", [True, False])
def test_without_a_fork_it_is_dialled_all_the_same(
    rig: Rig, refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def no_fork(headers: Headers) -> AmiReply:
        rig.forked.set()
        if refused:
            return refusal("Invalid/unknown command")
        raise AsteriskUnavailable("away")

    rig.pbx.answers["AudioFork"] = no_fork
    leg = rig.dial(rig.pbx.answered, who_answered=False)
    assert leg.parked
    assert "not heard before its answer" in caplog.text
    assert [c[1] for c in rig.pbx.sessions[leg.id].commands] == ["AudioFork"], "it is forked now"


def test_after_the_verdict_nothing_is_judged(rig: Rig) -> None:
    def busy_then_more(leg: str) -> None:
        rig.hears(leg, BUSY_TONE, FAX_TONE)
        rig.streams.claimed[leg].on_tick()
        rig.streams.claimed[leg].on_message(fork.Digit("1", 100, "passed", 0))

    leg = rig.dial(busy_then_more)
    assert rig.judges[0].pcm == BUSY_TONE
    assert leg.screening is not None
    assert leg.screening.result == "busy"


def test_the_packages_own_judge_is_one() -> None:
    judge: Callable[..., Judge] = CallScreening
    assert judge is CallScreening


def test_without_a_judge(rig: Rig) -> None:
    others = OtherChannels(LentAgi(rig.agi), info(), services(rig.pbx))
    with pytest.raises(BadRequest, match="nothing to judge"):
        others.dial_screened("1234", 5.0, None, "default", who_answered=True)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("did not come true")
