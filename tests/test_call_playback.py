from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from backend.call import playback as module
from backend.call.playback import FilePlayback, Played, PlayEnd
from backend.errors import AsteriskError, AsteriskUnavailable, CommandRefused, Hangup
from backend.ports import AmiReply
from tests.fakes.channel import FakeChannel


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


@pytest.fixture
def playback(channel: FakeChannel) -> FilePlayback:
    return FilePlayback(channel, channel, "PJSIP/x-1")


def test_to_its_natural_end(channel: FakeChannel, playback: FilePlayback) -> None:
    channel.on_play = channel.finish
    assert playback.play("hello", timeout_s=5) == Played(PlayEnd.COMPLETED, 2000)


def test_stopped(channel: FakeChannel, playback: FilePlayback) -> None:
    channel.on_play = playback.stop
    assert playback.play("hello", timeout_s=5) == Played(PlayEnd.INTERRUPTED, 500)
    assert channel.queued == 0


def test_a_stop_while_nothing_plays_sends_nothing(
    channel: FakeChannel, playback: FilePlayback
) -> None:
    assert not playback.stop()
    assert channel.queued == 0


def test_a_late_stop_does_not_kill_the_next_prompt(
    channel: FakeChannel, playback: FilePlayback
) -> None:
    """The stop crosses the prompt's own end: its frame stays on the channel."""
    channel.on_play = channel.finish
    channel.at_end = playback.stop
    assert playback.play("first", timeout_s=5).end is PlayEnd.COMPLETED
    assert channel.queued == 0
    channel.at_end = lambda: None
    assert playback.play("second", timeout_s=5).end is PlayEnd.COMPLETED
    assert channel.played == ["first SUCCESS", "second SUCCESS"]


def test_a_swallowed_stop_is_repeated(
    channel: FakeChannel, playback: FilePlayback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPEAT_STOP_S", 0.0)
    channel.swallow = 1

    def voice_goes_on() -> None:
        assert playback.stop()
        assert playback.stop()

    channel.on_play = voice_goes_on
    assert playback.play("hello", timeout_s=5).end is PlayEnd.INTERRUPTED
    assert channel.queued == 0


def test_a_stop_is_not_repeated_at_every_frame(
    channel: FakeChannel, playback: FilePlayback
) -> None:
    sent: list[bool] = []
    channel.on_play = lambda: sent.extend(playback.stop() for _ in range(50))
    playback.play("hello", timeout_s=5)
    assert sum(sent) == 1


def test_a_reply_that_comes_after_the_result_is_awaited(channel: FakeChannel) -> None:
    class SlowAmi(FakeChannel):
        def send(
            self,
            name: str,
            headers: object,
            on_reply: Callable[[AmiReply | AsteriskError], None],
        ) -> None:
            def later() -> None:
                channel.send(name, {"Control": "stop"}, on_reply)

            threading.Timer(0.05, later).start()

    playback = FilePlayback(channel, SlowAmi(), "PJSIP/x-1")

    def stop_then_end() -> None:
        playback.stop()
        channel.finish()

    channel.on_play = stop_then_end
    assert playback.play("first", timeout_s=5).end is PlayEnd.COMPLETED
    assert channel.queued == 0


def test_a_failed_stop_is_logged_and_harmless(caplog: pytest.LogCaptureFixture) -> None:
    channel = FakeChannel()

    class NoAmi(FakeChannel):
        def send(
            self,
            name: str,
            headers: object,
            on_reply: Callable[[AmiReply | AsteriskError], None],
        ) -> None:
            on_reply(AsteriskUnavailable("AMI is not connected"))
            channel.finish()

    playback = FilePlayback(channel, NoAmi(), "PJSIP/x-1")
    channel.on_play = playback.stop
    assert playback.play("hello", timeout_s=5).end is PlayEnd.COMPLETED
    assert "could not be stopped: AMI is not connected" in caplog.text


def test_a_missing_sound_is_named(channel: FakeChannel, playback: FilePlayback) -> None:
    channel.missing_sounds.add("promo")
    with pytest.raises(CommandRefused, match="'promo'"):
        playback.play("promo", timeout_s=5)


def test_hangup_during_the_prompt(channel: FakeChannel, playback: FilePlayback) -> None:
    channel.on_play = channel.hang_up
    with pytest.raises(Hangup):
        playback.play("hello", timeout_s=5)
    assert not playback.stop()
