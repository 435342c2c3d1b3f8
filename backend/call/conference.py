"""A conference of Asterisk's ConfBridge: take a seat in it, or listen and speak to it without
one.

Who is in it is asked of Asterisk, so participants may be calls of this worker, of another, or
none of ours. Each is heard and whispered to over a fork of his own channel (tap.py). A room
exists while somebody sits in it; its name is ConfBridge's own, so the dialplan's
ConfBridge(name) is the same one.

Tried on 16.28 and 22.10: ConfbridgeKick and …Mute want the channel's name (no unique id); after
a kick EXEC ConfBridge returns at once and the AGI session goes on; a whisper reaches one alone.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from backend.call.lent import Errand
from backend.call.playback import Played, PlayEnd
from backend.call.prompt import Prompt, Sound, Text
from backend.call.tap import Tap
from backend.call.turn import HearStatus
from backend.errors import (
    AsteriskError,
    BadRequest,
    CommandRefused,
    CommandTimeout,
    Hangup,
    RecognitionUnavailable,
)
from backend.model import Utterance, Word
from backend.ports import AmiReply, PromptAudio, conference_key

if TYPE_CHECKING:
    from backend.call.call import CallInfo
    from backend.call.lent import LentAgi
    from backend.call.runner import Services

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
POLL_S = 0.2
REFRESH_S = 2.0  # who sits there is asked anew, should an event have been lost
SEAT_S = 5.0  # to take a seat, to leave it
KEPT_SAID = 200  # what nobody hears drops the oldest
NO_CONFERENCE = "No Conference by that name found."
NOBODY = "No active conferences."
# Nobody is told of who comes and goes, and nobody hears music while he is alone.
QUIET = {
    "user,template": "default_user",
    "user,quiet": "yes",
    "user,announce_join_leave": "no",
    "user,announce_user_count": "no",
    "user,announce_only_user": "no",
    "user,music_on_hold_when_empty": "no",
    "bridge,template": "default_bridge",
    "bridge,mixing_interval": "20",
}


@dataclass(frozen=True, slots=True)
class Participant:
    """Who sits in a conference. ``id``: his channel's unique id; ``own``: this very call."""

    id: str
    channel: str
    number: str
    name: str
    muted: bool
    talking: bool
    own: bool


@dataclass(frozen=True, slots=True)
class ConferenceHeard:
    """What ``hear`` returns: who said what. Times in ms since he was first listened to."""

    status: HearStatus
    participant: Participant | None = None
    text: str = ""
    confidence: float | None = None
    language: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    words: tuple[Word, ...] = ()

    @property
    def recognized(self) -> bool:
        return self.status is HearStatus.RECOGNIZED


class Conference:
    """One conference as one call has it. It belongs to the scenario's thread; what it started
    (seat, forks, recognition) ends with the call."""

    def __init__(self, name: str, agi: LentAgi, info: CallInfo, services: Services) -> None:
        if not NAME.fullmatch(name):
            raise BadRequest("id", f"{name[:80]!r}: 1 to 64 letters, digits, '_' and '-'")
        self.name = name
        self._agi = agi
        self._info = info
        self._services = services
        self._max_participants: int | None = None
        self._seat: Errand | None = None
        self._taps: dict[str, tuple[Participant, Tap]] = {}
        self._listening = False
        self._cond = threading.Condition()  # guards what follows
        self._said: deque[ConferenceHeard] = deque(maxlen=KEPT_SAID)
        self._changes = 0  # rises when somebody comes or goes
        self._refreshed = -1  # what it was when it was looked who is there
        self._refreshed_at = 0.0
        self._unwatch = services.legs.events.watch(
            conference_key(name), lambda _: self._come_or_gone()
        )

    # A seat

    def create(self, *, max_participants: int | None = None) -> None:
        """Make sure that it is a new one: raises BadRequest when somebody sits in it already.
        ``max_participants`` holds if this call is the first to join."""
        if max_participants is not None and not 1 <= max_participants <= 1000:
            raise BadRequest("max_participants", f"{max_participants!r}: expected 1 to 1000")
        if there := self.participants():
            raise BadRequest("id", f"conference {self.name} exists, with {len(there)} participants")
        self._max_participants = max_participants

    def join(self, *, muted: bool = False) -> None:
        """The call takes a seat, and the scenario goes on: it can play, hear, whisper here, but its
        own channel is busy (``call.speak`` raises BadRequest) until ``leave``, a kick or the end.

        Raises Hangup, CommandRefused (Asterisk did not let it in), CommandTimeout.
        """
        if self.joined:
            return
        options = {**QUIET, "user,startmuted": "yes" if muted else "no"}
        if self._max_participants is not None:
            options["bridge,max_members"] = str(self._max_participants)
        command_s = self._services.call.command_s
        for name, value in options.items():
            self._agi.command("SET VARIABLE", f"CONFBRIDGE({name})", value, timeout_s=command_s)
        why = f"it sits in conference {self.name}: leave() first"
        longest_s = self._services.call.max_call_s + command_s
        self._seat = self._agi.lend(why, "EXEC", "ConfBridge", self.name, timeout_s=longest_s)
        self._await_seat(self._seat)

    def _await_seat(self, seat: Errand) -> None:
        deadline = monotonic() + SEAT_S
        while monotonic() < deadline:
            self._agi.poll_hangup()
            if seat.over.is_set():
                result = self._agi.command("GET VARIABLE", "CONFBRIDGE_RESULT", timeout_s=SEAT_S)
                raise CommandRefused(f"conference {self.name}: no seat: {result.data or 'refused'}")
            if any(one.own for one in self.participants()):
                return
            self._await_change(deadline)
        raise CommandTimeout(f"conference {self.name}: no seat within {SEAT_S:g} s")

    @property
    def joined(self) -> bool:
        """Whether the call sits here."""
        return self._seat is not None and not self._seat.over.is_set()

    def leave(self) -> None:
        """Leave the seat; without one nothing happens. Raises Hangup, AsteriskUnavailable,
        CommandTimeout."""
        seat = self._seat
        if seat is None:
            return
        if not seat.over.is_set():
            reply = self._action("ConfbridgeKick", self._info.channel)
            if not seat.over.wait(SEAT_S):
                raise CommandTimeout(f"conference {self.name}: still seated: {reply.message}")
        self._seat = None
        self._agi.poll_hangup()

    # Who is there

    def participants(self) -> tuple[Participant, ...]:
        """Everybody who sits there now. Raises AsteriskUnavailable, CommandTimeout."""
        reply = self._services.ami.action("ConfbridgeList", {"Conference": self.name})
        if not reply.success:
            if reply.message in (NO_CONFERENCE, NOBODY):
                return ()
            raise CommandRefused(f"ConfbridgeList: {reply.message}")
        found = (self._participant(event) for event in reply.events)
        return tuple(one for one in found if one is not None)

    def _participant(self, event: Mapping[str, str]) -> Participant | None:
        if event.get("Event") != "ConfbridgeList" or not event.get("Channel"):
            return None
        known = {key: value for key, value in event.items() if value != "<unknown>"}
        uniqueid = known.get("Uniqueid", "")
        return Participant(
            id=uniqueid,
            channel=event["Channel"],
            number=known.get("CallerIDNum", ""),
            name=known.get("CallerIDName", ""),
            muted=known.get("Muted") == "Yes",
            talking=known.get("Talking") == "Yes",
            own=uniqueid == self._info.uniqueid,
        )

    def kick(self, participant: Participant | str) -> None:
        """Out with him; waits until he is. Raises BadRequest when he does not sit there (any more),
        CommandTimeout."""
        one = self._find(participant)
        self._to_one("ConfbridgeKick", one)
        deadline = monotonic() + SEAT_S
        while any(each.id == one.id for each in self.participants()):
            if monotonic() > deadline:
                raise CommandTimeout(f"conference {self.name}: {one.channel} does not leave it")
            self._await_change(deadline)

    def _await_change(self, deadline: float) -> None:
        with self._cond:
            seen = self._changes
            left = max(min(deadline - monotonic(), POLL_S), 0)
            self._cond.wait_for(lambda: self._changes != seen, left)

    def mute(self, participant: Participant | str) -> None:
        """The others do not hear him; ``hear`` still does: his fork is before the bridge."""
        self._to_one("ConfbridgeMute", participant)

    def unmute(self, participant: Participant | str) -> None:
        """The others hear him again."""
        self._to_one("ConfbridgeUnmute", participant)

    def _to_one(self, action: str, participant: Participant | str) -> None:
        reply = self._action(action, self._find(participant).channel)
        if not reply.success:
            raise BadRequest("participant", f"conference {self.name}: {reply.message}")

    def _action(self, action: str, channel: str) -> AmiReply:
        return self._services.ami.action(action, {"Conference": self.name, "Channel": channel})

    def _find(self, participant: Participant | str) -> Participant:
        if isinstance(participant, Participant):
            return participant
        for one in self.participants():
            if participant in (one.id, one.channel):
                return one
        raise BadRequest("participant", f"{participant[:80]!r} is not in conference {self.name}")

    # Hearing

    def hear(self, timeout_s: float = 10.0) -> ConferenceHeard:
        """The next thing that anybody says, and who. What is said between two calls of ``hear`` is
        kept (the last 200), from the first of them on. Without a seat, too.

        Raises Hangup when this call was hung up, RecognitionUnavailable.
        """
        if timeout_s <= 0:
            raise BadRequest("timeout_s", f"{timeout_s!r}: expected seconds, more than 0")
        self._listening = True
        deadline = monotonic() + timeout_s
        while True:
            self._agi.poll_hangup()
            self._refresh()
            self._check_ears()
            with self._cond:
                if not self._said and monotonic() < deadline:
                    left = deadline - monotonic()
                    self._cond.wait_for(self._has_news, min(left, POLL_S))
                if self._said:
                    return self._said.popleft()
            if monotonic() >= deadline:
                return ConferenceHeard(HearStatus.TIMEOUT)

    def _has_news(self) -> bool:
        return bool(self._said) or self._changes != self._refreshed

    def _refresh(self) -> None:
        """A fork for each who came, none for those who went."""
        with self._cond:
            due = self._changes != self._refreshed or monotonic() > self._refreshed_at + REFRESH_S
            self._refreshed = self._changes
        if not due:
            return
        self._refreshed_at = monotonic()
        try:
            there = {one.id: one for one in self.participants()}
            for key in [key for key in self._taps if key not in there or self._taps[key][1].over]:
                self._taps.pop(key)[1].stop()
            for one in there.values():
                self._tap(one)
        except AsteriskError as error:  # who is heard already is heard on
            log.warning("conference %s: who sits there is not known: %s", self.name, error)

    def _tap(self, one: Participant) -> Tap | None:
        known = self._taps.get(one.id)
        tap = known[1] if known else None
        if tap is None:
            tap = Tap(one.channel, self._services, self._info.language, self._said_by(one))
            if not tap.start():
                return None
        self._taps[one.id] = (one, tap)
        if self._listening:
            tap.ear.listen()
        return tap

    def _said_by(self, one: Participant) -> Callable[[Utterance], None]:
        def said(utterance: Utterance) -> None:
            log.info("conference %s: %s: %s", self.name, one.channel, utterance.text)
            heard = ConferenceHeard(
                HearStatus.RECOGNIZED,
                one,
                utterance.text,
                utterance.confidence,
                utterance.language,
                utterance.start_ms,
                utterance.end_ms,
                utterance.words,
            )
            with self._cond:
                self._said.append(heard)
                self._cond.notify_all()

        return said

    def _check_ears(self) -> None:
        for key, (one, tap) in list(self._taps.items()):
            if (failure := tap.ear.failure) is not None:
                self._taps.pop(key)[1].stop()
                self._refreshed = -1  # the next hear begins anew
                raise RecognitionUnavailable(f"of {one.channel}: {failure}")

    # Speaking

    def whisper(self, participant: Participant | str, prompt: Prompt) -> Played:
        """Play a text, or a file of the backend's own, to one of them alone, and wait for its end.
        LOST: he has gone, or his channel was sent nothing.

        Raises Hangup when this call was hung up, BadRequest (he does not sit there; a sound that
        only Asterisk has), SynthesisUnavailable.
        """
        return self._whisper([self._find(participant)], prompt)[0]

    def play(self, prompt: Prompt) -> dict[str, Played]:
        """The same to all who sit there now, at the same time; how it ended for each, by his id."""
        there = self.participants()
        return {
            one.id: played for one, played in zip(there, self._whisper(there, prompt), strict=True)
        }

    def _whisper(self, to: Sequence[Participant], prompt: Prompt) -> list[Played]:
        audio = self._audio(prompt)
        taps = [self._tap(one) for one in to]
        under_way = [tap.whisper(audio) if tap is not None else None for tap in taps]
        ends = [Played(PlayEnd.LOST, 0)] * len(under_way)
        try:
            for place, whisper in enumerate(under_way):
                if whisper is not None:
                    longest_s = self._services.call.max_call_s
                    ends[place] = whisper.wait(longest_s, self._agi.poll_hangup)
        finally:
            for tap, whisper in zip(taps, under_way, strict=True):
                if tap is not None and whisper is not None:
                    whisper.stop()
                    tap.done(whisper)
        return ends

    def _audio(self, prompt: Prompt) -> PromptAudio:
        prompts = self._services.prompts
        if isinstance(prompt, Sound):
            audio = prompts.sound(prompt.name).audio()
        elif isinstance(prompt, Text):
            audio = prompts.text(prompt.text, prompt.language).audio()
        else:
            audio = prompts.text(prompt, self._info.language).audio()
        if audio is None:
            raise BadRequest("prompt", f"{prompt}: a sound of Asterisk's own cannot be whispered")
        return audio

    # The end

    def close(self) -> None:
        """The scenario has ended. Never raises for what Asterisk does."""
        self._unwatch()
        try:
            self.leave()
        except (Hangup, AsteriskError) as error:
            log.debug("conference %s: its seat ends with the channel: %s", self.name, error)
        for _, tap in self._taps.values():
            tap.stop()
        self._taps.clear()

    # The AMI's thread

    def _come_or_gone(self) -> None:
        with self._cond:
            self._changes += 1
            self._cond.notify_all()
