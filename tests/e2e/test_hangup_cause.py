"""``hangup(cause)``: what the other side is told."""

from __future__ import annotations

from pathlib import Path

from lab_ami import Ami

from tests.e2e.conftest import probing_stack


def test_a_caller_is_told_the_cause_and_pays_nothing(tmp_path: Path, asterisk: str) -> None:
    """The ready scenario no-such-number, before any answer."""
    with probing_stack(tmp_path, asterisk, DIALOG_DEFAULT_SCENARIO="no-such-number") as stack:
        subscriber = stack.lab.subscriber
        user, secret = subscriber.observer_user, subscriber.observer_secret
        with Ami(subscriber.ami_port, user, secret) as ami:
            call = ami.originate("74951234567", "subscriber", exten="1000001", trunk="pbx")
            hangup = ami.event("Hangup", 60, Uniqueid=call)
            assert hangup["Cause"] == "1"
            assert hangup["ChannelStateDesc"] != "Up", "it was never answered"
        log = stack.log_path.read_text()
        assert "robot: The number you have dialed does not exist." in log
        stack.wait_for(
            "the call's end", lambda: "done/completed" in stack.log_path.read_text() or None
        )
