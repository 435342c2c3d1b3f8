"""Keys interrupt speech: who knows the menu need not hear it to its end."""

from backend import Call, scenario

TEXTS = {
    "ru": {
        "news": "Здравствуйте! Сначала новости: офис переехал, график работы прежний. "
        "Номер договора можно ввести, не дожидаясь конца сообщения.",
        "menu": "Введите номер договора и нажмите решётку.",
        "again": "Номер не введён.",
        "thanks": "Спасибо, ваш номер {}.",
        "bye": "До свидания!",
    },
    "en": {
        "news": "Hello! First the news: the office has moved, its hours are as before. "
        "You need not hear it out: your contract number can be entered at once.",
        "menu": "Please enter your contract number, then press pound.",
        "again": "No number was entered.",
        "thanks": "Thank you, your number is {}.",
        "bye": "Goodbye!",
    },
}


@scenario("keys")
def keys(call: Call) -> dict[str, object]:
    """A key ends the news, and is the first of the contract number: up to six, asked for twice at
    most."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    call.answer()
    news = call.speak(texts["news"], interruptible="keys")
    for prompt in (texts["menu"], [texts["again"], texts["menu"]]):
        read = call.read_digits(6, prompt=prompt, timeout_s=5)
        if read.digits:
            break
    if read.digits:
        call.speak(texts["thanks"].format(" ".join(read.digits)))
    call.speak(texts["bye"])
    return {"number": read.digits, "status": read.status, "news_ms": news.end_ms}
