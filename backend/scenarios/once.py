"""Recognise once and say it back: the shortest talk, and a check of the whole way of the sound."""

from backend import Call, scenario

TEXTS = {
    "ru": {
        "ask": "Скажите что-нибудь после этих слов.",
        "heard": "Я услышал: {}",
        "nothing": "Я ничего не услышал.",
    },
    "en": {
        "ask": "Please say something after these words.",
        "heard": "I heard: {}",
        "nothing": "I heard nothing.",
    },
}


@scenario("once")
def once(call: Call) -> dict[str, object]:
    """Recognises one utterance and says it back."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    call.answer()
    heard = call.hear(texts["ask"], timeout_s=7)
    call.speak(texts["heard"].format(heard.text) if heard.recognized else texts["nothing"])
    return {"heard": heard.text, "confidence": heard.confidence}
