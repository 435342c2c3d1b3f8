"""The keys of a simulated call during prompts: the real gate, a simulated module, no audio loop."""

from __future__ import annotations

from functools import partial

from backend.call.gate import KeyGate
from backend.call.keys import Keys
from backend.call.steps import StepLog
from backend.keying import events as ev
from backend.protocol import fork
from backend.trying.hearing import SimulatedEar
from backend.trying.speaking import SimulatedSpeaker
from backend.trying.world import Event, World

KEY_MS = 100
_VERDICTS = {"block": "blocked", "buffer": "buffered"}


class SimulatedGate(KeyGate):
    """What it orders is obeyed at once, and at places of the simulated prompt."""

    def __init__(
        self, world: World, name: str, keys: Keys, ear: SimulatedEar, steps: StepLog | None
    ) -> None:
        super().__init__(name, keys, ear, self._stop_speaking, steps)
        self._world = world
        self._mode = "off"
        self._speaker: SimulatedSpeaker | None = None
        self._due: tuple[int, Event] | None = None
        keys.apply(ev.Linked(keys.now_ms, True))

    def join(self, speaker: SimulatedSpeaker) -> None:
        """Whose prompts are guarded."""
        self._speaker = speaker
        speaker.watch(self)

    def _stop_speaking(self) -> None:
        if self._speaker is not None:
            self._speaker.stop()

    def pressed(self, key: str) -> None:
        """The caller presses a key."""
        now_ms = self._world.now_ms
        verdict = _VERDICTS.get(self._mode, "passed")
        self._keys.tell(fork.Digit(key, KEY_MS, verdict, now_ms), now_ms)

    def _own_place(self, at_ms: int) -> int:
        return at_ms

    def record(self, action: ev.Action) -> None:
        super().record(action)
        self._plan()

    def _plan(self) -> None:
        """A tick when the machine wants one."""
        due_ms = self._keys.state.tick_due_ms
        if self._due is not None and self._due[0] == due_ms:
            return
        if self._due is not None:
            self._due[1].cancel()
        delay_s = 0.0 if due_ms is None else max(due_ms / 1000 - self._world.now_s, 0.0)
        self._due = None if due_ms is None else (due_ms, self._world.after(delay_s, self._tick))

    def _tick(self) -> None:
        self._due = None
        self.on_tick()
        self._plan()

    def _send(self) -> None:
        while self._outbox:
            message = self._outbox.popleft()
            if not isinstance(message, fork.Guard):
                continue
            if message.play is None or self._speaker is None:
                self._obey(message, None)
            else:
                self._speaker.place(message.at_ms or 0, partial(self._obey, message))

    def _obey(self, message: fork.Guard, played_ms: int | None) -> None:
        self._mode = message.mode
        now_ms = self._world.now_ms
        why = "asked" if played_ms is None else "place"
        self.on_message(
            fork.GuardSet(message.name, message.mode, why, now_ms, message.play, played_ms)
        )
