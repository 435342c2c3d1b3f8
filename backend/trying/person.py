"""Somebody at the other end of a simulated line: does his steps when their moment has come. Pure.

He answers once the robot has been silent for a moment (script.USUAL_S), one step for each of the
robot's turns: a prompt, or the beginning of a hear. A hear that still waits AGAIN_S after a step
was not content with it (a cough, "uh-huh"): then the next step follows in the same turn. Whoever
has nothing to do for ``patience_s`` hangs up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from backend.model import Utterance, Word
from backend.ports import Hypothesis
from backend.trying.script import Cough, Do, HangUp, Press, Say, Silence, Step
from backend.trying.world import Event, World

AGAIN_S = 2.0
WORD_MS = 350
COUGH_MS = 300
KEY_S = 0.1  # and as long between two
PATIENCE_S = 120.0
END_SILENCE_S = 0.6  # of a line that was not asked for another: as the setting end_silence_ms
RECOGNITION_S = 0.2  # from there to the text


@dataclass(frozen=True, slots=True)
class TalkLine:
    """A moment of a talk. ``who``: "robot", "caller", or a leg's or a participant's name. ``what``
    says what was done, ``text`` what was said, pressed or happened; ``note``: how it ended, where
    that is of interest. Times in ms since the call began."""

    who: str
    what: Literal["says", "presses", "coughs", "is silent", "hangs up", "does"]
    text: str
    start_ms: int
    end_ms: int
    note: str = ""
    to: str = ""  # whom the robot says it to

    def __str__(self) -> str:
        """``caller says: yes (not heard: …)``"""
        text = f": {self.text}" if self.text else ""
        if self.what == "does":
            return f"{self.who} {self.text}{f' ({self.note})' if self.note else ''}"
        return f"{self.who} {self.what}{text}{f' ({self.note})' if self.note else ''}"


class Ear(Protocol):
    """Who hears him: line.SimulatedEar."""

    @property
    def end_silence_s(self) -> float: ...
    @property
    def language(self) -> str: ...
    def voice(self, speaking: bool) -> None: ...
    def words(self, hypothesis: Hypothesis) -> None: ...
    def ended(self, utterance: Utterance | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a person acts upon."""

    ear: Ear
    press: Callable[[str], None]
    hang_up: Callable[[int, str], None]  # cause, why
    run: Callable[[Do], object]
    tell: Callable[[TalkLine], None]


class Person:
    """Told what the robot does (``prompt_begins`` …), he does his steps on the world's agenda."""

    def __init__(
        self,
        world: World,
        name: str,
        steps: tuple[Step, ...],
        around: Surroundings,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.name = name
        self._world = world
        self._steps = list(steps)
        self._around = around
        self._patience_s = patience_s
        self._gone = False
        self._busy = False
        self._due: tuple[Step, Event] | None = None
        self._impatient = False  # the step that is due needed no turn; a new one puts it off
        self._robot_speaks = False
        self._turn = 0
        self._waits = 0  # hears and iterations that wait for him
        self._done: Step | None = None  # the last step ...
        self._done_turn: int | None = None  # ... and in which turn; None: the next needs no other
        self._active_s = world.now_s
        self._utterance: Utterance | None = None  # what he says, or said last
        self._end: Event | None = None  # it will be over then, unless he goes on

    @property
    def left(self) -> tuple[Step, ...]:
        """Steps that he has not done."""
        return tuple(self._steps)

    # What the robot does

    def begins(self) -> None:
        """The line is open: he is there."""
        self._active()
        self._world.after(self._patience_s, self._lose_patience)
        self._plan()

    def prompt_begins(self) -> None:
        self._robot_speaks = True
        self._new_turn()

    def prompt_ends(self) -> None:
        self._robot_speaks = False
        self._active()
        self._plan()

    def turn_begins(self) -> None:
        """He is listened to, in a turn of its own."""
        self._new_turn()

    def wait_begins(self) -> None:
        """Something waits for what he says."""
        self._waits += 1
        self._plan()

    def wait_ends(self) -> None:
        self._waits -= 1

    def goes(self) -> None:
        """He is no longer there."""
        self._gone = True
        self._unplan()

    def _new_turn(self) -> None:
        self._turn += 1
        self._active()
        waits = self._due is not None and self._due[0].moment.when == "after"
        if waits and (self._robot_speaks or self._impatient):
            self._unplan()
        self._plan()

    # The next step

    def _plan(self) -> None:
        if self._gone or self._busy or self._due is not None or not self._steps:
            return
        step = self._steps[0]
        self._impatient = self._done_turn == self._turn or self._turn == 0
        delay_s = self._delay_s(step)
        if delay_s is not None:
            self._due = (step, self._world.after(delay_s, self._do_due))

    def _delay_s(self, step: Step) -> float | None:
        """None: its moment cannot be foreseen yet."""
        when, delay_s = step.moment.when, step.moment.delay_s
        if when == "then":
            return delay_s
        if when == "over":
            return delay_s if self._robot_speaks else None
        if self._robot_speaks:
            return None
        if self._turn == 0:  # who only hangs up needs no turn
            return max(delay_s, AGAIN_S) if isinstance(step, HangUp | Do) else None
        if self._done_turn != self._turn:
            return delay_s
        return AGAIN_S if self._goes_on(step) else None

    def _goes_on(self, step: Step) -> bool:
        """Whether this step follows in the same turn: the last one was no answer, or not enough, or
        he has had enough."""
        if isinstance(self._done, Silence):
            return False
        if isinstance(step, HangUp | Do):
            return True
        over = self._done is not None and self._done.moment.when == "over"
        return over or isinstance(self._done, Cough) or self._waits > 0

    def _unplan(self) -> None:
        if self._due is not None:
            self._due[1].cancel()
            self._due = None

    def _do_due(self) -> None:
        assert self._due is not None
        step, self._due = self._due[0], None
        if self._gone:
            return
        again = step.moment.when == "after" and self._done_turn == self._turn
        if again and not self._goes_on(step):
            return
        self._busy = True
        self._steps.pop(0)
        self._perform(step)

    def _finish(self, step: Step, *, same_turn: bool = False) -> None:
        """The step is done; ``same_turn``: the next one needs no new turn of the robot's."""
        self._busy = False
        self._done, self._done_turn = step, None if same_turn else self._turn
        self._active()
        self._plan()

    def _perform(self, step: Step) -> None:
        around, now_ms = self._around, self._world.now_ms
        if isinstance(step, Say):
            self._say(step)
        elif isinstance(step, Cough):
            self._cough(step)
        elif isinstance(step, Press):
            end_ms = now_ms + round((2 * len(step.keys) - 1) * KEY_S * 1000)
            around.tell(TalkLine(self.name, "presses", step.keys, now_ms, end_ms))
            self._press(step, step.keys)
        elif isinstance(step, Silence):
            around.tell(TalkLine(self.name, "is silent", "", now_ms, now_ms))
            again = step.for_s is not None
            self._world.after(step.for_s or 0.0, lambda: self._finish(step, same_turn=again))
        elif isinstance(step, Do):
            around.run(step)
            self._finish(step, same_turn=True)
        else:
            self._busy = False
            around.hang_up(step.cause, "")

    # Speaking and pressing

    def _say(self, step: Say) -> None:
        start_ms = self._world.now_ms
        before = self._go_on_speaking()
        words = tuple(
            Word(text, start_ms + n * WORD_MS, start_ms + (n + 1) * WORD_MS)
            for n, text in enumerate(step.text.split())
        )
        end_ms = words[-1].end_ms
        self._around.tell(TalkLine(self.name, "says", step.text, start_ms, end_ms))
        language = step.language or self._around.ear.language
        for n in range(1, len(words) + 1):
            said = _said((*before, *words[:n]), step, language)
            self._later(n * WORD_MS / 1000, partial(self._is_guessed, said))
        self._later((end_ms - start_ms) / 1000, lambda: self._finish(step))
        said = _said((*before, *words), step, language)
        self._is_heard((end_ms - start_ms) / 1000, said)

    def _cough(self, step: Cough) -> None:
        start_ms = self._world.now_ms
        before = self._go_on_speaking()
        self._around.tell(TalkLine(self.name, "coughs", "", start_ms, start_ms + COUGH_MS))
        self._later(COUGH_MS / 1000, lambda: self._finish(step))
        self._is_heard(COUGH_MS / 1000, self._utterance if before else None)

    def _go_on_speaking(self) -> tuple[Word, ...]:
        """His voice is heard. The words of the same utterance so far: there are some when he has
        not been silent for long enough to end it."""
        if self._end is not None:
            self._end.cancel()
            return self._utterance.words if self._utterance is not None else ()
        self._around.ear.voice(True)
        return ()

    def _is_guessed(self, said: Utterance) -> None:
        guess = Hypothesis(
            said.text, False, said.start_ms, said.end_ms, None, said.language, said.words
        )
        self._around.ear.words(guess)

    def _is_heard(self, lasts_s: float, said: Utterance | None) -> None:
        """His voice ends after ``lasts_s``; the ear notices it, then knows what it was."""
        ear = self._around.ear
        self._utterance = said
        silent_s = lasts_s + ear.end_silence_s

        def voice_ends() -> None:
            self._end = None
            ear.voice(False)
            self._later(RECOGNITION_S, lambda: ear.ended(said))

        self._end = self._later(silent_s, voice_ends)

    def _press(self, step: Press, keys: str) -> None:
        if not keys:
            self._finish(step)
            return
        self._around.press(keys[0])
        self._later(2 * KEY_S, lambda: self._press(step, keys[1:]))

    def _later(self, delay_s: float, action: Callable[[], object]) -> Event:
        """Unless he goes before."""
        return self._world.after(delay_s, lambda: None if self._gone else action())

    # Patience

    def _active(self) -> None:
        self._active_s = self._world.now_s

    def _lose_patience(self) -> None:
        if self._gone:
            return
        left_s = self._active_s + self._patience_s - self._world.now_s
        if left_s <= 0 and not self._robot_speaks and not self._busy:
            self._around.hang_up(16, f"nothing happened for {self._patience_s:g} s")
        else:
            again_s = left_s if left_s > 0 else self._patience_s
            self._world.after(again_s, self._lose_patience)


def _said(words: tuple[Word, ...], step: Say, language: str) -> Utterance:
    text = " ".join(word.text for word in words)
    return Utterance(
        "caller", text, words[0].start_ms, words[-1].end_ms, step.confidence, language, words
    )
