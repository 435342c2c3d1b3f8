"""Transfer to a person: who asks for one, or is not understood, is connected; nobody is lost."""

from backend import Call, Digits, scenario

RING_S = 30.0
PERSON = {"оператор", "оператора", "оператору", "человек", "человека", "operator", "person", "yes"}
TEXTS = {
    "ru": {
        "ask": "Здравствуйте! Чем помочь? Чтобы поговорить с человеком, скажите «оператор» или "
        "нажмите ноль.",
        "noted": "Спасибо, записал. До свидания!",
        "connecting": "Соединяю, оставайтесь на линии.",
        "busy": "Все операторы заняты. Мы вам перезвоним. До свидания!",
        "back": "Разговор с оператором закончен. До свидания!",
    },
    "en": {
        "ask": "Hello! How can I help? To talk to a person, say operator or press zero.",
        "noted": "Thank you, I have noted it. Goodbye!",
        "connecting": "I am connecting you, please stay on the line.",
        "busy": "All operators are busy. We will call you back. Goodbye!",
        "back": "The talk with the operator is over. Goodbye!",
    },
}


@scenario("to-person")
def to_person(call: Call) -> dict[str, object]:
    """Connects the caller with the number ``operator``: the variable, or in scenario_config."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    number = call.get_variable("operator") or call.config.get("operator")
    if not number:
        raise ValueError("whom to connect to: neither a variable nor scenario_config has operator")
    call.answer()
    heard = call.hear(texts["ask"], timeout_s=5, digits=Digits(), hints=sorted(PERSON))
    words = set(heard.text.lower().replace(",", " ").replace(".", " ").split())
    if heard.recognized and not words & PERSON:
        call.speak(texts["noted"])
        return {"asked": heard.text, "transfer": None}
    call.speak(texts["connecting"])
    end = call.transfer(str(number), timeout_s=RING_S)
    call.speak(texts["back"] if end.completed else texts["busy"])
    return {"asked": heard.text or heard.digits, "transfer": end.status, "talk_s": end.duration_s}
