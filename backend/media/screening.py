"""What becomes of a call that is being dialled, told as soon as it is certain. Pure machines.

``ScreeningMachine`` decides: what the network signals, tones, announcements and, after the
answer, who it is, go in; one ``Screening`` comes out. ``CallScreening`` is that machine with
ears: it makes its events of audio and recognised words.

The rule: nothing is paid for that need not be. What is certain before the answer says ``hang_up``.
All times are ms since dialling, the caller's own clock, rising.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from backend.media.announcements import Announced, AnnouncementReader
from backend.media.answering import Answered, AnsweredBy, AnsweringConfig, AnsweringDetector
from backend.media.beep import Beep
from backend.media.phrases import Phrases, Said
from backend.media.tone_table import ToneKind, Tones
from backend.media.tones import SitKind, ToneDetector, ToneEnded, ToneEvent
from backend.model import Reason
from backend.ports import FRAME_BYTES, FRAME_MS


class Stage(StrEnum):
    """How far the call is."""

    DIALING = "dialing"
    RINGING = "ringing"  # signalled, or the ringing tone is heard
    EARLY_MEDIA = "early_media"  # something else may be heard
    ANSWERED = "answered"


class ScreenResult(StrEnum):
    """What became of it: a closed list."""

    PERSON = "person"
    MACHINE = "machine"  # answered: voicemail, an assistant
    SILENCE = "silence"  # answered, and nobody says a word
    ANSWERED = "answered"  # by whom was not asked, or cannot be told
    FAX = "fax"
    BUSY = "busy"
    CONGESTION = "congestion"  # the network; try again soon
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"
    NO_SUCH_NUMBER = "no_such_number"
    NUMBER_CHANGED = "number_changed"
    UNAVAILABLE = "unavailable"  # switched off or out of coverage, or it is not said why
    SWITCHED_OFF = "switched_off"
    OUT_OF_COVERAGE = "out_of_coverage"
    BLOCKED = "blocked"
    INCOMING_BARRED = "incoming_barred"
    OUTGOING_BARRED = "outgoing_barred"  # our own line may not
    VOICEMAIL = "voicemail"  # it would be answered by it
    ASSISTANT = "assistant"
    FAILED = "failed"  # in another way; see the evidence


class ScreenReason(StrEnum):
    """What decided."""

    SIGNALLING = "signalling"
    TONE = "tone"
    ANNOUNCEMENT = "announcement"
    ANSWER = "answer"  # who it is, by voice
    TIME_OVER = "time_over"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that was noticed: ``what`` for people, in order of time."""

    at_ms: int
    what: str


@dataclass(frozen=True, slots=True)
class Screening:
    """The verdict. ``answered``: the call had been answered, and costs. ``hang_up``: nothing more
    is to be had of it."""

    result: ScreenResult
    reason: ScreenReason
    at_ms: int
    answered: bool
    hang_up: bool
    evidence: tuple[Evidence, ...] = ()


# Events


@dataclass(frozen=True, slots=True)
class Signalled:
    """The network says: 180, 183, 200."""

    at_ms: int
    stage: Stage


@dataclass(frozen=True, slots=True)
class Ended:
    """The call has failed, or was hung up by the other side. ``reason``: of the cause
    (dialing.outcomes); ``cause``: Q.850."""

    at_ms: int
    reason: Reason
    cause: int | None = None


@dataclass(frozen=True, slots=True)
class ToneHeard:
    """``sound_ms``: how long there had been other sound before (voice, music)."""

    at_ms: int
    tone: ToneEvent
    sound_ms: int = 0


@dataclass(frozen=True, slots=True)
class WhoAnswered:
    at_ms: int
    answered: Answered


@dataclass(frozen=True, slots=True)
class Tick:
    """Time goes by."""

    at_ms: int


ScreeningEvent = Signalled | Ended | ToneHeard | Announced | WhoAnswered | Tick


@dataclass(frozen=True, slots=True)
class ScreeningConfig:
    """``timeout_ms``: no answer by then. ``sit_wait_ms``: how long the announcement after a special
    information tone is awaited. ``announced_ms``: sound this long before a busy tone was an
    announcement, which the tone ends: the subscriber is not busy. ``who_answered``: after the
    answer tell a person from a machine, else the answer is the verdict. ``answer_ms``: a verdict
    is given at the latest so long after the answer."""

    timeout_ms: int = 45_000
    sit_wait_ms: int = 8_000
    announced_ms: int = 1_500
    who_answered: bool = True
    answer_ms: int = 10_000
    answering: AnsweringConfig = field(default_factory=AnsweringConfig)


_OF_REASON: Mapping[Reason, ScreenResult] = {
    Reason.BUSY: ScreenResult.BUSY,
    Reason.NO_ANSWER: ScreenResult.NO_ANSWER,
    Reason.REJECTED: ScreenResult.REJECTED,
    Reason.INVALID_NUMBER: ScreenResult.NO_SUCH_NUMBER,
    Reason.UNREACHABLE: ScreenResult.UNAVAILABLE,
    Reason.CONGESTION: ScreenResult.CONGESTION,
}
_OF_TONE: Mapping[ToneKind, ScreenResult] = {
    ToneKind.BUSY: ScreenResult.BUSY,
    ToneKind.CONGESTION: ScreenResult.CONGESTION,
    ToneKind.DIAL: ScreenResult.FAILED,  # the trunk took no number
    ToneKind.UNOBTAINABLE: ScreenResult.NO_SUCH_NUMBER,
    ToneKind.CNG: ScreenResult.FAX,
    ToneKind.CED: ScreenResult.FAX,
}
_OF_SIT: Mapping[SitKind, ScreenResult] = {
    SitKind.VACANT_CODE: ScreenResult.NO_SUCH_NUMBER,
    SitKind.INTERCEPT: ScreenResult.NO_SUCH_NUMBER,
    SitKind.REORDER: ScreenResult.CONGESTION,
    SitKind.NO_CIRCUIT: ScreenResult.CONGESTION,
}
_OF_ANSWER: Mapping[AnsweredBy, ScreenResult] = {
    AnsweredBy.PERSON: ScreenResult.PERSON,
    AnsweredBy.MACHINE: ScreenResult.MACHINE,
    AnsweredBy.SILENCE: ScreenResult.SILENCE,
    AnsweredBy.UNSURE: ScreenResult.ANSWERED,
}
_MACHINES = (Said.VOICEMAIL, Said.ASSISTANT)
_NO_SMALL_TALK = 3  # words: people say "the line is busy" too, so after the answer two are none
_MOST_EVIDENCE = 50
_ENDED_BY = (ToneKind.BUSY, ToneKind.CONGESTION)  # tones that end an announcement


class ScreeningMachine:
    """``on`` each event; the verdict comes once, and stays in ``screening``."""

    def __init__(self, config: ScreeningConfig | None = None) -> None:
        self._config = config or ScreeningConfig()
        self.stage = Stage.DIALING
        self.screening: Screening | None = None
        self._evidence: list[Evidence] = []
        self._answered_ms = 0
        self._sit_ms: int | None = None

    def on(self, event: ScreeningEvent) -> Screening | None:
        """The verdict, when it comes of this event. After it, events count no more."""
        if self.screening is not None:
            return None
        if isinstance(event, Signalled):
            self._signalled(event)
        elif isinstance(event, Ended):
            self._ended(event)
        elif isinstance(event, ToneHeard):
            self._tone(event)
        elif isinstance(event, Announced):
            self._announced(event)
        elif isinstance(event, WhoAnswered):
            self._who(event)
        if self.screening is None:
            self._look(event.at_ms)
        return self.screening

    def _signalled(self, event: Signalled) -> None:
        ranks = list(Stage)
        if ranks.index(event.stage) <= ranks.index(self.stage):
            return
        self._note(event.at_ms, f"signalled: {event.stage}")
        self.stage = event.stage
        if event.stage is Stage.ANSWERED:
            self._answered_ms = event.at_ms
            if not self._config.who_answered:
                self._decide(ScreenResult.ANSWERED, ScreenReason.SIGNALLING, event.at_ms)

    def _ended(self, event: Ended) -> None:
        cause = "" if event.cause is None else f", cause {event.cause}"
        self._note(event.at_ms, f"ended: {event.reason}{cause}")
        if self.stage is Stage.ANSWERED:
            result = ScreenResult.ANSWERED
        elif self._sit_ms is not None and event.reason not in _OF_REASON:
            result = ScreenResult.UNAVAILABLE
        else:
            result = _OF_REASON.get(event.reason, ScreenResult.FAILED)
        self._decide(result, ScreenReason.SIGNALLING, event.at_ms, hang_up=True)

    def _tone(self, event: ToneHeard) -> None:
        tone = event.tone
        if isinstance(tone, ToneEnded):
            return
        kind = f" ({tone.sit})" if tone.sit is not None else ""
        self._note(event.at_ms, f"tone: {tone.kind}{kind}")
        if tone.kind is ToneKind.RINGBACK:
            if self.stage is not Stage.ANSWERED:
                self.stage = Stage.RINGING
        elif tone.kind is ToneKind.SIT:
            self._sit_ms = event.at_ms
            if tone.sit is not None and (says := _OF_SIT.get(tone.sit)) is not None:
                self._decide(says, ScreenReason.TONE, event.at_ms, hang_up=True)
        elif self._was_announced(tone.kind, event.sound_ms):
            self._note(event.at_ms, f"after {event.sound_ms} ms of an announcement not understood")
            self._decide(
                ScreenResult.UNAVAILABLE, ScreenReason.ANNOUNCEMENT, event.at_ms, hang_up=True
            )
        else:
            self._decide(_OF_TONE[tone.kind], ScreenReason.TONE, event.at_ms, hang_up=True)

    def _was_announced(self, kind: ToneKind, sound_ms: int) -> bool:
        # While it rings, music is what some carriers play instead of the ringing tone.
        spoken = sound_ms >= self._config.announced_ms and self.stage is not Stage.RINGING
        announced = spoken or self._sit_ms is not None
        return kind in _ENDED_BY and announced and self.stage is not Stage.ANSWERED

    def _announced(self, event: Announced) -> None:
        self._note(event.at_ms, f"announcement: {event.said}: {event.words!r}")
        answered = self.stage is Stage.ANSWERED
        if answered and event.said in _MACHINES:
            self._decide(ScreenResult.MACHINE, ScreenReason.ANNOUNCEMENT, event.at_ms)
        elif not event.said.goes_on and (not answered or event.size >= _NO_SMALL_TALK):
            result = ScreenResult(event.said.value)
            self._decide(result, ScreenReason.ANNOUNCEMENT, event.at_ms, hang_up=True)

    def _who(self, event: WhoAnswered) -> None:
        answered = event.answered
        self._note(
            event.at_ms,
            f"answer: {answered.by}, {answered.reason}, greeting of {answered.greeting_ms} ms",
        )
        self._decide(_OF_ANSWER[answered.by], ScreenReason.ANSWER, event.at_ms)

    def _look(self, at_ms: int) -> None:
        """What the time alone decides."""
        config = self._config
        if self.stage is Stage.ANSWERED:
            if at_ms - self._answered_ms >= config.answer_ms:
                self._decide(ScreenResult.ANSWERED, ScreenReason.TIME_OVER, at_ms)
        elif self._sit_ms is not None and at_ms - self._sit_ms >= config.sit_wait_ms:
            self._decide(ScreenResult.UNAVAILABLE, ScreenReason.TONE, at_ms, hang_up=True)
        elif at_ms >= config.timeout_ms:
            self._decide(ScreenResult.NO_ANSWER, ScreenReason.TIME_OVER, at_ms, hang_up=True)

    def _note(self, at_ms: int, what: str) -> None:
        if len(self._evidence) < _MOST_EVIDENCE:
            self._evidence.append(Evidence(at_ms, what))

    def _decide(
        self, result: ScreenResult, reason: ScreenReason, at_ms: int, *, hang_up: bool = False
    ) -> None:
        answered = self.stage is Stage.ANSWERED
        self.screening = Screening(result, reason, at_ms, answered, hang_up, tuple(self._evidence))


class CallScreening:
    """The machine with ears. Each method may bring the verdict, which it returns once.

    ``tones``: ``ToneTable.of(country)``; ``languages``: BCP 47 tags of the announcements, none:
    all. Not thread-safe: whoever owns it calls from one thread, or under a lock.
    """

    def __init__(
        self,
        tones: Tones,
        phrases: Phrases,
        *,
        languages: Sequence[str] = (),
        config: ScreeningConfig | None = None,
    ) -> None:
        self._config = config or ScreeningConfig()
        self._machine = ScreeningMachine(self._config)
        self._tones = ToneDetector(tones)
        self._reader = AnnouncementReader(phrases, languages)
        self._answering: AnsweringDetector | None = None
        self._rest = b""

    @property
    def stage(self) -> Stage:
        return self._machine.stage

    @property
    def screening(self) -> Screening | None:
        """The verdict, once it is there."""
        return self._machine.screening

    @property
    def text(self) -> str:
        """What was recognised of late."""
        return self._reader.text

    @property
    def in_tone(self) -> bool:
        """A tone is heard now: nothing for a recogniser."""
        return self._tones.in_tone

    @property
    def beeps(self) -> tuple[Beep, ...]:
        """Those after the answer, also after the verdict: a message can be left. Their times
        count from the answer."""
        return tuple(self._answering.beeps) if self._answering is not None else ()

    def feed(self, pcm: bytes, at_ms: int) -> Screening | None:
        """Audio of the called side, 8 kHz slin16, any length, that ended at ``at_ms``."""
        data = self._rest + pcm if self._rest else pcm
        end = len(data) - len(data) % FRAME_BYTES
        found: Screening | None = None
        for place in range(0, end, FRAME_BYTES):
            left_ms = (len(data) - place - FRAME_BYTES) * FRAME_MS // FRAME_BYTES
            frame = data[place : place + FRAME_BYTES]
            found = self._frame(frame, max(0, at_ms - left_ms)) or found
        self._rest = data[end:]
        return found

    def _frame(self, frame: bytes, at_ms: int) -> Screening | None:
        found: Screening | None = None
        for tone in self._tones.feed(frame):
            found = self._machine.on(ToneHeard(at_ms, tone, self._tones.sound_ms)) or found
        if self._answering is not None:
            answered = self._answering.feed(frame, tone=self.in_tone)
            if answered is not None:
                found = self._machine.on(WhoAnswered(at_ms, answered)) or found
        return found or self.tick(at_ms)

    def signalled(self, stage: str, at_ms: int) -> Screening | None:
        """What the network says, a Stage. Answered: who it is is listened for from now on.
        Raises ValueError for another word."""
        found = self._machine.on(Signalled(at_ms, Stage(stage)))
        if stage == Stage.ANSWERED and self._answering is None and self._config.who_answered:
            self._answering = AnsweringDetector(self._config.answering)
        return found

    def ended(self, reason: Reason, at_ms: int, cause: int | None = None) -> Screening | None:
        """The call is over. What was being said counts before the cause does."""
        if (announced := self._reader.close(at_ms)) is not None and not announced.said.goes_on:
            found = self._machine.on(announced)
            if found is not None:
                return found
        return self._machine.on(Ended(at_ms, reason, cause))

    def recognised(self, text: str, at_ms: int, *, final: bool) -> Screening | None:
        """A recogniser's partial or final text of what the called side says."""
        announced = self._reader.heard(text, final=final, at_ms=at_ms)
        answered: Answered | None = None
        if self._answering is not None and announced is not None and announced.said in _MACHINES:
            answered = self._answering.machine_words()
        elif self._answering is not None and final and announced is None:
            answered = self._answering.words(text)
        found = self._machine.on(announced) if announced is not None else None
        if found is None and answered is not None:
            found = self._machine.on(WhoAnswered(at_ms, answered))
        return found

    def tick(self, at_ms: int) -> Screening | None:
        """Time goes by, audio or not."""
        announced = self._reader.tick(at_ms)
        found = self._machine.on(announced) if announced is not None else None
        return found or self._machine.on(Tick(at_ms))
