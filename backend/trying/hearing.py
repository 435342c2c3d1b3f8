"""What a simulated call hears: an ear without audio, and the call's turns over it.

Everything above is the real thing: ``Call``, its turns, barge-in, keys. Time is the world's:
whoever waits here moves it. There are no threads.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from backend.call.callbacks import Callbacks
from backend.call.dialogue import Dialogue
from backend.call.ear import CallEar, Observer
from backend.call.keys import Digits, DigitsRead
from backend.call.listening import Listening
from backend.call.prompt import Prompts
from backend.call.turn import Heard
from backend.model import Utterance
from backend.ports import Hypothesis, RecognitionOptions
from backend.trying.channel import Troubles
from backend.trying.person import END_SILENCE_S, Person
from backend.trying.world import World

log = logging.getLogger(__name__)

TICK_S = 0.1

Item = TypeVar("Item")


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
        self._also: list[Callable[[Utterance], bool]] = []
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

    def also_tell(self, listener: Callable[[Utterance], bool]) -> None:
        """``listener`` gets each utterance, too, and says whether it took it."""
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
        if speaking:
            self._world.after(TICK_S, self._tick)

    def _tick(self) -> None:
        """Time goes by; of interest while something is said, or awaited."""
        if self._voice or self._ended_at:
            self._tell(lambda observer: observer.on_time())
            self._world.after(TICK_S, self._tick)

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
            others = [listener(utterance) for listener in self._also]
            if any(others) or any(isinstance(observer, Listening) for observer in self._watchers):
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
        try:
            with self.another_thread():
                callback(item)
        except Exception:
            log.exception("a callback of the scenario raised")

    @contextmanager
    def another_thread(self) -> Iterator[None]:
        """What runs inside is refused what only the scenario's thread may do."""
        self._depth += 1
        try:
            yield
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

    def hear(self, prompt: Prompts | None = None, **options: Any) -> Heard:
        with _turn_of(self._person):
            return super().hear(prompt, **options)

    def read_digits(self, digits: Digits, **options: Any) -> DigitsRead:
        with _turn_of(self._person):
            return super().read_digits(digits, **options)

    def listen(self, **options: Any) -> Listening:
        listening = super().listen(**options)
        self._person.wait_begins()
        self._person.turn_begins()
        return listening

    def _listening_stopped(self, listening: Listening) -> None:
        self._person.wait_ends()
        super()._listening_stopped(listening)


@contextmanager
def _turn_of(person: Person) -> Iterator[None]:
    """A turn that waits for the person."""
    person.wait_begins()
    person.turn_begins()
    try:
        yield
    finally:
        person.wait_ends()
