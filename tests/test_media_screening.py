"""A call that is being dialled: what decides, and when."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.media.announcements import Announced
from backend.media.answering import Answered, AnsweredBy, AnsweringDetector, AnsweringReason
from backend.media.phrases import Said
from backend.media.phrases import load as load_phrases
from backend.media.screening import (
    CallScreening,
    Ended,
    Screening,
    ScreeningConfig,
    ScreeningEvent,
    ScreeningMachine,
    ScreenReason,
    ScreenResult,
    Signalled,
    Stage,
    Tick,
    ToneHeard,
    WhoAnswered,
)
from backend.media.tone_table import ToneKind, load
from backend.media.tones import SitKind, ToneEnded, ToneStarted
from backend.model import Reason
from tests.fixtures_speech import line_noise
from tests.tone_signals import music, parts_of, sound

Say = Callable[[str], bytes]
TABLE, PHRASES = load(), load_phrases()


def tone(at_ms: int, kind: ToneKind, sit: SitKind | None = None, sound_ms: int = 0) -> ToneHeard:
    return ToneHeard(at_ms, ToneStarted(kind, at_ms, at_ms, sit), sound_ms)


def announced(at_ms: int, said: Said, size: int = 3) -> Announced:
    return Announced(said, at_ms, "the words", "the words", size, "ru")


def who(at_ms: int, by: AnsweredBy) -> WhoAnswered:
    return WhoAnswered(at_ms, Answered(by, AnsweringReason.SHORT_GREETING, 900, 400))


def run(*events: ScreeningEvent, config: ScreeningConfig | None = None) -> Screening | None:
    """The verdict, which must come with the last event."""
    machine = ScreeningMachine(config)
    *before, last = events
    for event in before:
        assert machine.on(event) is None, event
    return machine.on(last)


RINGING = Signalled(500, Stage.RINGING)
EARLY = Signalled(400, Stage.EARLY_MEDIA)
ANSWER = Signalled(6000, Stage.ANSWERED)


@pytest.mark.parametrize(
    ("events", "result", "reason"),
    [
        ([Ended(900, Reason.BUSY, 17)], ScreenResult.BUSY, ScreenReason.SIGNALLING),
        ([Ended(900, Reason.REJECTED, 21)], ScreenResult.REJECTED, ScreenReason.SIGNALLING),
        ([Ended(900, Reason.INVALID_NUMBER)], ScreenResult.NO_SUCH_NUMBER, ScreenReason.SIGNALLING),
        ([Ended(900, Reason.UNREACHABLE)], ScreenResult.UNAVAILABLE, ScreenReason.SIGNALLING),
        ([Ended(900, Reason.CONGESTION)], ScreenResult.CONGESTION, ScreenReason.SIGNALLING),
        ([RINGING, Ended(900, Reason.NO_ANSWER)], ScreenResult.NO_ANSWER, ScreenReason.SIGNALLING),
        ([Ended(900, Reason.OTHER, 127)], ScreenResult.FAILED, ScreenReason.SIGNALLING),
        ([EARLY, tone(3000, ToneKind.BUSY)], ScreenResult.BUSY, ScreenReason.TONE),
        ([tone(3000, ToneKind.CONGESTION)], ScreenResult.CONGESTION, ScreenReason.TONE),
        ([tone(3000, ToneKind.DIAL)], ScreenResult.FAILED, ScreenReason.TONE),
        ([tone(3000, ToneKind.UNOBTAINABLE)], ScreenResult.NO_SUCH_NUMBER, ScreenReason.TONE),
        ([tone(3000, ToneKind.CED)], ScreenResult.FAX, ScreenReason.TONE),
        (
            [tone(2000, ToneKind.RINGBACK), tone(9000, ToneKind.BUSY)],
            ScreenResult.BUSY,
            ScreenReason.TONE,
        ),
        (
            [tone(900, ToneKind.SIT, SitKind.VACANT_CODE)],
            ScreenResult.NO_SUCH_NUMBER,
            ScreenReason.TONE,
        ),
        (
            [tone(900, ToneKind.SIT, SitKind.NO_CIRCUIT)],
            ScreenResult.CONGESTION,
            ScreenReason.TONE,
        ),
        (
            [tone(900, ToneKind.SIT), announced(3000, Said.NO_SUCH_NUMBER)],
            ScreenResult.NO_SUCH_NUMBER,
            ScreenReason.ANNOUNCEMENT,
        ),
        ([tone(900, ToneKind.SIT), Tick(8900)], ScreenResult.UNAVAILABLE, ScreenReason.TONE),
        (
            [tone(900, ToneKind.SIT), Ended(2000, Reason.OTHER)],
            ScreenResult.UNAVAILABLE,
            ScreenReason.SIGNALLING,
        ),
        (  # an announcement that nobody understood, then the tone that ends it
            [EARLY, tone(9000, ToneKind.BUSY, sound_ms=4000)],
            ScreenResult.UNAVAILABLE,
            ScreenReason.ANNOUNCEMENT,
        ),
        (  # a tune instead of the ringing tone, then he declines
            [RINGING, tone(9000, ToneKind.BUSY, sound_ms=8000)],
            ScreenResult.BUSY,
            ScreenReason.TONE,
        ),
        (
            [tone(900, ToneKind.SIT), tone(8000, ToneKind.BUSY)],
            ScreenResult.UNAVAILABLE,
            ScreenReason.ANNOUNCEMENT,
        ),
        ([announced(3000, Said.VOICEMAIL)], ScreenResult.VOICEMAIL, ScreenReason.ANNOUNCEMENT),
        (
            [announced(3000, Said.PLEASE_WAIT), announced(8000, Said.NO_ANSWER)],
            ScreenResult.NO_ANSWER,
            ScreenReason.ANNOUNCEMENT,
        ),
        ([RINGING, Tick(45_000)], ScreenResult.NO_ANSWER, ScreenReason.TIME_OVER),
    ],
    ids=str,
)
def test_before_the_answer(
    events: list[ScreeningEvent], result: ScreenResult, reason: ScreenReason
) -> None:
    screening = run(*events)
    assert screening is not None
    assert (screening.result, screening.reason) == (result, reason)
    assert (screening.answered, screening.hang_up) == (False, True)
    assert screening.at_ms == events[-1].at_ms


@pytest.mark.parametrize("said", [said for said in Said if not said.goes_on])
def test_every_final_announcement_has_a_result(said: Said) -> None:
    screening = run(EARLY, announced(3000, said))
    assert screening is not None
    assert screening.result.value == said.value
    assert screening.hang_up


@pytest.mark.parametrize(
    ("event", "result", "hang_up"),
    [
        (who(7000, AnsweredBy.PERSON), ScreenResult.PERSON, False),
        (who(7000, AnsweredBy.MACHINE), ScreenResult.MACHINE, False),
        (who(7000, AnsweredBy.SILENCE), ScreenResult.SILENCE, False),
        (who(7000, AnsweredBy.UNSURE), ScreenResult.ANSWERED, False),
        (announced(7000, Said.VOICEMAIL), ScreenResult.MACHINE, False),
        (announced(7000, Said.ASSISTANT, 2), ScreenResult.MACHINE, False),
        (announced(7000, Said.SWITCHED_OFF), ScreenResult.SWITCHED_OFF, True),
        (tone(7000, ToneKind.CED), ScreenResult.FAX, True),
        (tone(7000, ToneKind.BUSY, sound_ms=5000), ScreenResult.BUSY, True),
        (Ended(7000, Reason.OTHER, 16), ScreenResult.ANSWERED, True),
        (Tick(16_000), ScreenResult.ANSWERED, False),
    ],
    ids=str,
)
def test_after_the_answer(event: ScreeningEvent, result: ScreenResult, hang_up: bool) -> None:
    screening = run(RINGING, ANSWER, event)
    assert screening is not None
    assert (screening.result, screening.answered) == (result, True)
    assert screening.hang_up is hang_up


def test_small_talk_after_the_answer_is_no_announcement() -> None:
    machine = ScreeningMachine()
    for event in (ANSWER, announced(7000, Said.BUSY, 2), announced(7100, Said.PLEASE_WAIT)):
        assert machine.on(event) is None
    assert machine.on(who(7500, AnsweredBy.PERSON)) is not None


def test_who_answered_is_not_asked() -> None:
    screening = run(RINGING, ANSWER, config=ScreeningConfig(who_answered=False))
    assert screening is not None
    assert (screening.result, screening.hang_up) == (ScreenResult.ANSWERED, False)


def test_stages_only_rise_and_evidence_is_kept_in_order() -> None:
    machine = ScreeningMachine()
    stages = []
    for event in (EARLY, RINGING, tone(2000, ToneKind.RINGBACK)):
        machine.on(event)
        stages.append(machine.stage)
    assert stages == [Stage.EARLY_MEDIA, Stage.EARLY_MEDIA, Stage.RINGING]
    machine.on(ToneHeard(2500, ToneEnded(ToneKind.RINGBACK, 2500)))
    machine.on(announced(3000, Said.FORWARDING))
    screening = machine.on(announced(5000, Said.VOICEMAIL))
    assert screening is not None
    assert [(one.at_ms, one.what.split(":")[0]) for one in screening.evidence] == [
        (400, "signalled"),
        (2000, "tone"),
        (3000, "announcement"),
        (5000, "announcement"),
    ]
    assert machine.on(Ended(6000, Reason.BUSY)) is None
    assert machine.screening is screening


def test_the_documents_list_every_result() -> None:
    page = (Path(__file__).parents[1] / "docs" / "scenarios.md").read_text(encoding="utf-8")
    section = page.partition("### What `dial_screened` finds")[2].partition("\n## ")[0]
    told = {word for row in re.findall(r"^\| (`.*?) \|", section, re.M) for word in row.split("`")}
    assert told >= set(ScreenResult)
    assert set(re.findall(r"`(\w+)`", section.partition("|")[0])) >= set(ScreenReason)


# With ears


def screen(country: str = "ru", config: ScreeningConfig | None = None) -> CallScreening:
    return CallScreening(TABLE.of(country), PHRASES, config=config)


def tone_of(kind: ToneKind, ms: float = 8000, dbm0: float = -15) -> bytes:
    tone = next(t for t in TABLE.of("ru") if t.kind is kind)
    return sound(parts_of(tone, ms), dbm0=dbm0, noise_dbm0=-60)


def play(call: CallScreening, pcm: bytes, begins_ms: int = 0) -> Screening | None:
    """Frame by frame; the verdict, where it comes."""
    for place in range(0, len(pcm), 320):
        found = call.feed(pcm[place : place + 320], begins_ms + place // 16 + 20)
        if found is not None:
            return found
    return None


def test_busy_is_heard_and_hung_up() -> None:
    call = screen()
    assert call.signalled(Stage.EARLY_MEDIA, 700) is None
    screening = play(call, tone_of(ToneKind.BUSY), 800)
    assert screening is not None
    assert (screening.result, screening.answered) == (ScreenResult.BUSY, False)
    assert screening.at_ms <= 800 + 2000
    assert call.screening is screening


def test_ringing_then_a_person(say: Say) -> None:
    call = screen()
    assert play(call, tone_of(ToneKind.RINGBACK, 6000)[: 5900 * 16]) is None
    assert call.stage is Stage.RINGING
    assert call.in_tone  # the second burst
    assert call.signalled(Stage.ANSWERED, 6100) is None
    screening = play(call, line_noise(300) + say("hello") + line_noise(3000), 6100)
    assert screening is not None
    assert (screening.result, screening.hang_up) == (ScreenResult.PERSON, False)


def test_a_machine_and_its_beep(say: Say) -> None:
    call = screen()
    call.signalled(Stage.ANSWERED, 0)
    speech = say("You have reached the office of Smith and Sons, please leave a message now.")
    screening = play(call, speech)
    assert screening is not None
    assert screening.result is ScreenResult.MACHINE
    assert call.beeps == ()
    rest = line_noise(400) + sound([((1400.0,), 300)]) + line_noise(300)
    assert play(call, rest, screening.at_ms) is None
    assert len(call.beeps) == 1


def test_words_before_the_answer() -> None:
    call = screen()
    assert call.recognised("аппарат абонента выключен", 2000, final=False) is None
    screening = call.recognised(
        "аппарат абонента выключен или находится вне зоны действия", 3000, final=False
    )
    assert screening is not None
    assert (screening.result, screening.hang_up) == (ScreenResult.UNAVAILABLE, True)
    assert "вне зоны" in screening.evidence[-1].what
    assert "вне зоны" in call.text


def test_words_count_before_the_cause_does() -> None:
    call = screen()
    assert call.recognised("телефон абонента выключен", 2000, final=False) is None
    screening = call.ended(Reason.NO_ANSWER, 2400, 19)
    assert screening is not None
    assert (screening.result, screening.reason) == (
        ScreenResult.SWITCHED_OFF,
        ScreenReason.ANNOUNCEMENT,
    )
    call = screen()
    call.recognised("оставайтесь на линии", 2000, final=False)
    screening = call.ended(Reason.BUSY, 2400, 17)
    assert screening is not None
    assert screening.result is ScreenResult.BUSY


def test_what_is_pending_is_settled_by_time() -> None:
    call = screen()
    assert call.recognised("абонент занят", 2000, final=True) is None
    assert call.tick(3000) is None
    screening = call.tick(3500)
    assert screening is not None
    assert screening.result is ScreenResult.BUSY


def test_words_after_the_answer(say: Say) -> None:
    call = screen()
    call.signalled(Stage.ANSWERED, 5000)
    assert play(call, say("hello") + line_noise(400), 5000) is None
    screening = call.recognised("Алло!", 6000, final=True)
    assert screening is not None
    assert screening.result is ScreenResult.PERSON
    call = screen()
    call.signalled(Stage.ANSWERED, 5000)
    screening = call.recognised("вас приветствует автоответчик говорите", 6000, final=True)
    assert screening is not None
    assert (screening.result, screening.hang_up) == (ScreenResult.MACHINE, False)


def test_a_tune_instead_of_the_ringing_tone_decides_nothing() -> None:
    call = screen()
    assert play(call, music(15_000, 3)) is None
    screening = play(call, tone_of(ToneKind.BUSY), 15_000)
    assert screening is not None
    assert screening.result is ScreenResult.UNAVAILABLE
    assert call.screening is screening


def test_tones_after_the_answer_are_nobodys_voice(say: Say) -> None:
    """A switchboard answers and rings on; then somebody speaks, or nobody does."""
    call = screen()
    call.signalled(Stage.ANSWERED, 0)
    ringing = tone_of(ToneKind.RINGBACK, 5000, dbm0=-12)[: 2500 * 16]
    assert AnsweringDetector().feed(ringing) is not None  # as a voice it would be a person's
    screening = play(call, ringing + say("hello") + line_noise(2000))
    assert screening is not None
    assert (screening.result, screening.at_ms > 2500) == (ScreenResult.PERSON, True)
    call = screen()
    call.signalled(Stage.ANSWERED, 0)
    screening = play(call, ringing + line_noise(3000))
    assert screening is not None
    assert screening.result is ScreenResult.SILENCE


def test_no_answer_in_time_without_any_audio() -> None:
    call = screen(config=ScreeningConfig(timeout_ms=20_000))
    assert call.tick(19_999) is None
    screening = call.tick(20_000)
    assert screening is not None
    assert (screening.result, screening.at_ms) == (ScreenResult.NO_ANSWER, 20_000)


@given(st.lists(st.integers(1, 9000), max_size=40), st.sampled_from(list(ToneKind)), st.booleans())
@settings(max_examples=40, deadline=None)
def test_pieces_of_any_length_give_the_same(
    sizes: list[int], kind: ToneKind, answered: bool
) -> None:
    country = "gb" if kind is ToneKind.UNOBTAINABLE else "ru"
    tone = next(t for t in TABLE.of(country) if t.kind is kind)
    pcm = sound([((), 200), *parts_of(tone, 5000)], noise_dbm0=-60)
    whole, pieces = screen(country), screen(country)
    if answered:
        whole.signalled(Stage.ANSWERED, 0)
        pieces.signalled(Stage.ANSWERED, 0)
    whole.feed(pcm, len(pcm) // 16)
    place = 0
    for size in [*sizes, len(pcm)]:
        part = pcm[place : place + size * 16]
        place += len(part)
        pieces.feed(part, place // 16)
    assert pieces.screening == whole.screening


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_whatever_happens_there_is_one_verdict(seed: int) -> None:
    source = random.Random(seed)
    machine, at_ms, found = ScreeningMachine(), 0, []
    for _ in range(60):
        at_ms += source.randrange(1500)
        events: list[ScreeningEvent] = [
            Signalled(at_ms, source.choice(list(Stage))),
            tone(at_ms, source.choice(list(ToneKind)), source.choice([None, *SitKind])),
            ToneHeard(at_ms, ToneEnded(source.choice(list(ToneKind)), at_ms)),
            announced(at_ms, source.choice(list(Said)), source.randrange(1, 6)),
        ]
        event = source.choice([*events, Tick(at_ms), Tick(at_ms), Tick(at_ms)])
        was = machine.stage
        verdict = machine.on(event)
        if verdict is not None:
            found.append(verdict)
            assert verdict.hang_up or verdict.answered
            assert verdict.answered or was is not Stage.ANSWERED
    machine.on(Ended(at_ms, Reason.OTHER))
    assert machine.screening is not None
    assert len(found) <= 1
