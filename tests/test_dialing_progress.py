"""Records move a task; the sequences are those that Asterisk 16.28 was seen to send."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.dialing.outcomes import unanswered
from backend.dialing.progress import (
    Progress,
    advance,
    channel_id,
    settled,
    task_of,
    task_of_channel,
)
from backend.model import (
    AmiEvent,
    CallEnded,
    CallRecording,
    CallSaid,
    CallStarted,
    Outcome,
    Reason,
    Record,
    TaskState,
    Utterance,
)

TASK = UUID("6f0c1d7e-0000-4000-8000-000000000001")
CALL = UUID("6f0c1d7e-0000-4000-8000-000000000002")
STREAM = UUID("6f0c1d7e-0000-4000-8000-000000000003")
START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CHANNEL = "PJSIP/trunk-00000001"
CLAIMED = Progress(TaskState.DIALING, dialed_at=START)
COMPLETED = Outcome(TaskState.DONE, Reason.COMPLETED)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def event(name: str, seconds: float, **body: str) -> AmiEvent:
    own = channel_id(TASK)
    uniqueid = body.pop("uniqueid", own)
    return AmiEvent(
        STREAM, 1, at(seconds), name, uniqueid, uniqueid, CHANNEL, {"Event": name, **body}
    )


def newchannel(seconds: float = 0.1) -> AmiEvent:
    return event("Newchannel", seconds, ChannelState="0")


def ringing(seconds: float = 0.2) -> AmiEvent:
    return event("Newstate", seconds, ChannelState="5", ChannelStateDesc="Ringing")


def up(seconds: float = 3) -> AmiEvent:
    return event("Newstate", seconds, ChannelState="6", ChannelStateDesc="Up")


def hangup(cause: int, seconds: float = 9) -> AmiEvent:
    return event("Hangup", seconds, Cause=str(cause), **{"Cause-txt": f"text {cause}"})


def response(reason: int, seconds: float = 3.1) -> AmiEvent:
    word = "Success" if reason == 4 else "Failure"
    own = channel_id(TASK)
    return event("OriginateResponse", seconds, ActionID=own, Response=word, Reason=str(reason))


def started(seconds: float = 3.2) -> CallStarted:
    return CallStarted(
        CALL, TASK, at(seconds), "n", "w", "s", "outbound", CHANNEL, channel_id(TASK), "", ""
    )


def ended(outcome: Outcome = COMPLETED, seconds: float = 8, error: str | None = None) -> CallEnded:
    return CallEnded(CALL, TASK, at(seconds), outcome, {"answer": "yes"}, error)


def recording() -> CallRecording:
    return CallRecording(CALL, TASK, at(4), "/rec/1.wav")


def said() -> CallSaid:
    return CallSaid(CALL, TASK, 0, at(5), Utterance("caller", "yes", 0, 400))


def run(*records: Record, start: Progress = CLAIMED) -> Progress:
    for record in records:
        start = advance(start, record)
    return start


def outcome_of(progress: Progress) -> tuple[TaskState, Reason | None]:
    return progress.state, progress.reason


# --- one call, from its start to its end --------------------------------------------------------


def test_a_call_that_completes() -> None:
    steps: list[Record] = [
        newchannel(),
        ringing(),
        response(4),
        up(),
        started(),
        recording(),
        said(),
        ended(),
    ]
    states = []
    progress = CLAIMED
    for record in [*steps, hangup(16)]:
        progress = advance(progress, record)
        states.append(progress.state)
    assert states == [
        TaskState.DIALING,
        TaskState.RINGING,
        *[TaskState.TALKING] * 6,
        TaskState.DONE,
    ]
    assert progress == Progress(
        TaskState.DONE,
        Reason.COMPLETED,
        dialed_at=START,
        ringing_at=at(0.2),
        answered_at=at(3),
        ended_at=at(9),
        channel=CHANNEL,
        uniqueid=channel_id(TASK),
        hangup_cause=16,
        hangup_text="text 16",
        originate_reason=4,
        scenario_outcome=COMPLETED,
        scenario_ended_at=at(8),
        result={"answer": "yes"},
        recording="/rec/1.wav",
    )


@pytest.mark.parametrize(
    ("cause", "originate", "reason"),
    [
        (17, 0, Reason.BUSY),
        (21, 0, Reason.REJECTED),
        (1, 0, Reason.INVALID_NUMBER),
        (22, 0, Reason.INVALID_NUMBER),
        (28, 0, Reason.INVALID_NUMBER),
        (18, 0, Reason.NO_ANSWER),
        (19, 0, Reason.NO_ANSWER),
        (0, 3, Reason.NO_ANSWER),
        (16, 3, Reason.NO_ANSWER),
        (2, 0, Reason.UNREACHABLE),
        (3, 0, Reason.UNREACHABLE),
        (20, 0, Reason.UNREACHABLE),
        (27, 0, Reason.UNREACHABLE),
        (34, 0, Reason.CONGESTION),
        (38, 0, Reason.CONGESTION),
        (41, 0, Reason.CONGESTION),
        (42, 0, Reason.CONGESTION),
        (44, 0, Reason.CONGESTION),
        (0, 5, Reason.BUSY),
        (0, 8, Reason.CONGESTION),
        (16, 0, Reason.OTHER),
        (31, 0, Reason.OTHER),
        (0, 0, Reason.OTHER),
        (999, 1, Reason.OTHER),
    ],
)
def test_not_answered_in_either_order(cause: int, originate: int, reason: Reason) -> None:
    one = run(newchannel(), ringing(), response(originate), hangup(cause))
    other = run(newchannel(), ringing(), hangup(cause), response(originate))
    assert one == other
    assert outcome_of(one) == (TaskState.FAILED, reason)
    assert one.hangup_cause == cause


def test_a_busy_cause_after_the_answer_is_no_busy() -> None:
    progress = run(newchannel(), response(4), up(), hangup(17))
    assert progress.state is TaskState.TALKING
    assert outcome_of(advance(progress, ended())) == (TaskState.DONE, Reason.COMPLETED)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(TaskState.FAILED, Reason.CALLER_HANGUP),
        Outcome(TaskState.FAILED, Reason.SCENARIO_ERROR),
        Outcome(TaskState.FAILED, Reason.RECOGNITION_UNAVAILABLE),
    ],
)
def test_the_scenario_decides_in_either_order(outcome: Outcome) -> None:
    before: list[Record] = [newchannel(), response(4), up(), started()]
    one = run(*before, ended(outcome, error="why"), hangup(16))
    other = run(*before, hangup(16), ended(outcome, error="why"))
    assert one == other
    assert outcome_of(one) == (outcome.result, outcome.reason)
    assert one.error == "why"


def test_hung_up_and_no_word_of_the_scenario() -> None:
    progress = run(newchannel(), response(4), up(), started(), hangup(16))
    assert progress.state is TaskState.TALKING
    assert progress.ended_at == at(9)


def test_no_channel_was_made() -> None:
    progress = run(response(0))
    assert progress.state is TaskState.DIALING, "Newchannel may still come: the sweeper decides"
    assert progress.originate_reason == 0


def test_the_far_half_of_a_local_channel_does_not_count() -> None:
    far = event("Hangup", 1, uniqueid=f"{channel_id(TASK)}-2", Cause="16")
    assert task_of(far) is None


def test_answered_told_by_the_scenario_alone() -> None:
    assert run(started()).answered_at == at(3.2)
    assert run(started(), up()).answered_at == at(3)


def test_unknown_events_tell_nothing() -> None:
    for name in ("VarSet", "DialEnd", "Cdr", "DialogGap", "Newstate"):
        assert advance(CLAIMED, event(name, 1, ChannelState="3")).state is TaskState.DIALING


@pytest.mark.parametrize("cause", ["", "abc", "-1", "²"])
def test_a_cause_that_is_no_number(cause: str) -> None:
    assert run(event("Hangup", 9, Cause=cause)).hangup_cause == 0


# --- whose record it is -------------------------------------------------------------------------


def test_task_of() -> None:
    assert task_of(newchannel()) == TASK
    assert task_of(response(0)) == TASK
    assert task_of(replace(response(0), uniqueid=None)) == TASK
    assert task_of(ended()) == TASK
    assert task_of(replace(started(), task_id=None)) is None
    assert task_of(event("Hangup", 1, uniqueid="1795171918.3")) is None


@pytest.mark.parametrize(
    "text", [None, "", "dialog-", "dialog-1", f"x{channel_id(TASK)}", f"{channel_id(TASK)}\n"]
)
def test_other_channels_have_no_task(text: str | None) -> None:
    assert task_of_channel(text) is None


def test_channel_id_is_read_back() -> None:
    task = uuid4()
    assert task_of_channel(channel_id(task)) == task


# --- ended by somebody else ---------------------------------------------------------------------


def test_settled() -> None:
    lost = Outcome(TaskState.FAILED, Reason.BACKEND_LOST)
    progress = settled(run(newchannel(), up()), lost, at(60), "no trace")
    assert outcome_of(progress) == (TaskState.FAILED, Reason.BACKEND_LOST)
    assert (progress.ended_at, progress.error) == (at(60), "no trace")
    late = run(hangup(16), ended(), start=progress)
    assert outcome_of(late) == (TaskState.FAILED, Reason.BACKEND_LOST)
    assert late.hangup_cause == 16, "evidence is kept"
    assert (late.result, late.error) == (None, "no trace"), "the answer given stands"


def test_settled_leaves_a_final_task_alone() -> None:
    done = run(started(), ended(), hangup(16))
    lost = Outcome(TaskState.FAILED, Reason.BACKEND_LOST)
    assert settled(done, lost, at(60), "x") is done


def test_settled_keeps_the_time_of_the_hangup() -> None:
    lost = Outcome(TaskState.FAILED, Reason.BACKEND_LOST)
    assert settled(run(up(), hangup(16)), lost, at(60)).ended_at == at(9)


# --- any sequence -------------------------------------------------------------------------------

RECORDS: list[Record] = [
    newchannel(),
    ringing(),
    up(),
    response(4),
    response(0),
    response(3),
    hangup(16),
    hangup(17),
    hangup(0, 4),
    started(),
    said(),
    recording(),
    ended(),
    ended(Outcome(TaskState.FAILED, Reason.CALLER_HANGUP), 7),
    event("VarSet", 1),
]
any_records = st.lists(st.sampled_from(RECORDS), max_size=20)


@given(any_records)
def test_a_final_state_is_never_left(records: list[Record]) -> None:
    progress = CLAIMED
    final: tuple[TaskState, Reason | None] | None = None
    for record in records:
        progress = advance(progress, record)
        if final is not None:
            assert outcome_of(progress) == final
        if progress.state.final:
            final = outcome_of(progress)
            assert progress.reason is not None


@given(any_records)
def test_states_only_go_on(records: list[Record]) -> None:
    order = [TaskState.DIALING, TaskState.RINGING, TaskState.TALKING]
    progress = CLAIMED
    for record in records:
        after = advance(progress, record)
        if not after.state.final:
            assert order.index(after.state) >= order.index(progress.state)
        progress = after


@given(any_records)
def test_repetition_is_harmless(records: list[Record]) -> None:
    once = run(*records)
    assert run(*records, start=once) == once


@given(st.data())
def test_two_sources_may_be_read_in_any_interleaving(data: st.DataObject) -> None:
    """Each source in its own order, as journals are; the result is the same."""
    asterisk = data.draw(
        st.sampled_from(
            [
                [newchannel(), ringing(), response(4), up(), hangup(16)],
                [newchannel(), up(), response(4), hangup(17)],
                [newchannel(), ringing(), hangup(16)],  # a gap swallowed the rest
                [newchannel(), ringing(), hangup(17), response(0)],
                [newchannel(), response(3), hangup(0)],
                [hangup(16)],
                [],
            ]
        )
    )
    scenario: list[Record] = data.draw(
        st.sampled_from([[started(), recording(), said(), ended()], [started(), said()]])
    )
    if any(isinstance(r, AmiEvent) and r.body.get("Response") == "Failure" for r in asterisk):
        scenario = []  # nobody talks on a call that was not answered
    straight = run(*asterisk, *scenario)
    mixed: list[Record] = []
    left, right = list(asterisk), list(scenario)
    while left or right:
        from_left = bool(left) and (not right or data.draw(st.booleans()))
        mixed.append(left.pop(0) if from_left else right.pop(0))
    assert run(*mixed) == straight


@given(
    st.sampled_from([16, 17, 0]),
    st.permutations([newchannel(), ringing(), up(), response(4), started(), ended(), recording()]),
)
def test_every_complete_call_is_final(cause: int, records: list[Record]) -> None:
    progress = run(*records, hangup(cause))
    assert outcome_of(progress) == (TaskState.DONE, Reason.COMPLETED)
    assert run(hangup(cause), *records) == progress


@given(st.integers(0, 200), st.sampled_from([0, 1, 3, 5, 8]))
def test_every_unanswered_call_is_final(cause: int, originate: int) -> None:
    progress = run(newchannel(), response(originate), hangup(cause))
    assert progress.state is TaskState.FAILED
    assert progress.reason is unanswered(cause, originate).reason


@given(any_records)
def test_nothing_new_is_equal(records: list[Record]) -> None:
    """The database is written only when something changed."""
    progress = run(*records)
    assert advance(progress, said()) == progress
