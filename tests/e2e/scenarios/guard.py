"""Scenarios for tests/e2e/test_key_guard_calls.py: prompts that no key may break."""

import os
import signal
import threading
import time

from backend import Call, Digits, KeyGuard, Sound, scenario
from backend.ws_connection import Connection

Json = dict[str, object]
PROMPT = Sound("tone-3s")


@scenario("guard-digits")
def digits(call: Call) -> Json:
    """Three keys; those of before its end by the policy."""
    call.answer()
    policy = call.get_variable("policy")
    call.guard_keys(KeyGuard("buffer" if policy == "buffer" else "drop"))
    read = call.read_digits(3, prompt=PROMPT, terminator=None, timeout_s=3, between_s=2)
    call.speak(Sound("short-tone"))
    return {"digits": read.digits, "status": read.status}


@scenario("guard-long")
def long(call: Call) -> Json:
    """A prompt that a key may end, but only once it is open: 2 s before its end; then speech."""
    call.answer()
    call.guard_keys(KeyGuard(open_before_end_s=2))
    played = call.speak(PROMPT, interruptible="keys")
    heard = call.hear(timeout_s=2, digits=Digits(1))
    return {"end": played.end, "ms": played.end_ms, "by": played.by, "digits": heard.digits}


@scenario("guard-secret")
def secret(call: Call) -> Json:
    """Keys that nobody may see."""
    call.answer()
    call.guard_keys(KeyGuard(open_before_end_s=1, secret=True))
    read = call.read_digits(3, prompt=PROMPT, terminator=None, timeout_s=3, between_s=2)
    return {"digits": read.digits, "status": read.status}


@scenario("guard-limit")
def limit(call: Call) -> Json:
    """Nothing follows the input for longer than keys may be blocked."""
    call.answer()
    call.guard_keys(KeyGuard(max_block_s=1))
    call.read_digits(1, prompt=PROMPT, timeout_s=5)
    call.wait(2.5)
    read = call.read_digits(1, timeout_s=3)
    return {"digits": read.digits}


@scenario("guard-cut")
def cut(call: Call) -> Json:
    """The fork's connection breaks a second into the prompt."""
    call.answer()
    call.guard_keys()
    link = call._dialogue._speaker._stream.link()
    if isinstance(link, Connection) and link._transport is not None:
        threading.Timer(1.0, link.run, (link._transport.abort,)).start()
    read = call.read_digits(1, prompt=Sound("tone-5s"), timeout_s=3)
    return {"digits": read.digits, "ms": read.prompt.end_ms if read.prompt else None}


@scenario("guard-frozen")
def frozen(call: Call) -> Json:
    """Its worker stands still from a second into the prompt on, until somebody wakes it."""
    call.answer()
    call.guard_keys(KeyGuard(max_block_s=0.5))
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGSTOP)).start()
    read = call.read_digits(1, prompt=Sound("tone-5s"), timeout_s=3)
    return {"digits": read.digits}


@scenario("guard-conflict")
def conflict(call: Call) -> Json:
    """A guarded prompt is ordered while the audio loop stands still for a second: Asterisk does not
    know of the block yet."""
    call.answer()
    call.guard_keys()
    call.speak(Sound("short-tone"), guard=None)
    if (link := call._dialogue._speaker._stream.link()) is not None:
        link.run(lambda: time.sleep(1.0))
    read = call.read_digits(1, prompt=PROMPT, timeout_s=3)
    return {"digits": read.digits, "ms": read.prompt.end_ms if read.prompt else None}


@scenario("guard-file")
def file(call: Call) -> Json:
    """Asterisk plays the prompt by itself: it opens at its end."""
    call.answer()
    call.guard_keys()
    sound = Sound(f"{call.get_variable('LAB_TONES')}/short-tone")
    call.speak([sound, sound, sound])
    read = call.read_digits(1, timeout_s=4)
    return {"digits": read.digits}
