"""What the call says: each prompt in the way that is there for it, to its end in spite of a broken
connection, pauses and all.

A prompt whose connection was lost goes on from the lost place: over the fork's next connection when
that comes within streaming.FORK_S, else from a file, where Asterisk can read one. A paused one
stands still at the very sample where it is streamed; a file is stopped, and played on from there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from backend.call.chain import Chain
from backend.call.playback import FilePlayback, Played, PlayEnd
from backend.call.streaming import StreamEnd, StreamPlayback, Wanted
from backend.errors import AsteriskError, CommandTimeout, SpeechError
from backend.ports import PromptAudio, PromptSound

log = logging.getLogger(__name__)

REST_FILE_S = 1.0  # for the file of the rest, whose synthesis may not have ended
MAX_LOSSES = 3  # of one prompt
IDLE_S = 0.1
# Nobody may be left in silence because what should end a pause does not come any more.
MAX_PAUSE_S = 15.0

_ENDS = {StreamEnd.END: PlayEnd.COMPLETED, StreamEnd.LOST: PlayEnd.LOST}


class Watch(Protocol):
    """Who follows the prompt under way: call.gate. None of it blocks."""

    def streams(self, play: str, length_ms: int | None, last: bool) -> None:
        """Audio loop: a part of it is streamed as ``play``; ``last``: there is no other."""

    def file(self, length_ms: int | None, last: bool) -> None:
        """Asterisk plays a part of it."""

    def paused(self, on: bool) -> None:
        """Any thread, again and again."""


class Speaker:
    """``play`` blocks in the call's thread; ``stop``, ``pause`` and ``resume`` may come from any
    thread, never block, and concern the prompt under way alone."""

    def __init__(self, channel: str, stream: StreamPlayback, files: FilePlayback) -> None:
        self._channel = channel
        self._stream = stream
        self._files = files
        self._cond = threading.Condition()  # guards what follows; held for a few instructions
        self._playing = False
        self._stopped = False
        self._paused = False
        self._held = False  # a pause was sent since the last file began
        self._watch: Watch | None = None

    def watch(self, watch: Watch) -> None:
        """Tell it from now on."""
        self._watch = watch

    def play(
        self,
        *sounds: PromptSound,
        timeout_s: float,
        on_key: Callable[[str], object] | None = None,
        idle: Callable[[], object] = lambda: None,
    ) -> Played:
        """Play them one after the other, as one prompt, to the end or to ``stop``; ``end_ms`` is
        of the whole. ``on_key``: a key ends it and is told; where the fork does not tell.
        ``idle`` runs now and then in this thread while a file is paused; it may raise.

        Raises Hangup, CommandTimeout, CommandRefused (Asterisk has no such sound),
        SynthesisUnavailable, BadRequest (a file that cannot be streamed).
        """
        with self._cond:
            self._playing, self._stopped, self._paused = True, False, False
        try:
            return self._play_all(_Playing(sounds, monotonic() + timeout_s, on_key, idle))
        finally:
            with self._cond:
                self._playing = self._paused = False

    @property
    def tells_keys(self) -> bool:
        """The fork tells of keys; waited for while it may be on its way."""
        return self._stream.link() is not None

    # Any thread

    def stop(self) -> bool:
        """End the prompt under way, if one is; call again while it should be ended.
        Returns whether a stop was sent now."""
        with self._cond:
            if not self._playing:
                return False
            self._stopped, self._paused = True, False
            self._cond.notify_all()
        return self._stream.stop() or self._files.stop()

    def pause(self) -> bool:
        """Let the prompt under way stand still; call again while it should. Returns whether that
        was sent now."""
        with self._cond:
            if not self._playing or self._stopped:
                return False
            self._paused = self._held = True
        if self._watch is not None:
            self._watch.paused(True)
        return self._stream.pause() or self._files.stop()

    def resume(self) -> None:
        """Let it go on from that very place."""
        with self._cond:
            self._paused = False
            self._cond.notify_all()
        if self._watch is not None:
            self._watch.paused(False)
        self._stream.pause(False)

    # The call's thread

    def _play_all(self, playing: _Playing) -> Played:
        total_ms = 0
        while playing.sounds:
            played, count = self._play_some(playing)
            total_ms += played.end_ms
            if played.end is not PlayEnd.COMPLETED:
                return Played(played.end, total_ms, played.by)
            playing.sounds = playing.sounds[count:]
            if playing.sounds:
                self._wait_paused(playing)
                if self._stopped:
                    return Played(PlayEnd.INTERRUPTED, total_ms)
        return Played(PlayEnd.COMPLETED, total_ms)

    def _play_some(self, playing: _Playing) -> tuple[Played, int]:
        """As many of them as one way can play in one go, and how many that were."""
        sounds = playing.sounds
        audio = sounds[0].audio()
        if audio is None or self._stream.link() is None:
            if len(sounds) > 1:
                sounds[1].audio()  # it is made while this one plays
            return self._play_file(sounds[0].file(), playing, audio=audio), 1
        chain = Chain(audio, sounds)
        played = self._play_stream(chain, playing)
        if played.end is PlayEnd.LOST:
            return self._play_rest(chain, played.end_ms, playing)
        return played, chain.count

    def _play_stream(self, chain: Chain, playing: _Playing) -> Played:
        def on_stretch(play: str, length_ms: int | None) -> None:
            if self._watch is not None:
                self._watch.streams(play, length_ms, chain.count == len(playing.sounds))

        at_ms, lost = 0, None
        for _ in range(MAX_LOSSES):
            link = self._stream.link(other_than=lost)
            if link is None:
                break
            streamed = self._stream.play(
                link,
                chain,
                timeout_s=playing.left_s(),
                from_ms=at_ms,
                wanted=self._wanted,
                on_stretch=on_stretch,
            )
            at_ms += streamed.played_ms
            if streamed.end is not StreamEnd.LOST:
                return Played(_ENDS.get(streamed.end, PlayEnd.INTERRUPTED), at_ms)
            if self._stopped:
                return Played(PlayEnd.INTERRUPTED, at_ms)
            log.warning("%s: the fork was lost %d ms into a prompt", self._channel, at_ms)
            lost = link
        return Played(PlayEnd.LOST, at_ms)

    def _wanted(self) -> Wanted:
        with self._cond:
            return "stop" if self._stopped else "pause" if self._paused else "play"

    def _play_rest(self, chain: Chain, at_ms: int, playing: _Playing) -> tuple[Played, int]:
        """What is left of the sound in which the connection was lost, from a file."""
        number, within_ms = chain.place(at_ms)
        before_ms = at_ms - within_ms
        try:
            name = playing.sounds[number].file(REST_FILE_S)
            played = self._play_file(name, playing, within_ms, number=number)
        except CommandTimeout:
            raise
        except (AsteriskError, SpeechError) as error:
            log.error("%s: the rest of the prompt is not heard: %s", self._channel, error)
            return Played(PlayEnd.LOST, at_ms), number + 1
        return Played(played.end, before_ms + played.end_ms, played.by), number + 1

    def _play_file(
        self,
        name: str,
        playing: _Playing,
        from_ms: int = 0,
        *,
        audio: PromptAudio | None = None,
        number: int = 0,
    ) -> Played:
        """A pause stops it, and it is played again from there. It is the ``number``-th of what is
        left, ``audio`` what is in it, as far as that is known."""
        size = audio.size() if audio is not None else None
        if self._watch is not None:
            length_ms = size // (audio.rate_hz // 500) if audio is not None and size else None
            self._watch.file(length_ms, number + 1 == len(playing.sounds))
        while True:
            self._wait_paused(playing)
            with self._cond:
                if self._stopped:
                    return Played(PlayEnd.INTERRUPTED, from_ms)
                self._held = False
            played = self._files.play(
                name, timeout_s=playing.left_s(), from_ms=from_ms, on_key=playing.on_key
            )
            if played.end is not PlayEnd.INTERRUPTED or played.by is not None:
                return played
            if self._stopped or not self._held:
                return played
            from_ms = played.end_ms

    def _wait_paused(self, playing: _Playing) -> None:
        """Until it may go on, or is stopped."""
        until = monotonic() + MAX_PAUSE_S
        while self._paused:
            playing.idle()
            with self._cond:
                self._cond.wait_for(lambda: not self._paused, IDLE_S)
            if self._paused and monotonic() > until:
                log.warning(
                    "%s: a prompt was paused for %g s: it goes on", self._channel, MAX_PAUSE_S
                )
                self.resume()


class _Playing:
    """One prompt: what is left of it, and how it is to be played."""

    def __init__(
        self,
        sounds: Sequence[PromptSound],
        ends_at: float,
        on_key: Callable[[str], object] | None,
        idle: Callable[[], object],
    ) -> None:
        self.sounds = sounds
        self.ends_at = ends_at
        self.on_key = on_key
        self.idle = idle

    def left_s(self) -> float:
        return max(self.ends_at - monotonic(), 0.001)
