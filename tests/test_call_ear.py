"""Who is told what the ear hears, as it hears it."""

from __future__ import annotations

from dataclasses import dataclass, field

from backend.model import Utterance
from backend.ports import Hypothesis, RecognitionFailed, RecognitionOptions, UtteranceEnded
from tests.fakes.talk import QUIET, VOICE, Talk


@dataclass
class Witness:
    """An observer that keeps what it is told."""

    voices: list[bool] = field(default_factory=list)
    moments: int = 0
    words: list[Hypothesis] = field(default_factory=list)
    utterances: list[Utterance | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def on_voice(self, speaking: bool) -> None:
        self.voices.append(speaking)

    def on_time(self) -> None:
        self.moments += 1

    def on_words(self, hypothesis: Hypothesis) -> None:
        self.words.append(hypothesis)

    def on_utterance(self, utterance: Utterance | None) -> None:
        self.utterances.append(utterance)

    def on_failure(self, message: str) -> None:
        self.failures.append(message)


def answered(**options: bool) -> tuple[Talk, Witness]:
    talk, witness = Talk(**options), Witness()
    talk.call.answer()
    talk.ear.watch(witness)
    return talk, witness


def test_an_observer_is_told_of_voice_time_words_and_utterances() -> None:
    talk, witness = answered()
    talk.recognizer.texts = ["да"]
    talk.hear_frames(QUIET, VOICE, VOICE)
    talk.recognizer.partial("д")
    talk.hear_frames(QUIET, QUIET, VOICE, QUIET, QUIET)
    assert witness.voices == [True, False, True, False]
    assert witness.moments == 8
    talk.ear.on_tick()
    assert witness.moments == 9, "also without audio"
    assert [(w.text, w.final) for w in witness.words] == [("д", False), ("да", True)]
    assert [u and u.text for u in witness.utterances] == ["да", None], "the second had no words"
    talk.recognizer.on_event(RecognitionFailed("stt is away", retryable=False))
    assert witness.failures == ["stt is away"]


def test_who_does_not_watch_is_not_told() -> None:
    talk, witness = answered()
    other = Witness()
    talk.ear.watch(other)
    talk.ear.unwatch(witness)
    talk.hear_frames(VOICE)
    assert (witness.voices, other.voices) == ([], [True])


def test_words_are_all_of_the_utterance_so_far_in_the_calls_time() -> None:
    """A recogniser may deliver an utterance in several finals; its clock began with the answer."""
    talk, witness = Talk(), Witness()
    talk.hear_frames(*[QUIET] * 100)
    talk.call.answer()
    talk.ear.watch(witness)
    began_ms = talk.ear._began_ms
    assert began_ms >= 1000
    tell = talk.recognizer.on_event
    tell(Hypothesis("раз", True, 100, 400, 0.9, "ru-RU"))
    tell(Hypothesis("два", False, 500, 700))
    tell(Hypothesis(" ", False, 700, 700))
    tell(Hypothesis("два три", True, 500, 900, 0.8, "ru-RU"))
    tell(UtteranceEnded(900))
    tell(Hypothesis("четыре", False, 1000, 1200))
    assert [word.text for word in witness.words] == ["раз", "раз два", "раз два три", "четыре"]
    second = witness.words[1]
    assert (second.start_ms, second.end_ms) == (began_ms + 100, began_ms + 700)
    (utterance,) = witness.utterances
    assert utterance is not None
    assert (utterance.text, utterance.end_ms) == ("раз два три", began_ms + 900)


def test_an_utterance_is_told_before_it_can_be_taken() -> None:
    """So whoever watches can say that it is no answer."""
    talk, _ = answered()
    seen: list[object] = []

    class Early(Witness):
        def on_utterance(self, utterance: Utterance | None) -> None:
            seen.append(talk.ear.take(0))

    talk.ear.watch(Early())
    talk.recognizer.texts = ["да"]
    talk.hear_frames(VOICE, QUIET, QUIET)
    assert seen == [None]
    assert talk.ear.take(0) is not None


def test_the_caller_is_in_the_midst_of_an_utterance_until_it_is_known() -> None:
    talk, _ = answered(own_end=False)
    assert not talk.ear.mid_utterance
    talk.hear_frames(VOICE, VOICE)
    assert talk.ear.mid_utterance
    talk.recognizer.texts = ["да"]
    talk.recognizer.end_utterance()  # the service is faster than our silence
    assert talk.ear.speaking
    assert not talk.ear.mid_utterance
    talk.hear_frames(QUIET, QUIET, VOICE)
    assert talk.ear.mid_utterance, "the next one"


def test_options_change_within_one_stream_and_after_the_end_nothing_does() -> None:
    talk, _ = answered()
    kazakh = RecognitionOptions(("kk-KZ",))
    talk.ear.listen(kazakh)
    assert talk.ear.options == kazakh
    assert talk.recognizer.options[-1] == kazakh
    talk.ear.close(0)
    talk.ear.listen(RecognitionOptions(("en-US",)))
    assert talk.recognizer.options[-1] == kazakh
