"""What ``doctor`` asks an Asterisk through AMI. Each probe is one action and needs few rights.

None of them needs ``system``, ``command`` or ``config``: ``ModuleCheck`` would need ``system``, so
a module is found by the actions that it registers (an unknown action is "Invalid/unknown command",
a known one without the right "Permission denied").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import time

from backend.errors import CommandRefused
from backend.ports import Ami, AmiReply

# What the backend uses, and what a login that can do it must not have been given besides.
NEEDED_ACTIONS = ("Originate", "ControlPlayback", "CoreShowChannels", "CoreSettings")
DANGEROUS_ACTIONS = ("Command", "UpdateConfig", "GetConfig", "ModuleLoad", "DialplanExtensionAdd")


@dataclass(frozen=True, slots=True)
class AsteriskVersion:
    asterisk: str  # e.g. 16.28.0~dfsg-0+deb11u4
    ami: str  # e.g. 5.0.4
    major: int | None  # None: a version that does not begin with a number


@dataclass(frozen=True, slots=True)
class Rights:
    """``missing``: needed actions that the login may not use; ``dangerous``: what it may use and
    should not."""

    missing: tuple[str, ...]
    dangerous: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModuleFound:
    """``permitted``: the login may use the module's action; None when it is not loaded."""

    loaded: bool
    permitted: bool | None


@dataclass(frozen=True, slots=True)
class ContextFound:
    """``exists``: None when the login may not ask (read the message)."""

    exists: bool | None
    message: str


@dataclass(frozen=True, slots=True)
class Clock:
    """``skew_s``: Asterisk's clock minus ours; ``round_trip_s`` bounds its error."""

    skew_s: float
    round_trip_s: float


def version(ami: Ami) -> AsteriskVersion:
    """Needs write=reporting. Raises AsteriskError."""
    headers = _done("CoreSettings", ami.action("CoreSettings", {})).headers
    asterisk = headers.get("AsteriskVersion", "")
    major = asterisk.partition(".")[0]
    return AsteriskVersion(
        asterisk, headers.get("AMIversion", ""), int(major) if major.isdecimal() else None
    )


def rights(ami: Ami, needed: Sequence[str] = NEEDED_ACTIONS) -> Rights:
    """ListCommands names the actions that this login may use. Needs no right itself."""
    allowed = {
        name.lower() for name in _done("ListCommands", ami.action("ListCommands", {})).headers
    }
    return Rights(
        missing=tuple(name for name in needed if name.lower() not in allowed),
        dangerous=tuple(name for name in DANGEROUS_ACTIONS if name.lower() in allowed),
    )


def module(ami: Ami, action: str = "StopAudioFork") -> ModuleFound:
    """Whether the module that registers ``action`` is loaded. The action is sent without its
    parameters, so it does nothing. Needs no right."""
    reply = ami.action(action, {})
    if "unknown command" in reply.message.lower():
        return ModuleFound(loaded=False, permitted=None)
    return ModuleFound(loaded=True, permitted=reply.message != "Permission denied")


def context(ami: Ami, name: str, exten: str = "s") -> ContextFound:
    """Whether the dialplan has ``exten`` in context ``name``. Needs write=reporting (or config)."""
    reply = ami.action("ShowDialPlan", {"Context": name, "Extension": exten})
    if reply.message == "Permission denied":
        return ContextFound(None, "ShowDialPlan needs write=reporting")
    return ContextFound(reply.success, reply.message)


def clock(ami: Ami) -> Clock:
    """Needs no right. Raises AsteriskError."""
    sent_at = time()
    reply = _done("Ping", ami.action("Ping", {}))
    came_at = time()
    try:
        theirs = float(reply.headers["Timestamp"])
    except (KeyError, ValueError):
        raise CommandRefused("Ping: its answer holds no Timestamp") from None
    return Clock(theirs - (sent_at + came_at) / 2, came_at - sent_at)


def _done(action: str, reply: AmiReply) -> AmiReply:
    if not reply.success:
        raise CommandRefused(f"{action}: {reply.message}")
    return reply
