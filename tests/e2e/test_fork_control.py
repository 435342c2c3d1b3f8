"""app_audiofork under control: AMI, the console, transfers and audiofork.conf."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_ami import Ami

from tests.e2e.fork_lab import FAR_HZ, LEVEL, NEAR_HZ, Call, ForkLab, hears
from tests.fakes.fork_server import level

ENOUGH = 60  # frames to judge a tone by, the first few aside


pytestmark = pytest.mark.usefixtures("story")


# -- AMI and CLI


def test_start_mute_and_stop_by_ami(fork: ForkLab) -> None:
    call = fork.call()
    voice = fork.start(call.channel, fork.server.url("voice"), "D(in)")
    prompt = fork.start(call.channel, fork.server.url("prompt"), "D(out)")
    one, other = fork.server.find("voice"), fork.server.find("prompt")
    assert voice != prompt
    assert hears(fork.server.more(one, 50)[5:], 0, LEVEL)

    assert mute(fork, call, Direction="read", State="1")["Response"] == "Success"
    quiet = fork.server.more(one, 40)[5:]
    assert not any(b"".join(quiet)), "a muted direction keeps its time, as zeros"
    assert hears(fork.server.more(other, 45)[5:], LEVEL, 0)
    assert mute(fork, call, State="0")["Response"] == "Success"
    assert hears(fork.server.more(one, 45)[5:], 0, LEVEL)

    assert mute(fork, call, State="1", AudioForkID=prompt)["Response"] == "Success"
    assert not any(b"".join(fork.server.more(other, 40)[5:]))
    assert any(b"".join(fork.server.more(one, 10)))

    fork.stop(call.channel, AudioForkID=voice)
    assert fork.server.closed(one) == 1000
    assert other.code is None
    fork.stop(call.channel)
    assert fork.server.closed(other) == 1000
    for name, received in ((voice, one), (prompt, other)):
        end = fork.ended(name)
        assert (end.reason, end.lost_s) == ("StopAudioFork by AMI", 0)
        assert end.captured == end.sent == len(received.frames)
    call.hangup()


def mute(fork: ForkLab, call: Call, **headers: str) -> dict[str, str]:
    return fork.ami.action("AudioForkMute", Channel=call.channel, **headers)


def test_ami_says_what_is_wrong(fork: ForkLab) -> None:
    call = fork.call()
    fork.start(call.channel, fork.server.url("asked"))
    here = {"Channel": call.channel}
    wrong = [
        ("AudioFork", {"WsServer": "ws://127.0.0.1:1/"}, "No channel specified"),
        ("AudioFork", {"Channel": "none", "WsServer": "ws://127.0.0.1:1/"}, "No such channel"),
        ("AudioFork", here, "a WebSocket URL is wanted"),
        ("AudioForkMute", {"Channel": "none", "State": "1"}, "No such channel"),
        ("AudioForkMute", {**here, "State": "7"}, "State must be"),
        ("AudioForkMute", {**here, "State": "1", "Direction": "up"}, "Direction must be"),
        ("AudioForkMute", {**here, "State": "1", "AudioForkID": "zz"}, "No such AudioFork"),
        ("StopAudioFork", {**here, "AudioForkID": "zz"}, "No such AudioFork"),
        ("StopAudioFork", {"Channel": "none"}, "No such channel"),
    ]
    for action, headers, why in wrong:
        answer = fork.ami.action(action, **headers)
        assert (answer["Response"], why in answer["Message"]) == ("Error", True), answer
    call.hangup()


def test_the_backends_login_may_start_and_stop_forks(fork: ForkLab) -> None:
    pbx = fork.lab.pbx
    call = fork.call()
    with Ami(pbx.ami_port, pbx.ami_user, pbx.ami_secret) as backend:
        url = fork.server.url("backend")
        started = backend.action("AudioFork", Channel=call.channel, WsServer=url, Options="D(in)")
        assert started["Response"] == "Success", started
        one = fork.server.frames("backend", 5)
        stopped = backend.action("StopAudioFork", Channel=call.channel)
        assert stopped["Response"] == "Success", stopped
    assert fork.server.closed(one) == 1000
    call.hangup()


def test_the_console_starts_lists_and_stops(fork: ForkLab) -> None:
    call = fork.call()
    cli, channel = fork.lab.pbx.cli, call.channel
    started = cli(f"audiofork start {channel} {fork.server.url('cli?token=s3cret')} D(in)")
    name = started.split()[1]
    fork.server.frames("cli", 20)
    listed, shown = cli(f"audiofork list {channel}"), cli(f"audiofork show {channel}")
    for words in (name, channel, " up ", " in "):
        assert words in listed
    for words in (name, f"Channel: {channel}", "State: up", "Direction: in"):
        assert words in shown
    assert "s3cret" not in listed + shown
    seen = fork.counters(name)
    assert seen["Messages"] >= 20
    assert seen["CapturedInMs"] - 20 * seen["Messages"] in (0, 20)
    assert (seen["CapturedOutMs"], seen["DroppedInMs"], seen["Connections"]) == (0, 0, 1)
    assert "0 AudioFork(s)" in cli("audiofork list none")
    assert "1 AudioFork(s) stopped" in cli(f"audiofork stop {channel}")
    assert fork.server.closed(fork.server.find("cli")) == 1000
    assert "0 AudioFork(s) stopped" in cli(f"audiofork stop {channel}")
    assert "no channel none" in cli("audiofork stop none")
    assert "Not started: bad URL" in cli(f"audiofork start {channel} http://x/")
    assert "Usage" in cli("audiofork start")
    call.hangup()


# -- transfers


def test_a_fork_stays_with_its_channel_through_a_redirect(fork: ForkLab) -> None:
    """A Dial'ed channel has no dialplan of its own: AMI's Redirect is a masquerade."""
    _, called = fork.bridged()
    name = fork.start(called, fork.server.url("moved"), "D(both)")
    one = fork.server.frames("moved", ENOUGH)
    assert hears(one.frames[10:], LEVEL, LEVEL)
    moved = fork.ami.action(
        "Redirect", Channel=called, Context="lab-fork", Exten="plain", Priority="1"
    )
    assert moved["Response"] == "Success", moved
    fork.ami.event("Newexten", Channel=called, Context="lab-fork", Extension="plain")
    assert level(fork.server.more(one, ENOUGH)[10:], NEAR_HZ) > LEVEL / 2
    assert called in fork.lab.pbx.cli(f"audiofork list {called}")
    fork.stop(called, AudioForkID=name)
    assert fork.server.closed(one) == 1000
    end = fork.ended(name)
    assert (end.lost_s, end.connections) == (0, 1)
    assert end.sent == len(one.frames)
    fork.ami.action("Hangup", Channel=called)


def test_a_fork_follows_its_channel_to_another_name(fork: ForkLab) -> None:
    """Who picks up a ringing call takes that channel over, which bears his name from then on."""
    fork.lab.pbx.cli("module load app_directed_pickup.so")
    _, ringing = fork.dialled("Local/ring@lab_far/n")
    name = fork.start(ringing, fork.server.url("picked"), "D(both)")
    one = fork.server.find("picked")
    taker = fork.run("PickupChan", ringing)
    fork.ami.event("Pickup", TargetChannel=ringing)
    listed = f"audiofork list {taker.channel}"
    fork.wait("the fork under its new name", lambda: name in fork.lab.pbx.cli(listed))
    assert "0 AudioFork(s)" in fork.lab.pbx.cli(f"audiofork list {ringing}")
    assert level(fork.server.more(one, ENOUGH)[10:], FAR_HZ) > LEVEL / 2
    assert one.texts == [ringing], "the name is told at the beginning of a connection only"
    fork.stop(taker.channel, AudioForkID=name)
    assert fork.server.closed(one) == 1000
    assert fork.ended(name).lost_s == 0
    told = fork.told(name)
    assert [event["Channel"] for event in told] == [ringing, ringing, taker.channel, taker.channel]
    assert told[-1]["Uniqueid"] == taker.id != told[0]["Uniqueid"]
    fork.ami.action("Hangup", Channel=taker.channel)


# -- audiofork.conf


@pytest.fixture
def sample(fork: ForkLab) -> Iterator[None]:
    """After the test the configuration is empty again."""
    yield
    fork.configure("")


@pytest.mark.usefixtures("sample")
def test_only_allowed_servers_get_audio(fork: ForkLab) -> None:
    port = fork.server.port
    fork.configure(f"allow = ws://127.0.0.1:{port}/ok")
    tried = {
        f"ws://127.0.0.1:{port}/ok": True,
        f"ws://127.0.0.1:{port}/ok/x?y=1": True,
        f"ws://127.0.0.1:{port}/": False,
        f"ws://127.0.0.1:{port}/okay": False,
        f"ws://127.0.0.1:{port}/ok/../x": False,
        "ws://127.0.0.1:1/ok": False,
        f"wss://127.0.0.1:{port}/ok": False,
    }
    calls = {url: fork.call(url, near="", far="quiet") for url in tried}
    told = {url: call.result()["Status"] for url, call in calls.items()}
    for call in calls.values():
        call.hangup()
    for url, is_allowed in tried.items():
        assert (told[url] == "STARTED") is is_allowed, url
        if not is_allowed and "/../" not in url:
            assert told[url] == "REFUSED"
            fork.logged(calls[url].channel, "not under any 'allow'")


@pytest.mark.usefixtures("sample")
def test_a_bad_configuration_is_told_line_by_line_and_the_old_one_stays(fork: ForkLab) -> None:
    fork.configure("allow = ws://127.0.0.1:9/old")
    running = fork.call()
    fork.configure("ring_ms = 5\nallow = http://x\nfoo = 1\npost_command = maybe\nreconnect = 2x")
    for line, words in (
        (2, "ring_ms must be a number from 100 to 30000"),
        (3, "allow = http://x"),
        (4, "unknown setting 'foo'"),
        (5, "post_command must be yes or no"),
        (6, "reconnect must be yes or no"),
    ):
        fork.logged("ERROR", f"audiofork.conf line {line}: {words}")
    url = fork.server.url("new")
    answer = fork.ami.action("AudioFork", Channel=running.channel, WsServer=url)
    assert "not under any 'allow'" in answer["Message"]
    running.hangup()


@pytest.mark.usefixtures("sample")
def test_the_post_command_runs_only_where_it_is_allowed(fork: ForkLab) -> None:
    folder = fork.lab.recordings
    script, proof = folder / "after.sh", folder / "after.txt"
    script.write_text(f'echo "$1 $AUDIOFORK_ID $AUDIOFORK_CHANNEL" >{proof}.part\n')
    with script.open("a") as file:
        file.write(f"mv {proof}.part {proof}\n")
    command = f"sh {script} one"

    off = fork.call(fork.server.url("off"), LAB_COMMAND=command)
    assert off.result()["Status"] == "REFUSED"
    fork.logged(off.channel, "does not have post_command = yes")
    fork.configure("post_command = yes")
    for bad in ("touch x; rm y", "touch `id`", "touch $HOME"):
        answer = fork.ami.action(
            "AudioFork", Channel=off.channel, WsServer=fork.server.url("bad"), Command=bad
        )
        assert "put it into a script" in answer["Message"]
    off.hangup()

    call = fork.call(fork.server.url("on"), LAB_COMMAND=command)
    fork.server.frames("on", 5)
    assert not proof.exists(), "only when the fork has ended"
    call.hangup()
    assert wait_for(proof) == f"one {call.fork()} {call.channel}\n"


def wait_for(file: Path) -> str:
    until = time.monotonic() + 10
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.02)
    return file.read_text()
