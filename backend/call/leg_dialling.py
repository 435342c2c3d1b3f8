"""What AMI's events tell of a leg that is dialled, and what it comes to. Pure.

How a leg that nobody answered ended is told by two events in any order (dialing/outcomes.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from backend.dialing.outcomes import unanswered
from backend.model import Reason

# From the first of Hangup and OriginateResponse to the second. They come from two threads of
# Asterisk, 4 ms apart at most (80 legs on each version, ten busy loops on two cores), but nothing
# bounds that, and who gives up too early takes a busy number for a failure. The second never comes
# only where the AMI connection broke between the two: only then so long is waited for nothing.
SECOND_EVENT_S = 5.0
# From a failed OriginateResponse to Newchannel, which may come behind it (1.7 ms, once in some
# thousand legs). Where no channel could be made it never comes, and nothing tells the one from the
# other: that is waited for each time, so it is shorter.
NO_CHANNEL_S = 1.0


class LegStatus(StrEnum):
    """Where a leg is, or how it ended; from BUSY on nobody has answered."""

    DIALING = "dialing"
    PARKED = "parked"
    BRIDGED = "bridged"
    ENDED = "ended"  # it was answered, and is over
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"
    INVALID_NUMBER = "invalid_number"
    UNREACHABLE = "unreachable"
    CONGESTION = "congestion"
    SCREENED = "screened"  # hung up before the answer, for what was heard
    FAILED = "failed"  # anything else; see ``reason``


@dataclass(slots=True)
class Dialling:
    """What has been told so far. ``hung``: Hangup was; ``cause``: its Q.850 cause; ``response``
    and ``originate_reason``: of OriginateResponse; ``ending_since``: clock, s, when the first of
    the two about an end came."""

    channel: str = ""
    hung: bool = False
    cause: int | None = None
    response: str | None = None
    originate_reason: int | None = None
    ending_since: float | None = None

    def told(self, event: Mapping[str, str], now: float) -> None:
        """The leg's next event."""
        name = event.get("Event")
        if name == "Newchannel":
            self.channel = event.get("Channel", "")
        elif name == "OriginateResponse":
            self.response = event.get("Response", "")
            self.originate_reason = _number(event.get("Reason"))
            if self.response != "Success":
                self._ends(now)
        elif name == "Hangup":
            self.cause = _number(event.get("Cause"))
            self.hung = True
            self._ends(now)

    def _ends(self, now: float) -> None:
        if self.ending_since is None:
            self.ending_since = now

    def is_over(self, now: float) -> bool:
        """Whether Asterisk has said all it will say of a leg without an answer."""
        if self.ending_since is None:
            return False
        if self.hung and self.response is not None:
            return True
        no_channel = self.response == "Failure" and not self.channel
        waits_s = NO_CHANNEL_S if no_channel else SECOND_EVENT_S
        return now - self.ending_since > waits_s

    def outcome(self) -> tuple[LegStatus, Reason | None]:
        """What it came to; of a leg that Asterisk has told an end of."""
        if self.response == "Success":
            return LegStatus.ENDED, None  # answered, and gone before AGI began
        reason = unanswered(self.cause, self.originate_reason).reason
        return status_of(reason), reason


def status_of(reason: Reason) -> LegStatus:
    """Of a leg that nobody answered, for this reason."""
    try:
        return LegStatus(reason.value)
    except ValueError:
        return LegStatus.FAILED


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None
