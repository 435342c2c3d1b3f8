"""Scenarios for tests/e2e/test_turns.py: each is one turn, and what came of it."""

import threading

from backend import (
    Call,
    CommandRefused,
    Digits,
    DigitsRead,
    Heard,
    Played,
    RecognitionUnavailable,
    Sound,
    scenario,
)

STAIRS = Sound("stairs")
WORDS = ("okay", "uh-huh", "thank you")
LONG = ("wait a moment please i do not want to listen to all of this let me say something first",)
Json = dict[str, object]


def of_prompt(played: Played | None) -> Json:
    if played is None:
        return {"end": None}
    return {"end": played.end, "ms": played.end_ms, "by": played.by}


def of(heard: Heard) -> Json:
    return {
        "status": heard.status,
        "text": heard.text,
        "digits": heard.digits,
        "reason": heard.reason,
        "error": heard.error,
        "start_ms": heard.start_ms,
        "end_ms": heard.end_ms,
        **of_prompt(heard.prompt),
    }


def of_digits(read: DigitsRead) -> Json:
    return {"status": read.status, "digits": read.digits, **of_prompt(read.prompt)}


def from_asterisk(call: Call, name: str) -> Sound:
    """One that Asterisk plays itself: its name is absolute."""
    return Sound(f"{call.get_variable('LAB_TONES')}/{name}")


@scenario("turn-voice")
def voice(call: Call) -> Json:
    """Voice stops the prompt."""
    call.answer()
    return of(call.hear(Sound("tone-3s"), timeout_s=4))


@scenario("turn-off")
def off(call: Call) -> Json:
    """Nothing stops the prompt."""
    call.answer()
    return of(call.hear(Sound("tone-3s"), barge_in="off", timeout_s=4, hints=LONG))


@scenario("turn-words")
def words(call: Call) -> Json:
    """Words stop the prompt, voice pauses it."""
    call.answer()
    heard = call.hear(STAIRS, barge_in="words", timeout_s=2, hints=(*WORDS, *LONG))
    call.speak(Sound("short-tone"))
    return of(heard)


@scenario("turn-words-file")
def words_file(call: Call) -> Json:
    """The same, of a file that Asterisk plays."""
    call.answer()
    prompt = from_asterisk(call, "stairs")
    heard = call.hear(prompt, barge_in="words", timeout_s=2, hints=(*WORDS, *LONG))
    call.speak(Sound("short-tone"))
    return of(heard)


@scenario("turn-long-tone")
def long_tone(call: Call) -> Json:
    """Half a minute: how soon it is paused and stopped."""
    call.answer()
    heard = call.hear(Sound("long-tone"), barge_in="words", timeout_s=2, hints=(*WORDS, *LONG))
    return of(heard)


@scenario("turn-twice")
def twice(call: Call) -> Json:
    """A caller who pauses: two utterances, each a turn's; the second in a session of its own."""
    call.answer()
    first = call.hear(Sound("short-tone"), timeout_s=5)
    second = call.hear(timeout_s=3, hints=("thank you",))
    return {"first": of(first), "second": of(second)}


@scenario("turn-patient")
def patient(call: Call) -> Json:
    """The same caller, and a turn that lets him pause."""
    call.answer()
    return of(call.hear(Sound("short-tone"), timeout_s=5, end_silence_s=1.6))


@scenario("turn-digits")
def digits(call: Call) -> Json:
    """Keys or words."""
    call.answer()
    turn = Digits(max=4, terminator="#", between_s=1.5)
    heard = call.hear(Sound("long-tone"), barge_in="words", timeout_s=4, digits=turn)
    after = call.speak(Sound("short-tone"))
    return {**of(heard), "after": after.end}


@scenario("read-digits")
def read_digits(call: Call) -> Json:
    """Two readings, and what was typed ahead of the second."""
    call.answer()
    first = call.read_digits(1, prompt=Sound("long-tone"), timeout_s=4)
    second = call.read_digits(4, between_s=1.5, prompt=Sound("long-tone"), timeout_s=4)
    return {"first": of_digits(first), "second": of_digits(second)}


@scenario("read-slow-digits")
def read_slow_digits(call: Call) -> Json:
    """A caller who stops in the midst."""
    call.answer()
    return of_digits(call.read_digits(4, between_s=2, prompt=Sound("short-tone"), timeout_s=5))


@scenario("keys-interrupt")
def keys_interrupt(call: Call) -> Json:
    """A key ends speech; callbacks hear of all of them."""
    call.answer()
    told: list[str] = []
    three = threading.Event()

    def on_key(key: str) -> None:
        told.append(key)
        if len(told) == 3:
            three.set()

    call.on_dtmf(on_key)
    played = call.speak(Sound("long-tone"), interruptible="keys")
    three.wait(10)
    read = call.read_digits(4, timeout_s=1)
    return {**of_digits(read), **of_prompt(played), "told": "".join(told)}


@scenario("cancelled")
def cancelled(call: Call) -> Json:
    """A key, in a callback, cancels the turn under way."""
    call.answer()
    call.on_dtmf(lambda key: call.cancel_hear(f"key {key}") if key == "2" else None)
    return of(call.hear(Sound("long-tone"), barge_in="off", timeout_s=4))


@scenario("listening")
def listening(call: Call) -> Json:
    """Recognition beside prompts and turns: by iteration and by callbacks."""
    call.answer()
    partials: list[str] = []
    finals: list[str] = []

    def on_result(result: object) -> None:
        if not getattr(result, "final", True):
            partials.append(getattr(result, "text", ""))

    with call.listen(
        hints=WORDS, on_result=on_result, on_final=lambda r: finals.append(r.text)
    ) as ear:
        call.speak(Sound("tone-3s"))
        heard = call.hear(timeout_s=6)
        call.wait(0.2)
        ear.stop("enough")
        seen = [result.text for result in ear if result.final]
    return {**of(heard), "partials": partials, "finals": finals, "seen": seen, "why": ear.stopped}


@scenario("chained")
def chained(call: Call) -> Json:
    """Two tones and a text as one prompt; then twice a tone; then of two kinds."""
    call.answer(settle_s=0.2)
    one = call.speak([Sound("low"), Sound("high")])
    call.wait(0.5)
    two = call.speak(Sound("low"), repeat=2)
    call.wait(0.5)
    three = call.speak([Sound("low"), from_asterisk(call, "high")])
    return {"one": of_prompt(one), "two": of_prompt(two), "three": of_prompt(three)}


@scenario("instead")
def instead(call: Call) -> Json:
    """What is played when there is no synthesis."""
    call.answer(settle_s=0.2)
    played = call.speak("This text cannot be spoken.", on_error=Sound("low"))
    return {**of_prompt(played), "error": played.error}


@scenario("turn-unanswered")
def unanswered(call: Call) -> Json:
    """Recognition cannot be had: the first turn finds out, the second knows."""
    call.answer()
    errors = []
    for prompt in (Sound("low"), Sound("long-tone")):
        try:
            call.hear(prompt, timeout_s=30)
        except RecognitionUnavailable as error:
            errors.append(str(error))
    return {"first": errors[0], "second": errors[1]}


@scenario("told-of-keys")
def told_of_keys(call: Call) -> Json:
    """Where the fork tells of none."""
    call.answer()
    try:
        call.on_dtmf(print)
    except CommandRefused as error:
        return {"error": str(error)}
    return {"error": None}
