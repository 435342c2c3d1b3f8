"""Who follows a channel or a conference is told of it, and of nothing else."""

from __future__ import annotations

import pytest

from backend.ami_watch import EventWatch
from backend.ports import conference_key
from backend.protocol.ami import Message


def tell(watch: EventWatch, name: str, **headers: str) -> None:
    watch.received([Message({"Event": name, **headers})])


def test_each_follower_hears_of_his_own() -> None:
    watch = EventWatch()
    first, again, room = list[str](), list[str](), list[str]()
    ends = [
        watch.watch("leg-1", lambda event: first.append(event["Event"])),
        watch.watch("leg-1", lambda event: again.append(event["Event"])),
        watch.watch(conference_key("talk"), lambda event: room.append(event["Event"])),
    ]
    tell(watch, "Newstate", Uniqueid="leg-1")
    tell(watch, "Newstate", Uniqueid="leg-2")
    tell(watch, "ConfbridgeJoin", Uniqueid="leg-1", Conference="talk")
    tell(watch, "ConfbridgeJoin", Uniqueid="leg-3", Conference="talk")
    ends[0]()
    ends[0]()
    tell(watch, "Hangup", Uniqueid="leg-1")
    assert first == ["Newstate", "ConfbridgeJoin"]
    assert again == ["Newstate", "ConfbridgeJoin", "Hangup"]
    assert room == ["ConfbridgeJoin", "ConfbridgeJoin"]
    for end in ends[1:]:
        end()
    assert watch.watched == 0


def test_one_that_fails_does_not_keep_it_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    watch = EventWatch()
    seen: list[str] = []
    watch.watch("leg-1", lambda event: seen.append(event["NoSuchHeader"]))
    watch.watch("leg-1", lambda event: seen.append(event["Event"]))
    tell(watch, "Hangup", Uniqueid="leg-1")
    assert seen == ["Hangup"]
    assert "who follows leg-1 failed at Hangup" in caplog.text
