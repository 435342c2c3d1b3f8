"""One simulated channel: what a call stands on in the place of Asterisk, the audio and the speech
services. Everything above it is the real thing: ``Call``, its turns, barge-in, keys.

Time is the world's: whoever waits here moves it. There are no threads.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from backend.call.callbacks import Callbacks
from backend.call.dialogue import Dialogue
from backend.call.ear import CallEar, Observer
from backend.call.keys import Digits, DigitsRead
from backend.call.listening import Listening, ResultCallback
from backend.call.playback import Played, PlayEnd
from backend.call.prompt import Prompt, Prompts, Sound
from backend.call.speaker import Speaker
from backend.call.turn import BargeIn, Heard
from backend.errors import (
    AsteriskError,
    BadRequest,
    CommandRefused,
    Hangup,
    SynthesisUnavailable,
)
from backend.model import Utterance
from backend.ports import Hypothesis, PromptAudio, PromptSound, RecognitionOptions
from backend.protocol.agi import Reply, command_line
from backend.trying.person import END_SILENCE_S, Person, TalkLine
from backend.trying.world import World

log = logging.getLogger(__name__)

COMMAND_S = 0.001  # a command's time; so that no loop of commands stands still
SOUND_S = 2.0  # a sound whose length nobody has told
CHARACTER_S = 0.06  # of a text
MAX_PAUSE_S = 15.0  # as speaker.MAX_PAUSE_S
NO_APPLICATION = "-2"
FOREVER_S = 1e9

Item = TypeVar("Item")


@dataclass
class Troubles:
    """What goes wrong, and when it does not any more (None). May be changed in a ``do`` step.

    ``recognition``, ``synthesis``: why they are unavailable. ``asterisk``: what every command
    raises, e.g. ``CommandTimeout("…")``. ``missing``: applications and sounds that Asterisk does
    not have.
    """

    recognition: str | None = None
    synthesis: str | None = None
    asterisk: AsteriskError | None = None
    missing: Collection[str] = ()


@dataclass
class Channel:
    """An AGI session to a channel that is not there. ``applications``: each one run, with its
    arguments in one text."""

    world: World
    name: str
    troubles: Troubles
    variables: dict[str, str] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)  # of applications; else "0"
    on_robot_hangup: Callable[[int], None] = lambda cause: None
    answered: bool = False
    over: bool = False
    busy: str | None = None  # why no command is taken now
    applications: list[tuple[str, str]] = field(default_factory=list)

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        """As agi_server.ThreadedAgi's."""
        command_line(command, *args)  # what cannot be sent is refused
        self.world.step(self.world.now_s + COMMAND_S)
        self.check()
        texts = [str(argument) for argument in args]
        if command == "ANSWER":
            self.answered = True
        elif command == "HANGUP":
            self.on_robot_hangup(16)
            return Reply(200, "result=1", "1")
        elif command == "GET VARIABLE":
            return _value(self.variables.get(texts[0]))
        elif command == "SET VARIABLE":
            self.variables[texts[0]] = texts[1]
            return Reply(200, "result=1", "1")
        elif command == "EXEC":
            return self._execute(texts[0], texts[1] if len(texts) > 1 else "")
        return Reply(200, "result=0", "0")

    def check(self) -> None:
        """Raises what a command would."""
        self.poll_hangup()
        if self.busy is not None:
            raise BadRequest("call", f"is busy: {self.busy}")
        if self.troubles.asterisk is not None:
            raise self.troubles.asterisk

    def poll_hangup(self) -> None:
        if self.over:
            raise Hangup(f"the {self.name.removeprefix('Simulated/')} has hung up")

    def _execute(self, application: str, data: str) -> Reply:
        if application in self.troubles.missing:
            return Reply(200, "result=-2", NO_APPLICATION)
        self.applications.append((application, data))
        if application == "MixMonitor":
            self.variables["DIALOG_MIXMONITOR"] = f"monitor-{len(self.applications)}"
        elif application == "Hangup":
            self.on_robot_hangup(int(data) if data.isdecimal() else 16)
        return Reply(200, "result=0", self.results.get(application, "0"))


def _value(value: str | None) -> Reply:
    if value is None:
        return Reply(200, "result=0", "0")
    return Reply(200, f"result=1 ({value})", "1", value)


# Prompts


@dataclass(frozen=True)
class SimulatedSound:
    """A prompt as it is named, and its length."""

    text: str
    lasts_s: float
    troubles: Troubles
    is_file: bool = False

    def audio(self) -> PromptAudio | None:
        """Raises SynthesisUnavailable."""
        if self.troubles.synthesis is not None and not self.is_file:
            raise SynthesisUnavailable(self.troubles.synthesis)
        return None

    def file(self, timeout_s: float | None = None) -> str:
        self.audio()
        return self.text


class SimulatedPrompts:
    """Texts last as long as they are; sounds as they are said to (SOUND_S)."""

    def __init__(self, troubles: Troubles, sounds: Mapping[str, float]) -> None:
        self._troubles = troubles
        self._sounds = dict(sounds)

    def text(self, text: str, language: str) -> PromptSound:
        return SimulatedSound(text, max(len(text) * CHARACTER_S, 0.3), self._troubles)

    def of(self, part: Prompt) -> PromptSound:
        """A part of a prompt, whichever it is."""
        if isinstance(part, Sound):
            return self.sound(part.name)
        return self.text(part, "") if isinstance(part, str) else self.text(part.text, "")

    def sound(self, name: str) -> PromptSound:
        return SimulatedSound(name, self._sounds.get(name, SOUND_S), self._troubles, is_file=True)


class SimulatedSpeaker(Speaker):
    """Prompts take their time, and are told to who hears them."""

    def __init__(
        self,
        world: World,
        channel: Channel,
        tell: Callable[[TalkLine], None],
        listener: Person,
    ) -> None:
        self._world = world
        self._line = channel
        self._tell = tell
        self._listener = listener
        self._stop_wanted = self._pause_wanted = False
        self._speaks = False

    @property
    def tells_keys(self) -> bool:
        return True

    def play(
        self,
        *sounds: PromptSound,
        timeout_s: float,
        on_key: Callable[[str], object] | None = None,
        idle: Callable[[], object] = lambda: None,
    ) -> Played:
        """Raises Hangup, CommandRefused, SynthesisUnavailable."""
        self._line.check()
        played = [sound for sound in sounds if isinstance(sound, SimulatedSound)]
        for sound in played:
            sound.audio()
            if sound.text in self._line.troubles.missing:
                raise CommandRefused(f"Asterisk has no sound {sound.text!r}")
        text = " ".join(f"[{sound.text}]" if sound.is_file else sound.text for sound in played)
        start_ms, note = self._world.now_ms, "cut off by the hangup"
        self._stop_wanted = self._pause_wanted = False
        self._speaks = True
        self._listener.prompt_begins()
        try:
            left_s = self._play(sum(sound.lasts_s for sound in played))
            note = f"stopped, {left_s:.1f} s left" if self._stop_wanted else ""
        finally:
            self._speaks = False
            line = TalkLine("robot", "says", text, start_ms, self._world.now_ms, note)
            self._tell(replace(line, to=self._listener.name))
            self._listener.prompt_ends()
        end = PlayEnd.INTERRUPTED if self._stop_wanted else PlayEnd.COMPLETED
        whole_ms = round(sum(sound.lasts_s for sound in played) * 1000)
        return Played(end, whole_ms - round(left_s * 1000))

    def _play(self, left_s: float) -> float:
        """What was not played."""
        paused_s = 0.0
        while not self._stop_wanted:
            self._line.poll_hangup()
            if left_s < 1e-6:
                return 0.0
            began_s = self._world.now_s
            self._world.step(began_s + (MAX_PAUSE_S if self._pause_wanted else left_s))
            if not self._pause_wanted:
                left_s -= self._world.now_s - began_s
            else:
                paused_s += self._world.now_s - began_s
                self._pause_wanted = paused_s < MAX_PAUSE_S
        return left_s

    def stop(self) -> bool:
        self._stop_wanted = self._speaks
        return self._speaks

    def pause(self) -> bool:
        self._pause_wanted = self._speaks
        return self._speaks

    def resume(self) -> None:
        self._pause_wanted = False


# Hearing


class SimulatedEar(CallEar):
    """Hears what a Person says, when somebody listens."""

    own_end = True

    def __init__(
        self,
        world: World,
        troubles: Troubles,
        language: str,
        on_utterance: Callable[[Utterance], None],
    ) -> None:
        self._world = world
        self._troubles = troubles
        self._options = RecognitionOptions((language,))
        self._on_utterance = on_utterance
        self._also: list[Callable[[Utterance], None]] = []
        self._watchers: tuple[Observer, ...] = ()
        self._listens = False
        self._changes = 0
        self._voice = False
        self._ended_at: list[float] = []  # of utterances whose text is owed
        self._heard: deque[Utterance] = deque()
        self.end_silence_s = END_SILENCE_S
        self._dropped: list[Utterance] = []  # no hear took them ...
        self._listened: list[Utterance] = []  # ... but these were listened to

    @property
    def missed(self) -> list[Utterance]:
        """What was said and nobody heard."""
        return [u for u in self._dropped if not any(u is other for other in self._listened)]

    def also_tell(self, listener: Callable[[Utterance], None]) -> None:
        """``listener`` gets each utterance, too."""
        self._also.append(listener)

    # What the person does

    @property
    def language(self) -> str:
        return self._options.languages[0]

    def voice(self, speaking: bool) -> None:
        self._voice = speaking
        if not speaking and self._listens:
            self._ended_at.append(self._world.now_s)
        self._tell(lambda observer: observer.on_voice(speaking))

    def words(self, hypothesis: Hypothesis) -> None:
        if self._listens and self.failure is None:
            self._tell(lambda observer: observer.on_words(hypothesis))

    def ended(self, utterance: Utterance | None) -> None:
        if not self._listens or self.failure is not None:
            if utterance is not None:
                self._dropped.append(utterance)
            return
        self._ended_at = self._ended_at[1:]
        if utterance is not None:
            self._heard.append(utterance)
            for listener in self._also:
                listener(utterance)
            if any(isinstance(observer, Listening) for observer in self._watchers):
                self._listened.append(utterance)
            self._on_utterance(utterance)
        self._tell(lambda observer: observer.on_utterance(utterance))

    def _tell(self, event: Callable[[Observer], None]) -> None:
        self._changes += 1
        for observer in self._watchers:
            event(observer)

    # What the call asks

    def listen(self, options: RecognitionOptions | None = None) -> None:
        self._options = options or self._options
        self._listens = True

    @property
    def options(self) -> RecognitionOptions:
        return self._options

    def end_silence(self, silence_ms: int | None) -> None:
        self.end_silence_s = END_SILENCE_S if silence_ms is None else silence_ms / 1000

    @property
    def position_ms(self) -> int:
        return self._world.now_ms

    def watch(self, observer: Observer) -> None:
        self._watchers += (observer,)

    def unwatch(self, observer: Observer) -> None:
        self._watchers = tuple(one for one in self._watchers if one is not observer)

    def poke(self) -> None:
        self._changes += 1

    @property
    def changes(self) -> int:
        return self._changes

    def wait(self, seen: int, timeout_s: float) -> None:
        """Here the time goes by."""
        ends_s = self._world.now_s + timeout_s
        while self._changes == seen and self._world.now_s < ends_s:
            self._world.step(ends_s)

    def take(self, since_ms: int) -> Utterance | None:
        while self._heard:
            utterance = self._heard.popleft()
            if utterance.end_ms > since_ms:
                return utterance
            self._dropped.append(utterance)
        return None

    @property
    def speaking(self) -> bool:
        return self._voice

    @property
    def mid_utterance(self) -> bool:
        return self._voice

    def pending(self) -> tuple[bool, float | None]:
        return self._voice, self.owed_s()

    def owed_s(self) -> float | None:
        return self._world.now_s - self._ended_at[0] if self._ended_at else None

    @property
    def connected(self) -> bool:
        return True

    @property
    def failure(self) -> str | None:
        return self._troubles.recognition

    def end_utterance(self) -> None:
        """Words of more than a minute come when they end."""

    def close(self, timeout_s: float) -> None:
        self._dropped.extend(self._heard)
        self._heard.clear()


class SimulatedCallbacks(Callbacks):
    """Callbacks run at once: there is no other thread."""

    def __init__(self, ear: SimulatedEar) -> None:
        super().__init__("callbacks")
        self.ear = ear
        self._depth = 0

    def call(self, callback: Callable[[Item], object], item: Item) -> None:
        self._depth += 1
        try:
            callback(item)
        except Exception:
            log.exception("a callback of the scenario raised")
        finally:
            self._depth -= 1

    @property
    def inside(self) -> bool:
        return self._depth > 0

    def close(self, timeout_s: float) -> None:
        """None waits."""


class SimulatedListening(Listening):
    """An iteration lets the time go by."""

    def _wait(self) -> None:
        callbacks = self._callbacks
        assert isinstance(callbacks, SimulatedCallbacks)
        while not self._waiting and not self._over:
            self._poll_hangup()
            if callbacks.ear.failure is not None:
                self.on_failure(callbacks.ear.failure)
                return
            callbacks.ear.wait(callbacks.ear.changes, 1.0)


class SimulatedDialogue(Dialogue):
    """The real one; the person is told of each turn."""

    listening_type = SimulatedListening
    _person: Person

    def join(self, person: Person, callbacks: SimulatedCallbacks) -> None:
        """Who is at the other end."""
        self._person = person
        self._callbacks = callbacks

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
    ) -> Heard:
        with _turn(self._person):
            return super().hear(
                prompt,
                timeout_s=timeout_s,
                barge_in=barge_in,
                language=language,
                hints=hints,
                end_silence_s=end_silence_s,
                digits=digits,
            )

    def read_digits(
        self, digits: Digits, *, timeout_s: float = 10.0, prompt: Prompts | None = None
    ) -> DigitsRead:
        with _turn(self._person):
            return super().read_digits(digits, timeout_s=timeout_s, prompt=prompt)

    def listen(
        self,
        *,
        partials: bool = True,
        language: str | Sequence[str] | None = None,
        hints: Sequence[str] = (),
        on_result: ResultCallback | None = None,
        on_final: ResultCallback | None = None,
    ) -> Listening:
        listening = super().listen(
            partials=partials,
            language=language,
            hints=hints,
            on_result=on_result,
            on_final=on_final,
        )
        self._person.wait_begins()
        self._person.turn_begins()
        return listening

    def _listening_stopped(self, listening: Listening) -> None:
        self._person.wait_ends()
        super()._listening_stopped(listening)


class _turn:
    """A turn that waits for the person."""

    def __init__(self, person: Person) -> None:
        self._person = person

    def __enter__(self) -> None:
        self._person.wait_begins()
        self._person.turn_begins()

    def __exit__(self, *_: object) -> None:
        self._person.wait_ends()
