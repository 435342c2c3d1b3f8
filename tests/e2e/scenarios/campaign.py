"""A scenario that does anything, in an order that its seed tells: for talk_campaign.py."""

import random
import threading
from collections.abc import Callable

from backend import (
    Call,
    CommandRefused,
    Digits,
    Leg,
    LegHangup,
    RecognitionUnavailable,
    Sound,
    scenario,
)
from backend.errors import BadRequest

TEXT = "One two three four five six seven."
TONE = Sound("short-tone")
FLAWS = (BadRequest, CommandRefused, LegHangup, RecognitionUnavailable)
"""What a careful author expects: a leg that has just gone, a conference that nobody sits in."""


@scenario("anything")
def anything(call: Call) -> dict[str, object]:
    """Up to eight moves; then it returns, or hangs up, or raises."""
    chance = random.Random(call.get_variable("seed"))
    done: list[str] = []
    if chance.random() < 0.95:
        call.answer()
    for _ in range(chance.randint(1, 8)):
        name = chance.choice(sorted(MOVES))
        done.append(name)
        try:
            MOVES[name](call, chance)
        except FLAWS as flaw:
            done.append(f"{type(flaw).__name__}: {flaw}")
    end = chance.random()
    if end < 0.3:
        call.hangup(chance.choice([16, 17, 21, 34]))
    elif end < 0.4:
        raise ZeroDivisionError("the campaign's own")
    return {"done": done}


def number(call: Call, chance: random.Random) -> str:
    return chance.choice((call.get_variable("numbers") or "1030001").split("-"))


def speak(call: Call, chance: random.Random) -> None:
    how = chance.choice(("off", "voice", "keys", "any"))
    prompt = chance.choice((TEXT, TONE, [TONE, TEXT]))
    call.speak(prompt, repeat=chance.randint(1, 2), interruptible=how)  # type: ignore[arg-type]


def hear(call: Call, chance: random.Random) -> None:
    digits = chance.choice((None, Digits(2, "#", 1.0)))
    how = chance.choice(("voice", "words", "off"))
    call.hear(TEXT, timeout_s=2, barge_in=how, digits=digits)  # type: ignore[arg-type]


def cancelled(call: Call, chance: random.Random) -> None:
    timer = threading.Timer(chance.random(), call.cancel_hear, ["the campaign's"])
    timer.start()
    try:
        call.hear(TEXT, timeout_s=2)
    finally:
        timer.join()


def listen(call: Call, chance: random.Random) -> None:
    with call.listen(partials=chance.random() < 0.5, on_final=lambda result: None):
        call.speak(TEXT)


def keys(call: Call, chance: random.Random) -> None:
    call.on_dtmf(lambda key: None)
    call.read_digits(3, prompt=TONE, timeout_s=2, between_s=1)


def record(call: Call, chance: random.Random) -> None:
    recording = call.start_recording()
    call.wait(chance.random())
    if chance.random() < 0.5:
        recording.pause()
        call.wait(0.1)
        recording.resume()
    if chance.random() < 0.5:
        recording.stop()


def beside(call: Call, chance: random.Random) -> None:
    call.set_variable("LAB_CAMPAIGN", chance.random())
    call.store.add("campaign", expires_s=3600)
    call.execute("NoOp", "campaign")
    call.wait(chance.random())


def another(call: Call, chance: random.Random) -> None:
    if call.store.add("campaign-others") < 20:
        call.originate("1400000", scenario="quick")


def dial(call: Call, chance: random.Random) -> Leg:
    screened = chance.random() < 0.3
    way = call.dial_screened if screened else call.dial
    return way(number(call, chance), timeout_s=chance.choice((2, 8)))


def leg(call: Call, chance: random.Random) -> None:
    one = dial(call, chance)
    one.on_hangup(lambda leg: None)
    if one.parked:
        one.speak(TONE)
    if one.parked:
        one.hear(timeout_s=1)
    if chance.random() < 0.5:
        one.hangup(chance.choice([16, 17]))


def bridge(call: Call, chance: random.Random) -> None:
    one = dial(call, chance)
    if one.parked:
        call.bridge(one, keep_after=chance.random() < 0.5)


def transfer(call: Call, chance: random.Random) -> None:
    call.transfer(number(call, chance), timeout_s=2)


def sit(call: Call, chance: random.Random) -> None:
    room = call.conference(chance.choice(("one", "two")))
    room.join(muted=chance.random() < 0.3)
    room.hear(timeout_s=1 + 3 * chance.random())
    if chance.random() < 0.5:
        room.play(TONE)
    if chance.random() < 0.7:
        room.leave()


def moderate(call: Call, chance: random.Random) -> None:
    room = call.conference(chance.choice(("one", "two")))
    room.hear(timeout_s=1)
    for one in room.participants():
        what = chance.choice((room.mute, room.unmute, room.kick, None))
        if what is None:
            room.whisper(one, TONE)
        else:
            what(one)


MOVES: dict[str, Callable[[Call, random.Random], object]] = {
    move.__name__: move
    for move in (
        *(speak, hear, cancelled, listen, keys, record, beside, another),
        *(leg, bridge, transfer, sit, moderate),
    )
}
