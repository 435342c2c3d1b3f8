"""What a channel is a way for: SIP trunk or phone, browser, Asterisk's own. Pure."""

from __future__ import annotations

import re

from backend.model import ChannelKind

# The other side's address with its transport (Asterisk: channels/pjsip/dialplan_functions.c,
# channel_read_pjsip). A browser can be reached over a WebSocket alone, so ``transport=ws`` or
# ``wss`` tells it, for calls in both directions.
TARGET_URI = "${CHANNEL(pjsip,target_uri)}"

_WEBSOCKET = re.compile(r";transport=wss?\b", re.IGNORECASE)


def asks_target(channel: str) -> bool:
    """Whether TARGET_URI says anything of the channel: others log a warning when asked."""
    return channel.startswith("PJSIP/")


def channel_kind(channel: str, target_uri: str) -> ChannelKind:
    """``channel``: Asterisk's name of it. ``target_uri``: what TARGET_URI said, or nothing."""
    technology = channel.partition("/")[0]
    if technology == "PJSIP":
        return "webrtc" if _WEBSOCKET.search(target_uri) else "sip"
    if technology == "SIP":
        return "sip"
    return "local" if technology == "Local" else "other"
