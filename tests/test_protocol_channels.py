"""protocol.channels: what a channel is, by its name and the other side's address."""

from __future__ import annotations

import pytest

from backend.protocol.channels import asks_target, channel_kind


@pytest.mark.parametrize(
    ("channel", "target", "kind"),
    [
        ("PJSIP/trunk-00000001", "sip:7916@10.0.0.1:5060", "sip"),
        ("PJSIP/trunk-00000001", "sip:7916@10.0.0.1:5061;transport=tls", "sip"),
        ("PJSIP/web-00000002", "sip:3f@10.0.0.9:51234;transport=ws", "webrtc"),
        ("PJSIP/web-00000002", "sip:3f@q.invalid;transport=WSS;ob", "webrtc"),
        ("PJSIP/x-00000003", "", "sip"),
        ("PJSIP/x-00000003", "sip:a@h;transport=wsx", "sip"),
        ("SIP/trunk-00000001", "", "sip"),
        ("Local/100@callee-00000000;1", "", "local"),
        ("DAHDI/i1/100-1", "", "other"),
        ("WebSocket/x/1", "", "other"),
        ("", "", "other"),
    ],
)
def test_kinds(channel: str, target: str, kind: str) -> None:
    assert channel_kind(channel, target) == kind
    assert asks_target(channel) is channel.startswith("PJSIP/")
