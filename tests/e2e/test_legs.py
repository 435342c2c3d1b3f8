"""Legs, bridges and transfers on a real Asterisk, proved by tones and words on the tapes.

Two voice workers: a leg must come to the one that dialled it.
"""

from __future__ import annotations

import re

import lab_sound
import pytest
from lab_ami import Ami, Message
from stack import Stack

from tests.e2e.conftest import SHORT_TONE_MS
from tests.e2e.fixtures_legs import (
    PROMPT_HZ,
    SHOWN,
    ami,
    figures,
    nothing_left,
    number,
    run,
    sends,
    stack,
    start,
)
from tests.e2e.plain_lab import observer
from tests.e2e.tones import heard_ms

__all__ = ["ami", "nothing_left", "stack"]  # fixtures


# -- dial


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("105", "busy"),
        ("106", "no_answer"),
        ("107", "rejected"),
        ("143", "busy"),
        ("999", "invalid_number"),
    ],
)
def test_a_leg_that_nobody_answers(stack: Stack, code: str, status: str) -> None:
    wait = {"wait": "3"} if code == "106" else {}
    task = run(stack, number("103"), "leg-dial", leg=number(code), **wait)
    assert task["state"] == "done", task
    assert (task["result"]["status"], task["result"]["reason"]) == (status, status)
    assert task["result"]["ended"], "on_hangup of a leg that is over runs at once"


def test_a_parked_leg_hears_and_is_heard(stack: Stack) -> None:
    caller, leg = number("103"), number("100")
    task = run(stack, caller, "leg-dial", leg=leg)
    result = task["result"]
    assert result["status"] == "parked", task
    assert (result["played"], result["text"]) == ("completed", "yes")
    assert result["after"] == {"status": "ended", "reason": None, "cause": 16}
    assert result["ended"]
    for phone in (caller, leg):
        (tone,) = lab_sound.spans(lab_sound.read(stack.lab.heard(phone)), gap_ms=100)
        assert tone.length_ms == pytest.approx(SHORT_TONE_MS, abs=60)


def test_the_caller_hangs_up_while_it_rings(stack: Stack, ami: Ami) -> None:
    """140 hangs up after 3 s; the leg would ring for 20."""
    leg = number("106")
    task = run(stack, number("140"), "leg-dial", leg=leg)
    assert (task["state"], task["reason"]) == ("failed", "caller_hangup")
    assert hangup_of(stack, ami, leg)["ChannelStateDesc"] != "Up"


def test_legs_that_nobody_owns_end_with_the_call(stack: Stack, ami: Ami) -> None:
    by_scenario, by_caller = number("103"), number("103")
    ended = run(stack, number("103"), "leg-keep", leg=by_scenario)
    assert ended["state"] == "done", ended
    cut = run(stack, number("140"), "leg-keep", leg=by_caller, wait="30")
    assert cut["reason"] == "caller_hangup", cut
    for leg in (by_scenario, by_caller):
        assert hangup_of(stack, ami, leg)["ChannelStateDesc"] == "Up"


def hangup_of(stack: Stack, ami: Ami, phone: str) -> Message:
    """The end of the leg to this number; its channel's unique id is in the backend's log."""
    found = re.search(rf"dialling {phone} as (leg-[0-9a-f-]+)", stack.log_path.read_text())
    assert found, f"{phone} was not dialled"
    return ami.event("Hangup", 20, Uniqueid=found[1])


# -- bridge


def both_hear(stack: Stack, caller: str, leg: str, hz: tuple[int, int]) -> float:
    """Each of the two hears the other's tone; how long the caller hears the leg's, ms."""
    caller_hz, leg_hz = hz
    in_leg = heard_ms(lab_sound.read(stack.lab.heard(leg)), caller_hz)
    in_caller = heard_ms(lab_sound.read(stack.lab.heard(caller)), leg_hz)
    assert len(in_leg) > 10, "the leg did not hear the caller"
    assert len(in_caller) > 10, "the caller did not hear the leg"
    assert not heard_ms(lab_sound.read(stack.lab.heard(caller)), caller_hz), "his own voice"
    return len(in_caller) * 100


def test_a_bridge_that_the_leg_ends_goes_on_with_the_caller(stack: Stack) -> None:
    caller, leg = sends(500), sends(700, "142")
    task = run(stack, caller, "leg-bridge", leg=leg)
    result = task["result"]
    assert task["state"] == "done", task
    assert (result["ended_by"], result["leg"], result["after"]) == ("other", "ended", "completed")
    heard = both_hear(stack, caller, leg, (500, 700))
    assert result["duration_s"] * 1000 == pytest.approx(heard, abs=600)
    tape = lab_sound.read(stack.lab.heard(caller))
    assert max(heard_ms(tape, 700)) <= min(heard_ms(tape, PROMPT_HZ)), "the prompt came after"


@pytest.mark.parametrize("keep", ["0", "1"])
def test_a_bridge_that_the_caller_ends(stack: Stack, keep: str) -> None:
    caller, leg = sends(500, "142"), sends(700)
    task = run(stack, caller, "leg-bridge", leg=leg, keep=keep)
    result = task["result"]
    assert task["state"] == "done", task
    assert result["ended_by"] == "caller"
    both_hear(stack, caller, leg, (500, 700))
    prompt = heard_ms(lab_sound.read(stack.lab.heard(leg)), PROMPT_HZ)
    if keep == "1":
        assert (result["leg"], result["after"]) == ("parked", "completed")
        assert len(prompt) == pytest.approx(SHORT_TONE_MS / 100, abs=2)
    else:
        assert result["leg"] == "ended"
        assert not prompt


def test_one_leg_after_the_other(stack: Stack) -> None:
    caller, first, second = sends(500), sends(700, "142"), sends(900, "142")
    task = run(stack, caller, "leg-two-bridges", leg=first, leg2=second)
    assert task["result"] == ["other", "other"], task
    tape = lab_sound.read(stack.lab.heard(caller))
    order = [heard_ms(tape, hz) for hz in (700, 900, PROMPT_HZ)]
    assert max(order[0]) <= min(order[1]) < max(order[1]) <= min(order[2])


def test_a_leg_that_hung_up_before_the_bridge(stack: Stack) -> None:
    task = run(stack, number("103"), "leg-late-bridge", leg=number("140"))
    assert task["state"] == "done", task
    assert task["result"] == "other"


@pytest.mark.parametrize("scenario", ["leg-bridge", "leg-transfer"])
def test_ten_at_once_whoever_hangs_up_first(stack: Stack, scenario: str) -> None:
    """Of each pair the tones tell who was connected with whom."""
    pairs = [(sends(300 + 100 * n, "141"), sends(1200 - 100 * n, "142")) for n in range(1, 6)]
    pairs += [(sends(300 + 100 * n, "142"), sends(1200 - 100 * n, "141")) for n in range(1, 6)]
    tasks = [start(stack, caller, scenario, leg=leg) for caller, leg in pairs]
    for place, (task_id, (caller, leg)) in enumerate(zip(tasks, pairs, strict=True)):
        task = stack.ended(task_id, 90)
        assert task["state"] == "done", task
        assert task["result"]["ended_by"] == ("other" if place < 5 else "caller"), task
        n = place % 5 + 1
        in_leg = heard_ms(lab_sound.read(stack.lab.heard(leg)), 300 + 100 * n)
        in_caller = heard_ms(lab_sound.read(stack.lab.heard(caller)), 1200 - 100 * n)
        assert len(in_leg) > 10, task
        assert len(in_caller) > 10, task


# -- transfer


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("105", "busy"),
        ("106", "no_answer"),
        ("107", "rejected"),
        ("143", "busy"),
        ("999", "invalid_number"),
    ],
)
def test_a_transfer_that_nobody_answers(stack: Stack, code: str, status: str) -> None:
    task = run(stack, number("103"), "leg-transfer", leg=number(code), wait="4")
    assert task["state"] == "done", task
    result = task["result"]
    assert (result["status"], result["ended_by"]) == (status, "nobody"), task
    assert result["after"] == "completed", "the scenario goes on with its caller"


@pytest.mark.parametrize(("by", "codes"), [("other", ("141", "142")), ("caller", ("142", "141"))])
def test_a_transfer_that_was_answered(stack: Stack, by: str, codes: tuple[str, str]) -> None:
    caller, other = sends(500, codes[0]), sends(700, codes[1])
    task = run(stack, caller, "leg-transfer", leg=other)
    result = task["result"]
    assert (task["state"], result["status"], result["ended_by"]) == ("done", "completed", by), task
    heard = both_hear(stack, caller, other, (500, 700))
    assert result["duration_s"] * 1000 == pytest.approx(heard, abs=600)


def test_the_other_side_is_shown_the_number_that_was_asked_for(stack: Stack) -> None:
    by_dial, by_transfer = number("105"), number("105")
    with observer(stack.lab.subscriber) as telephone:
        run(stack, number("103"), "leg-dial", leg=by_dial, shown=SHOWN)
        run(stack, number("103"), "leg-transfer", leg=by_transfer, shown=SHOWN)
        for phone in (by_dial, by_transfer):
            assert telephone.event("Newchannel", Exten=phone)["CallerIDNum"] == SHOWN


def test_the_caller_hangs_up_before_the_transfer_is_answered(stack: Stack) -> None:
    task = run(stack, number("140"), "leg-transfer", leg=number("106"))
    assert (task["state"], task["reason"]) == ("failed", "caller_hangup")


# -- screened


@pytest.mark.parametrize(
    ("code", "result"), [("147", "switched_off"), ("149", "busy")], ids=["announcement", "tone"]
)
def test_no_answer_is_paid_for_that_is_not_needed(
    stack: Stack, ami: Ami, code: str, result: str
) -> None:
    """147 would answer after its announcement, 149 gives the busy tone for 20 s."""
    leg = number(code)
    task = run(stack, number("103"), "leg-screened", leg=leg)
    found = task["result"]
    assert (found["status"], found["result"], found["answered"]) == ("screened", result, False)
    assert hangup_of(stack, ami, leg)["ChannelStateDesc"] != "Up"


@pytest.mark.parametrize(("code", "result"), [("145", "person"), ("103", "silence")])
def test_who_answered(stack: Stack, code: str, result: str) -> None:
    task = run(stack, number("103"), "leg-screened", leg=number(code))
    found = task["result"]
    assert (found["status"], found["result"], found["answered"]) == ("parked", result, True), task
    assert found["text"] == ("yes" if code == "145" else "")


def test_ringing_in_early_media_is_waited_out(stack: Stack) -> None:
    """148: 4 s of it, then an answer."""
    task = run(stack, number("103"), "leg-screened", leg=number("148"))
    found = task["result"]
    assert (found["status"], found["answered"], found["text"]) == ("parked", True, "yes"), task


@pytest.mark.parametrize("code", ["105", "107", "999"])
def test_what_the_network_says_is_the_verdict(stack: Stack, code: str) -> None:
    expected = {"105": "busy", "107": "rejected", "999": "no_such_number"}
    found = run(stack, number("103"), "leg-screened", leg=number(code))["result"]
    assert (found["result"], found["answered"]) == (expected[code], False)


def test_both_workers_die(stack: Stack, ami: Ami) -> None:
    """A leg that is parked is hung up; two that are bridged speak on until one of them hangs up.
    The last test of the module: the workers' numbers are others afterwards."""
    parked = start(stack, number("103"), "leg-keep", leg=number("103"), wait="60")
    stack.wait_for("the parked leg", lambda: figures(stack, "leg_sessions") == 1 or None)
    caller, leg = sends(500), sends(700, "142")
    bridged = start(stack, caller, "leg-bridge", leg=leg)
    stack.wait_for("the bridge", lambda: "simple" in stack.lab.pbx.cli("bridge show all") or None)
    for name in ("voice-0", "voice-1"):
        stack.kill_child(name)
    for task_id in (parked, bridged):
        assert stack.ended(task_id, 90)["reason"] == "backend_lost"
    # No tapes: with the forks gone Asterisk bridges by RTP itself, in a stream of another SSRC,
    # which the subscriber's 22.10 receives but does not always put on its tape.
    hung_up = hangup_of(stack, ami, leg)
    story = [
        event["Event"]
        for event in ami.events
        if event.get("Uniqueid") in (hung_up["Uniqueid"], f"dialog-{bridged}")
    ]
    together = story[len(story) - story[::-1].index("BridgeEnter") :]  # it waited in another before
    assert together.index("HangupRequest") < together.index("BridgeLeave"), "together to the end"
