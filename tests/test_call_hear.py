"""One turn: prompt, barge-in, end of utterance, timeouts; without Asterisk and without a wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from backend.call import call as module
from backend.call import ear as ear_module
from backend.call.call import Call, CallConfig, CallInfo, Heard, HearStatus, Sound
from backend.call.ear import CallEar
from backend.call.playback import FilePlayback, PlayEnd
from backend.call.speaker import Speaker
from backend.call.streaming import StreamPlayback
from backend.errors import BadRequest, Hangup, RecognitionUnavailable
from backend.media.gate import VoiceGate
from backend.media.voice import SpeechEnded, SpeechStarted, VoiceEvent
from backend.model import Utterance
from backend.ports import (
    FRAME_BYTES,
    Hypothesis,
    RecognitionEvent,
    RecognitionFailed,
    RecognitionOptions,
    StreamEnded,
    UtteranceEnded,
)
from tests.fakes.channel import FakeChannel
from tests.fakes.prompts import FakePrompts

VOICE = b"\x01" * FRAME_BYTES
QUIET = b"\x00" * FRAME_BYTES


class ByValueDetector:
    """A voice detector for tests: a frame of VOICE is voice; one frame begins, two quiet end."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._quiet = 2

    def feed(self, pcm: bytes) -> list[VoiceEvent]:
        events: list[VoiceEvent] = []
        for at in range(0, len(pcm), FRAME_BYTES):
            self.now_ms += 20
            was = self._quiet < 2
            self._quiet = 0 if pcm[at] else min(self._quiet + 1, 2)
            if (self._quiet < 2) != was:
                kind = SpeechEnded if was else SpeechStarted
                events.append(kind(self.now_ms, self.now_ms - 20))
        return events


@dataclass
class FakeRecognizer:
    """Delivers ``texts`` in turn at each end of utterance; keeps what it was fed."""

    texts: list[str] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    silence_ms: int = 0
    silent: bool = False  # never answers
    closed: bool = False
    on_event: Callable[[RecognitionEvent], None] = lambda _: None

    def open(
        self, options: RecognitionOptions, on_event: Callable[[RecognitionEvent], None]
    ) -> FakeRecognizer:
        self.on_event = on_event
        return self

    def feed(self, pcm: bytes) -> None:
        self.audio += pcm

    def silence(self, duration_ms: int) -> None:
        self.silence_ms += duration_ms

    def end_utterance(self) -> None:
        if self.silent:
            return
        at_ms = len(self.audio) // 16 + self.silence_ms
        text = self.texts.pop(0) if self.texts else ""
        if text:
            self.on_event(Hypothesis(text, True, max(at_ms - 200, 0), at_ms, 0.9, "ru-RU"))
        self.on_event(UtteranceEnded(at_ms))

    def close(self) -> None:
        self.closed = True
        if not self.silent:
            self.on_event(StreamEnded(0))


class Talk:
    """A call with its channel, its recogniser and its audio in the test's hands."""

    def __init__(self, *, own_end: bool = True) -> None:
        self.now = 1000.0  # the stream's wall clock
        self.channel = FakeChannel()
        self.recognizer = FakeRecognizer()
        self.said: list[Utterance] = []
        self.recordings: list[str] = []
        self.ear = CallEar(
            "PJSIP/x-1",
            self.recognizer,
            RecognitionOptions(),
            VoiceGate(ByValueDetector(), pre_roll_ms=20),  # type: ignore[arg-type]
            own_end_of_utterance=own_end,
            on_utterance=self.said.append,
            clock=lambda: self.now,
        )
        self.stream = StreamPlayback(self.channel, "PJSIP/x-1")
        self.stream.expect_none()
        info = CallInfo(
            uuid4(), None, "PJSIP/x-1", "1", "inbound", "100", "200", "test", None, "ru-RU"
        )
        self.call = Call(
            info,
            CallConfig(command_s=5, recognition_s=0.2, max_call_s=60, recordings_dir="/rec/"),
            self.channel,
            Speaker(
                "PJSIP/x-1",
                self.stream,
                FilePlayback(self.channel, self.channel, "PJSIP/x-1"),
            ),
            self.ear,
            prompts=FakePrompts(),
            on_spoken=self.said.append,
            on_recording=self.recordings.append,
        )
        self.ear.on_open()

    def hear_frames(self, *frames: bytes) -> None:
        for frame in frames:
            self.ear.on_audio(frame)


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.call.answer()
    return talk


def test_an_utterance_after_the_prompt(talk: Talk) -> None:
    talk.recognizer.texts = ["да"]
    talk.channel.on_play = talk.channel.finish
    talk.channel.at_end = lambda: talk.hear_frames(VOICE, VOICE, QUIET, QUIET)
    heard = talk.call.hear("Вопрос?", timeout_s=5)
    assert (heard.status, heard.text, heard.confidence) == (HearStatus.RECOGNIZED, "да", 0.9)
    assert heard.prompt is not None
    assert heard.prompt.end is PlayEnd.COMPLETED
    assert talk.channel.played == ["ru-RU:Вопрос? SUCCESS"]
    assert [(u.speaker, u.text) for u in talk.said] == [("caller", "да"), ("robot", "Вопрос?")]


def test_voice_stops_the_prompt_and_its_first_word_is_heard(talk: Talk) -> None:
    talk.recognizer.texts = ["нет"]
    talk.channel.on_play = lambda: talk.hear_frames(QUIET, VOICE, VOICE)
    talk.channel.at_end = lambda: talk.hear_frames(QUIET, QUIET)
    heard = talk.call.hear(Sound("promo"), timeout_s=5)
    assert heard.recognized
    assert heard.prompt is not None
    assert heard.prompt.end is PlayEnd.INTERRUPTED
    assert talk.recognizer.audio.count(VOICE) == 2
    assert talk.said[-1].text == "[promo]"


def test_without_barge_in_the_prompt_plays_on_but_the_words_count(talk: Talk) -> None:
    talk.recognizer.texts = ["нет"]

    def speak_over() -> None:
        talk.hear_frames(VOICE, VOICE, QUIET, QUIET)
        talk.channel.finish()

    talk.channel.on_play = speak_over
    heard = talk.call.hear("Вопрос?", barge_in="off", timeout_s=5)
    assert (heard.text, heard.prompt and heard.prompt.end) == ("нет", PlayEnd.COMPLETED)


def test_silence_is_a_timeout(talk: Talk) -> None:
    talk.channel.on_play = talk.channel.finish
    heard = talk.call.hear("Вопрос?", timeout_s=0.01)
    assert heard == Heard(HearStatus.TIMEOUT, prompt=heard.prompt)
    assert not heard.recognized


def test_a_noise_without_words_is_nothing_said(talk: Talk) -> None:
    talk.channel.on_play = talk.channel.finish
    talk.channel.at_end = lambda: talk.hear_frames(VOICE, QUIET, QUIET)
    assert talk.call.hear("Вопрос?", timeout_s=0.01).status is HearStatus.TIMEOUT


def test_what_was_said_before_does_not_count(talk: Talk) -> None:
    talk.recognizer.texts = ["раньше"]
    talk.hear_frames(VOICE, QUIET, QUIET)
    assert talk.call.hear(timeout_s=0.01).status is HearStatus.TIMEOUT
    assert [u.text for u in talk.said] == ["раньше"]


def test_an_utterance_under_way_when_the_turn_begins_counts(talk: Talk) -> None:
    talk.recognizer.texts = ["да"]
    talk.hear_frames(VOICE, VOICE)
    threading.Timer(0.02, talk.hear_frames, (QUIET, QUIET)).start()
    assert talk.call.hear(timeout_s=0.01).text == "да"


def test_speech_that_begins_in_time_may_end_later(talk: Talk) -> None:
    talk.recognizer.texts = ["да"]
    threading.Timer(0.01, talk.hear_frames, (VOICE,)).start()
    threading.Timer(0.3, talk.hear_frames, (QUIET, QUIET)).start()
    assert talk.call.hear(timeout_s=0.15).text == "да"


def test_a_recogniser_that_owes_its_text_is_unavailable(talk: Talk) -> None:
    talk.recognizer.silent = True
    talk.hear_frames(VOICE)
    threading.Timer(0.01, talk.hear_frames, (QUIET, QUIET)).start()
    with pytest.raises(RecognitionUnavailable, match=r"0\.2 s"):
        talk.call.hear(timeout_s=5)


def test_a_dead_recogniser_is_unavailable_with_its_reason(talk: Talk) -> None:
    talk.recognizer.on_event(RecognitionFailed("stt is away", retryable=False))
    with pytest.raises(RecognitionUnavailable, match="stt is away"):
        talk.call.hear(timeout_s=5)


def test_no_audio_stream_is_said_at_once_in_clear_words(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STREAM_S", 0.01)
    talk.ear.on_close("gone")
    with pytest.raises(RecognitionUnavailable, match="app_audiofork"):
        talk.call.hear(timeout_s=5)


def test_audio_that_came_before_the_answer_does_not_shift_the_times() -> None:
    """An inbound call may ring for long: recognition's clock begins with the answer."""
    talk = Talk()
    talk.recognizer.texts = ["да"]
    talk.hear_frames(*[QUIET] * 500)
    talk.call.answer()
    talk.channel.on_play = talk.channel.finish
    talk.channel.at_end = lambda: talk.hear_frames(*[VOICE] * 10, QUIET, QUIET)
    heard = talk.call.hear("Вопрос?", timeout_s=5)
    assert heard.text == "да"
    assert heard.end_ms is not None
    assert 10_000 < heard.end_ms <= talk.ear.position_ms


def test_where_the_service_ends_utterances_its_word_is_awaited() -> None:
    talk = Talk(own_end=False)
    talk.recognizer.texts = ["да"]
    talk.call.answer()
    talk.hear_frames(VOICE)

    def service_finds_the_end() -> None:
        talk.recognizer.end_utterance()

    threading.Timer(0.02, talk.hear_frames, (QUIET, QUIET)).start()
    threading.Timer(0.3, service_finds_the_end).start()
    assert talk.call.hear(timeout_s=0.05).text == "да"


def test_a_noise_in_which_the_service_finds_no_utterance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ear_module, "SERVICE_END_S", 0.05)
    talk = Talk(own_end=False)
    talk.call.answer()
    talk.hear_frames(VOICE)
    threading.Timer(0.02, talk.hear_frames, (QUIET, QUIET)).start()
    assert talk.call.hear(timeout_s=0.05).status is HearStatus.TIMEOUT


def test_hangup_while_listening(talk: Talk) -> None:
    threading.Timer(0.02, talk.channel.hang_up).start()
    with pytest.raises(Hangup):
        talk.call.hear(timeout_s=30)


def test_hangup_in_the_prompt(talk: Talk) -> None:
    talk.channel.on_play = talk.channel.hang_up
    with pytest.raises(Hangup):
        talk.call.hear("Вопрос?", timeout_s=30)


def test_a_phone_that_sends_nothing_while_silent(talk: Talk) -> None:
    """Silence suppression: the utterance ends though no frame says so."""
    talk.recognizer.texts = ["да"]
    talk.hear_frames(VOICE, VOICE)
    talk.now += 0.3
    talk.ear.on_tick()
    assert talk.ear.speaking, "a moment without packets is no silence yet"
    talk.now += 0.2
    talk.ear.on_tick()
    assert not talk.ear.speaking
    assert [u.text for u in talk.said] == ["да"]
    assert talk.ear.position_ms == 540
    assert talk.ear.figures.audio_ms == 40
    talk.now += 7
    talk.ear.on_tick()
    assert talk.recognizer.silence_ms > 5000, "the recogniser is kept awake"


def test_lost_audio_is_silence_of_its_length(talk: Talk) -> None:
    """So the times after it are true."""
    talk.recognizer.texts = ["да"]
    talk.hear_frames(VOICE)
    talk.ear.on_dropped(500)
    assert [u.text for u in talk.said] == ["да"]
    talk.hear_frames(QUIET)
    assert talk.ear.position_ms == 540
    assert (talk.ear.figures.audio_ms, talk.ear.figures.dropped_ms) == (40, 500)


def test_what_was_filled_in_before_the_loss_was_told_counts_once(talk: Talk) -> None:
    talk.hear_frames(QUIET)
    talk.now += 0.6
    talk.ear.on_tick()
    assert talk.ear.position_ms == 620
    talk.ear.on_dropped(1000)
    assert talk.ear.position_ms == 1020
    talk.hear_frames(QUIET)
    talk.ear.on_dropped(100)
    assert talk.ear.position_ms == 1140


def test_a_fork_that_is_gone_is_not_silence(talk: Talk) -> None:
    talk.ear.on_close("gone")
    talk.now += 5
    talk.ear.on_tick()
    assert talk.ear.position_ms == 0


def test_an_endless_talker_is_cut(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UTTERANCE_S", 0.01)
    talk.recognizer.texts = ["и так далее"]
    talk.hear_frames(VOICE, VOICE)
    for n in range(50):
        threading.Timer(0.01 * n, talk.hear_frames, (VOICE,)).start()
    assert talk.call.hear(timeout_s=5).text == "и так далее"
    assert talk.ear.speaking


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"barge_in": "x"}, "barge_in"),
    ],
)
def test_wrong_arguments_are_named(talk: Talk, arguments: dict[str, object], name: str) -> None:
    with pytest.raises(BadRequest, match=name):
        talk.call.hear(**arguments)  # type: ignore[arg-type]


def test_last_words_are_kept_when_the_call_ends(talk: Talk) -> None:
    talk.recognizer.texts = ["до свидания"]
    talk.hear_frames(VOICE, VOICE)
    talk.ear.close(1)
    assert [u.text for u in talk.said] == ["до свидания"]
    assert talk.recognizer.closed
    assert talk.ear.figures.audio_ms == 40


def test_two_utterances_are_two_debts(talk: Talk) -> None:
    """The answer to the first does not settle the second."""
    talk.recognizer.silent = True
    talk.hear_frames(VOICE, QUIET, QUIET, VOICE, QUIET, QUIET)
    talk.recognizer.on_event(UtteranceEnded(60))
    assert talk.ear.owed_s() is not None
    talk.recognizer.on_event(UtteranceEnded(120))
    assert talk.ear.owed_s() is None


def test_the_services_last_words_come_before_the_calls_end() -> None:
    talk = Talk(own_end=False)
    talk.call.answer()
    talk.hear_frames(VOICE, VOICE)

    def close() -> None:
        talk.recognizer.on_event(Hypothesis("пока", True, 0, 40, 0.9, "ru-RU"))
        talk.recognizer.on_event(StreamEnded(40))

    talk.recognizer.close = lambda: threading.Timer(0.1, close).start()  # type: ignore[method-assign]
    talk.ear.close(5)
    assert [u.text for u in talk.said] == ["пока"]


def test_recording(talk: Talk) -> None:
    recording = talk.call.start_recording("name-1")
    assert recording.path == "/rec/name-1.wav"
    assert talk.recordings == ["/rec/name-1.wav"]
    recording.stop()
    assert talk.channel.commands.count("EXEC") == 2
    assert talk.call.start_recording().path == f"/rec/{talk.call.id}.wav"


@pytest.mark.parametrize("argument", ["a,b", "${EXTEN}"])
def test_an_argument_cannot_change_the_command(talk: Talk, argument: str) -> None:
    with pytest.raises(BadRequest, match="argument"):
        talk.call.execute("Playback", argument)
