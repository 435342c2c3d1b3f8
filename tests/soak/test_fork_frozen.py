"""A server that takes nothing for a real minute; the short form is in e2e/test_fork_unbroken.py."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import lab_sound
import pytest

from tests.e2e.fork_lab import LEVEL, Call, ForkLab
from tests.e2e.tones import judge
from tests.fakes.fork_server import RawServer, messages_of, shake_hands, take, told

pytestmark = [pytest.mark.timeout(300)]

FROZEN_S, THAWED_S = 60, 5
TONE_HZ = 440
NUMBER = "1030001"


def test_a_frozen_minute(tmp_path: Path, asterisk: str) -> None:
    got, thaw = bytearray(), threading.Event()

    def behave(connection: object) -> None:
        shake_hands(connection)  # type: ignore[arg-type]
        thaw.wait(FROZEN_S + 60)
        take(connection, got)  # type: ignore[arg-type]

    with ForkLab(tmp_path, asterisk) as fork, RawServer(behave) as server:
        fork.configure("stall_timeout_ms = 0")
        file = fork.lab.sounds / "minute.wav"
        lab_sound.write(file, lab_sound.tone((FROZEN_S + THAWED_S + 20) * 1000, TONE_HZ, LEVEL))
        try:
            call = play(fork, str(file.with_suffix("")))
            pbx = fork.lab.pbx
            before = pbx.threads(), pbx.fds()
            name = fork.start(call.channel, server.url, "jD(stereo)")
            time.sleep(FROZEN_S)
            assert pbx.threads() <= before[0]
            assert pbx.fds() <= before[1] + 2, "the fork's, and the prompt's: opened when it begins"
            thaw.set()
            time.sleep(THAWED_S)
            call.hangup()
            end = fork.ended(name)
        finally:
            thaw.set()
        tape = lab_sound.read(fork.lab.heard(NUMBER))
        stop = told(messages_of(got))[-1]
    heard = judge(tape, TONE_HZ)
    assert len(tape) / lab_sound.RATE_HZ > FROZEN_S + THAWED_S - 1
    assert heard.damage == []
    assert end.reason == "hangup"
    assert end.connections == 1
    assert end.lost_s > 2 * 45, "of both directions; the kernel and the ring hold some seconds"
    frames = sum(isinstance(message, bytes) for message in messages_of(got))
    assert frames == end.sent == stop["counters"]["messages"]
    kept_ms = [stop["counters"]["captured_ms"][way] - stop["counters"]["dropped_ms"][way]
               for way in ("in", "out")]  # fmt: skip
    assert max(kept_ms) <= 20 * frames <= max(kept_ms) + 200


def play(fork: ForkLab, tone: str) -> Call:
    """A real call that plays the tone."""
    answer = fork.ami.action(
        "Originate",
        Channel=f"PJSIP/{NUMBER}@subscriber",
        Application="Playback",
        Data=tone,
        Async="true",
        ChannelId="frozen",
    )
    assert answer["Response"] == "Success", answer
    fork.ami.event("OriginateResponse", Uniqueid="frozen", Response="Success")
    return Call(fork, "frozen")
