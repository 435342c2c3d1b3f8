"""The module's side of prompts (docs/fork-protocol.md, "Playing"), in virtual time: it plays as
fast as audio comes, 20 ms by 20 ms, and keeps what was heard.

A thread of its own stands for the audio loop: what a connection is told to ``run`` runs there.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from backend.protocol import fork

FORK = "0b7c1a52-6b0e-4b0e-8f5e-2f1f7a4d9c11"
FRAME_MS = 20
REPORT_MS = 500
MAX_PROMPTS = 8


class Listener(Protocol):
    def on_open(self, link: FakeLink) -> None: ...
    def on_message(self, message: fork.FromModule) -> None: ...
    def on_close(self, reason: str) -> None: ...


@dataclass
class Prompt:
    """One prompt as the module has it."""

    pcm: bytearray = field(default_factory=bytearray)
    rate_hz: int = 8000
    ended: bool = False
    lost: bool = False
    cleared: bool = False
    paused: bool = False
    played: int = 0  # bytes


class FakeLink:
    """A connection as the backend's sink gives it to the call."""

    def __init__(self, module: FakeModule, start: fork.Start | None) -> None:
        self.start = start
        self.ready = True
        self.alive = True
        self._module = module

    def run(self, action: Callable[[], None]) -> None:
        self._module.run(action)

    def send(self, *items: fork.ToModule | bytes) -> None:
        assert threading.current_thread() is self._module.loop, "sent from a foreign thread"
        for item in items:
            if self.alive:
                self._module.receive(item)


class FakeModule:
    """A fork's module. ``on_played(ms)`` runs in the playing thread after each frame;
    ``on_paused()`` each time it stands still, ``on_dry()`` when it waits for audio."""

    def __init__(self, play_buffer_ms: int = 4000) -> None:
        self.play_buffer_ms = play_buffer_ms
        self.listener: Listener | None = None
        self.link: FakeLink | None = None
        self.heard = bytearray()
        self.received: list[fork.ToModule | bytes] = []
        self.prompts: dict[str, Prompt] = {}
        self.on_played: Callable[[int], object] = lambda _: None
        self.on_paused: Callable[[], object] = lambda: None
        self.at_ms: Callable[[], int] = lambda: 0  # the place in the stream
        self.on_dry: Callable[[], object] = lambda: None
        self.most_ahead_ms = 0
        self.hung_up = False
        self.dry_s = 5.0  # AudioForkPlay's own limit
        self._open: str | None = None
        self.guards = True  # it knows the message guard ...
        self.refuses = "guard"  # ... else an error is about this
        self.obeys = True  # at once; else never, and tells nothing
        self.mode = "off"  # of the keys
        self._places: list[fork.Guard] = []
        self._news = threading.Condition()
        self._actions: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self.loop = threading.Thread(target=self._run, name="fake-audio-loop")
        self.loop.start()

    # The test's hand

    def connect(self, listener: Listener, *, version: int = 2) -> FakeLink:
        """(Re)connect; version 1 says the bare channel name."""
        start = fork.Start(FORK, "PJSIP/x-1", play_buffer_ms=self.play_buffer_ms)
        link = self.link = FakeLink(self, start if version == 2 else None)
        self.listener = listener
        self.run(lambda: listener.on_open(link))
        self.settle()
        return link

    def lose(self, *, noticed: bool = True) -> None:
        """The connection breaks; ``noticed``: the backend learns of it, too."""
        with self._news:
            if self.link is not None:
                self.link.alive = False
            for prompt in self.prompts.values():
                prompt.lost = not prompt.ended
            self._news.notify_all()
        if noticed and (listener := self.listener) is not None:
            self.run(lambda: listener.on_close("lost"))

    def hang_up(self) -> None:
        with self._news:
            self.hung_up = True
            self._news.notify_all()

    def settle(self) -> None:
        """Until the loop has done what it was told so far."""
        if threading.current_thread() is not self.loop:
            done = threading.Event()
            self.run(done.set)
            assert done.wait(5)

    def close(self) -> None:
        self._actions.put(None)
        self.loop.join(5)

    @property
    def messages(self) -> list[fork.ToModule]:
        return [item for item in self.received if not isinstance(item, bytes)]

    # The loop

    def run(self, action: Callable[[], None]) -> None:
        if threading.current_thread() is self.loop:
            action()
        else:
            self._actions.put(action)

    def _run(self) -> None:
        while (action := self._actions.get()) is not None:
            action()

    def receive(self, item: fork.ToModule | bytes) -> None:
        with self._news:
            self.received.append(item)
            if isinstance(item, bytes):
                assert self._open is not None, "audio without a prompt"
                prompt = self.prompts[self._open]
                assert not prompt.ended, "audio after the end"
                prompt.pcm += item
                ahead_ms = (len(prompt.pcm) - prompt.played) * 500 // prompt.rate_hz
                self.most_ahead_ms = max(self.most_ahead_ms, ahead_ms)
                assert ahead_ms <= self.play_buffer_ms, "more than the module keeps"
            elif isinstance(item, fork.Play):
                self._prompt(item.play).rate_hz = item.rate_hz
                self._open = item.play
            elif isinstance(item, fork.End):
                self._prompt(item.play).ended = True
            elif isinstance(item, fork.Pause | fork.Resume):
                self._prompt(item.play).paused = isinstance(item, fork.Pause)
            elif isinstance(item, fork.Clear) and item.play is not None:
                self._prompt(item.play).cleared = True
            elif isinstance(item, fork.Guard):
                self._guard(item)
            self._news.notify_all()

    def _guard(self, guard: fork.Guard) -> None:
        if not self.guards:
            self._report(fork.Refused(self.refuses, "unknown type"))
        elif not self.obeys:
            return
        elif guard.play is None:
            self.mode = guard.mode
            self._report(fork.GuardSet(guard.name, guard.mode, "asked", self.at_ms()))
        else:
            self._places.append(guard)

    def _reach(self, play: str, played_ms: int) -> None:
        for guard in [g for g in self._places if g.play == play and (g.at_ms or 0) <= played_ms]:
            self._places.remove(guard)
            self.mode = guard.mode
            told = fork.GuardSet(guard.name, guard.mode, "place", self.at_ms(), play, guard.at_ms)
            self._report(told)

    @property
    def verdict(self) -> str:
        """Of a key that goes down now."""
        return {"block": "blocked", "buffer": "buffered"}.get(self.mode, "passed")

    def _prompt(self, name: str) -> Prompt:
        prompt = self.prompts.setdefault(name, Prompt())
        assert len(self.prompts) <= MAX_PROMPTS
        return prompt

    # AudioForkPlay, on the channel's thread

    def play(self, arguments: str, timeout_s: float) -> tuple[str, int]:
        """AudioForkPlay(fork,p(id)): AUDIOFORK_PLAY_STATUS and _MS."""
        where, _, options = arguments.partition(",")
        assert where == FORK
        name = dict(re.findall(r"(\w)\(([^)]*)\)", options))["p"]
        with self._news:
            prompt = self._prompt(name)
        status = None
        while status is None:
            status = self._frame(name, prompt)
        with self._news:
            del self.prompts[name]
        return status, prompt.played * 500 // prompt.rate_hz

    def _frame(self, name: str, prompt: Prompt) -> str | None:
        """Play one frame; how the prompt ended, when it did."""
        with self._news:
            if self.hung_up:
                return "HANGUP"
            if prompt.cleared:
                return "CLEAR"
            paused = prompt.paused
            size = prompt.rate_hz // 500 * FRAME_MS
            frame = bytes(prompt.pcm[prompt.played : prompt.played + size])
            if not (frame or paused) and (prompt.ended or prompt.lost):
                return "END" if prompt.ended else "LOST"
            if paused:
                frame = b""
            elif frame:
                self.heard += frame
                prompt.played += len(frame)
        if paused:
            self._stand_still(prompt)
            return None
        if not frame:
            return self._await_audio(prompt)
        played_ms = prompt.played * 500 // prompt.rate_hz
        if played_ms % REPORT_MS == 0:
            self._report(fork.Buffer(name, played_ms, 0))
        self._reach(name, played_ms)
        self.on_played(played_ms)
        return None

    def _stand_still(self, prompt: Prompt) -> None:
        self.on_paused()
        with self._news:
            assert self._news.wait_for(
                lambda: not prompt.paused or prompt.cleared or prompt.lost or self.hung_up,
                self.dry_s,
            ), "paused for ever"
            prompt.paused = prompt.paused and not prompt.lost

    def _await_audio(self, prompt: Prompt) -> str | None:
        self.on_dry()
        with self._news:
            seen = len(prompt.pcm)
            if self._news.wait_for(
                lambda: (
                    len(prompt.pcm) > prompt.played
                    or prompt.ended
                    or prompt.lost
                    or prompt.cleared
                    or self.hung_up
                ),
                self.dry_s,
            ):
                assert len(prompt.pcm) >= seen
                return None
        return "TIMEOUT"

    def _report(self, message: fork.FromModule) -> None:
        """In one stream: never before what was reported already."""
        if (listener := self.listener) is not None:
            self._actions.put(lambda: listener.on_message(message))
