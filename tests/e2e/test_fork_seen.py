"""What Asterisk tells of forks: AMI events and actions, the console, sums.

The forks whose events are looked at run side by side in one lab.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

import pytest
from lab_ami import Message

from tests.e2e.fork_lab import Call, ForkLab, dead_port, figures
from tests.fakes import fork_server
from tests.fakes.fork_server import ForkServer, RawServer

LIMITS = """connect_timeout_ms = 700
stall_timeout_ms = 10000
ring_ms = 400
flush_ms = 300
reconnect_delay_ms = 100
reconnect_max_delay_ms = 200"""
START, UP, DOWN, OVERRUN, STOP = (
    f"AudioFork{what}" for what in ("Start", "Connected", "Disconnected", "Overrun", "Stop")
)


@pytest.fixture(scope="module")
def fork(fork: ForkLab) -> ForkLab:
    fork.configure(LIMITS)
    return fork


@pytest.fixture(autouse=True)
def no_forks(story: None, fork: ForkLab) -> Iterator[None]:
    """After each test no call is left, and no fork."""
    yield
    fork.hangup_all()
    fork.wait("the end of all forks", lambda: not fork.forks())


# -- events


@dataclass
class Told:
    """One fork after its end."""

    call: Call
    id: str
    url: str
    events: list[Message]
    frames: int = 0
    """What its server has received."""

    @property
    def names(self) -> list[str]:
        return [event["Event"] for event in self.events]

    def all(self, name: str) -> list[Message]:
        return [event for event in self.events if event["Event"] == name]

    @property
    def counted(self) -> dict[str, int]:
        return {name: int(value) for name, value in self.events[-1].items() if value.isdecimal()}


CASES = ("good", "comes back", "never answers", "freezes", "nobody there", "stopped by id")


@pytest.fixture(scope="module")
def told(fork: ForkLab) -> dict[str, Told]:
    """All cases, at the same time; only the wait for overruns takes longer than a second."""
    with ExitStack() as stack:
        mute = stack.enter_context(RawServer(fork_server.never_answers))
        frozen = stack.enter_context(RawServer(fork_server.freezes))
        dying = stack.enter_context(ForkServer())
        starts = {
            "good": (fork.server.url("good?token=s3cret"), "D(in)"),
            "comes back": (dying.url("back"), "D(in)R(0)"),
            "never answers": (mute.url, "D(in)"),
            "freezes": (frozen.url, "D(both)"),
            "nobody there": (f"ws://127.0.0.1:{dead_port()}/", "D(in)R(0)"),
            "stopped by id": (fork.server.url("by-id"), "D(out)"),
        }
        calls = {case: fork.call() for case in CASES}
        ids = {case: fork.start(calls[case].channel, *starts[case]) for case in CASES}

        dying.frames("back", 10)
        dying.close()
        again = stack.enter_context(ForkServer(port=dying.port))
        fork.server.frames("good", 30)
        fork.server.frames("by-id", 10)
        answer = fork.ami.action("StopAudioFork", AudioForkID=ids["stopped by id"])
        assert answer["Response"] == "Success", answer
        again.frames("back", 10)
        calls["good"].hangup()
        calls["comes back"].hangup()
        for case in ("nobody there", "freezes"):
            wait_for_overruns(fork, ids[case], 2)
            calls[case].hangup()
        found = {
            case: Told(calls[case], ids[case], starts[case][0], fork.told(ids[case]))
            for case in CASES
        }
        for case, path in (("good", "good"), ("stopped by id", "by-id")):
            found[case].frames = len(fork.server.find(path).frames)
        return found


def wait_for_overruns(fork: ForkLab, name: str, count: int) -> None:
    def enough() -> bool:
        events = list(fork.ami.events)
        return count <= sum(
            event["Event"] == OVERRUN and event["AudioForkID"] == name for event in events
        )

    fork.wait(f"{count} overruns", enough, 20)


@pytest.mark.parametrize("case", CASES)
def test_every_event_says_whom_it_is_about(told: dict[str, Told], case: str) -> None:
    one = told[case]
    assert str(UUID(one.id)) == one.id
    assert UUID(one.id).version == 4
    assert one.names[0] == START
    assert one.events[0]["Direction"] == {"freezes": "both", "stopped by id": "out"}.get(case, "in")
    for event in one.events:
        assert event["Privilege"] == "call,all"
        assert event["Channel"] == one.call.channel
        assert event["Uniqueid"] == event["Linkedid"] == one.call.id
        assert event["WsServer"] == one.url.partition("?")[0]


def test_a_good_call(told: dict[str, Told]) -> None:
    one = told["good"]
    assert one.names == [START, UP, DOWN, STOP]
    up, down, stop = one.events[1:]
    assert (up["Connection"], down["Connection"]) == ("1", "1")
    assert (down["Reason"], down["Retry"], down["RetryMs"]) == ("hangup", "No", "0")
    assert stop["Reason"] == "hangup"
    assert one.counted == {
        "CapturedInMs": one.frames * 20,
        "CapturedOutMs": 0,
        "DroppedInMs": 0,
        "DroppedOutMs": 0,
        "Overruns": 0,
        "Messages": one.frames,
        "Bytes": one.frames * 320 + len(one.call.channel),
        "Connections": 1,
        "Failures": 0,
        "Digits": 0,
        "DigitsLost": 0,
        "Plays": 0,
        "PlayedMs": 0,
        "BadMessages": 0,
        "RepliesLost": 0,
    }


def test_a_server_that_dies_and_comes_back(told: dict[str, Told]) -> None:
    one = told["comes back"]
    assert [name for name in one.names if name != OVERRUN] == [START, UP, DOWN, UP, DOWN, STOP]
    assert [event["Connection"] for event in one.all(UP)] == ["1", "2"]
    first, last = one.all(DOWN)
    assert (first["Connection"], first["Retry"]) == ("1", "Yes")
    assert 0 < int(first["RetryMs"]) <= 100
    assert (last["Connection"], last["Retry"], last["Reason"]) == ("2", "No", "hangup")
    counted = one.counted
    assert counted["Connections"] == 2
    assert counted["Failures"] >= 1
    assert counted["CapturedInMs"] == counted["Messages"] * 20 + counted["DroppedInMs"]


def test_a_server_that_never_answers(told: dict[str, Told]) -> None:
    one = told["never answers"]
    assert [name for name in one.names if name != OVERRUN] == [START, STOP]
    assert "timeout connecting" in one.events[-1]["Reason"]
    counted = one.counted
    assert (counted["Connections"], counted["Failures"], counted["Messages"]) == (0, 1, 0)
    assert counted["DroppedInMs"] == counted["CapturedInMs"] > 0


@pytest.mark.parametrize("case", ["nobody there", "freezes"])
def test_an_overrun(told: dict[str, Told], case: str) -> None:
    """Told as soon as the ring drops the first audio, then once a second."""
    one = told[case]
    overruns = one.all(OVERRUN)
    between = [OVERRUN] * len(overruns)
    around = [UP] if case == "freezes" else []
    assert one.names == [START, *around, *between, *([DOWN] if around else []), STOP]
    assert one.counted["Overruns"] == len(overruns) >= 2
    assert int(overruns[0]["LostMs"]) <= 200, "at its beginning"
    assert all(int(event["LostMs"]) >= 900 for event in overruns[1:])
    lost = 0
    for event in overruns:
        lost += int(event["LostMs"])
        assert lost == int(event["DroppedInMs"]) + int(event["DroppedOutMs"])
    counted = one.counted
    dropped = counted["DroppedInMs"] + counted["DroppedOutMs"]
    assert lost <= dropped
    if case == "nobody there":
        assert (counted["Connections"], dropped) == (0, counted["CapturedInMs"])
        assert counted["Failures"] >= 3


def test_stopped_by_its_id_alone(told: dict[str, Told]) -> None:
    one = told["stopped by id"]
    assert one.names == [START, UP, DOWN, STOP]
    assert one.events[-1]["Reason"] == "StopAudioFork by AMI"
    counted = one.counted
    assert (counted["CapturedInMs"], counted["DroppedOutMs"]) == (0, 0)
    assert counted["CapturedOutMs"] == one.frames * 20 == counted["Messages"] * 20


def test_texts_of_the_server_are_events_of_one_line_and_bounded(fork: ForkLab) -> None:
    call = fork.call()
    name = fork.start(call.channel, fork.server.url("texts"), "D(in)j")
    one = fork.server.find("texts")
    evil = "first\r\n\r\nEvent: FullyBooted\x07\u0085ж"
    one.connection.send(json.dumps({"type": "text", "text": evil}))
    event = fork.ami.event("AudioForkText", AudioForkID=name)
    assert event["Text"] == "first    Event: FullyBooted  ж"
    assert (event["Channel"], event["Uniqueid"]) == (call.channel, call.id)
    for number in range(300):
        one.connection.send(json.dumps({"type": "text", "text": f"text {number}"}))
    fork.logged("WARNING", name, "more than 50 texts a second")
    call.hangup()
    names = [event["Event"] for event in fork.told(name)]
    assert names[:2] == [START, UP]
    assert names[-2:] == [DOWN, STOP]
    assert 50 <= names.count("AudioForkText") <= 150


def test_a_client_that_does_not_read_delays_no_fork(fork: ForkLab) -> None:
    """Asterisk waits for it in its own thread: events and audio of the others go on."""
    pbx = fork.lab.pbx
    login = (
        f"Action: Login\r\nUsername: {pbx.observer_user}\r\nSecret: {pbx.observer_secret}\r\n\r\n"
    )
    with socket.socket() as deaf:
        # The kernel keeps 50 kB for it, then Asterisk's write waits (up to writetimeout, 5 s).
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        deaf.connect(("127.0.0.1", pbx.ami_port))
        deaf.sendall(login.encode())
        call = fork.call()
        name = fork.start(call.channel, fork.server.url("deaf"), "D(in)j")
        one = fork.server.find("deaf")
        for _ in range(3):
            for _ in range(50):
                one.connection.send(json.dumps({"type": "text", "text": "x" * 1024}))
            began = time.monotonic()
            fork.server.more(one, 55)
            assert time.monotonic() - began < 4, "it waited for the deaf one"
        call.hangup()
        assert fork.told(name)[-1]["DroppedInMs"] == "0"
    steps = [after - before for before, after in zip(one.times, one.times[1:], strict=False)]
    assert max(steps) < 0.2


# -- actions


def test_forks_are_muted_and_paused_by_their_id(fork: ForkLab) -> None:
    call = fork.call()
    names = [fork.start(call.channel, fork.server.url(path)) for path in ("left", "right")]
    left, right = (fork.server.frames(path, 5) for path in ("left", "right"))
    assert (
        fork.ami.action("AudioForkMute", AudioForkID=names[0], State="1")["Response"] == "Success"
    )
    assert not any(b"".join(fork.server.more(left, 40)[10:]))
    assert any(b"".join(fork.server.more(right, 5)))

    paused = fork.ami.action("AudioForkPause", AudioForkID=names[1], State="1")
    assert paused["Message"] == "AudioFork paused"
    fork.server.more(left, 10)
    before = len(right.frames), fork.counters(names[1])
    fork.server.more(left, 25)
    assert (len(right.frames), fork.counters(names[1])) == before
    assert before[1]["CapturedInMs"] == len(right.frames) * 20, "its place stands still"
    for headers in ({"Channel": call.channel}, {"Channel": call.id, "AudioForkID": names[1]}):
        resumed = fork.ami.action("AudioForkPause", State="0", **headers)
        assert resumed["Message"] == "AudioFork resumed"
    fork.server.more(right, 10)
    call.hangup()
    for name, one in zip(names, (left, right), strict=True):
        end = fork.told(name)[-1]
        assert int(end["CapturedInMs"]) == len(one.frames) * 20
        assert end["DroppedInMs"] == "0"


def test_the_list(fork: ForkLab) -> None:
    calls = [fork.call() for _ in range(2)]
    paths = {fork.start(call.channel, fork.server.url(f"list-{call.id}")): call for call in calls}
    for call in calls:
        fork.server.frames(f"list-{call.id}", 10)

    def listed(**headers: str) -> dict[str, Message]:
        answer = fork.ami.action("AudioForkList", **headers)
        assert (answer["Response"], answer["EventList"]) == ("Success", "start")
        number = answer["ActionID"]
        done = fork.ami.event("AudioForkListComplete", ActionID=number)
        mine = [event for event in fork.ami.events if event.get("ActionID") == number]
        rows = {row["AudioForkID"]: row for row in mine if row["Event"] == "AudioForkList"}
        assert (done["EventList"], int(done["ListItems"])) == ("Complete", len(rows))
        return rows

    every = listed()
    assert every.keys() == paths.keys()
    for name, call in paths.items():
        row = every[name]
        assert (row["Channel"], row["Uniqueid"], row["Linkedid"]) == (
            call.channel,
            call.id,
            call.id,
        )
        assert (row["State"], row["Direction"], row["Connections"]) == ("up", "in", "1")
        assert int(row["Messages"]) >= 5
        assert listed(Channel=call.channel).keys() == listed(AudioForkID=name).keys() == {name}
    assert listed(AudioForkID="none") == {}
    first = next(iter(paths))
    assert listed(AudioForkID=first, Channel=calls[1].channel) == {}
    for call in calls:
        call.hangup()


def test_actions_say_what_is_wrong(fork: ForkLab) -> None:
    call, other = fork.call(), fork.call()
    name = fork.start(call.channel, fork.server.url("asked"))
    here, on = {"Channel": call.channel}, {"State": "1"}
    elsewhere = {"Channel": other.channel, "AudioForkID": name}
    wrong = [
        ("StopAudioFork", {}, "Channel or AudioForkID must be given"),
        ("StopAudioFork", {"AudioForkID": "none"}, "No such AudioFork"),
        ("StopAudioFork", elsewhere, "No such AudioFork on the channel"),
        ("AudioForkMute", on, "Channel or AudioForkID must be given"),
        ("AudioForkMute", {**elsewhere, **on}, "No such AudioFork on the channel"),
        ("AudioForkPause", here, "State must be 1 or 0"),
        ("AudioForkPause", {**on, "AudioForkID": "none"}, "No such AudioFork"),
        ("AudioForkPause", {**on, "Channel": "none"}, "No such channel"),
        ("AudioForkPlayClear", {}, "Channel or AudioForkID must be given"),
        ("AudioForkPlayClear", {**here, "Play": "a b"}, "Play must be 1 to 64 of"),
        ("AudioForkPlayClear", {**here, "Play": "x" * 65}, "Play must be 1 to 64 of"),
        ("AudioForkPlayClear", here, "without option j"),
        ("AudioForkPlayClear", elsewhere, "No such AudioFork on the channel"),
        ("AudioForkList", {"Channel": "none"}, "No such channel"),
    ]
    for action, headers, why in wrong:
        answer = fork.ami.action(action, **headers)
        assert (answer["Response"], why in answer["Message"]) == ("Error", True), (headers, answer)
    call.hangup()
    other.hangup()


def test_prompts_are_cleared_by_ami(fork: ForkLab) -> None:
    """As by the server's own `clear`: it is told that the prompt is over."""
    call = fork.call()
    name = fork.start(call.channel, fork.server.url("cleared"), "D(in)j")
    one = fork.server.find("cleared")
    for headers, prompt in (({"AudioForkID": name, "Play": "p1"}, "p1"), ({}, "p2")):
        one.connection.send(json.dumps({"type": "play", "play": prompt}))
        one.connection.send(bytes(3200))
        one.connection.send(json.dumps({"type": "counters"}))
        wait_for_message(fork, one, lambda m: m["type"] == "counters", 2 if prompt == "p2" else 1)
        cleared = fork.ami.action("AudioForkPlayClear", **{"Channel": call.channel, **headers})
        assert cleared["Message"] == "Playing ended"
        wait_for_message(fork, one, lambda m: m["type"] == "played", 2 if prompt == "p2" else 1)
        played = [m for m in map(json.loads, one.texts) if m["type"] == "played"][-1]
        assert (played["play"], played["how"]) == (prompt, "clear")
    call.hangup()


def wait_for_message(
    fork: ForkLab,
    one: fork_server.Received,
    wanted: Callable[[dict[str, object]], bool],
    count: int,
) -> None:
    def there() -> bool:
        return sum(wanted(json.loads(text)) for text in one.texts) >= count

    fork.server.wait("a message", there)


# -- the console


def test_the_console_shows_one_fork_and_all(fork: ForkLab) -> None:
    cli = fork.lab.pbx.cli
    call = fork.call()
    url = fork.server.url("shown")
    name = fork.start(call.channel, f"{url}?token=s3cret")
    fork.server.frames("shown", 25)
    by_id, by_channel = cli(f"audiofork show {name}"), cli(f"audiofork show {call.channel}")
    for shown in (by_id, by_channel, cli("audiofork show")):
        assert f"AudioFork {name}\n" in shown
        assert "1 AudioFork(s)" in shown
        assert "s3cret" not in shown
        for row in (f"Channel: {call.channel}", f"Uniqueid: {call.id}", f"WsServer: {url}",
                    f"Linkedid: {call.id}", "Direction: in", "State: up"):  # fmt: skip
            assert f"  {row}\n" in shown
    seen = figures(by_id)
    assert seen["Messages"] >= 20
    assert seen["CapturedInMs"] - 20 * seen["Messages"] in (0, 20)
    assert "0 AudioFork(s)" in cli("audiofork show none")
    assert len(cli("audiofork list").splitlines()) == 3, "a heading, a line, a sum"
    assert "1 AudioFork(s) stopped" in cli(f"audiofork stop {name}")
    assert "There is no channel" in cli(f"audiofork stop {name}")
    assert fork.told(name)[-1]["Reason"] == "CLI"
    for words in ("stats x", "list a b", "show a b"):
        assert "Usage: audiofork" in cli(f"audiofork {words}")
    call.hangup()


def test_the_sums(fork: ForkLab) -> None:
    cli = fork.lab.pbx.cli

    def idle() -> bool:
        return figures(cli("audiofork stats"))["ForksNow"] == 0

    fork.wait("the end of the others", idle)
    before = figures(cli("audiofork stats"))
    calls = [fork.call() for _ in range(2)]
    names = [fork.start(call.channel, fork.server.url(f"sum-{call.id}")) for call in calls]
    failed = fork.start(calls[0].channel, f"ws://127.0.0.1:{dead_port()}/")
    for call in calls:
        fork.server.frames(f"sum-{call.id}", 25)
    fork.told(failed)
    running = figures(cli("audiofork stats"))
    assert running["ForksNow"] == 2
    assert running["Messages"] - before["Messages"] >= 40, "those at work are counted too"
    for call in calls:
        call.hangup()
    ends = [fork.told(name)[-1] for name in [*names, failed]]
    text = cli("audiofork stats")
    after = figures(text)
    assert (after["ForksNow"], after["ForksEver"] - before["ForksEver"]) == (0, 3)
    for name in before.keys() & ends[0].keys():
        assert after[name] - before[name] == sum(int(end[name]) for end in ends), name
    assert after["ServiceCpuMs"] >= before["ServiceCpuMs"]
    assert "% of a core since the last look" in text


def test_channels_are_completed(fork: ForkLab) -> None:
    call = fork.call()
    word = call.channel[:12]
    for what in ("start", "stop", "list", "show"):
        line = f"audiofork {what} {word}"
        matches = fork.lab.pbx.cli(f'_command matchesarray "{line}" "{word}"')
        assert call.channel in matches, matches
    call.hangup()
