"""Conferences on a real Asterisk, proved by the tones and words on the participants' tapes.

Each participant sends a tone of his own, so a tape tells whom he heard.
"""

from __future__ import annotations

from typing import Any

import lab_sound
import pytest
from lab_ami import Ami
from stack import Stack

from tests.e2e.conftest import SHORT_TONE_MS
from tests.e2e.fixtures_legs import (
    LONG_MS,
    PLAY_HZ,
    PROMPT_HZ,
    WHISPER_HZ,
    ami,
    nothing_left,
    number,
    run,
    sends,
    stack,
    start,
)
from tests.e2e.tones import heard_ms

__all__ = ["ami", "nothing_left", "stack"]  # fixtures

TONES = (400, 500, 600, 700, 800)
FEW = 4  # of the blocks that a tone is looked for in: the clicks of others that begin and end


def heard(stack: Stack, phone: str, hz: int) -> list[int]:
    return heard_ms(lab_sound.read(stack.lab.heard(phone)), hz)


def test_two_rooms_of_five_each_hear_whisper_and_play(stack: Stack) -> None:
    """Ten calls sit, in two rooms, on two workers; two more lead them without a seat."""
    rooms = {room: [sends(hz) for hz in TONES] for room in ("north", "south")}
    hosts = {room: start(stack, number("103"), "conf-host", room=room, seats="5") for room in rooms}
    guests = {
        phone: start(stack, phone, "conf-guest", room=room)
        for room, phones in rooms.items()
        for phone in phones
    }
    for room, phones in rooms.items():
        result = done(stack, hosts[room])["result"]
        ids = {f"dialog-{guests[phone]}": phone for phone in phones}
        assert (result["whispered"], result["left"]) == ("completed", 0)
        assert result["played"] == sorted(f"{key} completed" for key in ids)
        assert result["muted"] == [result["one"]]
        for phone in phones:
            assert done(stack, guests[phone])["result"] == "completed", "it goes on after a kick"
        check_tapes(stack, dict(zip(phones, TONES, strict=True)), ids[result["one"]])


def check_tapes(stack: Stack, tones: dict[str, int], one: str) -> None:
    for phone, own in tones.items():
        whispered = heard(stack, phone, WHISPER_HZ)
        length = LONG_MS / 100 if phone == one else 0
        assert len(whispered) == pytest.approx(length, abs=2), "a whisper reaches exactly one"
        assert len(heard(stack, phone, PLAY_HZ)) == pytest.approx(LONG_MS / 100, abs=2)
        last = heard(stack, phone, PROMPT_HZ)
        assert len(last) == pytest.approx(SHORT_TONE_MS / 100, abs=2)
        others = {
            other: len(heard(stack, phone, hz)) for other, hz in tones.items() if other != phone
        }
        assert min(others.values()) > 10, f"{phone} heard {others}"
        # Of his own: clicks, where another's tone begins or a frame of it comes late.
        himself = heard(stack, phone, own)
        assert len(himself) < min(others.values()) / 3, (
            f"{phone} hears himself: {himself}, {others}"
        )
        if phone != one:
            loud = heard(
                stack, phone, next(hz for each, hz in tones.items() if each not in (phone, one))
            )
            muted = heard(stack, phone, tones[one])
            assert loud[-1] - muted[-FEW] > 1000, "he was muted at last"


def done(stack: Stack, task_id: str) -> dict[str, Any]:
    task = stack.ended(task_id, 90)
    assert task["state"] == "done", task
    return task


def test_who_said_what(stack: Stack, ami: Ami) -> None:
    """Two of them are calls of ours, the third is none: the dialplan put it there."""
    yes, no, foreign = number("145"), number("146"), number("145")
    says_yes = start(stack, yes, "conf-guest", room="talk")
    says_no = start(stack, no, "conf-guest", room="talk")
    answer = ami.action(
        "Originate",
        Channel=f"PJSIP/{foreign}@subscriber",
        Application="ConfBridge",
        Data="talk",
        Async="true",
        ChannelId="foreigner",
    )
    assert answer["Response"] == "Success"
    ami.event("ConfbridgeJoin", 20, Uniqueid="foreigner")
    task = run(stack, number("103"), "conf-hears", room="talk", wait="9")
    assert task["state"] == "done", task
    words = {f"dialog-{says_yes}": "yes", f"dialog-{says_no}": "no", "foreigner": "yes"}
    said = task["result"]["said"]
    assert {who for who, _ in said} == set(words), said
    assert [text for _, text in said] == [words[who] for who, _ in said], said
    assert task["result"]["silence"] == "timeout"
    for guest in (says_yes, says_no):
        assert done(stack, guest)["result"] == "completed"


def test_a_seat_is_left_and_the_room_is_gone(stack: Stack) -> None:
    phone = number("103")
    task = run(stack, phone, "conf-leaves", room="short")
    assert task["state"] == "done", task
    result = task["result"]
    assert "it sits in conference short: leave() first" in result["refused"]
    assert result["seated"] == [True]
    assert (result["left"], result["after"]) == (0, "completed")
    (tone,) = lab_sound.spans(lab_sound.read(stack.lab.heard(phone)), gap_ms=100)
    assert tone.length_ms == pytest.approx(SHORT_TONE_MS, abs=60)


def test_a_participant_hangs_up_and_the_host_hangs_up(stack: Stack) -> None:
    """Who is left sits alone until he is put out: the tests' end finds nothing."""
    goes = start(stack, number("140"), "conf-guest", room="left")
    stays = start(stack, number("103"), "conf-guest", room="left")
    host = start(stack, number("140"), "conf-hears", room="left", wait="9")
    assert stack.ended(goes)["reason"] == "caller_hangup"
    assert stack.ended(host)["reason"] == "caller_hangup"
    (channel,) = [name for name in stack.lab.pbx.channels() if not name.startswith("CBAnn")]
    assert "User kicked" in stack.lab.pbx.cli(f"confbridge kick left {channel}") or True
    assert done(stack, stays)["result"] == "completed"
