"""Scenarios for the end-to-end tests and the benchmark."""

from backend import Call, Sound, scenario


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
