"""The wait for a turn's end: what comes meanwhile is told to its machine, in the order in which it
happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from backend.call.ear import CallEar
from backend.call.keys import Keys
from backend.call.speaker import Speaker
from backend.call.turn import Heard, Sight, Turn
from backend.model import Utterance
from backend.protocol.agi import Reply

HANGUP_POLL_S = 0.2  # Asterisk tells of a hangup on the AGI connection; nobody reads it meanwhile
CONTROL_FRAME = 1000  # what WAIT FOR DIGIT returns for a stray one


class Agi(Protocol):
    """The AGI session as a talk needs it: agi_server.ThreadedAgi."""

    def command(self, command: str, *args: object, timeout_s: float) -> Reply: ...
    def poll_hangup(self) -> None: ...


class TurnWait:
    """In the scenario's thread. Keys come from the fork; where it tells of none, from AGI."""

    def __init__(
        self,
        agi: Agi,
        speaker: Speaker,
        ear: CallEar,
        keys: Keys,
        press: Callable[[str], None],
        command_s: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._agi = agi
        self._speaker = speaker
        self._ear = ear
        self._keys = keys
        self._press = press
        self._command_s = command_s
        self._clock = clock

    def until_over(
        self,
        turn: Turn,
        cancelled: Callable[[], str | None],
        since_ms: int,
        ignored: Sequence[Utterance],
    ) -> Heard:
        """How ``turn`` ends. What was over before ``since_ms``, and the ``ignored``, is no answer.
        Raises Hangup, RecognitionUnavailable."""
        while True:
            seen = self._ear.changes  # before looking: what comes meanwhile ends the wait
            self._agi.poll_hangup()
            speaking, owed_s = self._ear.pending()
            sight = Sight(speaking, owed_s, self._ear.failure, self._ear.connected)
            self._take_words(turn, since_ms, ignored)
            self.take_keys(turn)
            if (reason := cancelled()) is not None:
                turn.cancel(reason)
            now_s = self._clock()
            if (heard := turn.look(sight, now_s)) is not None:
                return heard
            if turn.cut_due(sight, now_s):
                self._ear.end_utterance()
            self._wait_for_news(seen, turn, turn.wait_s(now_s, HANGUP_POLL_S))

    def take_keys(self, turn: Turn) -> None:
        """Those that have been pressed; none more than it wants. One that came when the turn was
        over by its clock is left for whoever reads next."""
        while (
            turn.wants_keys
            and (key := self._keys.next) is not None
            and not turn.keys_over(key.pressed_s)
            and (taken := self._keys.take()) is not None
        ):
            turn.key(taken.key, taken.pressed_s)

    def _take_words(self, turn: Turn, since_ms: int, ignored: Sequence[Utterance]) -> None:
        """The next utterance; the keys that came before its end come first."""
        while turn.wants_speech and (utterance := self._ear.take(since_ms)) is not None:
            if any(utterance is other for other in ignored):
                continue
            key = self._keys.next if turn.wants_keys else None
            if key is not None and key.at_ms is not None and key.at_ms < utterance.end_ms:
                self.take_keys(turn)
            turn.said(utterance)
            return

    def _wait_for_news(self, seen: int, turn: Turn, wait_s: float) -> None:
        if not turn.wants_keys or self._speaker.tells_keys:
            self._ear.wait(seen, wait_s)
            return
        wait_ms = max(round(wait_s * 1000), 1)
        reply = self._agi.command("WAIT FOR DIGIT", wait_ms, timeout_s=self._command_s)
        if reply.result.isdigit() and 0 < int(reply.result) < CONTROL_FRAME:
            self._press(chr(int(reply.result)))
