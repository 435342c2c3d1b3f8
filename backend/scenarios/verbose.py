"""Verbose recognition: everything that is known of an utterance, in the log and the result."""

from backend import Call, Result, scenario

TEXTS = {
    "ru": {"ask": "Скажите фразу, я расскажу, как я её услышал.", "nothing": "Тишина."},
    "en": {"ask": "Say a phrase, and I will tell how I heard it.", "nothing": "Silence."},
}
REPORTS = {
    "ru": "Я услышал: {text}. Слов: {words}. Речь длилась {seconds} с, уверенность {percent} "
    "процентов.",
    "en": "I heard: {text}. Words: {words}. It took {seconds} seconds, confidence {percent} "
    "percent.",
}


@scenario("verbose")
def verbose(call: Call) -> dict[str, object]:
    """Tells what it heard, how surely, in which language, and when each word was said."""
    language = call.language.split("-")[0]
    texts = TEXTS.get(language, TEXTS["en"])
    guesses: list[str] = []

    def guess(result: Result) -> None:
        guesses.append(result.text)
        call.log("guess", text=result.text, final=result.final, at_ms=result.end_ms)

    call.answer()
    with call.listen(on_result=guess):
        heard = call.hear(texts["ask"], timeout_s=7)
    if not heard.recognized or heard.start_ms is None or heard.end_ms is None:
        call.speak(texts["nothing"])
        return {"status": heard.status, "guesses": guesses}
    report = REPORTS.get(language, REPORTS["en"]).format(
        text=heard.text,
        words=len(heard.words),
        seconds=round((heard.end_ms - heard.start_ms) / 1000),
        percent=round((heard.confidence or 0) * 100),
    )
    call.speak(report)
    return {
        "status": heard.status,
        "text": heard.text,
        "confidence": heard.confidence,
        "language": heard.language,
        "start_ms": heard.start_ms,
        "end_ms": heard.end_ms,
        "words": [[word.text, word.start_ms, word.end_ms] for word in heard.words],
        "guesses": guesses,
        "prompt": heard.prompt and {"end": heard.prompt.end, "end_ms": heard.prompt.end_ms},
    }
