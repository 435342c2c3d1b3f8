"""A talk over one channel: what is said and heard, which keys are pressed, and in which order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import ClassVar

from backend.call import check
from backend.call.attention import Attention
from backend.call.backchannel import BackchannelBook, Said
from backend.call.barge import Barge, BargeRules
from backend.call.callbacks import Callbacks
from backend.call.ear import CallEar
from backend.call.gate import KeyGate
from backend.call.guard_rules import Guarding, KeyGuard, check_guard
from backend.call.keys import Digits, DigitsRead, DigitsStatus, Key, Keys
from backend.call.listening import Listening, ResultCallback
from backend.call.playback import Played, PlayEnd
from backend.call.prompt import Interruptible, Prompt, Prompts, Sound, Text, parts_of, transcript_of
from backend.call.speaker import Speaker
from backend.call.turn import BargeIn, Heard, HearStatus, Turn, TurnRules
from backend.call.turn_wait import HANGUP_POLL_S, Agi, TurnWait
from backend.errors import (
    BadRequest,
    CommandRefused,
    Hangup,
    RecognitionUnavailable,
    ScenarioError,
    SpeechError,
    SynthesisUnavailable,
)
from backend.keying.events import InputEnding
from backend.model import Utterance
from backend.ports import Prompts as PromptSounds
from backend.ports import PromptSound, RecognitionOptions

log = logging.getLogger(__name__)

_INPUT_ENDS: dict[HearStatus, InputEnding] = {
    HearStatus.RECOGNIZED: "speech",
    HearStatus.DIGITS: "digits",
    HearStatus.TIMEOUT: "timeout",
    HearStatus.CANCELLED: "cancelled",
}
CALLBACKS_S = 2.0  # for those that run when the call ends


@dataclass(frozen=True, slots=True)
class TalkConfig:
    """What of the settings a talk needs. ``language``: BCP 47 tag. ``decide_ms``: how long a
    prompt may stand still while it is not clear whether the caller says something."""

    language: str
    command_s: float
    recognition_s: float
    max_call_s: float
    decide_ms: int = 1000
    backchannel: BackchannelBook = field(default_factory=lambda: BackchannelBook({}))


class Dialogue:
    """Speaks, hears and reads keys on one channel: Call's docstrings say what each method does.

    All in one thread, that of the scenario, except where a method says otherwise. ``close`` at the
    talk's end.
    """

    listening_type: ClassVar[type[Listening]] = Listening

    def __init__(
        self,
        channel: str,
        config: TalkConfig,
        agi: Agi,
        speaker: Speaker,
        ear: CallEar,
        keys: Keys,
        gate: KeyGate,
        *,
        prompts: PromptSounds,
        on_spoken: Callable[[Utterance], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._channel = channel
        self._clock = clock
        self._config = config
        self._agi = agi
        self._speaker = speaker
        self._ear = ear
        self._keys = keys
        self._gate = gate
        self._wait = TurnWait(agi, speaker, ear, keys, gate.press, config.command_s, clock)
        self._prompts = prompts
        self._on_spoken = on_spoken
        self._ends_at = self._clock() + config.max_call_s
        self._options = RecognitionOptions((config.language,))  # of the call
        self._callbacks = Callbacks(f"callbacks-{channel}")
        self._listening: tuple[Listening, RecognitionOptions] | None = None
        self._turn: _TurnUnderWay | None = None

    def begin(self) -> None:
        """Begin to listen."""
        self._ear.listen(self._options)

    def close(self) -> None:
        """The talk is over: listening ends, callbacks that are due run, for a moment."""
        if (listening := self._listening) is not None:
            listening[0].stop("the call is over")
        self._keys.on_every(None)
        self._callbacks.close(CALLBACKS_S)
        self._gate.hang_up()

    def check_thread(self) -> None:
        """Raises ScenarioError in a callback."""
        if self._callbacks.inside:
            raise ScenarioError(
                "a callback cannot use the call, whose thread is the scenario's: only cancel_hear, "
                "log, the properties, and stop of a listening"
            )

    def wait(self, duration_s: float) -> None:
        """Do nothing for a while; raises Hangup as soon as the other side hangs up."""
        self.check_thread()
        ends = self._clock() + duration_s
        while (left := ends - self._clock()) > 0:
            seen = self._ear.changes
            self._agi.poll_hangup()
            self._ear.wait(seen, min(left, HANGUP_POLL_S))
        self._agi.poll_hangup()

    # Speaking

    def speak(
        self,
        prompt: Prompts,
        *,
        repeat: int = 1,
        interruptible: Interruptible = "off",
        language: str | None = None,
        on_error: Prompts | None = None,
        guard: Guarding = "call",
    ) -> Played:
        check_guard("guard", guard)
        guarded = self._gate.rules_of(guard)
        parts = parts_of(prompt) * check.repeat(repeat)
        instead = None if on_error is None else parts_of(on_error, name="on_error")
        check.one_of("interruptible", interruptible, ("off", "voice", "keys", "any"))
        language = check.language(language, self._config.language)
        rules = BargeRules(
            voice="voice" if interruptible in ("voice", "any") else "off",
            keys=interruptible in ("keys", "any"),
        )
        try:
            return self._say(parts, language, rules, guarded)
        except SynthesisUnavailable as error:
            if instead is None:
                raise
            log.warning("%s: %s: the prompt for that is played", self._channel, error)
            return replace(self._say(instead, language, rules, guarded), error=str(error))

    def prepare(self, prompt: Prompts, *, language: str | None = None) -> None:
        language = check.language(language, self._config.language)
        for part in parts_of(prompt):
            try:
                self._sound(part, language).audio()
            except (SpeechError, BadRequest) as error:
                log.debug("%s: not prepared: %s", self._channel, error)

    def _say(
        self,
        parts: Sequence[Prompt],
        language: str,
        rules: BargeRules,
        guard: KeyGuard | None,
    ) -> Played:
        barge = Barge(rules, _nothing_said)
        with self._attention(barge, self._ear.position_ms) as attention:
            return self._play(parts, language, attention, keys=rules.keys, guard=guard)

    def _play(
        self,
        parts: Sequence[Prompt],
        language: str,
        attention: Attention,
        *,
        keys: bool,
        guard: KeyGuard | None,
    ) -> Played:
        """Play it to its end, or until it is stopped; the transcript has it. ``keys``: they
        stop it."""
        self.check_thread()
        if attention.stopped_by is not None:
            return Played(PlayEnd.INTERRUPTED, 0, attention.stopped_by)
        sounds = self._sounds(parts, language)
        text, start_ms = transcript_of(parts), self._ear.position_ms
        blind = keys and guard is None and not self._speaker.tells_keys
        try:
            with self._gate.prompt(guard) as prompt:
                played = self._speaker.play(
                    *sounds,
                    timeout_s=max(self._ends_at - self._clock(), 0.0) + self._config.command_s,
                    on_key=self._gate.press if blind else None,
                    idle=self._agi.poll_hangup,
                )
                prompt.played(played)
        except (Hangup, SynthesisUnavailable):  # what was heard of it is in the transcript, too
            if self._ear.position_ms > start_ms:
                self._on_spoken(Utterance("robot", text, start_ms, self._ear.position_ms))
            raise
        end_ms = self._ear.position_ms if attention.was_paused else start_ms + played.end_ms
        self._on_spoken(Utterance("robot", text, start_ms, end_ms))
        if played.end is PlayEnd.INTERRUPTED:
            return replace(played, by=attention.stopped_by)
        return played

    def _sounds(self, parts: Sequence[Prompt], language: str) -> list[PromptSound]:
        """One for each part; equal parts share one. Files are looked at now: a bad one is an error
        before anything is played."""
        sounds = {part: self._sound(part, language) for part in dict.fromkeys(parts)}
        for part, sound in sounds.items():
            if isinstance(part, Sound):
                sound.audio()
        return [sounds[part] for part in parts]

    def _sound(self, part: Prompt, language: str) -> PromptSound:
        if isinstance(part, Sound):
            return self._prompts.sound(part.name)
        if isinstance(part, Text):
            return self._prompts.text(part.text, check.language(part.language, language))
        return self._prompts.text(part, language)

    def _attention(self, barge: Barge, since_ms: int) -> Attention:
        return Attention(barge, self._speaker, self._ear, self._keys, since_ms, self._clock)

    # Hearing

    def hear(
        self,
        prompt: Prompts | None = None,
        *,
        timeout_s: float = 10.0,
        barge_in: BargeIn = "voice",
        language: str | Sequence[str] | None = None,
        hints: Sequence[str] = (),
        end_silence_s: float | None = None,
        digits: Digits | None = None,
        guard: Guarding = "call",
    ) -> Heard:
        self.check_thread()
        check_guard("guard", guard)
        guarded = self._gate.rules_of(guard)
        parts = None if prompt is None else parts_of(prompt)
        check.seconds("timeout_s", timeout_s)
        check.one_of("barge_in", barge_in, ("voice", "words", "off"))
        options = self._turn_options(language, hints, end_silence_s)
        rules = TurnRules(
            timeout_s,
            digits=digits,
            recognition_s=self._config.recognition_s,
            owes=self._ear.own_end,
        )
        backchannel = self._config.backchannel.of(options.languages)
        barge = Barge(
            BargeRules(barge_in, digits is not None, self._config.decide_ms),
            lambda text, final: backchannel.judge(text, final=final),
        )
        self._ear.end_silence(None if end_silence_s is None else round(end_silence_s * 1000))
        self._ear.listen(options)
        if digits is None and self._ear.failure is not None:
            raise RecognitionUnavailable(self._ear.failure)
        try:
            return self._take_turn(rules, barge, parts, self._spoken(options), guarded)[1]
        finally:
            self._ear.end_silence(None)
            if (listening := self._listening) is not None:
                self._ear.listen(listening[1])

    def read_digits(
        self,
        digits: Digits,
        *,
        timeout_s: float = 10.0,
        prompt: Prompts | None = None,
        guard: Guarding = "call",
    ) -> DigitsRead:
        self.check_thread()
        check_guard("guard", guard)
        guarded = self._gate.rules_of(guard)
        parts = None if prompt is None else parts_of(prompt)
        check.seconds("timeout_s", timeout_s)
        rules = TurnRules(timeout_s, speech=False, digits=digits)
        barge = Barge(BargeRules("off", keys=True), _nothing_said)
        turn, heard = self._take_turn(rules, barge, parts, self._config.language, guarded)
        status = DigitsStatus.TIMEOUT
        if heard.status is HearStatus.CANCELLED:
            status = DigitsStatus.CANCELLED
        return DigitsRead(turn.digits_status or status, heard.digits, heard.prompt, heard.reason)

    def cancel_hear(self, reason: str = "cancelled") -> bool:
        """Any thread."""
        under_way = self._turn
        return under_way is not None and under_way.cancel(reason)

    def _take_turn(
        self,
        rules: TurnRules,
        barge: Barge,
        parts: Sequence[Prompt] | None,
        language: str,
        guard: KeyGuard | None,
    ) -> tuple[Turn, Heard]:
        """The prompt, then the wait for the turn's end."""
        since_ms = self._ear.position_ms
        turn = Turn(rules, self._clock())
        with self._under_way(barge, since_ms) as under_way, self._gate.turn(guard) as waiting:
            played: Played | None = None
            with under_way.attention as attention:
                self._wait.take_keys(turn)  # typed ahead
                if parts is not None and not turn.begun:
                    played = self._play(
                        parts, language, attention, keys=turn.wants_keys, guard=guard
                    )
            waiting.waits()
            turn.prompt_over(played, self._clock())
            heard = self._wait.until_over(
                turn, lambda: under_way.reason, since_ms, attention.ignored
            )
            waiting.how = _INPUT_ENDS[heard.status]
            if turn.digits_status is DigitsStatus.COMPLETE:
                waiting.complete = rules.digits
        return turn, heard

    @contextmanager
    def _under_way(self, barge: Barge, since_ms: int) -> Iterator[_TurnUnderWay]:
        """The turn that ``cancel_hear`` ends; keys end the wait."""
        under_way = _TurnUnderWay(self._attention(barge, since_ms), self._ear)

        def on_key(_: Key) -> None:
            self._ear.poke()

        self._keys.watch(on_key)
        self._turn = under_way
        try:
            yield under_way
        finally:
            self._turn = None
            self._keys.unwatch(on_key)

    # Listening

    def listen(
        self,
        *,
        partials: bool = True,
        language: str | Sequence[str] | None = None,
        hints: Sequence[str] = (),
        on_result: ResultCallback | None = None,
        on_final: ResultCallback | None = None,
    ) -> Listening:
        self.check_thread()
        if self._listening is not None:
            raise BadRequest("listen", "another listening has not been stopped")
        options = self._turn_options(language, hints, None)
        listening = self.listening_type(
            self._callbacks,
            self._agi.poll_hangup,
            self._listening_stopped,
            partials=partials,
            on_result=on_result,
            on_final=on_final,
        )
        self._listening = (listening, options)
        self._ear.watch(listening)
        self._ear.listen(options)
        if self._ear.failure is not None:
            listening.on_failure(self._ear.failure)
        return listening

    def _listening_stopped(self, listening: Listening) -> None:
        """Any thread."""
        self._ear.unwatch(listening)
        self._listening = None

    def _turn_options(
        self,
        language: str | Sequence[str] | None,
        hints: Sequence[str],
        end_silence_s: float | None,
    ) -> RecognitionOptions:
        """Raises BadRequest. Where nothing is asked for they are the listening's, or the call's."""
        listening = self._listening  # any thread may stop it
        base = self._options if listening is None else listening[1]
        options = replace(
            base,
            languages=check.languages(language) or base.languages,
            hints=check.hints(hints) or base.hints,
        )
        if end_silence_s is not None:
            check.end_silence(end_silence_s)
            if not self._ear.own_end:
                options = replace(options, max_pause_ms=round(end_silence_s * 1000))
        return options

    def _spoken(self, options: RecognitionOptions) -> str:
        """The language that we speak in a turn that hears these."""
        return next((tag for tag in options.languages if tag != "auto"), self._config.language)

    # Keys

    def guard_keys(self, rules: KeyGuard | None) -> None:
        self.check_thread()
        self._gate.guard_keys(rules)

    def open_keys(self) -> None:
        """Something else wants them: a bridge, an application."""
        self._gate.open()

    def on_dtmf(self, callback: Callable[[str], object] | None) -> None:
        if callback is None:
            self._keys.on_every(None)
            return
        if not self._speaker.tells_keys:
            raise CommandRefused("keys are not told: the fork is of an older module, or has no j")
        self._keys.on_every(lambda key: self._callbacks.call(callback, key.key))


__all__ = ["Agi", "Dialogue", "TalkConfig"]


class _TurnUnderWay:
    """The turn that can be cancelled."""

    def __init__(self, attention: Attention, ear: CallEar) -> None:
        self.attention = attention
        self.reason: str | None = None
        self._ear = ear

    def cancel(self, reason: str) -> bool:
        """Any thread. The first reason counts."""
        if self.reason is None:
            self.reason = reason
            self.attention.cancel()
            self._ear.poke()
        return True


def _nothing_said(_text: str, _final: bool) -> Said:
    return Said.NOTHING
