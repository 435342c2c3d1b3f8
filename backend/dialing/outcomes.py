"""How Asterisk says that a dialled call was not answered, and what that means to a client. Pure.

Asterisk tells it twice: the channel's ``Hangup`` event carries a Q.850 cause, and the
``OriginateResponse`` event a "Reason", the last control frame of the dialling. Either may come
first, the second even before ``Newchannel``. Run on Asterisk 16.28, PJSIP to a second Asterisk,
``Originate`` with ``Async: true``:

======================================  ==================  =================================
the other side                          Hangup Cause        OriginateResponse
======================================  ==================  =================================
answers                                 16 (or what it      Success, Reason 4; before or after
                                        says at the end)    Newstate Up
is busy (486), at once or after ringing 17                  Failure, Reason 0 (never 5)
rejects                                 21                  Failure, Reason 0
number unknown (404)                    1                   Failure, Reason 0
number changed, number incomplete       22, 28              Failure, Reason 0
not there: 18, 19, 20, 3, 27            the same            Failure, Reason 0
the network: 34, 38, 41, 42, 44         the same            Failure, Reason 0
clears without a cause, ringing or not  16 or 31            Failure, Reason 0
rings until Timeout                     0                   Failure, Reason 3, before Hangup
gives early media until Timeout         0                   Failure, Reason 3
does not answer the INVITE at all       0                   Failure, Reason 3, after Hangup
no channel could be made: no such       there is no Hangup  Failure, Reason 0, with the
endpoint, nothing registered at it      and no Newchannel   Uniqueid that was asked for
ChannelId in use by a live channel      as above            as above: the answer to the action
                                                            is Success all the same
no such extension at our side           as above            none: the action itself is refused
                                                            ("Extension does not exist.")
Local channel, its extension missing    0                   Failure, Reason 0
======================================  ==================  =================================

22.10 makes the cause of the SIP status and passes over the Reason header: 480 is always 19 (so 20
and 31 never come), 603 is 21 (16, 41, 44), 404 is 1 (3), 503 is 34 (42); after a Timeout it is 19.

A cause of 17 and the like also stands in the Hangup of an answered call that the other side ended
so: the cause alone never says that nobody answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from backend.model import Outcome, Reason, TaskState

# OriginateResponse "Reason": control frames of Asterisk's frame.h.
ORIGINATE_FAILED = 0
ORIGINATE_HANGUP = 1
ORIGINATE_RINGING = 3  # the dial timeout ran out while it rang
ORIGINATE_ANSWERED = 4
ORIGINATE_BUSY = 5
ORIGINATE_CONGESTION = 8

_BY_CAUSE: Mapping[int, Reason] = MappingProxyType(
    {
        1: Reason.INVALID_NUMBER,  # unallocated number (SIP 404)
        2: Reason.UNREACHABLE,  # no route to the transit network
        3: Reason.UNREACHABLE,  # no route to the destination
        17: Reason.BUSY,  # user busy (SIP 486, 600)
        18: Reason.NO_ANSWER,  # no user responding (SIP 408)
        19: Reason.NO_ANSWER,  # no answer (SIP 480)
        20: Reason.UNREACHABLE,  # subscriber absent
        21: Reason.REJECTED,  # call rejected (SIP 401, 403, 407, 603)
        22: Reason.INVALID_NUMBER,  # number changed (SIP 410)
        27: Reason.UNREACHABLE,  # destination out of order (SIP 502)
        28: Reason.INVALID_NUMBER,  # invalid number format (SIP 484)
        34: Reason.CONGESTION,  # no circuit (SIP 503)
        38: Reason.CONGESTION,  # network out of order (SIP 500)
        41: Reason.CONGESTION,  # temporary failure
        42: Reason.CONGESTION,  # switch congestion
        44: Reason.CONGESTION,  # requested circuit not available
    }
)

_BY_ORIGINATE: Mapping[int, Reason] = MappingProxyType(
    {
        ORIGINATE_RINGING: Reason.NO_ANSWER,
        ORIGINATE_BUSY: Reason.BUSY,
        ORIGINATE_CONGESTION: Reason.CONGESTION,
    }
)


def unanswered(hangup_cause: int | None, originate_reason: int | None) -> Outcome:
    """The outcome of a call that nobody answered.

    ``hangup_cause`` is Q.850, None or 0 when Asterisk gave none; ``originate_reason`` is None when
    no OriginateResponse was seen.
    """
    if originate_reason == ORIGINATE_RINGING:
        return Outcome(TaskState.FAILED, Reason.NO_ANSWER)
    reason = _BY_CAUSE.get(hangup_cause or 0)
    if reason is None:
        reason = _BY_ORIGINATE.get(originate_reason or 0, Reason.OTHER)
    return Outcome(TaskState.FAILED, reason)
