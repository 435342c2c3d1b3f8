"""What the call says: each prompt in the way that is there for it, to its end in spite of a
broken connection.

A prompt whose connection was lost goes on from the lost place: over the fork's next connection
when that comes within streaming.FORK_S, else from a file, where Asterisk can read one.
"""

from __future__ import annotations

import logging

from backend.call.playback import FilePlayback, Played, PlayEnd
from backend.call.streaming import StreamEnd, StreamPlayback
from backend.errors import AsteriskError, CommandTimeout, SpeechError
from backend.ports import PromptAudio, PromptSound

log = logging.getLogger(__name__)

REST_FILE_S = 1.0  # for the file of the rest, whose synthesis may not have ended
MAX_LOSSES = 3  # of one prompt

_ENDS = {StreamEnd.END: PlayEnd.COMPLETED, StreamEnd.LOST: PlayEnd.LOST}


class Speaker:
    """``play`` blocks in the call's thread; ``stop`` may come from any thread, never blocks."""

    def __init__(self, channel: str, stream: StreamPlayback, files: FilePlayback) -> None:
        self._channel = channel
        self._stream = stream
        self._files = files

    def play(self, sound: PromptSound, *, timeout_s: float) -> Played:
        """Play it to its end or to ``stop``.

        Raises Hangup, CommandTimeout, CommandRefused (Asterisk has no such sound),
        SynthesisUnavailable, BadRequest (a file that cannot be streamed).
        """
        audio = sound.audio()
        if audio is None or self._stream.link() is None:
            return self._files.play(sound.file(), timeout_s=timeout_s)
        played = self._play_stream(audio, timeout_s)
        if played.end is PlayEnd.LOST:
            return self._play_rest(sound, played.end_ms, timeout_s)
        return played

    def stop(self) -> bool:
        """End the prompt under way, if one is; call again while it should be ended.
        Returns whether a stop was sent now."""
        return self._stream.stop() or self._files.stop()

    def _play_stream(self, audio: PromptAudio, timeout_s: float) -> Played:
        at_ms, lost = 0, None
        for _ in range(MAX_LOSSES):
            link = self._stream.link(other_than=lost)
            if link is None:
                break
            streamed = self._stream.play(link, audio, timeout_s=timeout_s, from_ms=at_ms)
            at_ms += streamed.played_ms
            if streamed.end is not StreamEnd.LOST:
                return Played(_ENDS.get(streamed.end, PlayEnd.INTERRUPTED), at_ms)
            log.warning("%s: the fork was lost %d ms into a prompt", self._channel, at_ms)
            lost = link
        return Played(PlayEnd.LOST, at_ms)

    def _play_rest(self, sound: PromptSound, at_ms: int, timeout_s: float) -> Played:
        try:
            name = sound.file(REST_FILE_S)
            return self._files.play(name, timeout_s=timeout_s, from_ms=at_ms)
        except CommandTimeout:
            raise
        except (AsteriskError, SpeechError) as error:
            log.error("%s: the rest of the prompt is not heard: %s", self._channel, error)
            return Played(PlayEnd.LOST, at_ms)
