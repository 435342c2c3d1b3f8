"""Transcription of the whole call: it is listened to from the first word to the hangup."""

from backend import Call, Hangup, Result, scenario

MAX_S = 3600.0
TEXTS = {
    "ru": "Здравствуйте! Говорите, я записываю. Когда закончите, положите трубку.",
    "en": "Hello! Please speak, I take it down. When you are done, hang up.",
}


@scenario("transcribe")
def transcribe(call: Call) -> dict[str, object]:
    """Takes down all that the caller says until he hangs up; the lines are the result."""
    lines: list[dict[str, object]] = []

    def keep(result: Result) -> None:
        lines.append({"text": result.text, "start_ms": result.start_ms, "end_ms": result.end_ms})

    call.answer()
    recording = call.start_recording()
    with call.listen(partials=False, on_final=keep):
        try:
            call.speak(TEXTS.get(call.language.split("-")[0], TEXTS["en"]))
            call.wait(MAX_S)
        except Hangup:
            pass  # that is how it ends
    return {"lines": lines, "recording": recording.path}
