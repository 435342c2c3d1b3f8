"""The caller and another side, together: bridge (with a leg that is parked), transfer (to a
number).

Both are Asterisk's own applications, run on the call's channel: Bridge() and Dial(). The two
are in a simple bridge, which adds no delay; ConfBridge would add 20 ms each way (10 ms with
mixing_interval 10), would need a kick for each end, and would go on with one of the two when
this process dies.

Tried on 16.28 and 22.10: Bridge() takes a channel that is in AGI out of it by a masquerade, and
on 22.10 about one in a hundred times a channel "Surrogate/…" stays for ever. One that is in a
bridge already is moved, without a masquerade. So the leg first enters a bridge of its own, by
BridgeWait(), silent. It keeps its name, unique id and forks. Its AGI session ends with the
bridge; when the caller has ended it, F() leads the leg back to its worker ([dialog-leg], back),
else it is hung up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING

from backend.call.leg_desk import LegSession
from backend.call.legs import CONTEXT, Leg
from backend.call.lent import Errand
from backend.dialing.outcomes import unanswered
from backend.errors import Hangup
from backend.model import Reason
from backend.ports import ChannelEvents
from backend.protocol.agi import Reply

if TYPE_CHECKING:
    from backend.call.call import CallInfo
    from backend.call.lent import LentAgi

log = logging.getLogger(__name__)

REPLY_S = 5.0
EVENT_S = 0.5  # an event that was sent before AGI's last word is here within this


class BridgeSide(StrEnum):
    """Who ended it. NOBODY: the two were never together."""

    CALLER = "caller"
    OTHER = "other"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class BridgeEnd:
    """How a bridge ended, and how long it lasted. ``caller``: every command of the call raises
    Hangup from now on."""

    ended_by: BridgeSide
    duration_s: float


class TransferStatus(StrEnum):
    """How a transfer ended: COMPLETED: the two have spoken; else why nobody answered."""

    COMPLETED = "completed"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"
    INVALID_NUMBER = "invalid_number"
    UNREACHABLE = "unreachable"
    CONGESTION = "congestion"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TransferEnd:
    """How a transfer ended. ``duration_s``: of the talk; ``cause``: Q.850, None: not known."""

    status: TransferStatus
    ended_by: BridgeSide
    duration_s: float
    cause: int | None = None

    @property
    def completed(self) -> bool:
        return self.status is TransferStatus.COMPLETED


class Bridging:
    """One bridge of the call with a leg; the scenario's thread."""

    def __init__(self, agi: LentAgi, info: CallInfo, left_s: float) -> None:
        self._agi = agi
        self._info = info
        self._left_s = left_s

    def run(self, leg: Leg, *, keep_after: bool) -> BridgeEnd:
        """Until one of the two hangs up; a leg may have done so already. Raises Hangup when the
        caller was gone before, BadRequest for a leg that is not parked otherwise, CommandTimeout
        when the call has lasted too long."""
        self._agi.poll_hangup()
        result, caller_gone = "", False
        try:
            session = leg.leave_for_bridge()
        except Hangup:
            return BridgeEnd(BridgeSide.OTHER, 0.0)
        holding = Errand(f"{leg.id}-bridge", lambda: self._hold(session, leg))
        began = monotonic()
        try:
            leg.await_held()
            log.info("call %s: bridged with %s", self._info.id, leg.id)
            began = monotonic()
            back = f",F({CONTEXT}^s^back)" if keep_after else ""
            try:
                self._agi.command("EXEC", "Bridge", leg.channel + back, timeout_s=self._left_s)
                reply = self._agi.command("GET VARIABLE", "BRIDGERESULT", timeout_s=REPLY_S)
                result = reply.data or ""
            except Hangup:
                caller_gone = True
        finally:
            leg.come_back(session, keep=keep_after, parted=result == "SUCCESS" or caller_gone)
            holding.join(REPLY_S)
        lasted_s = monotonic() - began
        if caller_gone:
            end = BridgeEnd(BridgeSide.CALLER, lasted_s)
        elif result == "SUCCESS":
            end = BridgeEnd(BridgeSide.OTHER, lasted_s)
        else:
            log.warning(
                "call %s: no bridge with %s: Bridge() says %r", self._info.id, leg.id, result
            )
            gone = result == "NONEXISTENT"
            end = BridgeEnd(BridgeSide.OTHER if gone else BridgeSide.NOBODY, 0.0)
        log.info("call %s: bridge with %s over: %s", self._info.id, leg.id, end)
        return end

    def _hold(self, session: LegSession, leg: Leg) -> Reply:
        """The leg's side, in a thread of its own: its AGI session ends with this."""
        where = f"{leg.id},participant,e(n)"
        return session.command("EXEC", "BridgeWait", where, timeout_s=self._left_s)


class Transferring:
    """One transfer of the call to a number; the scenario's thread."""

    def __init__(self, agi: LentAgi, info: CallInfo, events: ChannelEvents, left_s: float) -> None:
        self._agi = agi
        self._info = info
        self._events = events
        self._left_s = left_s
        self._cond = threading.Condition()
        self._answered_at: float | None = None

    def run(self, dial: str, timeout_s: float, caller_id: str | None) -> TransferEnd:
        """Until nobody answered, or one of the two hung up. Raises Hangup when the caller hung up
        before an answer, CommandTimeout when the call has lasted too long."""
        # f(): what the other side is shown; o() would only name the channel (tried).
        options = f"gf({caller_id})" if caller_id else "g"
        unwatch = self._events.watch(self._info.uniqueid, self._told)
        log.info("call %s: transfer to %s", self._info.id, dial)
        try:
            data = f"{dial},{max(round(timeout_s), 1)},{options}"
            self._agi.command("EXEC", "Dial", data, timeout_s=self._left_s)
            end = self._ended()
        except Hangup:
            end = self._caller_gone()
        finally:
            unwatch()
        log.info("call %s: transfer over: %s", self._info.id, end)
        return end

    def _ended(self) -> TransferEnd:
        """The caller is still there."""
        wanted = "${DIALSTATUS}|${HANGUPCAUSE}|${ANSWEREDTIME}"
        reply = self._agi.command("GET FULL VARIABLE", wanted, timeout_s=REPLY_S)
        status, cause_text, seconds = [*(reply.data or "").split("|"), "", "", ""][:3]
        cause = int(cause_text) if cause_text.isdecimal() else 0
        if status == "ANSWER":
            return TransferEnd(
                TransferStatus.COMPLETED, BridgeSide.OTHER, self._lasted_s(seconds), cause or None
            )
        # HANGUPCAUSE of a dialling that ran into its timeout is the one of the dialling before.
        cause = 0 if status == "NOANSWER" else cause
        return TransferEnd(
            _BY_DIALSTATUS.get(status) or _by_cause(cause), BridgeSide.NOBODY, 0.0, cause or None
        )

    def _caller_gone(self) -> TransferEnd:
        with self._cond:
            self._cond.wait_for(lambda: self._answered_at is not None, EVENT_S)
        if self._answered_at is None:
            raise Hangup("the caller hung up before the transfer was answered")
        return TransferEnd(TransferStatus.COMPLETED, BridgeSide.CALLER, self._lasted_s(""))

    def _lasted_s(self, seconds: str) -> float:
        """By our own clock; by Asterisk's whole seconds where its event was missed."""
        if self._answered_at is not None:
            return monotonic() - self._answered_at
        return float(seconds) if seconds.isdecimal() else 0.0

    def _told(self, event: Mapping[str, str]) -> None:
        """The AMI's thread."""
        if event.get("Event") == "DialEnd" and event.get("DialStatus") == "ANSWER":
            with self._cond:
                self._answered_at = monotonic()
                self._cond.notify_all()


_BY_DIALSTATUS = {
    "BUSY": TransferStatus.BUSY,
    "NOANSWER": TransferStatus.NO_ANSWER,
}  # CHANUNAVAIL and CONGESTION hide a cause (21 is CHANUNAVAIL on 16.28 and 22.10)


def _by_cause(cause: int) -> TransferStatus:
    reason = unanswered(cause, None).reason
    if reason is Reason.OTHER:
        return TransferStatus.FAILED
    return TransferStatus(reason.value)
