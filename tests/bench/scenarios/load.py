"""The benchmark's scenarios. Marks are seconds of CLOCK_REALTIME, the packets' clock."""

import time

from backend import Call, Sound, scenario
from backend.call.turn import BargeIn
from backend.protocol import fork


class Marks(dict[str, float]):
    """When something happened for the first time."""

    def mark(self, name: str) -> None:
        self.setdefault(name, time.time())


def watch(call: Call, marks: Marks) -> None:
    """Note when voice was decided and ended, and when `clear`, or `pause`, was written to the fork.

    Instance attributes over the methods: the code that is measured is the product's own.
    """
    speaker, ear = call._dialogue._speaker, call._dialogue._ear
    link = speaker._stream.link()
    assert link is not None, "no fork that takes audio"
    stop, pause, changed, send = speaker.stop, speaker.pause, ear._voice_changed, link.send

    def marked_stop() -> bool:
        marks.mark("voice")
        return stop()

    def marked_pause() -> bool:
        marks.mark("voice")
        return pause()

    def marked_send(*items: fork.ToModule | bytes) -> None:
        send(*items)
        if any(isinstance(item, fork.Clear | fork.Pause) for item in items):
            marks.mark("cleared")

    def marked_change(speaking: bool, **how: bool) -> None:
        if not speaking:
            marks["voice_ended"] = time.time()
        changed(speaking, **how)

    speaker.__dict__["stop"] = marked_stop
    speaker.__dict__["pause"] = marked_pause
    ear.__dict__["_voice_changed"] = marked_change
    link.__dict__["send"] = marked_send


def spoken_over(call: Call, folder: str, barge_in: BargeIn = "voice") -> dict[str, object]:
    """A tone without a gap that the subscriber speaks over; then a short one."""
    marks = Marks()
    watch(call, marks)
    call.answer()
    heard = call.hear(Sound(f"{folder}long-tone"), timeout_s=10, barge_in=barge_in)
    marks.mark("heard")
    call.speak(Sound(f"{folder}bip"))
    assert heard.prompt is not None
    return {"end": heard.prompt.end, "text": heard.text, "marks": marks}


@scenario("bench-barge")
def barge(call: Call) -> dict[str, object]:
    """The tones are the backend's own, so they are streamed."""
    return spoken_over(call, "")


@scenario("bench-words")
def words(call: Call) -> dict[str, object]:
    """Voice pauses the tone, words stop it."""
    return spoken_over(call, "", "words")


@scenario("bench-barge-file")
def barge_file(call: Call) -> dict[str, object]:
    """Asterisk plays them: it alone has sounds with an absolute name."""
    return spoken_over(call, f"{call.get_variable('LAB_TONES')}/")


@scenario("bench-speak")
def speak(call: Call) -> dict[str, object]:
    """A text that nobody spoke before, then the same from the cache."""
    marks = Marks()
    text = f"Your number is {int(call.info.channel.rpartition('-')[2], 16)}."
    call.answer()
    marks.mark("speak")
    # What speak() does first; from then on the text is in the making, and it joins that.
    audio = call._dialogue._prompts.text(text, call.language).audio()
    assert audio is not None
    audio.subscribe(lambda: marks.mark("made"))
    call.speak(text)
    marks.mark("again")
    call.speak(text)
    return {"marks": marks}


@scenario("bench-steady")
def steady(call: Call) -> None:
    """A tone in a loop while recognition listens, until the subscriber hangs up."""
    call.answer()
    while True:
        call.hear(Sound("long-tone"), timeout_s=0.02)
