"""Scenarios for the end-to-end tests and the benchmark."""

import threading
import time

from backend import Call, Sound, scenario
from backend.ws_connection import Connection


@scenario("quick")
def quick(call: Call) -> str:
    """Answer, listen for a moment, end."""
    call.answer()
    return call.hear(timeout_s=0.3).status


@scenario("tone")
def tone(call: Call) -> dict[str, object]:
    """A tone without a gap that the subscriber speaks over, then the same for a moment."""
    call.answer()
    name = call.get_variable("LAB_TONES") or ""
    heard = call.hear(Sound(f"{name}/long-tone"), timeout_s=10)
    after = call.speak(Sound(f"{name}/short-tone"))
    assert heard.prompt is not None
    return {"text": heard.text, "prompt": heard.prompt.end, "after": after.end}


@scenario("tones")
def tones(call: Call) -> str:
    """Short tones for a minute."""
    call.answer()
    name = call.get_variable("LAB_TONES") or ""
    for _ in range(60):
        call.speak(Sound(f"{name}/short-tone"))
        call.wait(0.2)
    return "to the end"


@scenario("raises")
def raises(call: Call) -> None:
    """A defect in somebody's scenario."""
    call.answer()
    raise ZeroDivisionError("the author's own mistake")


@scenario("missing-sound")
def missing_sound(call: Call) -> None:
    """Plays what is not there."""
    call.answer()
    call.speak(Sound("no/such/sound"))


@scenario("not-json")
def not_json(call: Call) -> object:
    """Returns what cannot be stored."""
    call.answer()
    return {1, 2, 3}


@scenario("line")
def line(call: Call) -> dict[str, object]:
    """Everything of the line: variables, recording on and off, hangup."""
    call.answer(settle_s=0.1)
    call.set_variable("LAB_VALUE", 'a "quoted" \\ value; with, comma')
    value = call.get_variable("LAB_VALUE")
    recording = call.start_recording("line-test")
    call.speak("One.")
    recording.stop()
    call.speak("Two.")
    call.log("line", value=value)
    return {"value": value, "nothing": call.get_variable("NOT_SET"), "path": recording.path}


@scenario("own-tone")
def own_tone(call: Call) -> dict[str, object]:
    """As ``tone``, of the backend's own files; the short one at 48 kHz."""
    call.answer()
    heard = call.hear(Sound("own/long-tone"), timeout_s=10)
    after = call.speak(Sound("own/short-tone"))
    assert heard.prompt is not None
    return {
        "text": heard.text,
        "prompt": heard.prompt.end,
        "prompt_ms": heard.prompt.end_ms,
        "after": after.end,
        "after_ms": after.end_ms,
    }


@scenario("long-text")
def long_text(call: Call) -> None:
    """A text that takes far longer to synthesise than to begin to say."""
    call.answer()
    call.log("long-text", began=time.time())
    call.speak(" ".join(f"This is sentence number {n} of a very long story." for n in range(120)))


@scenario("cut")
def cut(call: Call) -> dict[str, object]:
    """The fork's connection breaks a second into a tone, and a second into a text."""
    call.answer()
    ends = []
    for prompt in (Sound("own/tone-5s"), "One two three four five six seven eight nine ten. " * 3):
        link = call._dialogue._speaker._stream.link()
        if isinstance(link, Connection) and link._transport is not None:
            threading.Timer(1.0, link.run, (link._transport.abort,)).start()
        played = call.speak(prompt)
        ends.append([played.end, played.end_ms])
        call.wait(1.0)
    return {"ends": ends}
