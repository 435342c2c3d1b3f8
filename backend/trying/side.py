"""One end of a simulated line: a channel, who is at its other end, and the call's view of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from backend.call.backchannel import BackchannelBook
from backend.call.dialogue import TalkConfig
from backend.call.keys import Keys
from backend.call.steps import StepLog
from backend.model import Utterance
from backend.trying.channel import Channel, Troubles
from backend.trying.guarding import SimulatedGate
from backend.trying.hearing import SimulatedCallbacks, SimulatedDialogue, SimulatedEar
from backend.trying.person import PATIENCE_S, Person, Surroundings, TalkLine
from backend.trying.script import Do, Step
from backend.trying.speaking import SimulatedPrompts, SimulatedSpeaker
from backend.trying.world import World

COMMAND_S = 30.0
RECOGNITION_S = 5.0
MAX_CALL_S = 1800.0  # as DIALOG_MAX_S: the dialplan ends an endless talk


@dataclass(frozen=True)
class Setting:
    """What all ends of a call share. ``run``: runs a ``do`` step; ``tell``: takes the talk."""

    world: World
    troubles: Troubles
    language: str
    run: Callable[[Do], object]
    tell: Callable[[TalkLine], None]
    sounds: Mapping[str, float] = field(default_factory=dict)
    backchannel: BackchannelBook = field(default_factory=lambda: BackchannelBook({}))
    patience_s: float = PATIENCE_S

    @property
    def prompts(self) -> SimulatedPrompts:
        return SimulatedPrompts(self.troubles, self.sounds)


@dataclass(frozen=True)
class Side:
    """The parts, joined."""

    channel: Channel
    ear: SimulatedEar
    person: Person
    speaker: SimulatedSpeaker
    callbacks: SimulatedCallbacks
    dialogue: SimulatedDialogue

    def over(self) -> None:
        """The line is gone: whoever waits for something on it is told."""
        self.channel.over = True
        self.person.goes()
        self.ear.poke()

    def close(self) -> None:
        """Nobody talks here any more."""
        self.dialogue.close()
        self.ear.close(0)
        self.person.goes()


def open_side(
    setting: Setting,
    name: str,
    script: tuple[Step, ...],
    *,
    on_caller_hangup: Callable[[int, str], None],
    on_robot_hangup: Callable[[int], None],
    on_utterance: Callable[[Utterance], None] = lambda _: None,
    steps: StepLog | None = None,
    variables: Mapping[str, str] | None = None,
    results: Mapping[str, str] | None = None,
) -> Side:
    """Nobody is there before ``person.begins()``."""
    world = setting.world
    channel = Channel(
        world,
        f"Simulated/{name}",
        setting.troubles,
        dict(variables or {}),
        dict(results or {}),
        on_robot_hangup,
    )
    ear = SimulatedEar(world, setting.troubles, setting.language, on_utterance)
    keys = Keys(world.clock)
    gate = SimulatedGate(world, channel.name, keys, ear, steps)
    around = Surroundings(ear, gate.pressed, on_caller_hangup, setting.run, setting.tell)
    person = Person(world, name, script, around, patience_s=setting.patience_s)
    speaker = SimulatedSpeaker(world, channel, setting.tell, person)
    gate.join(speaker)
    callbacks = SimulatedCallbacks(ear)
    dialogue = SimulatedDialogue(
        channel.name,
        TalkConfig(
            setting.language, COMMAND_S, RECOGNITION_S, MAX_CALL_S, 1000, setting.backchannel
        ),
        channel,
        speaker,
        ear,
        keys,
        gate,
        prompts=setting.prompts,
        on_spoken=_told_by_the_speaker,
        clock=world.clock,
    )
    dialogue.join(person, callbacks)
    return Side(channel, ear, person, speaker, callbacks, dialogue)


def _told_by_the_speaker(_: Utterance) -> None:
    """What is said comes from there: with how it ended."""
