"""The scenario of tests/bench/keying.py: prompts that keys come over, each with an answer."""

from backend import Call, KeyGuard, Sound, scenario


@scenario("bench-keys")
def keys(call: Call) -> list[str]:
    call.answer()
    policy = call.get_variable("policy")
    call.guard_keys(KeyGuard("buffer" if policy == "buffer" else "drop"))
    prompt, rounds = Sound("bench-prompt"), int(call.get_variable("rounds") or 0)
    return [call.read_digits(2, prompt=prompt, timeout_s=4).digits for _ in range(rounds)]
