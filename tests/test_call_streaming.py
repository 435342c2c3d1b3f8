"""Prompts over the fork: the pump, its flow control, the races of a clear, a lost connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from backend.call import streaming as module
from backend.call.ear import CallEar
from backend.call.fork import CallFork
from backend.call.gate import KeyGate
from backend.call.keys import MAX_KEPT, Key, Keys
from backend.call.playback import FilePlayback, Played, PlayEnd
from backend.call.pump import AHEAD_MS, CHUNK_MS, MIN_AHEAD_MS, Pump
from backend.call.speaker import Speaker
from backend.call.streaming import StreamPlayback
from backend.errors import CommandTimeout, Hangup, SynthesisUnavailable
from backend.media.gate import VoiceGate
from backend.media.voice import VoiceDetector
from backend.ports import PromptSound, RecognitionOptions
from backend.protocol import fork
from backend.speech.making import GrowingPcm, WholePcm
from tests.fakes.channel import FakeChannel
from tests.fakes.fork_module import FakeModule
from tests.fakes.prompts import FakeSound
from tests.fakes.speech import FakeRecognizer

MS = 16  # bytes


def speech(length_ms: int, first: int = 0) -> bytes:
    """Audio in which every sample tells its place."""
    samples = range(first * 8, (first + length_ms) * 8)
    return b"".join((n % 30_000).to_bytes(2, "little") for n in samples)


class Rig:
    """A call's speaker with its channel and its fork's module."""

    def __init__(self) -> None:
        self.channel = FakeChannel()
        self.module = FakeModule()
        self.channel.module = self.module
        self.stream = StreamPlayback(self.channel, "PJSIP/x-1")
        self.files = FilePlayback(self.channel, self.channel, "PJSIP/x-1")
        self.speaker = Speaker("PJSIP/x-1", self.stream, self.files)
        ear = CallEar(
            "PJSIP/x-1",
            FakeRecognizer(),
            RecognitionOptions(),
            VoiceGate(VoiceDetector(2, 40, 600)),
            own_end_of_utterance=True,
            on_utterance=lambda _: None,
        )
        self.keys = Keys()
        gate = KeyGate("PJSIP/x-1", self.keys, ear, self.speaker.stop, None)
        self.fork = CallFork("PJSIP/x-1", ear, self.stream, gate)

    def connect(self, version: int = 2) -> None:
        self.module.connect(self.fork, version=version)

    def play(self, sound: PromptSound) -> Played:
        return self.speaker.play(sound, timeout_s=5)

    def stop_at(self, at_ms: int) -> None:
        """Voice, once so much has been played."""

        def stop(played_ms: int) -> None:
            if played_ms == at_ms:
                assert self.speaker.stop()
                self.module.settle()

        self.module.on_played = stop


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(module, "FORK_S", 0.2)
    rig = Rig()
    yield rig
    rig.module.close()


def sound(pcm: bytes, rate_hz: int = 8000) -> FakeSound:
    return FakeSound("file", WholePcm(pcm, rate_hz))


# The pump


def test_no_more_is_sent_ahead_than_was_agreed() -> None:
    pump = Pump("p1", WholePcm(speech(5000)), 10_000)
    first = pump.take()
    assert first[0] == fork.Play("p1", 8000)
    assert [len(item) // MS for item in first[1:] if isinstance(item, bytes)] == [200] * 10
    assert pump.take() == []
    pump.played(500)
    sent = [item for item in pump.take() if isinstance(item, bytes)]
    assert b"".join(sent) == speech(500, AHEAD_MS)
    pump.played(300)  # an old report
    assert pump.take() == []


@pytest.mark.parametrize(("buffer_ms", "ahead_ms"), [(1000, 1000), (100, MIN_AHEAD_MS), (0, 600)])
def test_the_modules_buffer_bounds_it(buffer_ms: int, ahead_ms: int) -> None:
    items = Pump("p1", WholePcm(speech(5000)), buffer_ms).take()
    assert sum(len(item) for item in items if isinstance(item, bytes)) == ahead_ms * MS


def test_the_end_is_told_with_the_last_audio() -> None:
    pump = Pump("p1", WholePcm(speech(AHEAD_MS)), 5000)
    assert pump.take()[-1] == fork.End("p1")
    assert pump.take() == []


def test_wideband_audio_goes_as_it_is() -> None:
    pump = Pump("p1", WholePcm(bytes(48 * 2 * 3000), 48_000), 5000)
    items = pump.take()
    assert items[0] == fork.Play("p1", 48_000)
    assert [len(item) for item in items[1:] if isinstance(item, bytes)] == [CHUNK_MS * 48 * 2] * (
        AHEAD_MS // CHUNK_MS
    )


def test_what_there_is_goes_out_at_once() -> None:
    audio = GrowingPcm()
    pump = Pump("p1", audio, 5000)
    assert pump.take() == [fork.Play("p1", 8000)]
    audio._grow(speech(60))
    assert pump.take() == [speech(60)]


# Playing


def test_a_prompt_is_heard_whole(rig: Rig) -> None:
    rig.connect()
    pcm = speech(7030)
    assert rig.play(sound(pcm)) == Played(PlayEnd.COMPLETED, 7030)
    assert rig.module.heard == pcm
    assert rig.module.most_ahead_ms <= AHEAD_MS
    assert rig.module.prompts == {}


def test_two_prompts_in_a_row(rig: Rig) -> None:
    rig.connect()
    for _ in range(2):
        assert rig.play(sound(speech(500))).end is PlayEnd.COMPLETED
    assert rig.module.heard == speech(500) * 2
    assert [m.play for m in rig.module.messages if isinstance(m, fork.Play)] == ["p1", "p2"]


def test_a_prompt_sounds_while_it_is_made(rig: Rig) -> None:
    rig.connect()
    audio, heard_first = GrowingPcm(), threading.Event()
    rig.module.on_played = lambda _: heard_first.set()

    def pieces() -> Iterator[bytes]:
        yield speech(400)
        assert heard_first.wait(5), "nothing was heard before the synthesis ended"
        yield speech(400, 400)

    maker = threading.Thread(target=audio.make, args=(pieces(),))
    maker.start()
    assert rig.play(FakeSound("file", audio)) == Played(PlayEnd.COMPLETED, 800)
    assert rig.module.heard == speech(800)
    maker.join(5)


def test_synthesis_that_fails_in_the_midst(rig: Rig) -> None:
    """What was made is heard; then the scenario is told."""
    rig.connect()
    audio = GrowingPcm()

    def pieces() -> Iterator[bytes]:
        yield speech(300)
        raise SynthesisUnavailable("away")

    with pytest.raises(SynthesisUnavailable, match="away"):
        audio.make(pieces())
    with pytest.raises(SynthesisUnavailable, match="away"):
        rig.play(FakeSound("file", audio))
    assert rig.module.heard == speech(300)


def test_synthesis_that_hangs(rig: Rig) -> None:
    rig.connect()
    rig.module.dry_s = 0.05
    with pytest.raises(SynthesisUnavailable, match="no more audio"):
        rig.play(FakeSound("file", GrowingPcm()))


def test_hangup_in_the_prompt(rig: Rig) -> None:
    rig.connect()

    def hang_up(_: int) -> None:
        rig.module.hang_up()
        rig.channel.hang_up()

    rig.module.on_played = hang_up
    with pytest.raises(Hangup):
        rig.play(sound(speech(9000)))
    rig.module.settle()
    sent = len(rig.module.received)
    rig.module.run(rig.fork.on_tick)
    rig.module.settle()
    assert len(rig.module.received) == sent, "nothing is sent after the end"
    assert not rig.speaker.stop()


# Stopping


def test_stopped_by_voice(rig: Rig) -> None:
    rig.connect()
    rig.stop_at(520)
    assert rig.play(sound(speech(9000))) == Played(PlayEnd.INTERRUPTED, 520)
    assert rig.module.heard == speech(520)
    rig.module.on_played = lambda _: None
    assert rig.play(sound(speech(300))) == Played(PlayEnd.COMPLETED, 300)


def test_the_length_of_a_prompt_that_was_stopped_is_nobodys_news(rig: Rig) -> None:
    """Its synthesis goes on for the cache while the next prompt plays."""
    rig.connect()
    told: list[tuple[str, int | None]] = []

    class Follower:
        def streams(self, play: str, length_ms: int | None, last: bool) -> None:
            told.append((play, length_ms))

        def file(self, length_ms: int | None, last: bool) -> None: ...

        def paused(self, on: bool) -> None: ...

    rig.speaker.watch(Follower())
    audio, stopped = GrowingPcm(), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield speech(400)
        assert stopped.wait(5)
        yield speech(400, 400)

    maker = threading.Thread(target=audio.make, args=(pieces(),))
    maker.start()
    rig.stop_at(100)
    assert rig.play(FakeSound("file", audio)).end is PlayEnd.INTERRUPTED

    def the_rest_is_made(_: int) -> None:
        stopped.set()
        maker.join(5)

    rig.module.on_played = the_rest_is_made
    assert rig.play(sound(speech(300))).end is PlayEnd.COMPLETED
    rig.module.settle()
    assert told == [("p1", None), ("p2", 300)]


def test_a_stop_from_the_audio_loop_is_sent_in_the_same_turn(rig: Rig) -> None:
    rig.connect()
    sent: list[object] = []

    def voice(played_ms: int) -> None:
        if played_ms == 100:

            def turn() -> None:
                assert rig.speaker.stop()
                sent.append(rig.module.received[-1])

            rig.module.run(turn)
            rig.module.settle()

    rig.module.on_played = voice
    assert rig.play(sound(speech(9000))).end_ms == 100
    assert sent == [fork.Clear("p1")]


def test_a_clear_before_the_application_begins(rig: Rig) -> None:
    rig.connect()

    def voice_at_once() -> None:
        assert rig.speaker.stop()
        rig.module.settle()

    rig.channel.on_play = voice_at_once
    assert rig.play(sound(speech(900))) == Played(PlayEnd.INTERRUPTED, 0)
    assert isinstance(rig.module.received[0], fork.Play)
    rig.channel.on_play = lambda: None
    assert rig.play(sound(speech(900))) == Played(PlayEnd.COMPLETED, 900)


def test_a_clear_that_crosses_the_end_stops_nothing_else(rig: Rig) -> None:
    rig.connect()
    rig.channel.at_end = lambda: rig.speaker.stop()
    assert rig.play(sound(speech(100))) == Played(PlayEnd.COMPLETED, 100)
    rig.channel.at_end = lambda: None
    rig.module.settle()
    assert fork.Clear("p1") in rig.module.received
    assert rig.play(sound(speech(100))) == Played(PlayEnd.COMPLETED, 100)


def test_a_stop_while_nothing_plays_sends_nothing(rig: Rig) -> None:
    rig.connect()
    assert not rig.speaker.stop()
    rig.play(sound(speech(100)))
    assert not rig.speaker.stop()
    assert not any(isinstance(m, fork.Clear) for m in rig.module.received)


def test_one_clear_is_enough(rig: Rig) -> None:
    rig.connect()
    stops: list[bool] = []

    def voice(played_ms: int) -> None:
        stops.append(rig.speaker.stop())
        rig.module.settle()

    rig.module.on_played = voice
    rig.play(sound(speech(900)))
    assert stops == [True]
    assert rig.module.messages.count(fork.Clear("p1")) == 1


# A connection that is lost


def lose_at(rig: Rig, at_ms: int, *, noticed: bool = True, back: bool) -> None:
    def lose(played_ms: int) -> None:
        if played_ms == at_ms:
            rig.module.on_played = lambda _: None
            rig.module.lose(noticed=noticed)
            if back:
                threading.Timer(0.05, rig.connect).start()

    rig.module.on_played = lose


@pytest.mark.parametrize("noticed", [True, False])
def test_a_prompt_goes_on_over_the_next_connection(rig: Rig, noticed: bool) -> None:
    rig.connect()
    pcm = speech(9000)
    lose_at(rig, 700, noticed=noticed, back=True)
    assert rig.play(sound(pcm)) == Played(PlayEnd.COMPLETED, 9000)
    assert rig.module.heard == pcm, "not a word is lost or said twice"


def test_else_from_a_file_at_the_lost_place(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.connect()
    lose_at(rig, 700, back=False)
    rig.channel.on_play = lambda: None if rig.module.heard == b"" else rig.channel.finish()
    played = rig.play(sound(speech(9000)))
    heard_ms = len(rig.module.heard) // MS
    assert 700 <= heard_ms <= 700 + AHEAD_MS
    assert rig.channel.played == ["file SUCCESS"]
    assert rig.channel.offsets == [str(heard_ms)]
    assert played.end is PlayEnd.COMPLETED
    assert f"the fork was lost {heard_ms} ms into a prompt" in caplog.text
    rig.channel.on_play = rig.channel.finish
    assert rig.play(sound(speech(9000))).end is PlayEnd.COMPLETED
    assert len(rig.channel.played) == 2, "without a fork the next is a file at once"


def test_else_it_is_lost_and_said_so(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.connect()
    lose_at(rig, 700, back=False)
    gone = FakeSound("file", WholePcm(speech(9000)), SynthesisUnavailable("still being made"))
    played = rig.play(gone)
    assert (played.end, played.end_ms) == (PlayEnd.LOST, len(rig.module.heard) // MS)
    assert "the rest of the prompt is not heard: still being made" in caplog.text


def test_a_file_that_asterisk_cannot_see(rig: Rig) -> None:
    rig.connect()
    lose_at(rig, 700, back=False)
    rig.channel.missing_sounds.add("file")
    assert rig.play(sound(speech(9000))).end is PlayEnd.LOST


def test_what_ended_before_the_loss_is_whole(rig: Rig) -> None:
    """All of a short prompt lay in the module already."""
    rig.connect()
    lose_at(rig, 100, back=False)
    assert rig.play(sound(speech(1000))) == Played(PlayEnd.COMPLETED, 1000)


def test_a_stop_that_the_loss_swallowed_counts(rig: Rig) -> None:
    rig.connect()

    def lose_and_stop(played_ms: int) -> None:
        if played_ms == 700:
            rig.module.lose()
            rig.speaker.stop()

    rig.module.on_played = lose_and_stop
    assert rig.play(sound(speech(9000))).end is PlayEnd.INTERRUPTED
    assert rig.channel.played == []


def test_a_connection_that_breaks_again_and_again(rig: Rig) -> None:
    rig.connect()

    def lose(played_ms: int) -> None:
        rig.module.lose()
        rig.connect()

    rig.module.on_played = lose
    rig.channel.on_play = rig.channel.finish
    assert rig.play(sound(speech(60_000))).end is PlayEnd.COMPLETED
    assert len(rig.channel.played) == 1, "the rest came from a file"


def test_a_channel_that_never_answers_is_no_loss(rig: Rig) -> None:
    class Stuck(FakeChannel):
        def command(self, command: str, *args: object, timeout_s: float) -> object:  # type: ignore[override]
            raise CommandTimeout("no answer")

    rig.connect()
    rig.stream._agi = Stuck()  # type: ignore[assignment]
    with pytest.raises(CommandTimeout):
        rig.play(sound(speech(100)))


# Modules without option j, and none


def test_a_module_without_option_j(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rig.connect(version=1)
    rig.channel.on_play = rig.channel.finish
    assert rig.play(sound(speech(100))).end is PlayEnd.COMPLETED
    assert rig.channel.played == ["file SUCCESS"]
    assert rig.module.received == []
    assert caplog.text.count("the fork takes no audio") == 1


def test_without_a_fork_files_are_played(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.channel.on_play = rig.channel.finish
    for _ in range(2):
        assert rig.play(sound(speech(100))).end is PlayEnd.COMPLETED
    assert len(rig.channel.played) == 2
    assert caplog.text.count("no fork") == 1


def test_a_fork_that_connects_late_is_waited_for(rig: Rig) -> None:
    threading.Timer(0.05, rig.connect).start()
    assert rig.play(sound(speech(100))).end is PlayEnd.COMPLETED
    assert rig.module.heard == speech(100)


def test_asterisks_own_sounds_are_its_own_to_play(rig: Rig) -> None:
    rig.connect()
    rig.channel.on_play = rig.channel.finish
    assert rig.play(FakeSound("beep")).end is PlayEnd.COMPLETED
    assert rig.channel.played == ["beep SUCCESS"]
    rig.channel.on_play = rig.speaker.stop
    assert rig.play(FakeSound("beep")).end is PlayEnd.INTERRUPTED


# Keys and what was dropped


def test_keys_are_kept_in_order_and_bounded(rig: Rig) -> None:
    rig.connect()
    pressed: list[Key] = []
    rig.keys.watch(pressed.append)
    for n in range(MAX_KEPT + 5):
        rig.fork.on_message(fork.Digit(str(n % 10), 80, "passed", n * 20))
    assert len(pressed) == MAX_KEPT + 5
    first = rig.keys.take()
    assert first is not None
    assert first.at_ms == 5 * 20
    for _ in range(MAX_KEPT - 1):
        assert rig.keys.take()
    assert rig.keys.take() is None


def test_refusals_of_the_module_are_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.fork.on_message(fork.Refused("play", "too many prompts"))
    assert "refused play: too many prompts" in caplog.text
