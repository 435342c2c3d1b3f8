from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from backend.call.recording import MAX_AT_ONCE, Recordings
from backend.errors import BadRequest, CommandRefused, Hangup


@dataclass
class Line:
    """A channel with MixMonitors, as Asterisk 16 has them."""

    running: dict[str, str] = field(default_factory=dict)  # id → path
    done: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    hung_up: bool = False
    works: bool = True

    def execute(self, application: str, data: str) -> str:
        if self.hung_up:
            raise Hangup("gone")
        self.done.append(f"{application}({data})")
        if application == "MixMonitor":
            path, options = data.split(",")
            variable = re.search(r"i\((\w+)\)", options)
            assert variable is not None
            if self.works:
                monitor = f"0x{len(self.done)}"
                self.variables[variable[1]] = monitor
                self.running[monitor] = path
        else:
            assert application == "StopMixMonitor"
            assert data, "without an id it stops the first that it finds"
            del self.running[data]
        return "0"

    def recordings(self) -> Recordings:
        return Recordings(
            self.execute,
            self.variables.get,
            folder="/rec/",
            url="https://pbx.example.com/rec/",
            default_name="call-id",
            on_start=self.started.append,
        )


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_recording(line: Line) -> None:
    recording = line.recordings().start("name", None)
    assert (recording.path, recording.url) == (
        "/rec/name.wav",
        "https://pbx.example.com/rec/name.wav",
    )
    assert line.started == ["/rec/name.wav"]
    assert recording.running
    recording.stop()
    recording.stop()
    assert not recording.running
    assert line.done == ["MixMonitor(/rec/name.wav,i(DIALOG_MIXMONITOR_1))", "StopMixMonitor(0x1)"]


@pytest.mark.parametrize("directory", ["2026/11", "/rec/2026/11"])
def test_a_directory_below(line: Line, directory: str) -> None:
    recording = line.recordings().start("a.b", directory)
    assert recording.path == "/rec/2026/11/a.b.wav"
    assert recording.url == "https://pbx.example.com/rec/2026/11/a.b.wav"


def test_without_a_name_each_has_one(line: Line) -> None:
    recordings = line.recordings()
    paths = [recordings.start(None, None).path for _ in range(3)]
    assert paths == ["/rec/call-id.wav", "/rec/call-id-2.wav", "/rec/call-id-3.wav"]


def test_pause_and_resume_append(line: Line) -> None:
    recording = line.recordings().start("x", None)
    recording.resume()  # it runs
    recording.pause()
    recording.pause()
    assert not recording.running
    recording.resume()
    assert line.done == [
        "MixMonitor(/rec/x.wav,i(DIALOG_MIXMONITOR_1))",
        "StopMixMonitor(0x1)",
        "MixMonitor(/rec/x.wav,ai(DIALOG_MIXMONITOR_2))",
    ]
    recording.pause()
    recording.stop()
    assert line.running == {}
    assert line.started == ["/rec/x.wav"], "one recording"
    for again in (recording.pause, recording.resume):
        with pytest.raises(BadRequest, match="has been stopped"):
            again()


def test_several_at_once_are_stopped_each_by_itself(line: Line) -> None:
    recordings = line.recordings()
    one, other = recordings.start("one", None), recordings.start("other", None)
    with pytest.raises(BadRequest, match="being recorded already"):
        recordings.start("one", None)
    one.pause()
    assert list(line.running.values()) == ["/rec/other.wav"]
    one.resume()
    other.stop()
    assert list(line.running.values()) == ["/rec/one.wav"]
    recordings.start("other", None)


def test_there_is_a_bound(line: Line) -> None:
    recordings = line.recordings()
    running = [recordings.start(None, None) for _ in range(MAX_AT_ONCE)]
    with pytest.raises(BadRequest, match="the most at a time"):
        recordings.start(None, None)
    running[0].stop()
    assert recordings.start(None, None).running


@pytest.mark.parametrize("name", ["../x", "/etc/x", "", "a b", "a,b", "-x", ".x", "a/b", "x" * 129])
def test_a_name_is_a_plain_name(line: Line, name: str) -> None:
    with pytest.raises(BadRequest, match="name"):
        line.recordings().start(name, None)
    assert line.done == []


@pytest.mark.parametrize(
    "directory",
    [
        *("..", "a/../b", "/etc", "/rec", "/rec/../etc", "/record/a", "a//b", "a/", "", ".a"),
        *("a b", "a,b", "${X}", "a/" * 8 + "a"),
    ],
)
def test_a_directory_is_below(line: Line, directory: str) -> None:
    with pytest.raises(BadRequest, match="directory"):
        line.recordings().start("x", directory)
    assert line.done == []


def test_a_hangup_ends_it(line: Line) -> None:
    recording = line.recordings().start("x", None)
    line.hung_up = True
    with pytest.raises(Hangup):
        line.recordings().start("y", None)
    with pytest.raises(Hangup):
        recording.pause()
    recording.stop()
    assert not recording.running
    other = Line()
    recording = other.recordings().start("x", None)
    other.hung_up = True
    recording.stop()  # in a finally block: no second Hangup
    assert not recording.running


def test_a_monitor_that_does_not_start(line: Line) -> None:
    recordings = line.recordings()
    line.works = False
    with pytest.raises(CommandRefused, match=r"did not start for /rec/x\.wav"):
        recordings.start("x", None)
    assert line.started == []
    line.works = True
    assert recordings.start("x", None).running
