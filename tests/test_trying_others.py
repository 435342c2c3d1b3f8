"""Legs, bridges, transfers and conferences of a simulated call."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backend import (
    BridgeEnd,
    BridgeSide,
    CommandRefused,
    Hangup,
    HearStatus,
    LegHangup,
    LegStatus,
    PlayEnd,
    RecognitionUnavailable,
    StorageUnavailable,
    TransferStatus,
)
from backend.call.memory_store import MemoryStore
from backend.dialing.policy import Rules
from backend.errors import BadRequest
from backend.media.screening import ScreenResult
from backend.model import Reason, TaskState
from backend.testing import (
    Dialled,
    FakeCall,
    Room,
    Troubles,
    dialled,
    do,
    hangup,
    participant,
    press,
    say,
)
from backend.trying.others import CAUSES, parse_dialled

ANNA, BORIS = "79160000001", "79160000002"


# Legs


def test_who_answers_is_parked_and_talked_to() -> None:
    call = FakeCall(dials={ANNA: dialled(say("speaking"), press("1"))})
    leg = call.dial(ANNA)
    assert (leg.status, leg.parked, leg.over, leg.number) == (LegStatus.PARKED, True, False, ANNA)
    assert leg.hear("Who is there?").text == "speaking"
    leg.speak("Press a key.")
    assert call.spoken_to(ANNA) == ["Who is there?", "Press a key."]
    assert call.spoken == []
    leg.hangup()
    assert (leg.status, leg.cause, leg.reason) == (LegStatus.ENDED, 16, None)
    assert call.legs == [leg]


@pytest.mark.parametrize("status", sorted(CAUSES))
def test_why_nobody_answered(status: LegStatus) -> None:
    leg = FakeCall(dials={ANNA: status.value}).dial(ANNA)
    assert (leg.status, leg.cause, leg.over) == (status, CAUSES[status], True)
    assert leg.reason is (Reason.OTHER if status is LegStatus.FAILED else Reason(status.value))
    with pytest.raises(Hangup):
        leg.speak("Hello?")
    leg.hangup()  # nothing happens


def test_ringing_takes_its_time() -> None:
    call = FakeCall(dials={ANNA: dialled(after_s=20), BORIS: "no_answer"})
    assert call.dial(ANNA, timeout_s=10).status is LegStatus.NO_ANSWER
    assert call.now_s == pytest.approx(10)
    assert call.dial(ANNA, timeout_s=30).parked
    assert call.dial(BORIS, timeout_s=5).status is LegStatus.NO_ANSWER
    assert call.now_s == pytest.approx(35)


def test_other_numbers_are_answered_or_as_the_star_says() -> None:
    assert FakeCall().dial(BORIS).parked
    assert FakeCall(dials={"*": "busy"}).dial(BORIS).status is LegStatus.BUSY


def test_a_leg_that_hangs_up_is_told_once() -> None:
    told: list[str] = []
    call = FakeCall(dials={ANNA: dialled(hangup(cause=31, over_prompt=True))})
    leg = call.dial(ANNA)
    leg.on_hangup(lambda leg: told.append(leg.number))
    with pytest.raises(LegHangup, match=ANNA):
        leg.hear("A question that is not heard to its end.")
    assert (leg.status, leg.cause, told) == (LegStatus.ENDED, 31, [ANNA])
    leg.on_hangup(lambda leg: told.append("late"))
    assert told == [ANNA, "late"]
    call.speak("The call itself goes on.")


def test_a_hangup_while_it_rings_ends_the_leg_too() -> None:
    call = FakeCall(hangup(after_s=0.5), dials={ANNA: dialled(after_s=10)})
    call.speak("Wait.")
    with pytest.raises(Hangup, match="caller"):
        call.dial(ANNA)
    assert [leg.over for leg in call.legs] == [True]


@pytest.mark.parametrize(
    ("plan", "status", "verdict"),
    [
        (dialled(hears="switched_off"), "screened", ("switched_off", "announcement", False, True)),
        (dialled(), "parked", ("person", "answer", True, False)),
        (dialled(hears="machine"), "parked", ("machine", "answer", True, False)),
        (dialled(hears="fax"), "ended", ("fax", "answer", True, True)),
        (dialled(status="busy"), "busy", ("busy", "signalling", False, False)),
        (
            dialled(status="invalid_number"),
            "invalid_number",
            ("no_such_number", "signalling", False, False),
        ),
    ],
)
def test_what_is_heard_of_a_leg(
    plan: Dialled, status: str, verdict: tuple[str, str, bool, bool]
) -> None:
    call = FakeCall(dials={ANNA: plan})
    leg = call.dial_screened(ANNA)
    assert leg.status == status
    assert leg.screening is not None
    found = leg.screening
    assert (found.result, found.reason, found.answered, found.hang_up) == verdict
    assert call.dial(ANNA).screening is None, "dial does not listen"


def test_who_answered_need_not_be_asked() -> None:
    leg = FakeCall(dials={ANNA: dialled(hears="machine")}).dial_screened(ANNA, who_answered=False)
    assert leg.screening is not None
    assert (leg.screening.result, leg.parked) == ("answered", True)


@pytest.mark.parametrize("number", ["", "12", "1a", "+7 916"])
def test_numbers_are_checked_as_by_the_real_call(number: str) -> None:
    call = FakeCall()
    dials: list[Callable[[str], object]] = [call.dial, call.dial_screened, call.transfer]
    for one in dials:
        with pytest.raises(BadRequest, match="number"):
            one(number)
    with pytest.raises(BadRequest, match="trunk"):
        call.dial(ANNA, trunk="other")
    with pytest.raises(BadRequest, match="caller_id"):
        FakeCall(rules=Rules()).dial(ANNA, caller_id="74950000001")


# Bridges and transfers


def test_a_bridge_lasts_until_one_hangs_up() -> None:
    call = FakeCall(dials={ANNA: dialled(hangup(after_s=5))})
    leg = call.dial(ANNA)
    end = call.bridge(leg)
    assert end.ended_by is BridgeSide.OTHER
    assert end.duration_s == pytest.approx(5)
    assert leg.over
    call.speak("The scenario goes on.")


@pytest.mark.parametrize("keep_after", [True, False])
def test_the_caller_hangs_up_in_a_bridge(keep_after: bool) -> None:
    call = FakeCall(hangup(after_s=3))
    leg = call.dial(ANNA)
    end = call.bridge(leg, keep_after=keep_after)
    assert end.ended_by is BridgeSide.CALLER
    assert end.duration_s == pytest.approx(3)
    with pytest.raises(Hangup):
        call.speak("Hello?")
    assert leg.parked is keep_after
    if keep_after:
        leg.speak("The caller has gone.")
    call.close()
    assert leg.over, "nothing is left"


def test_a_leg_in_a_bridge_is_not_talked_to() -> None:
    errors: list[str] = []

    def talk(call: FakeCall) -> None:
        try:
            call.legs[0].speak("Hello?")
        except BadRequest as error:
            errors.append(str(error))

    call = FakeCall(do(talk, after_s=4), dials={ANNA: dialled(hangup(after_s=5))})
    leg = call.dial(ANNA)
    call.bridge(leg)
    assert errors == ["leg: is bridged: it can be spoken to when that is over"]
    assert call.bridge(leg) == BridgeEnd(BridgeSide.OTHER, 0.0), "it had hung up before"
    with pytest.raises(BadRequest, match="no leg that this call has dialled"):
        FakeCall().bridge(leg)


def test_transfers() -> None:
    call = FakeCall(dials={ANNA: dialled(hangup(after_s=5)), BORIS: "rejected"})
    done = call.transfer(ANNA)
    assert (done.status, done.ended_by) == (TransferStatus.COMPLETED, BridgeSide.OTHER)
    assert done.duration_s == pytest.approx(5)
    refused = call.transfer(BORIS)
    assert (refused.status, refused.cause) == (TransferStatus.REJECTED, 21)
    assert not refused.completed
    assert all(leg.over for leg in call.legs)


def test_plans_may_be_texts() -> None:
    assert parse_dialled("busy") == dialled(status="busy")
    assert parse_dialled("say yes; then 2 hangup") == dialled("say yes", "then 2 hangup")
    assert parse_dialled("hears switched_off") == Dialled(hears=ScreenResult.SWITCHED_OFF)
    assert parse_dialled("hears switched_off; no_answer").status == "no_answer"
    for wrong in ("sleepy", "say", "busy; hangup", "hears bells"):
        with pytest.raises(BadRequest):
            parse_dialled(wrong)
    with pytest.raises(BadRequest, match="status"):
        FakeCall(dials={ANNA: "asleep"})
    with pytest.raises(BadRequest, match="nobody is there"):
        dialled(say("x"), status="busy")


# Conferences


def conference(**options: object) -> FakeCall:
    seats = [
        participant("Anna", say("good morning"), number="101"),
        participant("Boris", say("good evening"), number="102"),
    ]
    return FakeCall(conferences={"room": seats}, **options)  # type: ignore[arg-type]


def test_a_conference_is_heard_without_a_seat() -> None:
    call = conference()
    room = call.conference("room")
    assert [one.name for one in room.participants()] == ["Anna", "Boris"]
    heard = [room.hear(), room.hear()]
    assert {(h.participant.name, h.text) for h in heard if h.participant} == {
        ("Anna", "good morning"),
        ("Boris", "good evening"),
    }
    assert room.hear(timeout_s=3).status is HearStatus.TIMEOUT


def test_a_whisper_reaches_exactly_one_and_play_all() -> None:
    call = conference()
    room = call.conference("room")
    anna, boris = room.participants()
    assert room.whisper(anna, "For you.").end is PlayEnd.COMPLETED
    assert room.whisper(boris.id, "And for you.").end is PlayEnd.COMPLETED
    assert room.play("For all.").keys() == {anna.id, boris.id}
    assert call.spoken_to("Anna") == ["For you.", "For all."]
    assert call.spoken_to("Boris") == ["And for you.", "For all."]
    assert call.spoken == []


def test_a_seat_keeps_the_call_busy() -> None:
    call = conference()
    room = call.conference("room")
    room.join(muted=True)
    first = room.participants()[0]
    assert (first.own, first.muted) == (True, True)
    with pytest.raises(BadRequest, match="sits in conference room"):
        call.speak("Hello?")
    with pytest.raises(BadRequest, match="sits in conference room"):
        call.dial(ANNA)
    call.wait(1)
    room.leave()
    call.speak("Hello again.")
    assert not room.joined


def test_the_robot_hangs_up_from_a_seat() -> None:
    call = conference()
    room = call.conference("room")
    room.join()
    call.hangup()
    assert (call.hung_up, room.joined) == (True, False)


def test_the_callers_own_words_are_heard_there() -> None:
    call = FakeCall(say("it is me"))
    call.answer()
    room = call.conference("room")
    room.join()
    heard = room.hear()
    assert heard.participant is not None
    assert (heard.participant.own, heard.text) == (True, "it is me")
    assert not call.talk[-1].note


def test_mute_and_kick() -> None:
    call = conference()
    room = call.conference("room")
    anna, boris = room.participants()
    room.mute(anna)
    assert [one.muted for one in room.participants()] == [True, False]
    room.unmute(anna.channel)
    room.kick(boris)
    assert [one.name for one in room.participants()] == ["Anna"]
    for gone in (boris, "nobody"):
        with pytest.raises(BadRequest, match="not in conference"):
            room.kick(gone)


def test_participants_come_and_go() -> None:
    seats = [participant("Anna", hangup(after_s=1)), participant("Boris", comes_s=10)]
    call = FakeCall(conferences={"room": seats})
    room = call.conference("room")
    room.play("Hello.")
    room.hear(timeout_s=5)
    assert room.participants() == ()
    call.wait(6)
    assert [one.name for one in room.participants()] == ["Boris"]


def test_who_leaves_in_the_middle_of_a_prompt_has_lost_it() -> None:
    call = FakeCall(conferences={"room": [participant("Anna", hangup(over_prompt=True))]})
    room = call.conference("room")
    (played,) = room.play("A prompt that is longer than she stays.").values()
    assert played.end is PlayEnd.LOST


def test_a_hangup_ends_what_is_done_there() -> None:
    call = conference()
    room = call.conference("room")
    call.world.after(1, lambda: call._hang_up("caller", 16, ""))
    with pytest.raises(Hangup):
        while True:
            room.hear(timeout_s=1)


def test_conferences_are_refused_as_by_the_real_one() -> None:
    call = conference()
    with pytest.raises(BadRequest, match="id"):
        call.conference("no such name!")
    with pytest.raises(BadRequest, match="exists, with 2 participants"):
        call.conference("room").create()
    full = FakeCall(conferences={"room": Room(full=True)})
    with pytest.raises(CommandRefused, match="no seat"):
        full.conference("room").join()
    small = conference()
    small.conference("other").create(max_participants=1)
    small.conference("other").join()
    deaf = conference(troubles=Troubles(recognition="away"))
    with pytest.raises(RecognitionUnavailable):
        deaf.conference("room").hear()


# What is shared


def test_calls_share_a_store_that_was_given_to_them() -> None:
    values = MemoryStore()
    one, two = FakeCall(values=values, scenario="a"), FakeCall(values=values, scenario="b")
    one.store.set("key", {"x": 1})
    one.store.own.set("key", 5)
    assert two.store.get("key") == {"x": 1}
    assert two.store.own.get("key") is None
    assert [two.store.add("n"), one.store.add("n")] == [1, 2]
    assert FakeCall().store.get("key") is None


def test_what_is_stored_ends_by_the_calls_own_time() -> None:
    call = FakeCall()
    call.store.set("key", 1, expires_s=60)
    call.wait(61)
    assert call.store.get("key") is None


def test_tasks_are_handed_in_and_nobody_dials() -> None:
    call = FakeCall(config={"limit": 3}, rules=Rules(variables=("client",)))
    handle = call.originate(ANNA, scenario="echo", variables={"client": "7"}, external_id="x")
    assert handle.status().state is TaskState.QUEUED
    assert not call.originate(ANNA, external_id="x").new
    assert [(task.phone, task.scenario) for task in call.originated] == [(ANNA, "echo")]
    assert call.config == {"limit": 3}
    with pytest.raises(BadRequest, match="variables"):
        call.originate(ANNA, variables={"other": "7"})


def test_postgresql_may_be_away() -> None:
    class Away(MemoryStore):
        def get(self, space: str, key: str) -> object:
            raise StorageUnavailable("read a key: PostgreSQL is away")

    with pytest.raises(StorageUnavailable):
        FakeCall(values=Away()).store.get("x")
