"""Scenarios for tests/e2e/prompt_calls.py: guarded prompts, each with an input after it."""

from backend import Call, KeyGuard, Sound, scenario

PITCHES = (600, 700, 900, 1100)
THINKS_S = 0.7
Json = dict[str, object]


def _talk(call: Call, rules: KeyGuard) -> Json:
    call.answer()
    call.guard_keys(rules)
    read, ends = [], []
    for hz in PITCHES:
        ends.append(call.speak(Sound(f"guarded-{hz}")).end)
        read.append(call.read_digits(max=64, timeout_s=15, between_s=15).digits)
        call.wait(THINKS_S)
    return {"read": read, "ends": ends}


@scenario("guarded-drop")
def drop(call: Call) -> Json:
    """Keys of prompts are as if not pressed."""
    return _talk(call, KeyGuard("drop"))


@scenario("guarded-buffer")
def buffer(call: Call) -> Json:
    """Keys of prompts are kept."""
    return _talk(call, KeyGuard("buffer"))
