"""What doctor asks; the answers are those of Asterisk 16.28."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time

import pytest

from backend import ami_probe
from backend.errors import AsteriskError, CommandRefused
from backend.ports import AmiReply

DENIED = AmiReply(False, "Permission denied", {})


class FakeAmi:
    connected = True

    def __init__(self, **answers: AmiReply) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Mapping[str, str | list[str]]]] = []

    def action(
        self, name: str, headers: Mapping[str, str | list[str]], *, timeout_s: float = 5.0
    ) -> AmiReply:
        self.asked.append((name, headers))
        unknown = f"Invalid/unknown command: {name}. Use Action: ListCommands to show available"
        return self.answers.get(name, AmiReply(False, unknown, {}))

    def send(
        self,
        name: str,
        headers: Mapping[str, str | list[str]],
        on_reply: Callable[[AmiReply | AsteriskError], None],
    ) -> None:
        raise AssertionError


def ok(message: str = "", **headers: str) -> AmiReply:
    return AmiReply(True, message, headers)


@pytest.mark.parametrize(
    ("text", "major"), [("16.28.0~dfsg-0+deb11u4", 16), ("22.10.1", 22), ("GIT-master-1", None)]
)
def test_version(text: str, major: int | None) -> None:
    found = ami_probe.version(FakeAmi(CoreSettings=ok(AsteriskVersion=text, AMIversion="5.0.4")))
    assert found == ami_probe.AsteriskVersion(text, "5.0.4", major)


def test_version_without_the_right() -> None:
    with pytest.raises(CommandRefused, match="Permission denied"):
        ami_probe.version(FakeAmi(CoreSettings=DENIED))


def test_rights() -> None:
    listed = ok(Originate="…", ControlPlayback="…", Command="…", Response="Success")
    found = ami_probe.rights(FakeAmi(ListCommands=listed))
    assert found.missing == ("CoreShowChannels", "CoreSettings")
    assert found.dangerous == ("Command",)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (None, ami_probe.ModuleFound(loaded=False, permitted=None)),
        (DENIED, ami_probe.ModuleFound(loaded=True, permitted=False)),
        (
            AmiReply(False, "Channel not specified", {}),
            ami_probe.ModuleFound(loaded=True, permitted=True),
        ),
    ],
)
def test_module(reply: AmiReply | None, found: ami_probe.ModuleFound) -> None:
    ami = FakeAmi(StopAudioFork=reply) if reply else FakeAmi()
    assert ami_probe.module(ami) == found
    assert ami.asked == [("StopAudioFork", {})], "without parameters: it does nothing"


@pytest.mark.parametrize(
    ("reply", "exists"),
    [
        (ok("DialPlan list will follow"), True),
        (AmiReply(False, "Did not find context nonexist", {}), False),
        (AmiReply(False, "Did not find extension s@dialog-outbound", {}), False),
        (DENIED, None),
    ],
)
def test_context(reply: AmiReply, exists: bool | None) -> None:
    found = ami_probe.context(FakeAmi(ShowDialPlan=reply), "dialog-outbound")
    assert found.exists is exists


def test_clock() -> None:
    found = ami_probe.clock(FakeAmi(Ping=ok(Timestamp=f"{time() + 30:.6f}")))
    assert abs(found.skew_s - 30) < 0.5
    assert 0 <= found.round_trip_s < 0.5
    with pytest.raises(CommandRefused):
        ami_probe.clock(FakeAmi(Ping=ok()))
