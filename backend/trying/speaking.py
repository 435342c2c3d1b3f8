"""What a simulated call says: prompts of a length, told to who hears them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count

from backend.call.playback import Played, PlayEnd
from backend.call.prompt import Prompt, Sound
from backend.call.speaker import Speaker, Watch
from backend.errors import (
    CommandRefused,
    SynthesisUnavailable,
)
from backend.ports import PromptAudio, PromptSound
from backend.trying.channel import Channel, Troubles
from backend.trying.person import Person, TalkLine
from backend.trying.world import World

SOUND_S = 2.0  # a sound whose length nobody has told
CHARACTER_S = 0.06  # of a text
MAX_PAUSE_S = 15.0  # as speaker.MAX_PAUSE_S


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
        self._watch: Watch | None = None
        self._places: list[tuple[int, Callable[[int], None]]] = []
        self._prompts = count(1)

    def watch(self, watch: Watch) -> None:
        self._watch = watch

    def place(self, at_ms: int, reached: Callable[[int], None]) -> None:
        """When so much of the prompt under way has been played."""
        self._places.append((at_ms, reached))

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
            left_s = self._play_watched(sum(sound.lasts_s for sound in played))
            note = f"stopped, {left_s:.1f} s left" if self._stop_wanted else ""
        finally:
            self._speaks = False
            line = TalkLine("robot", "says", text, start_ms, self._world.now_ms, note)
            self._tell(replace(line, to=self._listener.name))
            self._listener.prompt_ends()
        end = PlayEnd.INTERRUPTED if self._stop_wanted else PlayEnd.COMPLETED
        whole_ms = round(sum(sound.lasts_s for sound in played) * 1000)
        return Played(end, whole_ms - round(left_s * 1000))

    def _play_watched(self, lasts_s: float) -> float:
        self._places.clear()
        if self._watch is not None:
            self._watch.streams(f"p{next(self._prompts)}", round(lasts_s * 1000), True)
        return self._play(lasts_s)

    def _reach(self, played_s: float) -> float:
        """Tell of the places that have been reached; how much is left to the next."""
        played_ms = round(played_s * 1000)
        for place in [place for place in self._places if place[0] <= played_ms]:
            self._places.remove(place)
            place[1](played_ms)
        return min((at_ms / 1000 - played_s for at_ms, _ in self._places), default=played_s + 1e9)

    def _play(self, whole_s: float) -> float:
        """What was not played."""
        paused_s, left_s = 0.0, whole_s
        while not self._stop_wanted:
            self._line.poll_hangup()
            next_s = self._reach(whole_s - left_s)
            if left_s < 1e-6:
                return 0.0
            began_s, paused = self._world.now_s, self._pause_wanted
            self._world.step(began_s + (MAX_PAUSE_S if paused else min(left_s, max(next_s, 0.0))))
            if not paused:
                left_s -= self._world.now_s - began_s
            else:
                paused_s += self._world.now_s - began_s
                self._pause_wanted = self._pause_wanted and paused_s < MAX_PAUSE_S
        return left_s

    def stop(self) -> bool:
        self._stop_wanted = self._speaks
        return self._speaks

    def pause(self) -> bool:
        self._pause_wanted = self._speaks
        if self._watch is not None:
            self._watch.paused(True)
        return self._speaks

    def resume(self) -> None:
        self._pause_wanted = False
        if self._watch is not None:
            self._watch.paused(False)
