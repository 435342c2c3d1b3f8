"""A simulated conference: its participants come, speak and go as they are told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.call import check
from backend.call.call import CallInfo
from backend.call.conference import (
    KEPT_SAID,
    NAME,
    Conference,
    ConferenceHeard,
    Participant,
)
from backend.call.playback import Played, PlayEnd
from backend.call.prompt import Prompt, parts_of, transcript_of
from backend.call.turn import HearStatus
from backend.errors import BadRequest, CommandRefused, RecognitionUnavailable
from backend.model import Utterance
from backend.ports import Hypothesis
from backend.trying.person import END_SILENCE_S, Person, Surroundings, TalkLine
from backend.trying.script import Step
from backend.trying.side import Setting, Side
from backend.trying.speaking import SimulatedSound


@dataclass(frozen=True, slots=True)
class Seat:
    """Somebody in a conference: his name and number, when he comes (seconds after this call first
    looks into the conference), and what he does there."""

    name: str
    steps: tuple[Step, ...] = ()
    number: str = ""
    comes_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Room:
    """A conference as the call finds it. ``full``: nobody is let in."""

    seats: tuple[Seat, ...] = ()
    full: bool = False


class _RoomEar:
    """Hears one participant."""

    def __init__(self, setting: Setting, said: Sitter) -> None:
        self.end_silence_s = END_SILENCE_S
        self.language = setting.language
        self._sitter = said

    def voice(self, speaking: bool) -> None:
        self._sitter.talking = speaking

    def words(self, hypothesis: Hypothesis) -> None:
        """Only whole utterances are told."""

    def ended(self, utterance: Utterance | None) -> None:
        if utterance is not None:
            self._sitter.conference.heard(self._sitter.participant, utterance)


class Sitter:
    """A participant who is not this call."""

    def __init__(self, number: int, seat: Seat, conference: SimulatedConference) -> None:
        setting = conference.setting
        self.conference = conference
        self.seat = seat
        self.id = f"simulated-{conference.name}-{number}"
        self.here = False
        self.muted = False
        self.talking = False
        ear = _RoomEar(setting, self)
        around = Surroundings(ear, lambda _: None, self._hangs_up, setting.run, setting.tell)
        self.person = Person(
            setting.world, seat.name, seat.steps, around, patience_s=setting.patience_s
        )

    @property
    def participant(self) -> Participant:
        return Participant(
            id=self.id,
            channel=f"Simulated/{self.seat.name}",
            number=self.seat.number,
            name=self.seat.name,
            muted=self.muted,
            talking=self.talking,
            own=False,
        )

    def comes(self) -> None:
        self.here = True
        self.person.begins()

    def goes(self) -> None:
        self.here = False
        self.person.goes()

    def _hangs_up(self, cause: int, why: str) -> None:
        now_ms = self.conference.setting.world.now_ms
        self.conference.setting.tell(TalkLine(self.seat.name, "hangs up", "", now_ms, now_ms, why))
        self.goes()


class SimulatedConference(Conference):
    """See call/conference.py."""

    def __init__(self, name: str, room: Room, setting: Setting, side: Side, info: CallInfo) -> None:
        if not NAME.fullmatch(name):
            raise BadRequest("id", f"{name[:80]!r}: 1 to 64 letters, digits, '_' and '-'")
        self.name = name
        self.setting = setting
        self._room = room
        self._side = side
        self._info = info
        self._max_participants: int | None = None
        self._joined = False
        self._muted = False
        self._listening = False
        self._said: deque[ConferenceHeard] = deque(maxlen=KEPT_SAID)
        self._sitters = [Sitter(number, seat, self) for number, seat in enumerate(room.seats)]
        for sitter in self._sitters:
            if sitter.seat.comes_s:
                setting.world.after(sitter.seat.comes_s, sitter.comes)
            else:
                sitter.comes()
        side.ear.also_tell(self._own_said)

    # A seat

    def join(self, *, muted: bool = False) -> None:
        if self._joined:
            return
        self._side.channel.check()
        if self._room.full or self._is_full():
            raise CommandRefused(f"conference {self.name}: no seat: FULL")
        self._joined, self._muted = True, muted
        self._side.channel.busy = f"it sits in conference {self.name}: leave() first"
        self._tell(f"joins conference {self.name}")

    def _is_full(self) -> bool:
        most = self._max_participants
        return most is not None and len(self.participants()) >= most

    @property
    def joined(self) -> bool:
        return self._joined and not self._side.channel.over

    def leave(self) -> None:
        if not self._joined:
            return
        self._joined = False
        self._side.channel.busy = None
        self._side.channel.poll_hangup()
        self._tell(f"leaves conference {self.name}")

    # Who is there

    def participants(self) -> tuple[Participant, ...]:
        others = [sitter.participant for sitter in self._sitters if sitter.here]
        return (*([self._own] if self.joined else []), *others)

    @property
    def _own(self) -> Participant:
        return Participant(
            id=self._info.uniqueid,
            channel=self._info.channel,
            number=self._info.caller,
            name="",
            muted=self._muted,
            talking=self._side.ear.speaking,
            own=True,
        )

    def kick(self, participant: Participant | str) -> None:
        one = self._present(participant)
        if one.own:
            self.leave()
            return
        self._sitter(one).goes()
        self._tell(f"kicks {one.name}")

    def mute(self, participant: Participant | str) -> None:
        self._set_muted(participant, muted=True)

    def unmute(self, participant: Participant | str) -> None:
        self._set_muted(participant, muted=False)

    def _set_muted(self, participant: Participant | str, *, muted: bool) -> None:
        one = self._present(participant)
        if one.own:
            self._muted = muted
        else:
            self._sitter(one).muted = muted
        self._tell(f"{'mutes' if muted else 'unmutes'} {one.name or 'the caller'}")

    def _present(self, participant: Participant | str) -> Participant:
        """Raises BadRequest when he does not sit there (any more)."""
        wanted = participant.id if isinstance(participant, Participant) else participant
        for one in self.participants():
            if wanted in (one.id, one.channel):
                return one
        raise BadRequest("participant", f"{wanted[:80]!r} is not in conference {self.name}")

    def _sitter(self, one: Participant) -> Sitter:
        return next(sitter for sitter in self._sitters if sitter.id == one.id)

    # Hearing

    def hear(self, timeout_s: float = 10.0) -> ConferenceHeard:
        check.seconds("timeout_s", timeout_s)
        self._side.channel.poll_hangup()
        self._listening = True
        world = self.setting.world
        ends_s = world.now_s + timeout_s
        people = self._people()
        for person in people:
            person.wait_begins()
            person.turn_begins()
        try:
            while not self._said and world.now_s < ends_s:
                if self.setting.troubles.recognition is not None:
                    raise RecognitionUnavailable(self.setting.troubles.recognition)
                world.step(ends_s)
                self._side.channel.poll_hangup()
        finally:
            for person in people:
                person.wait_ends()
        return self._said.popleft() if self._said else ConferenceHeard(HearStatus.TIMEOUT)

    def _people(self) -> list[Person]:
        others = [sitter.person for sitter in self._sitters]
        return [*([self._side.person] if self.joined else []), *others]

    def heard(self, who: Participant, said: Utterance) -> None:
        """Somebody has said something."""
        if self._listening:
            self._said.append(
                ConferenceHeard(
                    HearStatus.RECOGNIZED,
                    who,
                    said.text,
                    said.confidence,
                    said.language,
                    said.start_ms,
                    said.end_ms,
                    said.words,
                )
            )

    def _own_said(self, said: Utterance) -> bool:
        if self.joined:
            self.heard(self._own, said)
        return self.joined and self._listening

    # Speaking

    def whisper(self, participant: Participant | str, prompt: Prompt) -> Played:
        return self._play_to([self._present(participant)], prompt)[0]

    def play(self, prompt: Prompt) -> dict[str, Played]:
        there = self.participants()
        return {one.id: p for one, p in zip(there, self._play_to(there, prompt), strict=True)}

    def _play_to(self, to: Sequence[Participant], prompt: Prompt) -> list[Played]:
        self._side.channel.poll_hangup()
        world = self.setting.world
        lasts_s = self._length_s(prompt)
        text, start_ms = transcript_of(parts_of(prompt)), world.now_ms
        ends_s = world.now_s + lasts_s
        people = [self._side.person if one.own else self._sitter(one).person for one in to]
        for person in people:
            person.prompt_begins()
        try:
            while world.now_s < ends_s:
                world.step(ends_s)
                self._side.channel.poll_hangup()
        finally:
            for person in people:
                person.prompt_ends()
            names = ", ".join(one.name or "caller" for one in to)
            line = TalkLine("robot", "says", text, start_ms, world.now_ms)
            self.setting.tell(replace(line, to=names))
        here = {one.id for one in self.participants()}
        whole = Played(PlayEnd.COMPLETED, round(lasts_s * 1000))
        return [whole if one.id in here else Played(PlayEnd.LOST, 0) for one in to]

    def _length_s(self, prompt: Prompt) -> float:
        """Raises SynthesisUnavailable, BadRequest."""
        (part,) = parts_of(prompt)
        sound = self.setting.prompts.of(part)
        assert isinstance(sound, SimulatedSound)
        sound.audio()
        return sound.lasts_s

    def close(self) -> None:
        self._joined = False
        for sitter in self._sitters:
            sitter.person.goes()

    def _tell(self, what: str) -> None:
        now_ms = self.setting.world.now_ms
        self.setting.tell(TalkLine("robot", "does", what, now_ms, now_ms))
