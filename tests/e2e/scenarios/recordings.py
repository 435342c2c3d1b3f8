"""Scenarios for the end-to-end tests of recordings."""

from pathlib import Path

from backend import Call, Sound, scenario


@scenario("recordings")
def recordings(call: Call) -> dict[str, object]:
    """Three tones; one recording pauses for the second, one ends before the third, one is left
    to the hangup."""
    call.answer()
    cut = call.start_recording()
    part = call.start_recording("part", directory=f"e2e/{call.called}")
    whole = call.start_recording()
    call.speak(Sound("own/tone-500"))
    cut.pause()
    paused = Path(cut.path).stat().st_size
    call.speak(Sound("own/tone-700"))
    cut.resume()
    part.stop()
    stopped = Path(part.path).stat().st_size
    call.speak(Sound("own/tone-900"))
    cut.stop()
    return {
        "paths": [cut.path, part.path, whole.path],
        "urls": [cut.url, part.url, whole.url],
        "sizes": [paused, stopped, Path(cut.path).stat().st_size],
    }


@scenario("recording-hangup")
def recording_hangup(call: Call) -> None:
    """A tone that the caller hangs up in."""
    call.answer()
    recording = call.start_recording(f"hangup-{call.called}")
    try:
        call.speak(Sound("own/tone-5s"))
    finally:
        recording.stop()  # says nothing, though the call is over
        call.log("recording", path=recording.path, running=recording.running)
