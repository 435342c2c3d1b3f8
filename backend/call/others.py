"""What a call does with other channels: legs, bridges, transfers, conferences; and their end
with it.

One object a call, used by the scenario's thread. ``Call`` passes its methods on to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from backend.call.bridge import BridgeEnd, Bridging, TransferEnd, Transferring
from backend.call.conference import Conference
from backend.call.leg_desk import LegDesk
from backend.call.legs import ANSWER_GRACE_S, CONTEXT, Leg
from backend.call.screening import Judge, Screener, Wishes
from backend.dialing.policy import Rules, admit
from backend.errors import AsteriskError, AsteriskUnavailable, BadRequest, Hangup
from backend.model import Reason, TaskRequest
from backend.ports import ChannelEvents

if TYPE_CHECKING:
    from backend.call.call import CallInfo
    from backend.call.lent import LentAgi
    from backend.call.runner import Services

log = logging.getLogger(__name__)

MAX_LEGS = 20  # of one call, dialled or alive at once
_ARGUMENTS = {"phone": "number", "timeout": "timeout_s", "channel": "trunk"}


@dataclass(frozen=True, slots=True)
class LegServices:
    """What all calls of a worker share for their other channels. ``rules``: what may be dialled."""

    desk: LegDesk
    events: ChannelEvents
    rules: Rules
    judge: Callable[[Wishes], Judge] | None = None  # a new one for each leg


class OtherChannels:
    """One call's other channels."""

    def __init__(self, agi: LentAgi, info: CallInfo, services: Services) -> None:
        self._agi = agi
        self._info = info
        self._services = services
        self._legs: list[Leg] = []
        self._conferences: dict[str, Conference] = {}
        self._ends_at = monotonic() + services.call.max_call_s

    # Legs

    def dial(
        self, number: str, timeout_s: float, caller_id: str | None, trunk: str,
        judge: Judge | None = None,
    ) -> Leg:  # fmt: skip
        """See ``Call.dial``, ``Call.dial_screened``."""
        request = self._admitted(number, timeout_s, caller_id, trunk)
        self._legs = [leg for leg in self._legs if not leg.over]
        if len(self._legs) >= MAX_LEGS:
            raise BadRequest(
                "number", f"{MAX_LEGS} legs of this call are alive: hang up some first"
            )
        self._agi.poll_hangup()
        leg = Leg(uuid4(), number, self._info, self._services)
        self._legs.append(leg)
        screener = leg.screener = Screener(judge) if judge is not None else None
        try:
            self._originate(leg, request)
            if screener is not None and not leg.over:
                screener.begin(leg, self._services, self._info.language)
            leg.await_answer(monotonic() + timeout_s + ANSWER_GRACE_S, self._look(leg))
            if leg.parked:
                self._open(leg)
        except BaseException:
            leg.hangup()
            raise
        finally:
            if screener is not None and leg.over:
                screener.ended(leg.reason or Reason.OTHER, leg.cause)
            elif screener is not None:
                screener.close()
        return leg

    def dial_screened(
        self, number: str, timeout_s: float, caller_id: str | None, trunk: str, who_answered: bool
    ) -> Leg:
        """See ``Call.dial_screened``."""
        make = self._services.legs.judge
        if make is None:
            raise BadRequest("dial_screened", "this backend has nothing to judge a leg by")
        wishes = Wishes(self._info.language, round(timeout_s * 1000), who_answered)
        judge = make(wishes)
        return self.dial(number, timeout_s, caller_id, trunk, judge)

    def _open(self, leg: Leg) -> None:
        """It was answered. That it has gone meanwhile is its end, not the call's."""
        try:
            leg.open()
        except Hangup:
            leg.hangup()
        else:
            leg.await_verdict(self._agi.poll_hangup)

    def _look(self, leg: Leg) -> Callable[[], None]:
        def look() -> None:
            self._agi.poll_hangup()
            if leg.screener is not None and leg.screener.wants_hangup:
                leg.screen_out()

        return look

    def _admitted(
        self, number: str, timeout_s: float, caller_id: str | None, trunk: str
    ) -> TaskRequest:
        """Checked as a task's request is. Raises BadRequest with this call's names."""
        params: dict[str, object] = {"phone": number, "timeout": timeout_s, "channel": trunk}
        if caller_id is not None:
            params["caller_id"] = caller_id
        try:
            return admit(params, self._services.legs.rules)
        except BadRequest as error:
            parameter = _ARGUMENTS.get(error.parameter, error.parameter)
            raise BadRequest(parameter, error.why) from None

    def _originate(self, leg: Leg, request: TaskRequest) -> None:
        headers: dict[str, str | list[str]] = {
            "Channel": self.dial_string(request),
            "ChannelId": leg.id,
            "OtherChannelId": f"{leg.id}-2",
            "Context": CONTEXT,
            "Exten": "s",
            "Priority": "1",
            "Timeout": str(round(request.dial_timeout_s * 1000)),
            "Async": "true",
            "Variable": [f"DIALOG_LEG={self._services.legs.desk.address}/leg"],
        }
        if request.caller_id is not None:
            headers["CallerID"] = request.caller_id
        log.info("call %s: dialling %s as %s", self._info.id, leg.number, leg.id)
        try:
            reply = self._services.ami.action("Originate", headers)
        except AsteriskUnavailable as error:
            log.error("call %s: %s cannot be dialled: %s", self._info.id, leg.number, error)
            leg.refuse(Reason.ASTERISK_LOST, dialled=True)
        except AsteriskError as error:
            log.error("call %s: %s: no answer to Originate: %s", self._info.id, leg.number, error)
            leg.refuse(Reason.ASTERISK_LOST, dialled=True)
        else:
            if not reply.success:
                log.error("call %s: %s: refused: %s", self._info.id, leg.number, reply.message)
                leg.refuse(Reason.ASTERISK_REFUSED, dialled=False)

    def dial_string(self, request: TaskRequest) -> str:
        """What Asterisk dials."""
        template = self._services.legs.rules.channels[request.channel]
        return template.replace("{phone}", request.phone)

    # Two channels

    def bridge(self, leg: Leg, keep_after: bool) -> BridgeEnd:
        """See ``Call.bridge``."""
        if leg not in self._legs:
            raise BadRequest("leg", "is no leg that this call has dialled")
        return Bridging(self._agi, self._info, self._left_s()).run(leg, keep_after=keep_after)

    def transfer(
        self, number: str, timeout_s: float, caller_id: str | None, trunk: str
    ) -> TransferEnd:
        """See ``Call.transfer``."""
        request = self._admitted(number, timeout_s, caller_id, trunk)
        transferring = Transferring(
            self._agi, self._info, self._services.legs.events, self._left_s()
        )
        return transferring.run(self.dial_string(request), request.dial_timeout_s, caller_id)

    def _left_s(self) -> float:
        return max(self._ends_at - monotonic(), 0.0) + self._services.call.command_s

    # Conferences

    def conference(self, name: str) -> Conference:
        """See ``Call.conference``."""
        found = self._conferences.get(name)
        if found is None:
            found = Conference(name, self._agi, self._info, self._services)
            self._conferences[name] = found
        return found

    def leave_seats(self) -> None:
        """The call's own channel is free again. Raises what Conference.leave does."""
        for conference in self._conferences.values():
            conference.leave()

    # The end

    def close(self) -> None:
        """The scenario has ended: seats are left, forks stopped, legs hung up. Never raises."""
        for conference in self._conferences.values():
            try:
                conference.close()
            except Exception:
                log.exception("call %s: conference %s", self._info.id, conference.name)
        alive = [leg for leg in self._legs if not leg.over]
        for leg in alive:  # all are told at once, then awaited one by one
            leg.send_hangup()
        for leg in alive:
            try:
                leg.hangup()
            except Exception:
                log.exception("call %s: %s could not be hung up", self._info.id, leg.id)
