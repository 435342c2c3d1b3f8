"""One turn: prompt, barge-in, end of utterance, timeouts; without Asterisk and without a wait."""

from __future__ import annotations

import threading

import pytest

from backend.call import ear as ear_module
from backend.call import turn as module
from backend.call.playback import PlayEnd
from backend.call.prompt import Sound
from backend.call.turn import Heard, HearStatus
from backend.errors import BadRequest, Hangup, RecognitionUnavailable
from backend.ports import Hypothesis, RecognitionFailed, StreamEnded, UtteranceEnded
from tests.fakes.talk import QUIET, VOICE, Talk


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
    talk.goes_by(0.3)
    assert talk.ear.speaking, "a moment without packets is no silence yet"
    talk.goes_by(0.2)
    assert not talk.ear.speaking
    assert [u.text for u in talk.said] == ["да"]
    assert talk.ear.position_ms == 540
    assert talk.ear.figures.audio_ms == 40
    talk.goes_by(7)
    assert talk.recognizer.silence_ms > 5000, "the recogniser is kept awake"


def test_while_the_audio_loop_stood_still_nobody_was_silent(talk: Talk) -> None:
    """What was sent meanwhile is read before the next tick: no silence comes into the word."""
    talk.recognizer.texts = ["да"]
    talk.hear_frames(VOICE, VOICE)
    talk.goes_by(0.1)
    talk.now += 0.9
    talk.ear.on_tick()
    assert (talk.ear.speaking, talk.ear.position_ms) == (True, 40)
    talk.hear_frames(VOICE)
    talk.goes_by(0.1)
    assert (talk.ear.speaking, talk.ear.position_ms) == (True, 60)
    talk.now += 0.9
    talk.ear.on_tick()
    assert talk.ear.speaking
    talk.now += 0.9
    talk.ear.on_tick()
    assert not talk.ear.speaking, "also where every tick is late"
    assert talk.ear.position_ms == pytest.approx(60 + 1900, abs=20)


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
    talk.goes_by(0.6)
    assert talk.ear.position_ms == 620
    talk.ear.on_dropped(1000)
    assert talk.ear.position_ms == 1020
    talk.hear_frames(QUIET)
    talk.ear.on_dropped(100)
    assert talk.ear.position_ms == 1140


def test_a_fork_that_is_gone_is_not_silence(talk: Talk) -> None:
    talk.ear.on_close("gone")
    talk.goes_by(5)
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
