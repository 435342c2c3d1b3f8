"""The dialplan that an admin installs, as subroutine and as macro: every ending of a talk."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import lab_sound
import pytest
from lab import Backend, Lab
from lab_ami import Ami
from lab_config import DIALPLAN
from lab_sound import Samples, likeness, spans, tone

from tests.e2e.plain_lab import APOLOGY_HZ, PROMPT_HZ, Agi, heard, observer


@pytest.fixture(
    params=[
        pytest.param("dialog-outbound", id="gosub"),
        pytest.param("lab-macro", id="macro", marks=pytest.mark.only_asterisk("16")),
    ]
)
def context(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def number_for(request: pytest.FixtureRequest, code: str) -> str:
    """A number that no other test dials."""
    return f"{code}{zlib.crc32(request.node.nodeid.encode()):010}"


def pitch(samples: Samples[int]) -> list[int]:
    """The prompts and apologies in their order, by their tones, in Hz."""
    found: list[int] = []
    last = 0
    for start in range(0, len(samples) - 399, 400):
        window = samples[start : start + 400]
        hz = 0 if max(map(abs, window)) < lab_sound.LOUD else tone_of(window) or last
        if hz and hz != last:
            found.append(hz)
        last = hz
    return found


def tone_of(window: Samples[int]) -> int:
    for hz in (PROMPT_HZ, APOLOGY_HZ):
        if likeness(window, tone(30, hz), at_ms=2, slack_ms=2) > 0.9:
            return hz
    return 0


def story(ami: Ami, call: str) -> list[str]:
    """context,exten:application, in the order they ran, once the call is over."""
    ami.event("Hangup", 20, Uniqueid=call)
    rows = [e for e in ami.events if e["Event"] == "Newexten" and e.get("Uniqueid") == call]
    return [f"{e['Context']},{e['Extension']}:{e['Application']}" for e in rows]


def warnings(lab: Lab, call_channel: str) -> str:
    """What the dialplan warned of on this channel; not the lines that show it being executed."""
    rows = [row for row in lab.pbx.log().splitlines() if "] WARNING[" in row]
    return "\n".join(row for row in rows if f"dialog: {call_channel}" in row)


def test_a_finished_scenario_is_followed_by_nothing(
    lab: Lab, ami: Ami, agi: Agi, context: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    call = ami.originate(number, context, {"DIALOG_SCENARIO": "finish"})
    ran = story(ami, call)
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    assert f"{context},s:Hangup" in ran, "it came back to whoever called the talk"
    assert pitch(heard(lab, number)) == []
    assert agi.seen[call]["agi_request"] == f"agi://{agi.place}/finish"


@pytest.mark.parametrize("fault", ["die", "away", "hang"])
def test_a_caller_hears_the_apology(
    lab: Lab, ami: Ami, context: str, fault: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    wanted = {"DIALOG_SCENARIO": fault, "DIALOG_TASK": "t-1"}
    wanted |= {"away": {"DIALOG_AGI": "127.0.0.1:1"}, "hang": {"DIALOG_MAX_S": "1"}}.get(fault, {})
    call = ami.originate(number, context, wanted)
    assert pitch(heard(lab, number)) == [APOLOGY_HZ]
    channel = ami.event("Hangup", Uniqueid=call)["Channel"]
    why = "stopped after DIALOG_MAX_S=1 s" if fault == "hang" else "was away or died"
    assert "task t-1: " in warnings(lab, channel)
    assert why in warnings(lab, channel)


def test_the_apology_comes_in_mid_prompt_too(
    lab: Lab, ami: Ami, context: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    ami.originate(number, context, {"DIALOG_SCENARIO": "die_in_the_prompt"})
    assert pitch(heard(lab, number)) == [PROMPT_HZ, APOLOGY_HZ]


def test_no_fallback_for_a_caller_who_hung_up(
    ami: Ami, context: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "108")
    ran = story(ami, ami.originate(number, context, {"DIALOG_SCENARIO": "play_for_ever"}))
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    assert [step for step in ran if ",h:" in step]


def test_transfer_instead_of_the_apology(
    lab: Lab, ami: Ami, context: str, request: pytest.FixtureRequest
) -> None:
    caller, operator = number_for(request, "103"), number_for(request, "104")
    wanted = {"DIALOG_SCENARIO": "die", "DIALOG_TRANSFER": f"PJSIP/{operator}@subscriber"}
    call = ami.originate(caller, context, wanted)
    bridge = ami.event("BridgeEnter", Uniqueid=call)["BridgeUniqueid"]
    ami.event("BridgeEnter", BridgeUniqueid=bridge, BridgeNumChannels="2")
    ami.action("Hangup", Channel=ami.event("BridgeEnter", Uniqueid=call)["Channel"])
    assert not [step for step in story(ami, call) if step.endswith(":Playback")]


def test_nobody_at_the_transfer_means_apology(
    lab: Lab, ami: Ami, context: str, request: pytest.FixtureRequest
) -> None:
    caller, operator = number_for(request, "103"), number_for(request, "105")
    wanted = {"DIALOG_SCENARIO": "die", "DIALOG_TRANSFER": f"PJSIP/{operator}@subscriber"}
    ami.originate(caller, context, wanted)
    assert pitch(heard(lab, caller)) == [APOLOGY_HZ]


def test_a_missing_apology_is_not_silence(
    lab: Lab, ami: Ami, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    wanted = {"DIALOG_SCENARIO": "die", "DIALOG_APOLOGY": "no-such-sound"}
    ami.originate(number, "dialog-outbound", wanted)
    assert len(spans(heard(lab, number))) > 2


def test_an_inbound_call_is_answered_by_the_scenario(lab: Lab, ami: Ami, agi: Agi) -> None:
    with observer(lab.subscriber) as subscriber:
        subscriber.originate("74951234567", "subscriber", exten="1000901", trunk="pbx")
        call = ami.event("Newchannel", Context="dialog-inbound", Exten="74951234567")["Uniqueid"]
    assert pitch(heard(lab, "1000901")) == [PROMPT_HZ, PROMPT_HZ]
    ran = story(ami, call)
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    env = agi.seen[call]
    assert env["number"] == "74951234567"
    assert "result=6" not in env["before"]
    assert "result=6" in env["after"]


def test_the_fork_is_started_before_the_talk_and_does_not_hold_it_up(
    lab: Lab, ami: Ami, agi: Agi, context: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    wanted = {"DIALOG_SCENARIO": "finish", "DIALOG_WS": "ws://127.0.0.1:1/"}
    call = ami.originate(number, context, wanted)
    ran = story(ami, call)
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    assert agi.seen[call]["fork"]
    channel = ami.event("Hangup", Uniqueid=call)["Channel"]
    assert "will not hear the caller" not in warnings(lab, channel)


@pytest.mark.parametrize(
    ("url", "status"), [("http://127.0.0.1/", "BADARGS"), ("ws://127.0.0.1:2/no", "REFUSED")]
)
def test_a_fork_that_is_refused_is_told_and_the_talk_goes_on(
    lab: Lab,
    ami: Ami,
    agi: Agi,
    context: str,
    url: str,
    status: str,
    allowed_forks: None,
    request: pytest.FixtureRequest,
) -> None:
    """TryExec reports SUCCESS: the module ran. Its own status decides, and not an older one."""
    number = number_for(request, "103")
    wanted = {"DIALOG_SCENARIO": "finish", "DIALOG_WS": url, "AUDIOFORK_STATUS": "STARTED"}
    call = ami.originate(number, context, wanted)
    ran = story(ami, call)
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    assert not agi.seen[call]["fork"]
    channel = ami.event("Hangup", Uniqueid=call)["Channel"]
    assert f"AudioFork {status} - the backend will not hear the caller" in warnings(lab, channel)
    assert f"AudioFork on {channel} was not started" in lab.pbx.log()


@pytest.fixture
def allowed_forks(lab: Lab) -> Iterator[None]:
    """audiofork.conf allows the server of the other test, and no more."""
    file = lab.pbx.home / "etc" / "audiofork.conf"
    before = file.read_text()
    file.write_text("[general]\nallow = ws://127.0.0.1:1/\n")
    lab.pbx.cli("module reload app_audiofork.so")
    yield
    file.write_text(before)
    lab.pbx.cli("module reload app_audiofork.so")


def test_the_twins_of_the_dialplan_are_in_step() -> None:
    """But for where the scenario's name is kept, and how they come back."""
    talks = []
    for name in ("dialog-gosub.conf", "dialog-macro.conf"):
        text = (DIALPLAN / name).read_text()
        text = text.replace("LOCAL(scenario)", "DIALOG_CHOICE").replace(
            "{scenario}", "{DIALOG_CHOICE}"
        )
        talks.append([row for row in text.splitlines() if row.startswith(("exten", " same"))])
    gosub, macro = talks
    assert gosub == [*macro, " same => n,Return()"]


def test_without_the_module_the_talk_goes_on_with_a_warning(
    tmp_path: Path, asterisk: str, agi: Agi, context: str
) -> None:
    backend = Backend(agi=agi.place, fork_ws="ws://127.0.0.1:1/")
    with (
        Lab(tmp_path, backend=backend, asterisk=asterisk, module=False) as bare,
        observer(bare.pbx) as ami,
    ):
        call = ami.originate("1030001", context, {"DIALOG_SCENARIO": "finish"})
        ran = story(ami, call)
        assert not [step for step in ran if step.startswith("dialog-fallback")]
        channel = ami.event("Hangup", Uniqueid=call)["Channel"]
        assert "AudioFork NOAPP" in warnings(bare, channel)
