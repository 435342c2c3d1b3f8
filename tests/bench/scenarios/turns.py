"""Scenarios of the benchmark's part on turns and bridges (tests/bench/turns.py)."""

from backend import Call, Sound, scenario

HINTS = "hints"  # the task's variable: what the recogniser has to know, "-" between


@scenario("bench-alarm")
def alarm(call: Call) -> dict[str, object]:
    """A tone of 4 s that voice pauses and words stop."""
    call.answer()
    hints = [hint.replace("_", " ") for hint in (call.get_variable(HINTS) or "").split("-")]
    heard = call.hear(Sound("tone-4s"), timeout_s=0.5, barge_in="words", hints=hints)
    assert heard.prompt is not None
    return {"end": heard.prompt.end, "text": heard.text}


@scenario("bench-bridge")
def bridge(call: Call) -> str:
    """The caller and a leg; the caller speaks and hangs up."""
    call.answer()
    leg = call.dial(call.get_variable("leg") or "")
    return call.bridge(leg).ended_by


@scenario("bench-room")
def room(call: Call) -> None:
    """A seat until the hangup."""
    call.answer()
    call.conference("bench").join()
    call.wait_for_hangup(60)
