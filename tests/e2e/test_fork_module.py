"""app_audiofork on a real Asterisk: what is sent, and the application's options.

Audio is judged by its tones: the far side plays FAR_HZ, the near side NEAR_HZ (fork_lab.py).
"""

from __future__ import annotations

import itertools

import pytest

from tests.e2e.fork_lab import FAR_HZ, LEVEL, NEAR_HZ, Call, ForkLab, hears
from tests.fakes.fork_server import FRAME_BYTES, bursts, level

ENOUGH = 60  # frames to judge a tone by, the first few aside


@pytest.fixture(scope="module")
def fork(fork: ForkLab) -> ForkLab:
    fork.load_what_option_b_wants()
    return fork


pytestmark = pytest.mark.usefixtures("story")


# -- the wire form, on one call


@pytest.fixture(scope="module")
def spoken(fork: ForkLab) -> Call:
    """A call of 1.2 s with a fork, over."""
    call = fork.call(fork.server.url("wire/form?token=s3cret"), "D(in)")
    fork.server.frames("wire/form", ENOUGH)
    call.hangup()
    return call


def test_the_channels_name_comes_first_then_20_ms_of_8_khz_each(
    fork: ForkLab, spoken: Call
) -> None:
    one = fork.server.find("wire/form")
    assert fork.server.closed(one) == 1000
    assert one.texts == [spoken.channel]
    assert {len(frame) for frame in one.frames} == {FRAME_BYTES}
    gaps_ms = [(after - before) * 1000 for before, after in itertools.pairwise(one.times)]
    assert sorted(gaps_ms)[len(gaps_ms) // 2] == pytest.approx(20, abs=5)


def test_the_request_offers_echo_and_nothing_else(fork: ForkLab, spoken: Call) -> None:
    one = fork.server.find("wire/form")
    assert one.path == "/wire/form?token=s3cret"
    assert one.connection.request is not None
    headers = one.connection.request.headers
    assert headers["Sec-WebSocket-Protocol"] == "echo"
    assert headers["Host"] == f"127.0.0.1:{fork.server.port}"
    assert "Sec-WebSocket-Extensions" not in headers
    assert "Origin" not in headers


def test_what_was_captured_was_sent_and_received(fork: ForkLab, spoken: Call) -> None:
    end = fork.ended(spoken.fork())
    one = fork.server.find("wire/form")
    assert end.captured == end.sent == len(one.frames)
    assert (end.reason, end.lost_s, end.connections) == ("hangup", 0, 1)


def test_the_query_is_never_told(fork: ForkLab, spoken: Call) -> None:
    assert spoken.result()["Server"] == f"ws://127.0.0.1:{fork.server.port}/wire/form"
    fork.ended(spoken.fork())
    rows = fork.log_rows("audiofork_capture.c", "s3cret")
    assert not rows


def test_a_real_call_in_alaw_is_forked_too(fork: ForkLab) -> None:
    """The subscriber's number 119 sends back what is played to it."""
    values = {"LAB_URL": fork.server.url("alaw"), "LAB_OPTIONS": "D(in)"}
    number = fork.ami.originate("1190007", "lab-fork", {**values, "LAB_TONE": fork.tones["near"]})
    call = Call(fork, number)
    fork.server.frames("alaw", 2 * ENOUGH)
    call.hangup()
    one = fork.server.find("alaw")
    assert fork.server.closed(one) == 1000
    assert level(one.frames[-ENOUGH:], NEAR_HZ) == pytest.approx(LEVEL, rel=0.05)
    end = fork.ended(call.fork())
    assert end.captured == end.sent == len(one.frames)


# -- directions and volume: all at the same time, each in a call of its own

# name: options, direction_names, how loud what the caller hears (NEAR_HZ), how loud his voice is
AUDIO = {
    "in": ("D(in)", "standard", 0, 1),
    "out": ("D(out)", "standard", 1, 0),
    "both": ("D(both)", "standard", 1, 1),
    "unsaid": ("", "standard", 1, 1),
    "read": ("D(read)", "standard", 0, 1),
    "write": ("D(write)", "standard", 1, 0),
    "other-in": ("D(in)", "dmarenin", 1, 0),
    "other-out": ("D(out)", "dmarenin", 0, 1),
    "other-both": ("D(both)", "dmarenin", 0, 1),
    "other-unsaid": ("", "dmarenin", 0, 1),
    "other-read": ("D(read)", "dmarenin", 0, 1),
    "other-write": ("D(write)", "dmarenin", 1, 0),
    "voice-louder": ("D(in)v(1)", "standard", 0, 2),
    "prompt-softer": ("D(both)V(-2)", "standard", 0.25, 1),
    "both-softer": ("D(both)W(-1)", "standard", 0.5, 0.5),
}


@pytest.fixture(scope="module")
def audio(fork: ForkLab) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for names in ("dmarenin", "standard"):
        fork.configure(f"direction_names = {names}")
        mine = {name: row[0] for name, row in AUDIO.items() if row[1] == names}
        for name, options in mine.items():
            calls[name] = fork.call(fork.server.url(name), options)
        for name in mine:
            calls[name].fork()  # has read the configuration
    return calls


@pytest.mark.parametrize("name", AUDIO)
def test_the_direction_and_the_volume_are_those_asked_for(
    fork: ForkLab, audio: dict[str, Call], name: str
) -> None:
    one = fork.server.frames(name, ENOUGH)
    near, far = AUDIO[name][2:]
    assert hears(one.frames[10:ENOUGH], near * LEVEL, far * LEVEL)


def test_nothing_is_lost_on_a_healthy_connection(fork: ForkLab, audio: dict[str, Call]) -> None:
    for name, call in audio.items():
        fork.server.frames(name, ENOUGH)
        call.hangup()
    for name, call in audio.items():
        one = fork.server.find(name)
        assert fork.server.closed(one) == 1000
        end = fork.ended(call.fork())
        assert (end.reason, end.lost_s, end.connections) == ("hangup", 0, 1), name
        assert end.sent == len(one.frames), name
        both = level(one.frames[10:ENOUGH], NEAR_HZ) > 500 < level(one.frames[10:ENOUGH], FAR_HZ)
        assert both or end.captured == end.sent, name


# -- wrong options


BAD = {
    "http://127.0.0.1/": ("", "bad URL"),
    "ws://user@127.0.0.1/": ("", "bad URL"),
    "ws://127.0.0.1:1/left": ("D(left)", "option D(left): in, out, both"),
    "ws://127.0.0.1:1/unknown": ("Q", "option Q is not known"),
    "ws://127.0.0.1:1/gone": ("a", "option a is not known"),
    "ws://127.0.0.1:1/loud": ("v(9)", "option v(9): a number from -4 to 4"),
    "ws://127.0.0.1:1/none": ("V()", "option V(): a number from -4 to 4"),
    "ws://127.0.0.1:1/count": ("r(x)", "option r(x): a number of attempts"),
    "ws://127.0.0.1:1/past": ("R(-1)", "option R(-1): seconds from 0"),
    "ws://127.0.0.1:1/open": ("D(in", "option D has no closing bracket"),
    "ws://127.0.0.1:1/name": ("i(a b)", "option i(a b): letters, digits"),
    "ws://127.0.0.1:1/beep": ("B(0)", "option B(0): seconds from 1"),
    "ws://127.0.0.1:1/plain": ("T(/none)", "option T wants a wss:// URL"),
    "wss://127.0.0.1:1/": ("T(/none)", "option T: a file cannot be read"),
}


@pytest.fixture(scope="module")
def refused(fork: ForkLab) -> dict[str, Call]:
    return {url: fork.call(url, options, near="", far="quiet") for url, (options, _) in BAD.items()}


@pytest.mark.parametrize("url", BAD)
def test_a_wrong_option_is_named_and_the_call_goes_on(
    fork: ForkLab, refused: dict[str, Call], url: str
) -> None:
    call = refused[url]
    told = call.result()
    assert (told["Status"], told["ID"]) == ("BADARGS", "")
    fork.logged("WARNING", f"AudioFork on {call.channel} was not started", BAD[url][1])
    assert call.is_up
    answer = fork.ami.action("AudioFork", Channel=call.channel, WsServer=url, Options=BAD[url][0])
    assert answer["Response"] == "Error"
    assert BAD[url][1] in answer["Message"]
    call.hangup()


def test_the_id_goes_into_the_variable(fork: ForkLab) -> None:
    call = fork.call(fork.server.url("id"), "D(in)i(LAB_ID)")
    assert call.result()["Named"] == call.fork() != ""
    call.hangup()


# -- beeps: the far side has a fork of its own, through which we hear what it hears


def listen(fork: ForkLab, name: str, options: str, **more: str) -> Call:
    """A call in which silence is played; the far side's ear is the connection `NAME-ear`."""
    ear = {"__LAB_FAR_URL": fork.server.url(f"{name}-ear")}
    near = "" if "LAB_STOP" in more else "silence"
    return fork.call(fork.server.url(name), options, near=near, far="quiet", **ear, **more)


def test_a_beep_comes_every_so_often(fork: ForkLab) -> None:
    beeping = listen(fork, "beeps", "D(in)B(1)")
    still = listen(fork, "no-beeps", "D(in)")
    one, other = fork.server.find("beeps-ear"), fork.server.find("no-beeps-ear")
    fork.server.wait("two beeps", lambda: bursts(one.frames) >= 2)
    assert bursts(other.frames) == 0
    beeping.hangup()
    still.hangup()


def test_no_periodic_beep_that_another_call_would_hear(fork: ForkLab) -> None:
    """Asterisk's own beep takes the name up to the second dash for the channel's."""
    call, called = fork.bridged()
    assert called.count("-") == 2
    fork.start(called, fork.server.url("dash"), "D(in)B(1)")
    fork.logged("WARNING", f"on {called}: no periodic beep")
    fork.server.frames("dash", 5)
    call.hangup()


def test_beeps_at_the_start_and_at_the_stop(fork: ForkLab) -> None:
    call = listen(fork, "ends", "D(in)pP", LAB_STOP="1")
    still = listen(fork, "no-ends", "D(in)", LAB_STOP="1")
    ear = fork.server.find("ends-ear")
    fork.server.wait("the first beep", lambda: bursts(ear.frames) == 1)
    assert not any(one.path == "/ends" for one in fork.server.received), "the beep comes before"
    for one in (call, still):
        fork.ami.event("UserEvent", UserEvent="LabStopped", Uniqueid=one.id)
    fork.server.wait("the second beep", lambda: bursts(ear.frames) == 2)
    assert bursts(fork.server.find("no-ends-ear").frames) == 0
    assert fork.server.closed(fork.server.find("ends")) == 1000
    assert fork.ended(call.fork()).reason == "StopAudioFork"
    assert call.is_up
    call.hangup()
    still.hangup()


def test_by_ami_no_beep_can_be_played_at_the_start_which_is_said(fork: ForkLab) -> None:
    call = fork.call()
    fork.start(call.channel, fork.server.url("ami-beep"), "D(in)p")
    fork.logged("WARNING", f"AudioFork on {call.channel}: option p")
    call.hangup()


def test_only_while_bridged(fork: ForkLab) -> None:
    """Two forks on each channel; the one with b is judged when the other has much."""
    alone = fork.call()
    call, called = fork.bridged()
    for channel, name in ((alone.channel, "alone"), (called, "bridged")):
        fork.start(channel, fork.server.url(f"{name}-b"), "D(in)b")
        fork.start(channel, fork.server.url(name), "D(in)")
    fork.server.frames("alone", ENOUGH)
    assert fork.server.find("alone-b").frames == []
    fork.server.frames("bridged", ENOUGH)
    assert hears(fork.server.frames("bridged-b", ENOUGH - 5).frames[5:50], LEVEL, 0)
    alone.hangup()
    call.hangup()
