"""What the tests of more than one channel share: two voice workers, and nothing left of a test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import lab_sound
import psycopg2
import pytest
from lab_ami import Ami
from stack import Stack

from tests.e2e.conftest import SHORT_TONE_MS, probing_stack
from tests.e2e.plain_lab import observer

PROMPT_HZ, WHISPER_HZ, PLAY_HZ = 1000, 1500, 2000
LONG_MS = 1500
SHOWN = "74951112233"
# What the lab's speech server can hear of a carrier: the words of 147.
ANNOUNCEMENTS = """
[en]
switched_off = ["yes please"]
"""

_suffix = itertools.count(1000)


def number(code: str) -> str:
    """A number of this behaviour that nobody dialled before."""
    return f"{code}{next(_suffix)}"


def sends(hz: int, code: str = "141") -> str:
    """A number that sends this tone."""
    return number(f"{code}{(hz - 300) // 100}")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("legs")
    announcements = tmp_path_factory.mktemp("tables") / "announcements.toml"
    announcements.write_text(ANNOUNCEMENTS)
    settings = {
        "DIALOG_VARIABLES": "leg,leg2,wait,keep,room,seats,shown",
        "DIALOG_CALLER_IDS": SHOWN,
        "DIALOG_WORKERS": "2",
        "DIALOG_ANNOUNCEMENTS_FILE": str(announcements),
    }
    with probing_stack(folder, asterisk, **settings) as stack:
        own = stack.lab.sounds / "own"
        own.mkdir()
        lab_sound.write(own / "short-tone.wav", lab_sound.tone(SHORT_TONE_MS, PROMPT_HZ))
        lab_sound.write(own / "whisper-tone.wav", lab_sound.tone(LONG_MS, WHISPER_HZ))
        lab_sound.write(own / "play-tone.wav", lab_sound.tone(LONG_MS, PLAY_HZ))
        yield stack


@pytest.fixture(scope="module")
def ami(stack: Stack) -> Iterator[Ami]:
    with observer(stack.lab.pbx) as connection:
        yield connection


@pytest.fixture(autouse=True)
def nothing_left(stack: Stack) -> Iterator[None]:
    """Whatever a test does, no channel, fork, leg or stream is left."""
    yield
    stack.wait_for("all channels to go", lambda: not stack.lab.pbx.channels() or None, 20)
    stack.wait_for(
        "the forks to close", lambda: no_fork(stack) or None
    )  # each waits for its close frame
    stack.wait_for("the workers to have nothing", lambda: not any_left(stack) or None)


def no_fork(stack: Stack) -> bool:
    return "0 AudioFork(s)" in stack.lab.pbx.cli("audiofork list")


def any_left(stack: Stack) -> bool:
    return any(figures(stack, kind) for kind in ("legs", "leg_sessions", "calls", "streams"))


def figures(stack: Stack, name: str) -> int:
    """The sum over the voice workers, as they told it last."""
    connection = psycopg2.connect(stack.dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT ON (process) stats FROM instances WHERE process LIKE 'voice%'"
                " ORDER BY process, started_at DESC"
            )
            found = [stats[name] for (stats,) in cursor.fetchall()]
    finally:
        connection.close()
    assert len(found) == 2
    return sum(found)


def start(stack: Stack, phone: str, scenario: str, **variables: str) -> str:
    given = {f"var_{name}": value for name, value in variables.items()}
    return str(stack.originate(phone, scenario=scenario, **given)["id"])


def run(stack: Stack, phone: str, scenario: str, **variables: str) -> dict[str, Any]:
    return stack.ended(start(stack, phone, scenario, **variables))
