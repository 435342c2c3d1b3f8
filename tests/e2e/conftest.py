"""The versions of Asterisk, and the whole set, started once for all tests that leave it whole.

Every test whose fixtures come to ``asterisk`` runs on each version: ``-k 22``, or
ASTERISK_DIALOG_LAB=22, picks one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab
from lab_ami import Ami
from lab_config import DEFAULT_VERSION, VERSIONS
from lab_sound import tone, write
from stack import Stack

from tests.e2e.fork_lab import Call, ForkLab
from tests.e2e.plain_lab import Agi, observer, plain_lab
from tests.fakes.authority import Authority

SCENARIOS = Path(__file__).with_name("scenarios")
SHORT_TONE_MS = 800
APOLOGY_HZ = 440


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test marked ``only_asterisk(version)`` does not exist for the others."""
    strangers = [item for item in items if not suits(item)]
    items[:] = [item for item in items if item not in strangers]
    config.hook.pytest_deselected(items=strangers)


def suits(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("only_asterisk")
    assert isinstance(item, pytest.Function)
    return marker is None or item.callspec.params["asterisk"] in marker.args


@pytest.fixture(
    scope="session",
    params=[os.environ["ASTERISK_DIALOG_LAB"]] if "ASTERISK_DIALOG_LAB" in os.environ else VERSIONS,
)
def asterisk(request: pytest.FixtureRequest) -> str:
    """The lab's version, "16" or "22"."""
    return str(request.param)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    """Lab and backend with the tests' scenarios."""
    with probing_stack(tmp_path_factory.mktemp("stack"), asterisk) as stack:
        yield stack


def probing_stack(folder: Path, asterisk: str = DEFAULT_VERSION, **env: str) -> Stack:
    """A stack whose backend knows the tests' scenarios and their tones."""
    tones = folder.resolve() / "lab" / "sounds"
    tones.mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    # As an admin must: Asterisk may be another user.
    for path in (folder.resolve(), *folder.resolve().parents):
        if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    write(tones / "long-tone.wav", tone(30_000))
    write(tones / "short-tone.wav", tone(SHORT_TONE_MS))
    write(tones / "apology.wav", tone(SHORT_TONE_MS, APOLOGY_HZ))
    settings = {"DIALOG_SCENARIOS_DIR": str(SCENARIOS), "DIALOG_DIAL_RATE_PER_S": "50", **env}
    dialplan = {"LAB_TONES": str(tones), "DIALOG_APOLOGY": f"{tones}/apology"}
    return Stack(folder, env=settings, globals=dialplan, asterisk=asterisk)


@pytest.fixture(scope="module")
def agi() -> Iterator[Agi]:
    """A FastAGI server that stands in for the backend of ``lab``."""
    with Agi() as server:
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, agi: Agi, asterisk: str) -> Iterator[Lab]:
    """A lab without a backend."""
    with plain_lab(tmp_path_factory.mktemp("lab"), agi, asterisk) as lab:
        yield lab


@pytest.fixture(scope="module")
def ami(lab: Lab) -> Iterator[Ami]:
    """An observer on its PBX."""
    with observer(lab.pbx) as connection:
        yield connection


# The files test_fork_….py: each has a lab, a call and an authority of its own.


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[ForkLab]:
    """A lab with a WebSocket server. A file that wants it changed makes its ``fork`` of this."""
    with ForkLab(tmp_path_factory.mktemp("fork"), asterisk) as one:
        yield one


@pytest.fixture(scope="module")
def call(fork: ForkLab) -> Call:
    """One call for all: each test has a fork of its own on it."""
    return fork.call()


@pytest.fixture(scope="module")
def authority(fork: ForkLab) -> Authority:
    """Its files are in a folder that Asterisk sees too."""
    folder = fork.lab.recordings / "tls"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def story(fork: ForkLab) -> Iterator[None]:
    """A test that fails shows what Asterisk logged and the server saw."""
    with fork.story():
        yield


@pytest.fixture
def hung_up(story: None, fork: ForkLab) -> Iterator[None]:
    """After the test no call is left."""
    yield
    fork.hangup_all()
