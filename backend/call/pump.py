"""One prompt's audio on its way to the module. Audio loop only; no clock, no thread."""

from __future__ import annotations

from backend.errors import SpeechError
from backend.ports import PromptAudio
from backend.protocol import fork

CHUNK_MS = 200
# More would only be thrown away when the caller speaks; less would be heard as a gap when this
# process is late. The module reports every 500 ms, so 1.5 to 2 s lie ready there.
AHEAD_MS = 2000
MIN_AHEAD_MS = 600  # less would never be reported on, and so never be followed by more

Item = fork.ToModule | bytes


class Pump:
    """``take`` what may be sent now, whenever something has changed: the module has played on
    (``played``), or the audio has grown. No more than ``ahead_ms`` beyond what was played is
    taken (at least MIN_AHEAD_MS, at most AHEAD_MS). ``from_ms``: where in the audio the prompt
    begins. ``whisper``: it is mixed into what the channel hears, without an application.
    """

    def __init__(
        self,
        play: str,
        audio: PromptAudio,
        ahead_ms: int,
        from_ms: int = 0,
        *,
        whisper: bool = False,
    ) -> None:
        self.play = play
        self._whisper = whisper or None
        self.failure: SpeechError | None = None  # why the audio ends before its end
        self._audio = audio
        self._ms_bytes = audio.rate_hz // 1000 * 2
        self._ahead = max(min(ahead_ms, AHEAD_MS), MIN_AHEAD_MS) * self._ms_bytes
        self._at = self._played = from_ms * self._ms_bytes
        self._from = self._at
        self._opened = False
        self._over = False  # nothing more is sent, but for a clear
        self._closed = False  # nor that

    @property
    def length_ms(self) -> int | None:
        """From where it begins; None: not known yet."""
        size = self._audio.size()
        return None if size is None else max(size - self._from, 0) // self._ms_bytes

    def take(self) -> list[Item]:
        """Messages and audio, in order. What could be made of a prompt that fails is heard."""
        items = self._open()
        while not self._over:
            room = self._played + self._ahead - self._at
            try:
                pcm = self._audio.read(self._at, min(max(room, 0), CHUNK_MS * self._ms_bytes))
            except SpeechError as error:
                self.failure, pcm = error, None
            if pcm is None:
                self._over = True
                items.append(fork.End(self.play))
            elif not pcm:
                break
            else:
                self._at += len(pcm)
                items.append(pcm)
        return items

    def played(self, played_ms: int) -> None:
        """So much of it has been played."""
        self._played = max(self._played, self._from + played_ms * self._ms_bytes)

    def clear(self) -> list[Item]:
        """What ends the prompt now."""
        if self._closed:
            return []
        items = [*self._open(), fork.Clear(self.play)]
        self.close()
        return items

    def hold(self, on: bool) -> list[Item]:
        """What pauses the prompt, or lets it go on."""
        if self._closed:
            return []
        return [*self._open(), fork.Pause(self.play) if on else fork.Resume(self.play)]

    def close(self) -> None:
        """The prompt is over."""
        self._over = self._closed = True

    def _open(self) -> list[Item]:
        if self._opened or self._closed:
            return []
        self._opened = True
        return [fork.Play(self.play, self._audio.rate_hz, whisper=self._whisper)]
