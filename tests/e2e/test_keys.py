"""DTMF_GUARD on a real Asterisk: keys blocked, passed, kept; proven by what applications get."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.key_lab import Agi, Call, KeyLab
from tests.fakes.fork_server import ForkServer

TEN = "1234567890"
ROOM = 64
WAYS = {
    "RFC 4733": ("120", "subscriber"),
    "SIP INFO": ("121", "subscriber-info"),
    "in-band": ("122", "subscriber-inband"),
}
PRESSING_S = 100 * 0.15 + 1
MODULE = "app_audiofork.so"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[KeyLab]:
    with KeyLab(tmp_path_factory.mktemp("keys"), asterisk) as one:
        yield one


# -- a hundred of a hundred


@dataclass
class Hundred:
    """The nine calls of the big test, each with a hundred keys pressed."""

    calls: dict[tuple[str, str], Call]


@pytest.fixture(scope="module")
def hundred(keys: KeyLab) -> Hundred:
    calls = {
        (way, mode): keys.dial(code, trunk, LAB_GUARD=mode)
        for mode in ("block", "pass", "buffer")
        for way, (code, trunk) in WAYS.items()
    }
    for call in calls.values():
        keys.wait("a call", lambda call=call: bool(call.channel))  # type: ignore[misc]
    time.sleep(PRESSING_S)

    def all_pressed() -> bool:
        fates = ("passed", "blocked", "buffered", "overflow")
        return all(sum(call.counts(*fates)) >= 100 for call in calls.values())

    keys.wait("a hundred keys in each call", all_pressed, 10)
    time.sleep(0.5)  # one too many would come now
    return Hundred(calls)


@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_of_a_hundred_are_blocked(hundred: Hundred, way: str) -> None:
    call = hundred.calls[way, "block"]
    assert call.counts("blocked", "passed", "buffered", "overflow") == [100, 0, 0, 0]
    assert call.keys == ""
    assert call.events("DTMFBegin") == call.events("DTMFEnd") == [], "AMI comes after the guard"


@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_of_a_hundred_pass(hundred: Hundred, way: str) -> None:
    call = hundred.calls[way, "pass"]
    assert call.counts("blocked", "passed", "buffered", "overflow") == [0, 100, 0, 0]
    call.wait_keys(TEN * 10)
    assert [event["Digit"] for event in call.events("DTMFEnd")] == list(TEN * 10)
    begun = 0 if way == "SIP INFO" else 100  # INFO tells a key when it is over
    assert len(call.events("DTMFBegin")) == begun


@pytest.mark.parametrize("way", WAYS)
def test_sixty_four_are_kept_and_come_in_order(hundred: Hundred, way: str) -> None:
    call = hundred.calls[way, "buffer"]
    assert call.counts("buffered", "overflow", "passed", "blocked") == [ROOM, 36, 0, 0]
    assert (call.keys, call.status["keys"]) == ("", (TEN * 10)[:ROOM])
    assert call.set("mode", "pass") == "Success"
    call.wait_keys((TEN * 10)[:ROOM], 64 * 0.2)
    assert call.counts("released", "waiting") == [ROOM, 0]


# -- at the edge of a switch


@pytest.mark.parametrize(("before", "after"), [("block", "pass"), ("pass", "block")])
def test_a_key_is_judged_at_its_beginning(keys: KeyLab, before: str, after: str) -> None:
    call = keys.dial("103")
    call.far()  # has answered
    for key in "123456":
        assert call.set("mode", before) == "Success"
        with_hand(lambda key=key: call.press(key, 300), lambda: call.set("mode", after), 0.15)  # type: ignore[misc]
    passed = "123456" if before == "pass" else ""
    keys.wait("all keys", lambda: sum(call.counts("passed", "blocked")) == 6)
    call.wait_keys(passed)
    assert call.counts("passed", "blocked") == [len(passed), 6 - len(passed)]
    assert len(call.events("DTMFBegin")) == len(call.events("DTMFEnd")) == len(passed)
    call.hangup()


def with_hand(press: Callable[[], None], then: Callable[[], object], after_s: float) -> None:
    """Do THEN so long after the hand began to press."""
    hand = threading.Thread(target=press, name="hand")
    hand.start()
    time.sleep(after_s)
    then()
    hand.join()


def test_info_is_judged_when_it_comes(keys: KeyLab) -> None:
    """It tells a key when that is over: what the mode was at its beginning nobody knows."""
    call = keys.dial("103", "subscriber-info", LAB_GUARD="block")
    keys.far_ami.action("Setvar", Channel=call.far(), Variable="PJSIP_DTMF_MODE()", Value="info")
    with_hand(lambda: call.press("1", 300), lambda: call.set("mode", "pass"), 0.15)
    with_hand(lambda: call.press("2", 300), lambda: call.set("mode", "block"), 0.15)
    keys.wait("two keys", lambda: sum(call.counts("passed", "blocked")) == 2)
    call.wait_keys("1")
    call.hangup()


def test_switching_at_any_moment_leaves_no_half_keys(keys: KeyLab) -> None:
    """Each key is seen whole or not at all, and the counters are what the application got."""
    call = keys.dial("103")
    luck = random.Random(3)
    pressed = "".join(luck.choice(TEN) for _ in range(40))
    stop = threading.Event()

    def switch() -> None:
        for mode in itertools.cycle(["block", "pass"]):
            if stop.wait(luck.uniform(0.01, 0.25)):
                return
            call.set("mode", mode)

    call.far()  # has answered
    switcher = threading.Thread(target=switch, name="switcher")
    switcher.start()
    call.press(pressed)
    keys.wait("all keys", lambda: sum(call.counts("passed", "blocked")) == len(pressed))
    stop.set()
    switcher.join()
    passed = call.counts("passed")[0]
    keys.wait("what has passed", lambda: len(call.keys) == passed)
    assert 5 < passed < 35, "both fates occurred"
    rest = iter(pressed)
    assert all(key in rest for key in call.keys), "in order, none twice"
    assert len(call.events("DTMFBegin")) == len(call.events("DTMFEnd")) == passed
    call.set("mode", "pass")
    call.press("*")
    keys.wait("the last key", lambda: call.keys.endswith("*"))
    call.hangup()


# -- keeping and releasing


def test_released_keys_have_their_lengths_and_go_before_later_ones(keys: KeyLab) -> None:
    call = keys.dial("103", LAB_GUARD="buffer")
    for key, ms in (("1", 100), ("2", 400), ("3", 200)):
        call.press(key, ms)
    keys.wait("three keys", lambda: call.get("waiting") == "3")
    with_hand(lambda: call.press("45", 100), lambda: call.set("mode", "pass"), 0.02)
    call.wait_keys("12345")
    lengths = [int(event["DurationMs"]) for event in call.events("DTMFEnd")]
    assert lengths == pytest.approx([100, 400, 200, 100, 100], abs=30)
    assert sum(call.counts("passed", "released")) == 5
    call.hangup()


def test_release_of_some_while_the_mode_holds(keys: KeyLab) -> None:
    call = keys.local("buffer")
    call.press("12345")
    assert call.set("release", "2") == "Success"
    call.wait_keys("12")
    call.press("6")
    assert call.status["keys"] == "3456"
    assert call.set("release", "all") == "Success"
    call.wait_keys("123456")
    assert call.counts("released", "waiting", "passed") == [6, 0, 0]
    call.hangup()


def test_released_without_a_packet_from_the_wire(keys: KeyLab) -> None:
    """Nothing but the core's own timer moves the channel."""
    call = keys.local("buffer")
    call.press(TEN)
    call.set("mode", "pass")
    call.wait_keys(TEN, 5)
    call.hangup()


def test_the_voice_goes_on_while_keys_are_released(keys: KeyLab) -> None:
    with ForkServer() as server:
        call = keys.dial("103", LAB_GUARD="buffer")
        call.press(TEN * 2, gap_ms=20)
        keys.wait("twenty keys", lambda: call.get("waiting") == "20")
        started = keys.ami.action(
            "AudioFork", Channel=call.channel, WsServer=server.url("voice"), Options="D(in)"
        )
        assert started["Response"] == "Success", started
        frames = server.frames("voice", 10).frames
        before, began = len(frames), time.monotonic()
        call.set("mode", "pass")
        call.wait_keys(TEN * 2)
        lasted_s = time.monotonic() - began
        assert lasted_s > 20 * 0.07, "one at a time"
        assert len(frames) - before > 0.85 * 50 * lasted_s
        call.hangup()


def test_thrown_away_and_taken(keys: KeyLab) -> None:
    call = keys.local("buffer")
    call.press("123")
    assert (call.get("clear"), call.get("clear")) == ("3", "0")
    call.press("45")
    assert (call.get("keys"), call.get("take"), call.get("take")) == ("45", "45", "")
    call.set("mode", "pass")
    call.press("6")
    call.wait_keys("6")
    assert call.counts("buffered", "cleared", "taken", "released", "passed") == [5, 3, 2, 0, 1]
    call.hangup()


def test_only_the_keys_named_are_blocked(keys: KeyLab) -> None:
    call = keys.local("block(0-9)")
    call.press("1*2A3")
    call.wait_keys("*A")
    assert call.get("digits") == "0123456789"
    assert call.counts("passed", "blocked") == [2, 3]
    call.hangup()


def test_off_lets_go_what_was_kept_and_remembers(keys: KeyLab) -> None:
    call = keys.local("buffer")
    call.press("12")
    call.set("mode", "off")
    call.wait_keys("12")
    call.press("3")
    call.wait_keys("123")
    assert call.status["mode"] == "off"
    assert call.counts("released", "passed") == [2, 0], "nobody counts any more"
    call.set("mode", "block")
    call.press("4")
    assert call.counts("released", "blocked") == [2, 1]
    assert call.keys == "123"
    call.hangup()


# -- AGI


def during_the_prompt(call: Call, agi: Agi, pressed: str) -> tuple[str, float]:
    """Press keys from half a second on; what CONTROL STREAM FILE says of a prompt of two seconds.

    The second value is how long it took, in seconds.
    """
    hand = threading.Timer(0.5, call.press, [pressed])
    hand.start()
    began = time.monotonic()
    result = agi.command(f'CONTROL STREAM FILE "{call.lab.tone}" "0123456789"')
    lasted_s = time.monotonic() - began
    hand.join()
    return result, lasted_s


def test_prompts_of_agi(keys: KeyLab) -> None:
    """CONTROL STREAM FILE and WAIT FOR DIGIT, on a call over SIP."""
    call, agi = keys.talk()
    assert agi.guard("mode") == "off"
    assert agi.command("SET VARIABLE DTMF_GUARD(mode) block") == "1"
    result, lasted_s = during_the_prompt(call, agi, "12")
    assert result.startswith("0 "), "played to its end"
    assert lasted_s == pytest.approx(2, abs=0.2)
    assert agi.wait_for_digit(300) == ""
    agi.command("SET VARIABLE DTMF_GUARD(mode) pass")
    result, lasted_s = during_the_prompt(call, agi, "3")
    assert result.startswith(f"{ord('3')} "), "ended by the key"
    assert lasted_s < 1.2
    status = dict(field.split("=") for field in agi.guard("status").split(","))
    assert (status["blocked"], status["passed"]) == ("2", "1")
    agi.close()
    call.hangup()


def test_keys_ahead_of_the_question(keys: KeyLab) -> None:
    """Pressed during a prompt, asked for after it, two ways: all at once, one by one."""
    call, agi = keys.talk()
    agi.command("SET VARIABLE DTMF_GUARD(mode) buffer")
    during_the_prompt(call, agi, "4711")
    assert agi.guard("take") == "4711"
    during_the_prompt(call, agi, "12345")
    agi.command("SET VARIABLE DTMF_GUARD(mode) pass")
    assert "".join(agi.wait_for_digit() for _ in range(5)) == "12345"
    agi.close()
    call.hangup()


def test_keys_between_two_commands(keys: KeyLab) -> None:
    """An idle AGI throws open keys away; kept ones wait."""
    call, agi = keys.talk()
    agi.command("SET VARIABLE DTMF_GUARD(mode) pass")
    call.press("1")
    assert agi.guard("passed") == "1"
    assert agi.wait_for_digit(300) == ""
    agi.command("SET VARIABLE DTMF_GUARD(mode) buffer")
    call.press("23")
    assert (agi.guard("waiting"), agi.guard("take")) == ("2", "23")
    agi.close()
    call.hangup()


# -- bridges, transfers, hangup, unload


@pytest.fixture
def pair(keys: KeyLab) -> Iterator[tuple[Call, Call]]:
    """A call over SIP that is bridged to another one."""
    number = keys.number("103")
    first = keys.dial("103", exten="dial", LAB_PEER=f"PJSIP/{number}@subscriber")
    name = keys.ami.event("DialBegin", Uniqueid=first.id)["DestChannel"]
    peer = keys.ami.event("Newchannel", Channel=name)["Uniqueid"]
    second = Call(keys, peer, lambda: keys.far_channel(number), keys.far_ami)
    for call in (first, second):
        keys.ami.event("BridgeEnter", Uniqueid=call.id)
    yield first, second
    first.hangup()


def far_heard(call: Call) -> str:
    """The keys that have come to the far end of the call, one after another different.

    Asterisk tells a DTMFEnd twice when a key comes too soon after another.
    """
    name = call.far()
    ends = (event for event in list(call.lab.far_ami.events) if event["Event"] == "DTMFEnd")
    told = (e["Digit"] for e in ends if (e["Channel"], e["Direction"]) == (name, "Received"))
    return "".join(digit for digit, _ in itertools.groupby(told))


def test_a_bridge_gets_open_keys_only(keys: KeyLab, pair: tuple[Call, Call]) -> None:
    first, second = pair
    first.press("1")
    keys.wait("the key at the peer", lambda: far_heard(second) == "1")
    first.set("mode", "block")
    first.press("23")
    second.press("4")
    keys.wait("the peer's own key", lambda: far_heard(first) == "4")
    first.set("mode", "buffer")
    first.press("56")
    assert far_heard(second) == "1"
    first.set("mode", "pass")
    keys.wait("the kept keys at the peer", lambda: far_heard(second) == "156")
    first.press("7")
    keys.wait("an open key at the peer", lambda: far_heard(second) == "1567")
    assert first.counts("blocked", "buffered", "released", "passed") == [2, 2, 2, 1]


def test_the_guard_stays_with_its_caller_through_a_redirect(
    keys: KeyLab, pair: tuple[Call, Call]
) -> None:
    """A Dial'ed channel has no dialplan of its own: AMI's Redirect is a masquerade."""
    _, second = pair
    name = second.channel
    second.set("mode", "buffer")
    second.press("12")
    moved = keys.ami.action(
        "Redirect", Channel=name, Context="lab-guard", Exten="told", Priority="1"
    )
    assert moved["Response"] == "Success", moved
    keys.ami.event("Newexten", Channel=name, Context="lab-guard", Extension="told")
    second.press("3")
    assert second.counts("buffered", "waiting") == [3, 3]
    second.set("mode", "pass")
    second.press("4")

    def told() -> bool:
        events = (e for e in list(keys.ami.events) if e["Event"] == "UserEvent")
        return "".join(e["Key"] for e in events if e["Channel"] == name) == "1234"

    keys.wait("all four keys", told)
    keys.ami.action("Hangup", Channel=name)


@pytest.mark.parametrize("ringing_mode", ["buffer", "off"])
def test_one_guard_is_left_where_two_meet(keys: KeyLab, ringing_mode: str) -> None:
    """Who picks up a ringing call takes that channel over; each of the two had a guard."""
    keys.lab.pbx.cli("module load app_directed_pickup.so")
    caller = keys.local("pass", exten="dial", LAB_PEER="Local/ring@lab_far/n")
    ringing = keys.ami.event("DialBegin", Uniqueid=caller.id)["DestChannel"]
    target = Call(keys, keys.ami.event("Newchannel", Channel=ringing)["Uniqueid"])
    target.set("mode", "block")
    target.set("mode", ringing_mode)
    taker = keys.local("buffer", exten="take", LAB_PEER=ringing)
    name = taker.channel
    taker.press("12")
    keys.ami.event("Pickup", TargetChannel=ringing)
    keys.wait("the new name", lambda: "AppDial" in keys.lab.pbx.cli(f"core show channel {name}"))
    taker.press("3")

    def guard(what: str) -> str:
        answer = keys.ami.action("Getvar", Channel=name, Variable=f"DTMF_GUARD({what})")
        return answer["Value"]

    # A guard at rest lets the other one go on; one at work stays, and knows its own keys only.
    kept = {"buffer": "3", "off": "123"}[ringing_mode]
    keys.wait(f"the key {kept}", lambda: guard("keys") == kept)
    assert guard("mode") == "buffer"
    keys.ami.action("Hangup", Channel=name)
    caller.hangup()


def test_what_makes_no_sense_changes_nothing(keys: KeyLab) -> None:
    call = keys.local("block(0-9)")
    logged = len(keys.lab.pbx.log())

    def warnings() -> list[str]:
        rows = keys.lab.pbx.log()[logged:].splitlines()
        return [row for row in rows if "WARNING" in row and "DTMF_GUARD(" in row]

    wrong = [("mode", "shut"), ("mode", "block(x)"), ("release", "-1"), ("colour", "1")]
    for what, value in wrong:
        call.set(what, value)
    keys.wait("the warnings", lambda: len(warnings()) == len(wrong))
    for row, (what, _) in zip(warnings(), wrong, strict=True):
        assert f"DTMF_GUARD({what})" in row
    assert (call.status["mode"], call.get("digits")) == ("block", "0123456789")
    other = keys.local("off")
    assert other.status == {
        "mode": "off", "digits": "", "passed": "0", "blocked": "0", "buffered": "0",
        "overflow": "0", "released": "0", "taken": "0", "cleared": "0", "waiting": "0", "keys": "",
    }  # fmt: skip
    call.hangup()
    other.hangup()


def test_it_has_help(keys: KeyLab) -> None:
    shown = keys.lab.pbx.cli("core show function DTMF_GUARD")
    assert "Block the keys that come from a channel" in shown
    assert "<literal>" not in shown


def test_unloaded_in_the_midst_of_calls(keys: KeyLab) -> None:
    """Their keys are open then. And calls that have ended hold nothing."""
    cli = keys.lab.pbx.cli
    calls = [keys.dial("103", LAB_GUARD="block"), keys.local("buffer"), keys.local("off")]
    for call in calls:
        call.press("1")
    began = time.monotonic()
    assert "Unloaded" in cli(f"module unload -f {MODULE}")
    assert time.monotonic() - began < 3
    for call in calls:
        call.press("2")
    for call in calls:
        keys.wait("the open key", lambda call=call: call.keys.endswith("2"))  # type: ignore[misc]
    assert [call.keys for call in calls] == ["2", "2", "12"]
    assert "Loaded" in cli(f"module load {MODULE}")
    assert calls[0].get("mode") == "off"
    for call in calls:
        call.set("mode", "buffer")
        call.press("3")
        call.hangup()
    assert "Unloaded" in cli(f"module unload {MODULE}")
    assert "Loaded" in cli(f"module load {MODULE}")
    assert "cannot be unloaded" not in keys.lab.pbx.log()
