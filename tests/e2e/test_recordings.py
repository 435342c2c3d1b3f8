"""Recordings on a real Asterisk, proved by the tones in the files."""

from __future__ import annotations

import itertools
import urllib.error
import urllib.request
from array import array
from pathlib import Path
from typing import Any

import lab_sound
import pytest
from lab_sound import Span
from stack import Stack

TONE_MS = 1000
TONES_HZ = (500, 700, 900)
SLICE_MS = 50
HEADER_BYTES = 44
_suffix = itertools.count(1000)


@pytest.fixture(scope="module")
def tones(stack: Stack) -> None:
    write_tones(stack.lab.sounds / "own")


def write_tones(folder: Path) -> None:
    """What scenarios/recordings.py plays."""
    folder.mkdir(exist_ok=True)
    for hz in TONES_HZ:
        lab_sound.write(folder / f"tone-{hz}.wav", lab_sound.tone(TONE_MS, hz))
    lab_sound.write(folder / "tone-5s.wav", lab_sound.tone(5000))


@pytest.fixture(scope="module")
def ended(stack: Stack, tones: None) -> list[dict[str, Any]]:
    """Ten calls at once, each with its three recordings."""
    tasks = [stack.originate(f"103{next(_suffix)}", scenario="recordings")["id"] for _ in range(10)]
    return [stack.ended(task) for task in tasks]


def heard(path: str) -> list[int]:
    """The tones of a recording in their order, Hz; each is there for half a second and more. A
    busy machine makes gaps, and a slice on the border of two tones is neither."""
    samples = lab_sound.read(Path(path))
    slices = [tone_of(samples, ms) for ms in range(0, int(lab_sound.length_ms(samples)), SLICE_MS)]
    runs = [(hz, len(list(run))) for hz, run in itertools.groupby(filter(None, slices))]
    tones = [hz for hz, run in itertools.groupby(hz for hz, count in runs if count > 2)]
    for hz in tones:
        assert slices.count(hz) * SLICE_MS >= TONE_MS / 2, (hz, runs)
    return tones


def tone_of(samples: array[int], start_ms: int) -> int | None:
    span = Span(start_ms, start_ms + SLICE_MS)
    hz = lab_sound.pitch_hz(samples, span)
    return next((tone for tone in TONES_HZ if abs(tone - hz) < 80), None)


def test_a_pause_is_cut_out(ended: list[dict[str, Any]]) -> None:
    for task in ended:
        assert task["state"] == "done", task
        assert heard(task["result"]["paths"][0]) == [500, 900]


def test_a_stop_ends_one_of_several(ended: list[dict[str, Any]]) -> None:
    for task in ended:
        path = task["result"]["paths"][1]
        assert path.endswith(f"/e2e/{task['phone']}/part.wav")
        assert heard(path) == [500, 700]


def test_the_hangup_ends_what_was_not_stopped(stack: Stack, ended: list[dict[str, Any]]) -> None:
    for task in ended:
        first, _, whole = task["result"]["paths"]
        assert whole == first.replace(".wav", "-2.wav")
        assert heard(whole) == [500, 700, 900]
        assert task["recording"] == first, "the task names the first"
        assert task["recording_url"] == task["result"]["urls"][0]


def test_a_file_is_complete_when_pause_or_stop_return(ended: list[dict[str, Any]]) -> None:
    for task in ended:
        paused, stopped, done = task["result"]["sizes"]
        cut, part, _ = (Path(path).stat().st_size for path in task["result"]["paths"])
        assert (stopped, done) == (part, cut)
        assert HEADER_BYTES + TONE_MS * 8 < paused < cut


def test_it_is_fetched_over_http(stack: Stack, ended: list[dict[str, Any]]) -> None:
    for path, url in zip(ended[0]["result"]["paths"], ended[0]["result"]["urls"], strict=True):
        status, content = fetch(stack, url)
        assert (status, content) == (200, Path(path).read_bytes())
    status, content = fetch(stack, ended[0]["result"]["urls"][0], range="bytes=44-143")
    assert (status, content) == (206, Path(ended[0]["result"]["paths"][0]).read_bytes()[44:144])
    assert fetch(stack, "/recordings/none.wav")[0] == 404


def fetch(stack: Stack, url: str, **headers: str) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {stack.token}", **headers}
    request = urllib.request.Request(f"{stack.url}{url}", headers=headers)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.usefixtures("tones")
def test_a_hangup_ends_a_recording(stack: Stack) -> None:
    phone = f"108{next(_suffix)}"  # hangs up a second after the first sound
    task = stack.ended(stack.originate(phone, scenario="recording-hangup")["id"])
    assert (task["state"], task["reason"]) == ("failed", "caller_hangup"), task
    samples = lab_sound.read(Path(task["recording"]))
    (tone,) = lab_sound.spans(samples, gap_ms=200)
    assert 500 < tone.length_ms < 4000
    assert f"path='{task['recording']}' running=False" in stack.log_path.read_text()
