"""Turns over a fork that takes audio and tells of keys: pauses, words, keys, cancelling, languages;
without Asterisk. The fork's module plays in virtual time: what was heard is exact."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from backend.call import barge as barge_module
from backend.call import speaker as speaker_module
from backend.call.keys import Digits, DigitsRead, DigitsStatus
from backend.call.playback import Played, PlayEnd
from backend.call.prompt import Prompts, Sound, Text
from backend.call.pump import AHEAD_MS
from backend.call.turn import Heard, HearStatus
from backend.errors import (
    BadRequest,
    CommandRefused,
    Hangup,
    RecognitionUnavailable,
    ScenarioError,
    SynthesisUnavailable,
)
from backend.ports import Hypothesis, RecognitionFailed
from backend.protocol import fork
from backend.speech.making import GrowingPcm, WholePcm
from tests.fakes.prompts import FakeSound
from tests.fakes.talk import QUIET, VOICE, Talk

PROMPT_MS = 2000  # of FakePrompts' texts
NOISE = (VOICE, QUIET, QUIET)


@pytest.fixture
def talk() -> Iterator[Talk]:
    talk = Talk(streamed=True, decide_ms=5000)
    talk.call.answer()
    yield talk
    talk.close()


def long_sound(talk: Talk, length_ms: int = 6000) -> Sound:
    talk.prompts.own["long"] = WholePcm(bytes(16 * length_ms))
    return Sound("long")


# False alarms


def test_a_cough_pauses_the_prompt_and_it_goes_on_from_that_very_place(talk: Talk) -> None:
    talk.at(1000, lambda: talk.hear_frames(VOICE))
    talk.while_paused(lambda: talk.hear_frames(QUIET, QUIET))
    heard = talk.call.hear("Вопрос?", barge_in="words", timeout_s=0.05)
    assert heard == Heard(HearStatus.TIMEOUT, prompt=Played(PlayEnd.COMPLETED, PROMPT_MS))
    assert talk.told == [fork.Pause("p1"), fork.Resume("p1")]
    assert talk.heard_ms == PROMPT_MS


@pytest.mark.parametrize(("tail_ms", "answer"), [(-1, "да"), (10**6, "угу")])
def test_a_backchannel_word_is_no_answer_but_in_the_prompts_last_moments(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, tail_ms: int, answer: str
) -> None:
    monkeypatch.setattr(barge_module, "ANSWER_TAIL_MS", tail_ms)
    talk.recognizer.texts = ["угу", "да"]
    talk.at(300, lambda: talk.hear_frames(VOICE))
    talk.while_paused(lambda: talk.hear_frames(QUIET, QUIET))
    talk.channel.at_end = lambda: threading.Timer(0.1, talk.hear_frames, NOISE).start()
    heard = talk.call.hear("Вопрос?", barge_in="words", timeout_s=5)
    assert heard.prompt == Played(PlayEnd.COMPLETED, PROMPT_MS)
    assert heard.text == answer


def test_words_stop_what_voice_paused(talk: Talk) -> None:
    talk.recognizer.texts = ["нет"]
    talk.at(1000, lambda: talk.hear_frames(VOICE))
    talk.while_paused(lambda: talk.recognizer.partial("нет"))
    talk.channel.at_end = lambda: talk.hear_frames(QUIET, QUIET)
    heard = talk.call.hear("Вопрос?", barge_in="words", timeout_s=5)
    assert (heard.text, heard.prompt) == ("нет", Played(PlayEnd.INTERRUPTED, 1000, "words"))
    assert talk.told == [fork.Pause("p1"), fork.Clear("p1")]
    assert talk.heard_ms == 1000


def test_a_pause_without_words_ends_in_time_though_the_noise_goes_on() -> None:
    talk = Talk(streamed=True, decide_ms=50)
    talk.call.answer()
    talk.at(500, lambda: talk.hear_frames(VOICE))
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(0.01):
            talk.hear_frames(VOICE)
        talk.hear_frames(QUIET, QUIET)

    talk.while_paused(go_on)
    talk.channel.at_end = over.set
    played = talk.call.hear("Вопрос?", barge_in="words", timeout_s=0.01)
    talk.close()
    assert played.prompt is not None
    assert played.prompt.end is PlayEnd.COMPLETED
    assert talk.told == [fork.Pause("p1"), fork.Resume("p1")], "once: it is the same voice"


def test_words_of_before_the_turn_stop_nothing(talk: Talk) -> None:
    talk.hear_frames(*[QUIET] * 50)
    talk.recognizer.partial("раньше")
    late = talk.ear.position_ms

    talk.at(500, lambda: talk.recognizer.on_event(Hypothesis("раньше", False, late - 500, late)))
    heard = talk.call.hear("Вопрос?", barge_in="words", timeout_s=0.01)
    assert heard.prompt == Played(PlayEnd.COMPLETED, PROMPT_MS)


def test_a_connection_lost_in_a_pause_costs_nothing(talk: Talk) -> None:
    """What the module had of it goes on; the rest, over the new connection, stands still until
    it is decided."""
    assert talk.module is not None
    stood_still: list[int] = []

    def lose_first() -> None:
        stood_still.append(talk.heard_ms)
        if len(stood_still) == 1:
            talk.module.lose()  # type: ignore[union-attr]
            talk.module.connect(talk.fork)  # type: ignore[union-attr]
        else:
            talk.hear_frames(QUIET, QUIET)

    coughs = iter([VOICE])
    talk.at(1000, lambda: talk.hear_frames(*itertools.islice(coughs, 1)))
    talk.while_paused(lose_first)
    heard = talk.call.hear(long_sound(talk), barge_in="words", timeout_s=0.05)
    assert heard.prompt == Played(PlayEnd.COMPLETED, 6000)
    assert talk.heard_ms == 6000
    assert stood_still == [1000, 1000 + AHEAD_MS]


def test_hangup_in_a_pause(talk: Talk) -> None:
    assert talk.module is not None

    def hang_up() -> None:
        talk.channel.hang_up()
        talk.module.hang_up()  # type: ignore[union-attr]

    talk.at(1000, lambda: talk.hear_frames(VOICE))
    talk.while_paused(hang_up)
    with pytest.raises(Hangup):
        talk.call.hear("Вопрос?", barge_in="words")


# Files, which cannot be paused: stopped, and played on from there


def test_a_file_is_stopped_and_played_on_from_there() -> None:
    talk = Talk(decide_ms=5000)
    talk.call.answer()
    plays = 0

    def on_play() -> None:
        nonlocal plays
        plays += 1
        if plays == 1:
            talk.hear_frames(VOICE)
            threading.Timer(0.05, talk.hear_frames, (QUIET, QUIET)).start()
        else:
            talk.channel.finish()

    talk.channel.on_play = on_play
    heard = talk.call.hear("Вопрос?", barge_in="words", timeout_s=0.01)
    assert heard.prompt is not None
    assert heard.prompt.end is PlayEnd.COMPLETED
    assert talk.channel.offsets == ["", "500"]
    talk.close()


def test_a_paused_file_is_stopped_for_good_by_words() -> None:
    talk = Talk(decide_ms=5000)
    talk.call.answer()
    talk.recognizer.texts = ["нет"]

    def on_play() -> None:
        talk.hear_frames(VOICE)
        threading.Timer(0.05, talk.recognizer.partial, ("нет",)).start()
        threading.Timer(0.1, talk.hear_frames, (QUIET, QUIET)).start()

    talk.channel.on_play = on_play
    heard = talk.call.hear("Вопрос?", barge_in="words", timeout_s=5)
    assert (heard.text, heard.prompt) == ("нет", Played(PlayEnd.INTERRUPTED, 500, "words"))
    assert talk.channel.offsets == [""]
    talk.close()


def test_a_file_that_somebody_else_stops_is_not_played_on() -> None:
    """An admin, by AMI."""
    talk = Talk()
    talk.call.answer()
    stop = {"Control": "stop"}
    talk.channel.on_play = lambda: talk.channel.send("ControlPlayback", stop, lambda _: None)
    heard = talk.call.hear("Вопрос?", barge_in="words", timeout_s=0.01)
    assert heard.prompt == Played(PlayEnd.INTERRUPTED, 500)
    assert talk.channel.offsets == [""]


def test_hangup_while_a_file_is_paused() -> None:
    talk = Talk(decide_ms=5000)
    talk.call.answer()

    def on_play() -> None:
        talk.hear_frames(VOICE)
        threading.Timer(0.05, talk.channel.hang_up).start()

    talk.channel.on_play = on_play
    with pytest.raises(Hangup):
        talk.call.hear("Вопрос?", barge_in="words", timeout_s=5)
    talk.close()


def test_nobody_is_left_in_a_pause_that_nothing_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(speaker_module, "MAX_PAUSE_S", 0.05)
    talk = Talk(decide_ms=10**6)
    talk.call.answer()
    talk.channel.on_play = lambda: (
        talk.channel.finish() if talk.channel.offsets[1:] else talk.hear_frames(VOICE)
    )
    talk.channel.at_end = lambda: talk.hear_frames(*[QUIET, QUIET] * len(talk.channel.offsets[1:]))
    heard = talk.call.hear("Вопрос?", barge_in="words", timeout_s=0.01)
    assert heard.prompt is not None
    assert heard.prompt.end is PlayEnd.COMPLETED
    assert "paused for 0.05 s: it goes on" in caplog.text
    talk.close()


# Keys


def test_the_first_key_stops_the_prompt_then_they_are_collected(talk: Talk) -> None:
    talk.at(400, lambda: talk.press("4"))
    threading.Timer(0.2, talk.press, ("2#",)).start()
    heard = talk.call.hear("Номер?", digits=Digits(max=5), timeout_s=5)
    assert (heard.status, heard.digits) == (HearStatus.DIGITS, "42")
    assert heard.prompt == Played(PlayEnd.INTERRUPTED, 400, "keys")


def test_speech_after_the_first_key_does_not_count(talk: Talk) -> None:
    talk.recognizer.texts = ["да"]

    def press_and_speak() -> None:
        talk.press("4")
        talk.hear_frames(VOICE, QUIET, QUIET)

    talk.at(400, press_and_speak)
    heard = talk.call.hear("Номер?", digits=Digits(max=2, between_s=0.05), timeout_s=5)
    assert (heard.status, heard.digits, heard.text) == (HearStatus.DIGITS, "4", "")


def test_speech_before_the_first_key_counts_and_the_key_is_kept(talk: Talk) -> None:
    talk.recognizer.texts = ["да"]

    def speak_and_press() -> None:
        talk.hear_frames(VOICE, QUIET, QUIET, QUIET)
        talk.press("4")

    talk.at(400, speak_and_press)
    heard = talk.call.hear("Номер?", barge_in="off", digits=Digits(), timeout_s=5)
    assert (heard.status, heard.text) == (HearStatus.RECOGNIZED, "да")
    assert talk.call.read_digits(timeout_s=0.01).digits == "4"


def test_keys_typed_ahead_make_the_prompt_needless(talk: Talk) -> None:
    talk.press("12#")
    first = talk.call.read_digits(1, prompt="Один?")
    assert first == DigitsRead(DigitsStatus.COMPLETE, "1")
    assert talk.call.read_digits(5, prompt="Ещё?") == DigitsRead(DigitsStatus.TERMINATOR, "2")
    assert talk.heard_ms == 0
    assert [u.speaker for u in talk.said] == []


def test_a_terminator_pressed_all_the_same_is_not_the_next_input(talk: Talk) -> None:
    talk.press("12")
    assert talk.call.read_digits(2).status is DigitsStatus.COMPLETE
    talk.press("#7")
    assert talk.call.read_digits(1) == DigitsRead(DigitsStatus.COMPLETE, "7")


def test_how_reading_keys_ends(talk: Talk) -> None:
    played = Played(PlayEnd.COMPLETED, PROMPT_MS)
    nothing = talk.call.read_digits(2, prompt="Номер?", timeout_s=0.01)
    assert nothing == DigitsRead(DigitsStatus.TIMEOUT, "", played)
    assert not nothing.read
    talk.press("1")
    some = talk.call.read_digits(2, between_s=0.01)
    assert (some.status, some.digits, some.read) == (DigitsStatus.BETWEEN, "1", True)
    threading.Timer(0.02, talk.call.cancel_hear, ("enough",)).start()
    cancelled = talk.call.read_digits(2, timeout_s=30)
    assert cancelled == DigitsRead(DigitsStatus.CANCELLED, reason="enough")


def test_speech_does_not_disturb_the_reading_of_keys(talk: Talk) -> None:
    talk.recognizer.on_event(RecognitionFailed("stt is away", retryable=False))
    talk.at(200, lambda: talk.hear_frames(*NOISE))
    threading.Timer(0.1, talk.press, ("1",)).start()
    assert talk.call.read_digits(prompt="Номер?") == DigitsRead(
        DigitsStatus.COMPLETE, "1", Played(PlayEnd.COMPLETED, PROMPT_MS)
    )


@pytest.mark.parametrize(
    ("interruptible", "end", "by"),
    [
        ("off", PlayEnd.COMPLETED, None),
        ("voice", PlayEnd.COMPLETED, None),
        ("keys", PlayEnd.INTERRUPTED, "keys"),
        ("any", PlayEnd.INTERRUPTED, "keys"),
    ],
)
def test_a_key_during_speech(talk: Talk, interruptible: str, end: PlayEnd, by: str | None) -> None:
    talk.at(400, lambda: talk.press("5"))
    played = talk.call.speak("Новости.", interruptible=interruptible)  # type: ignore[arg-type]
    assert (played.end, played.by) == (end, by)
    assert talk.call.read_digits().digits == "5", "it stays to be read"


@pytest.mark.parametrize(
    ("interruptible", "end_ms"), [("off", 2000), ("keys", 2000), ("voice", 400), ("any", 400)]
)
def test_voice_during_speech(talk: Talk, interruptible: str, end_ms: int) -> None:
    talk.at(400, lambda: talk.hear_frames(VOICE))
    played = talk.call.speak("Новости.", interruptible=interruptible)  # type: ignore[arg-type]
    assert played.end_ms == end_ms
    assert played.by == ("voice" if end_ms == 400 else None)


def test_callbacks_for_keys_run_on_a_thread_of_their_own(talk: Talk) -> None:
    told: list[tuple[str, str]] = []
    done = threading.Event()

    def on_key(key: str) -> None:
        told.append((key, threading.current_thread().name))
        if key == "#":
            done.set()

    talk.call.on_dtmf(on_key)
    talk.press("12#")
    assert done.wait(5)
    assert told == [(key, "callbacks-PJSIP/x-1") for key in "12#"]
    talk.call.on_dtmf(None)
    talk.press("9")
    talk.dialogue.close()
    assert len(told) == 3


def test_a_callback_cannot_use_the_call(talk: Talk) -> None:
    errors: list[Exception] = []
    done = threading.Event()

    def on_key(_: str) -> None:
        for act in (
            lambda: talk.call.speak("Нет."),
            lambda: talk.call.hear(),
            lambda: talk.call.read_digits(),
            lambda: talk.call.listen(),
            lambda: talk.call.get_variable("X"),
            lambda: talk.call.wait(0.01),
        ):
            try:
                act()
            except ScenarioError as error:
                errors.append(error)
        talk.call.log("allowed")
        done.set()

    talk.call.on_dtmf(on_key)
    talk.press("1")
    assert done.wait(5)
    assert len(errors) == 6
    assert talk.channel.commands == ["ANSWER"]


# Cancelling


def test_a_turn_is_cancelled_with_its_prompt(talk: Talk) -> None:
    talk.at(600, lambda: talk.call.cancel_hear("changed my mind"))
    heard = talk.call.hear("Вопрос?", barge_in="off", timeout_s=30)
    assert heard == Heard(
        HearStatus.CANCELLED,
        prompt=Played(PlayEnd.INTERRUPTED, 600, "cancel"),
        reason="changed my mind",
    )


def test_a_turn_is_cancelled_in_its_wait_and_none_that_has_not_begun(talk: Talk) -> None:
    assert not talk.call.cancel_hear("too early")
    threading.Timer(0.05, talk.call.cancel_hear).start()
    heard = talk.call.hear(timeout_s=30)
    assert (heard.status, heard.reason) == (HearStatus.CANCELLED, "cancelled")
    assert not talk.call.cancel_hear("too late")
    assert talk.call.hear(timeout_s=0.01).status is HearStatus.TIMEOUT


# Recognition: its options, its absence


def test_options_of_a_turn_begin_a_session_only_when_they_differ(talk: Talk) -> None:
    asked = talk.recognizer.options
    talk.call.hear(timeout_s=0.01)
    assert len(asked) == 1
    talk.call.hear(timeout_s=0.01, language=["kk-KZ", "ru-RU"], hints=["баланс"])
    talk.call.hear(timeout_s=0.01, language=["kk-KZ", "ru-RU"], hints=["баланс"])
    assert (asked[1].languages, asked[1].hints, len(asked)) == (("kk-KZ", "ru-RU"), ("баланс",), 2)
    talk.call.hear(timeout_s=0.01, language="en-US")
    assert asked[2].languages == ("en-US",)
    talk.call.hear(timeout_s=0.01)
    assert asked[3] == asked[0]


def test_the_prompt_is_spoken_in_the_turns_first_language(talk: Talk) -> None:
    spoken: list[tuple[str, str]] = []
    sound_of = talk.prompts.text

    def noted(text: str, language: str) -> FakeSound:
        spoken.append((text, language))
        return sound_of(text, language)

    talk.prompts.text = noted  # type: ignore[method-assign]
    talk.call.hear("Сәлем?", language=["kk-KZ", "ru-RU"], timeout_s=0.01)
    talk.call.speak(["Hello", Text("Привет", "ru-RU")], language="en-US")
    talk.call.hear("Что?", language="auto", timeout_s=0.01)
    assert spoken == [
        ("Сәлем?", "kk-KZ"),
        ("Hello", "en-US"),
        ("Привет", "ru-RU"),
        ("Что?", "ru-RU"),
    ]
    assert talk.recognizer.options[-1].languages == ("auto",)
    for language in ("auto", "русский"):
        with pytest.raises(BadRequest, match="language"):
            talk.call.speak(Text("Привет", language))


def test_the_silence_that_ends_an_utterance_is_the_turns_own(talk: Talk) -> None:
    detector = talk.ear._gate._detector
    talk.call.hear(timeout_s=0.01, end_silence_s=1.5)
    talk.call.hear(timeout_s=0.01)
    assert detector.end_silence_ms == [1500, None, None, None]  # type: ignore[attr-defined]


def test_where_the_service_ends_utterances_it_is_told() -> None:
    talk = Talk(own_end=False)
    talk.call.answer()
    talk.call.hear(timeout_s=0.01, end_silence_s=1.5)
    assert [options.max_pause_ms for options in talk.recognizer.options] == [None, 1500]


def test_without_recognition_the_keys_are_left(talk: Talk) -> None:
    talk.recognizer.on_event(RecognitionFailed("stt is away", retryable=False))
    with pytest.raises(RecognitionUnavailable, match="stt is away"):
        talk.call.hear("Вопрос?", timeout_s=30)
    assert talk.heard_ms == 0, "nobody is asked what cannot be heard"
    heard = talk.call.hear("Вопрос?", timeout_s=0.01, digits=Digits())
    assert (heard.status, heard.error) == (HearStatus.TIMEOUT, "stt is away")
    assert talk.heard_ms == PROMPT_MS
    talk.press("1")
    heard = talk.call.hear("Вопрос?", timeout_s=5, digits=Digits())
    assert (heard.status, heard.digits) == (HearStatus.DIGITS, "1")


# Prompts of several parts


def test_a_list_is_one_prompt(talk: Talk) -> None:
    talk.prompts.own["beep"] = WholePcm(bytes(16 * 300))
    played = talk.call.speak(["Раз.", Sound("beep"), "Два."], repeat=2)
    assert played == Played(PlayEnd.COMPLETED, 2 * (PROMPT_MS + 300 + PROMPT_MS))
    assert talk.channel.commands.count("EXEC") == 1
    (line,) = talk.said
    assert (line.text, line.end_ms - line.start_ms) == (
        "Раз. [beep] Два. Раз. [beep] Два.",
        played.end_ms,
    )


def test_an_interrupted_list_ends_as_one(talk: Talk) -> None:
    talk.at(PROMPT_MS + 500, lambda: talk.press("1"))
    played = talk.call.speak(["Раз.", "Два.", "Три."], interruptible="keys")
    assert played == Played(PlayEnd.INTERRUPTED, PROMPT_MS + 500, "keys")
    assert talk.heard_ms == PROMPT_MS + 500


def test_parts_that_asterisk_plays_stand_in_their_place(talk: Talk) -> None:
    talk.channel.on_play = talk.channel.finish
    played = talk.call.speak(["Раз.", Sound("asterisks-own"), "Два."])
    assert played.end_ms == PROMPT_MS + 2000 + PROMPT_MS
    assert talk.channel.played == ["asterisks-own SUCCESS"]
    assert talk.heard_ms == 2 * PROMPT_MS


def test_a_connection_lost_in_a_list_is_made_good_from_a_file(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert talk.module is not None
    monkeypatch.setattr("backend.call.streaming.FORK_S", 0.05)
    module_ = talk.module
    talk.at(PROMPT_MS + 500, module_.lose)
    talk.channel.on_play = talk.channel.finish
    played = talk.call.speak(["Раз.", long_sound(talk)])
    assert played.end is PlayEnd.COMPLETED
    assert talk.channel.played == ["long SUCCESS"]
    (offset,) = talk.channel.offsets
    assert int(offset) == talk.heard_ms - PROMPT_MS, "where in the second part it broke"


@pytest.mark.parametrize("made", [0, 500])
def test_a_prompt_for_when_synthesis_fails(talk: Talk, made: int) -> None:
    """Also after what could be made of the text has been heard."""
    broken = GrowingPcm()

    def pieces() -> Iterator[bytes]:
        yield bytes(16 * made)
        raise SynthesisUnavailable("tts is away")

    with pytest.raises(SynthesisUnavailable):
        broken.make(pieces())
    talk.prompts.own["broken"] = broken
    beep = talk.prompts.own["beep"] = WholePcm(bytes(16 * 300))
    assert beep.rate_hz == 8000
    with pytest.raises(SynthesisUnavailable, match="tts is away"):
        talk.call.speak(Sound("broken"))
    played = talk.call.speak(Sound("broken"), on_error=Sound("beep"))
    assert played == Played(PlayEnd.COMPLETED, 300, error="tts is away")
    assert talk.heard_ms == 2 * made + 300


def test_preparing_begins_synthesis_reads_sounds_and_raises_nothing_of_it(talk: Talk) -> None:
    made: list[str] = []

    class Made:
        def __init__(self, name: str, error: Exception) -> None:
            self.name = name
            self.error = error

        def audio(self) -> None:
            made.append(self.name)
            raise self.error

    def text(text: str, language: str) -> Made:
        return Made(text, SynthesisUnavailable("tts is away"))

    talk.prompts.text = text  # type: ignore[assignment,method-assign]
    talk.prompts.sound = lambda name: Made(name, BadRequest("sound", "no WAV file"))  # type: ignore[assignment,method-assign,return-value]
    talk.call.prepare(["Раз.", Sound("beep"), "Два."])
    assert made == ["Раз.", "beep", "Два."]


# Listening


def test_listening_and_turns_hear_the_same(talk: Talk) -> None:
    talk.recognizer.texts = ["раз", "два"]
    with talk.call.listen() as listening:
        talk.hear_frames(VOICE)
        talk.recognizer.partial("ра")
        talk.hear_frames(QUIET, QUIET)
        threading.Timer(0.02, talk.hear_frames, NOISE).start()
        assert talk.call.hear(timeout_s=5).text == "два"
    assert [(r.text, r.final) for r in listening] == [("ра", False), ("раз", True), ("два", True)]
    talk.hear_frames(*NOISE)
    assert list(listening) == []


def test_a_turn_has_its_own_options_and_listening_has_them_back(talk: Talk) -> None:
    asked = talk.recognizer.options
    listening = talk.call.listen(language="kk-KZ", hints=["баланс"])
    assert (asked[-1].languages, asked[-1].hints) == (("kk-KZ",), ("баланс",))
    talk.call.hear(timeout_s=0.01)
    assert len(asked) == 2, "a turn without options of its own has the listening's"
    talk.call.hear(timeout_s=0.01, language="en-US")
    assert [options.languages[0] for options in asked] == ["ru-RU", "kk-KZ", "en-US", "kk-KZ"]
    listening.stop()
    talk.call.hear(timeout_s=0.01)
    assert asked[-1] == asked[0]


def test_one_listening_at_a_time_and_none_after_the_call(talk: Talk) -> None:
    listening = talk.call.listen()
    with pytest.raises(BadRequest, match="listen"):
        talk.call.listen()
    talk.dialogue.close()
    assert listening.stopped == "the call is over"
    assert list(listening) == []


def test_listening_to_a_dead_recogniser(talk: Talk) -> None:
    talk.recognizer.on_event(RecognitionFailed("stt is away", retryable=False))
    with pytest.raises(RecognitionUnavailable, match="stt is away"):
        next(iter(talk.call.listen()))


# The fork of an older module, or none


def test_keys_without_a_fork_that_tells_of_them() -> None:
    talk = Talk()
    talk.call.answer()
    talk.channel.keys = list("12#")
    with pytest.raises(CommandRefused, match="older module"):
        talk.call.on_dtmf(print)
    read = talk.call.read_digits(4)
    assert read == DigitsRead(DigitsStatus.TERMINATOR, "12")
    talk.channel.keys = ["", "7"]
    assert talk.call.hear(digits=Digits()).digits == "7"


def test_a_key_in_a_file_without_a_fork_that_tells_of_it() -> None:
    talk = Talk()
    talk.call.answer()
    talk.channel.escape = "5"
    talk.channel.keys = ["3"]
    heard = talk.call.hear("Номер?", digits=Digits(max=2))
    assert (heard.digits, heard.prompt) == ("53", Played(PlayEnd.INTERRUPTED, 700, "keys"))
    talk.channel.escape = ""
    talk.channel.on_play = talk.channel.finish
    assert talk.call.speak("Новости.").end is PlayEnd.COMPLETED
    assert talk.channel.escapes == ["0123456789*#ABCD", ""], "only where keys may end it"


# Arguments


@pytest.mark.parametrize("prompt", [[], [1], 5, [None], ["a"] * 101, {"a": 1}])
def test_what_is_no_prompt_is_named(talk: Talk, prompt: Prompts) -> None:
    with pytest.raises(BadRequest, match="prompt"):
        talk.call.speak(prompt)
    with pytest.raises(BadRequest, match="prompt"):
        talk.call.hear(prompt)
    with pytest.raises(BadRequest, match="prompt"):
        talk.call.read_digits(prompt=prompt)
    with pytest.raises(BadRequest, match="prompt"):
        talk.call.prepare(prompt)
    with pytest.raises(BadRequest, match="on_error"):
        talk.call.speak("a", on_error=prompt)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"repeat": 0}, "repeat"),
        ({"repeat": 101}, "repeat"),
        ({"repeat": 1.5}, "repeat"),
        ({"interruptible": "word"}, "interruptible"),
        ({"interruptible": True}, "interruptible"),
        ({"language": "russian language"}, "language"),
        ({"language": 5}, "language"),
    ],
)
def test_wrong_arguments_of_speak(talk: Talk, arguments: dict[str, object], name: str) -> None:
    with pytest.raises(BadRequest, match=name):
        talk.call.speak("a", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"timeout_s": "5"}, "timeout_s"),
        ({"barge_in": "keys"}, "barge_in"),
        ({"language": []}, "language"),
        ({"language": ["ru-RU", ""]}, "language"),
        ({"hints": "баланс"}, "hints"),
        ({"hints": [""]}, "hints"),
        ({"hints": ["б" * 101]}, "hints"),
        ({"hints": ["б"] * 101}, "hints"),
        ({"end_silence_s": 0.05}, "end_silence_s"),
        ({"end_silence_s": 6}, "end_silence_s"),
    ],
)
def test_wrong_arguments_of_hear(talk: Talk, arguments: dict[str, object], name: str) -> None:
    with pytest.raises(BadRequest, match=name):
        talk.call.hear("a", **arguments)  # type: ignore[arg-type]
    assert talk.heard_ms == 0
    assert len(talk.recognizer.options) == 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"max": 0}, "max"), ({"terminator": "ab"}, "terminator"), ({"timeout_s": 0}, "timeout_s")],
)
def test_wrong_arguments_of_read_digits(
    talk: Talk, arguments: dict[str, object], name: str
) -> None:
    with pytest.raises(BadRequest, match=name):
        talk.call.read_digits(**arguments)  # type: ignore[arg-type]
