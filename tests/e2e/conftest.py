"""The whole set, started once for all end-to-end tests that leave it whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_sound import tone, write
from stack import Stack

SCENARIOS = Path(__file__).with_name("scenarios")
SHORT_TONE_MS = 800
APOLOGY_HZ = 440


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Lab and backend with the tests' scenarios."""
    with probing_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def probing_stack(folder: Path, **env: str) -> Stack:
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
    return Stack(folder, env=settings, globals=dialplan)
