"""GET /recordings: what is below the folder, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backend.dialing.policy import Rules
from backend.web import Door, create_app
from backend.web_recordings import open_below

TOKEN = "s3cret-token"
CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "rec" / "2026" / "11"
    inside.mkdir(parents=True)
    (inside / "call-1.wav").write_bytes(CONTENT)
    (tmp_path / "secret.wav").write_bytes(b"secret")
    return tmp_path / "rec"


@pytest.fixture
def client(folder: Path) -> FlaskClient:
    door = Door(Rules(), {"1c": TOKEN}, recordings=folder)
    return create_app(door, object(), object(), object(), object()).test_client()  # type: ignore[arg-type]


def get(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    return client.get(path, headers={"Authorization": f"Bearer {TOKEN}", **headers})


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_a_recording(client: FlaskClient) -> None:
    before = descriptors()
    for _ in range(3):
        answer = get(client, "/recordings/2026/11/call-1.wav")
        assert (answer.status_code, answer.data) == (200, CONTENT)
        assert answer.headers["Content-Type"] == "audio/wav"
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["Content-Length"] == str(len(CONTENT))
        answer.close()
    assert descriptors() == before


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=100000-", 100_000, 256_000), ("bytes=-5", 255_995, 256_000)],
)
def test_a_range(client: FlaskClient, wanted: str, start: int, end: int) -> None:
    before = descriptors()
    answer = get(client, "/recordings/2026/11/call-1.wav", Range=wanted)
    assert (answer.status_code, answer.data) == (206, CONTENT[start:end])
    answer.close()
    assert descriptors() == before
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


def test_a_range_that_is_not_there(client: FlaskClient) -> None:
    before = descriptors()
    answer = get(client, "/recordings/2026/11/call-1.wav", Range="bytes=256000-")
    assert answer.status_code == 416
    assert answer.json is not None
    assert answer.json["error"]["code"] == "requested_range_not_satisfiable"
    assert descriptors() == before


def test_a_token_is_needed(client: FlaskClient) -> None:
    assert client.get("/recordings/2026/11/call-1.wav").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "2026/11/call-2.wav",
        "2026/11",
        "2026/11/call-1.wav/",
        "../secret.wav",
        "2026/../../secret.wav",
        "..%2Fsecret.wav",
        "2026/./11/call-1.wav",
        "2026//11/call-1.wav",
        "/2026/11/call-1.wav",
        "%2Fetc%2Fpasswd",
        "2026/11/call-1.wav%00",
        "2026/11/notes.txt",
        "2026/11/.hidden.wav",
        "link.wav",
        "linked/call-1.wav",
        "outside/secret.wav",
        "pipe.wav",
        "folder.wav",
        "a/" * 9 + "call-1.wav",
    ],
)
def test_what_is_none_of_them(client: FlaskClient, folder: Path, path: str) -> None:
    (folder / "2026" / "11" / "notes.txt").write_text("x")
    (folder / "2026" / "11" / ".hidden.wav").write_text("x")
    (folder / "link.wav").symlink_to(folder / "2026" / "11" / "call-1.wav")
    (folder / "linked").symlink_to(folder / "2026" / "11")
    (folder / "outside").symlink_to(folder.parent)
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    before = descriptors()
    answer = get(client, f"/recordings/{path}")
    assert answer.status_code in (308, 404), "308: //, to the address without it"
    assert b"secret" not in answer.data
    assert descriptors() == before


def test_the_folder_itself_may_be_a_link_and_may_be_missing(folder: Path) -> None:
    link = folder.with_name("link")
    link.symlink_to(folder)
    file = open_below(link, "2026/11/call-1.wav")
    assert file is not None
    file.close()
    assert open_below(folder / "none", "call-1.wav") is None


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/rec/a.wav", "https://x/r/a.wav"),
        ("/rec/2026/a b.wav", "https://x/r/2026/a%20b.wav"),
        ("/record/a.wav", None),
        (None, None),
    ],
)
def test_where_a_tasks_recording_is_fetched(path: str | None, url: str | None) -> None:
    door = Door(Rules(), {}, recordings=Path("/rec"), recordings_url="https://x/r/")
    assert door.recording_url(path) == url
