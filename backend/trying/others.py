"""Other channels of a simulated call: legs, bridges, transfers, and who answers there.

What ``Call`` asks of call/others.py, without Asterisk; arguments are checked by its very code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from backend.call.bridge import BridgeEnd, BridgeSide, TransferEnd, TransferStatus
from backend.call.call import Call, CallConfig, CallInfo
from backend.call.conference import Conference
from backend.call.leg_desk import LegDesk
from backend.call.leg_dialling import Dialling, LegStatus
from backend.call.legs import Leg
from backend.call.others import LegServices, OtherChannels
from backend.call.screening import Judge
from backend.dialing.policy import Rules
from backend.errors import BadRequest, CommandTimeout
from backend.media.screening import Screening, ScreenReason, ScreenResult
from backend.model import Reason
from backend.ports import OnChannelEvent
from backend.trying.person import TalkLine
from backend.trying.room import Room, SimulatedConference
from backend.trying.script import Script, Step, steps_of
from backend.trying.side import MAX_CALL_S, Setting, Side, open_side

if TYPE_CHECKING:
    from backend.call.lent import LentAgi
    from backend.call.runner import Services

ANSWERED = "answered"
VERDICT_S = 1.5  # of what is heard, until it is known what it is
# Known after the answer alone; a fax is then hung up. All else is known before it, and spares it.
AFTER_THE_ANSWER = (
    ScreenResult.PERSON,
    ScreenResult.MACHINE,
    ScreenResult.SILENCE,
    ScreenResult.ANSWERED,
    ScreenResult.FAX,
)
RING_S = 60.0

# Q.850, as a leg's ``cause``
CAUSES = {
    LegStatus.BUSY: 17,
    LegStatus.NO_ANSWER: 19,
    LegStatus.REJECTED: 21,
    LegStatus.INVALID_NUMBER: 1,
    LegStatus.UNREACHABLE: 20,
    LegStatus.CONGESTION: 34,
    LegStatus.FAILED: 127,
}
# What is signalled, as a verdict's result.
_RESULTS = {
    LegStatus.INVALID_NUMBER: ScreenResult.NO_SUCH_NUMBER,
    LegStatus.UNREACHABLE: ScreenResult.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Dialled:
    """What becomes of a number that is dialled. ``status``: "answered", or why nobody answered;
    ``after_s``: how long it rings; ``steps``: what the one who answers does. ``hears``: what
    ``dial_screened`` says that it is, its verdict's result."""

    status: str = ANSWERED
    steps: tuple[Step, ...] = ()
    after_s: float = 2.0
    hears: ScreenResult | None = None


def dialled(
    *script: Step | str,
    status: str = ANSWERED,
    after_s: float = 2.0,
    hears: str | None = None,
) -> Dialled:
    """For ``FakeCall(dials={"79161234567": dialled(say("yes"))})``. ``status``: "answered", "busy",
    "no_answer", "rejected", "invalid_number", "unreachable", "congestion", "failed". ``hears``:
    the result of ``dial_screened``'s verdict, e.g. "switched_off", which is known before any
    answer and ends the leg, or "machine", which is known after it."""
    known = (ANSWERED, *(one.value for one in CAUSES))
    if status not in known:
        raise BadRequest("status", f"{status!r:.80}: expected one of {', '.join(known)}")
    if not 0 <= after_s <= RING_S * 10:
        raise BadRequest("after_s", f"{after_s!r}: expected 0 to {RING_S * 10:g} seconds")
    if status != ANSWERED and script:
        raise BadRequest("script", f"nobody is there to do it: the status is {status}")
    if hears is not None and hears not in list(ScreenResult):
        raise BadRequest("hears", f"{hears!r:.80}: expected one of {', '.join(ScreenResult)}")
    return Dialled(status, joined(script), after_s, None if hears is None else ScreenResult(hears))


def parse_dialled(text: str) -> Dialled:
    """A plan as text: a status ("busy"), or what the one who answers does, steps parted by ";"
    ("say yes; hangup"); before either "hears WHAT;". Raises BadRequest."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    hears = None
    if parts and parts[0].startswith("hears "):
        hears = parts.pop(0).removeprefix("hears ").strip()
    if len(parts) == 1 and (parts[0] == ANSWERED or parts[0] in list(CAUSES)):
        return dialled(status=parts[0], hears=hears)
    return dialled(*parts, hears=hears)


def joined(script: tuple[Step | str, ...]) -> tuple[Step, ...]:
    """Steps, and texts of steps, as one script."""
    steps: list[Step] = []
    for item in script:
        steps += steps_of(item if isinstance(item, str) else [item])
    return tuple(steps)


@dataclass(frozen=True)
class _Services:
    """As much of runner.Services as is asked for here."""

    legs: LegServices
    call: CallConfig


class _NoEvents:
    """ports.ChannelEvents where nothing happens."""

    def watch(self, key: str, on_event: OnChannelEvent) -> Callable[[], None]:
        return lambda: None


class SimulatedLeg(Leg):
    """A leg that somebody answers, or nobody."""

    def __init__(self, number: str, setting: Setting, owner: CallInfo, steps: tuple[Step, ...]):
        leg_id = uuid4()
        self.id = f"leg-{leg_id}"
        self.number = number
        self.screener = None
        self.verdict: Screening | None = None
        self._setting = setting
        self._status = LegStatus.DIALING
        self._reason = None
        self._dialling = Dialling()
        self._callbacks: list[Callable[[Leg], object]] = []
        self._line = None
        self.side: Side = open_side(
            setting,
            number,
            steps,
            on_caller_hangup=self._hung_up,
            on_robot_hangup=lambda cause: self.end(LegStatus.ENDED, cause),
        )
        self._dialling.channel = self.side.channel.name
        info = replace(owner, id=leg_id, channel=self.channel, called=number, caller="")
        config = CallConfig(30.0, 5.0, MAX_CALL_S, "/recordings")
        self._call = Call(info, config, self.side.channel, self.side.dialogue, on_recording=print)

    @property
    def screening(self) -> Screening | None:
        return self.verdict

    def answered(self) -> None:
        """Somebody has, and begins with his steps."""
        self._status = LegStatus.PARKED
        self.side.channel.answered = True
        self.side.dialogue.begin()
        self.side.person.begins()

    def becomes(self, status: LegStatus) -> None:
        """Between being parked and bridged, or over without an answer."""
        self._status = status
        if status in CAUSES:
            self._dialling.cause = CAUSES[status]
            self._reason = Reason.OTHER if status is LegStatus.FAILED else Reason(status.value)
        if self.over:
            self._finish(status)

    def _talk(self) -> Call:
        if self._status is LegStatus.BRIDGED or self.over:
            return super()._talk()
        return self._call

    def on_hangup(self, callback: Callable[[Leg], object]) -> None:
        """At the moment of the hangup, in the only thread there is."""
        self._callbacks.append(callback)
        if self.over:
            self._call_back()

    def end(self, status: LegStatus, cause: int) -> None:
        """The robot hangs it up."""
        if self.over:
            return
        now_ms = self._setting.world.now_ms
        self._setting.tell(TalkLine("robot", "does", f"hangs up {self.number}", now_ms, now_ms))
        self._dialling.cause = cause
        self._finish(status)

    def _hung_up(self, cause: int, why: str) -> None:
        """Who answered hangs up."""
        if self.over:
            return
        now_ms = self._setting.world.now_ms
        self._setting.tell(TalkLine(self.number, "hangs up", "", now_ms, now_ms, why))
        self._dialling.cause = cause
        self._finish(LegStatus.ENDED)

    def _finish(self, status: LegStatus) -> None:
        self._status = status
        self.side.over()
        self.side.close()
        self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            self.side.callbacks.call(self._callbacks.pop(0), self)


class SimulatedOthers(OtherChannels):
    """A call's other channels; ``dials``: what becomes of the numbers, "*": of all others (one that
    answers and is silent)."""

    def __init__(
        self,
        setting: Setting,
        side: Side,
        info: CallInfo,
        rules: Rules,
        dials: Mapping[str, Dialled],
        rooms: Mapping[str, Room],
    ) -> None:
        services = _Services(
            LegServices(LegDesk(), _NoEvents(), rules),
            CallConfig(30.0, 5.0, MAX_CALL_S, "/recordings"),
        )
        agi = cast("LentAgi", side.channel)
        super().__init__(agi, info, cast("Services", services))
        self._setting = setting
        self._side = side
        self._dials = dials
        self._rooms = rooms
        self.every: list[SimulatedLeg] = []

    # Legs

    def dial(
        self,
        number: str,
        timeout_s: float,
        caller_id: str | None,
        trunk: str,
        judge: Judge | None = None,
    ) -> Leg:
        self._admitted(number, timeout_s, caller_id, trunk)
        return self._dialled(number, timeout_s)

    def dial_screened(
        self, number: str, timeout_s: float, caller_id: str | None, trunk: str, who_answered: bool
    ) -> Leg:
        self._admitted(number, timeout_s, caller_id, trunk)
        began_ms = self._setting.world.now_ms
        hears = self._plan(number).hears
        spared = hears is not None and hears not in AFTER_THE_ANSWER
        leg = self._dialled(number, timeout_s, spared=spared)
        result, reason = hears or ScreenResult.PERSON, ScreenReason.ANSWER
        if spared:
            reason = ScreenReason.ANNOUNCEMENT
        elif not leg.parked:
            reason = ScreenReason.SIGNALLING
            result = _RESULTS.get(leg.status) or ScreenResult(leg.status)
        elif who_answered:
            self._pass(VERDICT_S)
        else:
            result, reason = ScreenResult.ANSWERED, ScreenReason.SIGNALLING
        fax = leg.parked and result is ScreenResult.FAX
        at_ms = self._setting.world.now_ms - began_ms
        leg.verdict = Screening(result, reason, at_ms, leg.parked, spared or fax)
        if fax:
            leg.end(LegStatus.ENDED, 16)
        return leg

    def _dialled(self, number: str, timeout_s: float, *, spared: bool = False) -> SimulatedLeg:
        self._side.channel.check()
        plan = self._plan(number)
        leg = SimulatedLeg(number, self._setting, self._info, plan.steps)
        self.every.append(leg)
        self._legs.append(leg)
        start_ms = self._setting.world.now_ms
        try:
            status = self._ring(plan, timeout_s, spared=spared)
        except BaseException:
            leg.becomes(LegStatus.ENDED)
            raise
        if status is LegStatus.PARKED:
            leg.answered()
        else:
            leg.becomes(status)
        self._tell(f"dials {number}", start_ms, ANSWERED if leg.parked else status)
        return leg

    def _ring(self, plan: Dialled, timeout_s: float, *, spared: bool) -> LegStatus:
        """How it ends; a leg that is answered is parked. Raises Hangup."""
        if spared:
            self._pass(min(VERDICT_S, timeout_s))
            return LegStatus.SCREENED
        if plan.status == LegStatus.NO_ANSWER or plan.after_s > timeout_s:
            self._pass(timeout_s)
            return LegStatus.NO_ANSWER
        self._pass(plan.after_s)
        return LegStatus.PARKED if plan.status == ANSWERED else LegStatus(plan.status)

    def _plan(self, number: str) -> Dialled:
        return self._dials.get(number) or self._dials.get("*") or Dialled()

    def _pass(self, duration_s: float) -> None:
        """Time goes by. Raises Hangup."""
        world = self._setting.world
        ends_s = world.now_s + duration_s
        self._side.channel.poll_hangup()
        while world.now_s < ends_s:
            world.step(ends_s)
            self._side.channel.poll_hangup()

    def _tell(self, what: str, start_ms: int, note: str) -> None:
        end_ms = self._setting.world.now_ms
        self._setting.tell(TalkLine("robot", "does", what, start_ms, end_ms, note))

    # Two channels

    def bridge(self, leg: Leg, keep_after: bool) -> BridgeEnd:
        if leg not in self._legs or not isinstance(leg, SimulatedLeg):
            raise BadRequest("leg", "is no leg that this call has dialled")
        self._side.channel.check()
        if leg.status is LegStatus.ENDED:
            return BridgeEnd(BridgeSide.OTHER, 0.0)
        if not leg.parked:
            raise BadRequest("leg", f"is not parked but {leg.status}")
        leg.becomes(LegStatus.BRIDGED)
        start_ms = self._setting.world.now_ms
        by, lasted_s = self._together(leg)
        if not leg.over:
            if keep_after:
                leg.becomes(LegStatus.PARKED)
            else:
                leg.end(LegStatus.ENDED, 16)
        self._tell(f"bridges caller and {leg.number}", start_ms, f"ended by {by}")
        return BridgeEnd(by, lasted_s)

    def transfer(
        self, number: str, timeout_s: float, caller_id: str | None, trunk: str
    ) -> TransferEnd:
        self._admitted(number, timeout_s, caller_id, trunk)
        leg = self._dialled(number, timeout_s)
        self._legs.remove(leg)
        if not leg.parked:
            cause = None if leg.status is LegStatus.NO_ANSWER else leg.cause
            return TransferEnd(TransferStatus(leg.status), BridgeSide.NOBODY, 0.0, cause)
        leg.becomes(LegStatus.BRIDGED)
        start_ms = self._setting.world.now_ms
        by, lasted_s = self._together(leg)
        if not leg.over:
            leg.end(LegStatus.ENDED, 16)
        self._tell(f"transfers caller to {number}", start_ms, f"ended by {by}")
        return TransferEnd(TransferStatus.COMPLETED, by, lasted_s, leg.cause)

    def _together(self, leg: SimulatedLeg) -> tuple[BridgeSide, float]:
        """The two talk until one hangs up: who, after how long. Raises CommandTimeout."""
        world, caller = self._setting.world, self._side
        began_s = world.now_s
        people = (caller.person, leg.side.person)
        for person in people:
            person.wait_begins()
            person.turn_begins()
        try:
            while not caller.channel.over and not leg.over:
                if world.now_s - began_s > MAX_CALL_S:
                    raise CommandTimeout("the bridge does not end")
                world.step(world.now_s + 1.0)
        finally:
            for person in people:
                person.wait_ends()
        by = BridgeSide.CALLER if caller.channel.over else BridgeSide.OTHER
        return by, world.now_s - began_s

    # Conferences

    def conference(self, name: str) -> Conference:
        found = self._conferences.get(name)
        if found is None:
            room = self._rooms.get(name) or Room()
            found = SimulatedConference(name, room, self._setting, self._side, self._info)
            self._conferences[name] = found
        return found

    def close(self) -> None:
        for conference in self._conferences.values():
            conference.close()
        for leg in self.every:
            if not leg.over:
                leg.end(LegStatus.ENDED, 16)


__all__ = ["Dialled", "Script", "SimulatedLeg", "SimulatedOthers", "dialled", "joined"]
