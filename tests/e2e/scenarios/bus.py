"""Scenarios whose steps go over the bus."""

import time

from backend import Call, Sound, scenario


@scenario("told")
def told(call: Call) -> int:
    """Keys are guarded over a prompt; then a step every 20 ms, two seconds long."""
    call.answer()
    call.guard_keys()
    call.read_digits(3, prompt=Sound("guarded-tone"), timeout_s=1)
    for n in range(100):
        call.step_log.add("node", {"type": "test", "number": n})
        call.wait(0.02)
    return 100


@scenario("many-steps")
def many_steps(call: Call) -> float:
    """A thousand steps at once; the seconds that they took."""
    call.answer()
    began = time.monotonic()
    for n in range(1000):
        call.step_log.add("node", {"type": "test", "number": n})
    took_s = time.monotonic() - began
    call.hear(timeout_s=0.3)
    return took_s
