"""The article's scenario: play the file, listen, recognise, decide, go on or end."""

from backend import Call, Heard, Sound, scenario

TEXTS = {
    "ru": {
        "question": "Здравствуйте! Вы придёте завтра? Скажите, пожалуйста, да или нет.",
        "again": "Извините, я не расслышал. Вы придёте завтра? Да или нет?",
        "yes": "Спасибо, ждём вас завтра. До свидания!",
        "no": "Жаль. Спасибо за ответ. До свидания!",
        "operator": "Хорошо, с вами свяжется оператор. До свидания!",
        "unclear": "Спасибо, мы перезвоним позже. До свидания!",
    },
    "en": {
        "question": "Hello! Will you come tomorrow? Please say yes or no.",
        "again": "Sorry, I did not hear you. Will you come tomorrow? Yes or no?",
        "yes": "Thank you, see you tomorrow. Goodbye!",
        "no": "What a pity. Thank you for your answer. Goodbye!",
        "operator": "All right, an operator will call you. Goodbye!",
        "unclear": "Thank you, we will call again later. Goodbye!",
    },
}
WORDS = {
    "yes": {"да", "конечно", "приду", "хорошо", "ага", "yes", "yeah", "sure"},
    "no": {"нет", "не", "никак", "no", "not"},
    "operator": {"оператор", "оператора", "operator"},
}


@scenario("article")
def article(call: Call) -> dict[str, object]:
    """Asks once, and once more if nothing was understood. The result's ``decision`` is
    ``yes``, ``no``, ``operator``, ``unclear`` or ``silence``."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    call.answer()
    call.start_recording()
    heard = call.hear(Sound(call.file) if call.file else texts["question"], timeout_s=5)
    decision = decide(heard)
    if decision not in WORDS:
        heard = call.hear(texts["again"], timeout_s=5)
        decision = decide(heard)
    call.speak(texts.get(decision, texts["unclear"]))
    return {"decision": decision, "heard": heard.text, "confidence": heard.confidence}


def decide(heard: Heard) -> str:
    """What the caller meant; a "no" beats a "yes" in one sentence."""
    if not heard.recognized:
        return "silence"
    words = set(heard.text.lower().replace(",", " ").replace(".", " ").split())
    for decision in ("operator", "no", "yes"):
        if words & WORDS[decision]:
            return decision
    return "unclear"
