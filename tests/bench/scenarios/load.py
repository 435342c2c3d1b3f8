"""The benchmark's scenarios. Marks are seconds of CLOCK_REALTIME, the packets' clock."""

import time

from backend import Call, Sound, scenario


class Marks(dict[str, float]):
    """When something happened for the first time."""

    def mark(self, name: str) -> None:
        self.setdefault(name, time.time())


def watch(call: Call, marks: Marks) -> None:
    """Note when voice was decided and ended, when the stop was sent and when it was answered.

    Instance attributes over the methods: the code that is measured is the product's own.
    """
    speaker, files, ear = call._speaker, call._speaker._files, call._ear
    stop, answered, changed = speaker.stop, files._stop_answered, ear._voice_changed

    def marked_stop() -> bool:
        marks.mark("voice")
        now = time.time()
        if not stop():
            return False
        marks.setdefault("stop_sent", now)
        return True

    def marked_answer(reply: object) -> None:
        marks.mark("stop_answered")
        answered(reply)  # type: ignore[arg-type]

    def marked_change(speaking: bool, **how: bool) -> None:
        if not speaking:
            marks["voice_ended"] = time.time()
        changed(speaking, **how)

    speaker.__dict__["stop"] = marked_stop
    files.__dict__["_stop_answered"] = marked_answer
    ear.__dict__["_voice_changed"] = marked_change


def tones(call: Call) -> str:
    return call.get_variable("LAB_TONES") or ""


@scenario("bench-barge")
def barge(call: Call) -> dict[str, object]:
    """A tone without a gap that the subscriber speaks over; then a short one."""
    marks = Marks()
    watch(call, marks)
    call.answer()
    folder = tones(call)
    heard = call.hear(Sound(f"{folder}/long-tone"), timeout_s=10)
    marks.mark("heard")
    call.speak(Sound(f"{folder}/bip"))
    assert heard.prompt is not None
    return {"end": heard.prompt.end, "text": heard.text, "marks": marks}


@scenario("bench-steady")
def steady(call: Call) -> None:
    """A tone in a loop while recognition listens, until the subscriber hangs up."""
    call.answer()
    folder = tones(call)
    while True:
        call.hear(Sound(f"{folder}/long-tone"), timeout_s=0.02)
