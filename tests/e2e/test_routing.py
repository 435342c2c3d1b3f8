"""Which of several patterns a number takes: what Asterisk's own dialplan says."""

from __future__ import annotations

import itertools
import re

import pytest
from lab import Lab
from lab_ami import Ami

from backend.dialing.routing import Route, RouteTable

# Numbers, and patterns of which several fit each.
GROUPS = {
    "sets": (["71", "72", "75", "79"], ["_7[12]", "_7[1-3]", "_7N", "_7Z", "_7X", "71", "_7."]),
    "alike": (["71", "15"], ["_7[13]", "_7[12]", "_[15]X", "_[17]X", "_ZX"]),
    "ends": (["7495", "74951", "749"], ["7495", "_749X", "_749!", "_74.", "_!", "_X.", "_7495!"]),
    "left": (["7199", "7299", "7999"], ["_7X99", "_7[1-5].", "_7[1-5]X9", "_[7]199", "_7."]),
    "lengths": (["7800123", "7800"], ["_7800.", "_7800!", "_780X.", "_7800XXX", "_7800[1-5]!"]),
    "signs": (["+7495", "*12#", "12#"], ["_+7XXX", "_+.", "_*12#", "_*.", "_12#", "_X!", "+7495"]),
}
_numbers = itertools.count()


@pytest.mark.parametrize("group", GROUPS)
def test_the_order_is_asterisks(lab: Lab, ami: Ami, group: str) -> None:
    numbers, patterns = GROUPS[group]
    context = f"routing-{next(_numbers)}"
    for pattern in patterns:
        said = lab.pbx.cli(f"dialplan add extension {pattern},1,Verbose,{pattern} into {context}")
        assert "added into" in said, said
    table = RouteTable(Route(pattern, "inbound", pattern) for pattern in patterns)
    for number in numbers:
        ours = [route.pattern for route in table.fitting(number, "inbound")]
        assert ours, number
        shown = lab.pbx.cli(f"dialplan show {number}@{context}")
        assert ours == re.findall(r"^ +'([^']+)' =>", shown, re.MULTILINE), shown
        assert ours[0] == taken(ami, number, context)


def taken(ami: Ami, number: str, context: str) -> str:
    """The pattern whose step runs when the number is dialled."""
    channel = f"{context}-{next(_numbers)}"
    ami.action(
        "Originate",
        Channel=f"Local/{number}@{context}/n",
        ChannelId=channel,
        OtherChannelId=f"{channel}-2",
        Application="Wait",
        Data="0",
        Async="true",
    )
    return ami.event("Newexten", 30, Uniqueid=f"{channel}-2", Application="Verbose")["AppData"]
