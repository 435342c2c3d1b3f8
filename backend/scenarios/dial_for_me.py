"""Dial for me: the caller says whom by keys; that one is parked, asked, and only then connected."""

from backend import Call, Digits, Leg, LegHangup, scenario

YES = {"да", "конечно", "соединяйте", "yes", "sure", "please"}
TEXTS = {
    "ru": {
        "number": "Наберите номер и нажмите решётку.",
        "wait": "Звоню, подождите, пожалуйста.",
        "ask": "Здравствуйте! Вас просят к телефону. Соединить? Скажите да или нажмите один.",
        "refused": "Абонент не хочет говорить.",
        "nobody": "Абонент не отвечает.",
        "over": "Разговор окончен. До свидания!",
        "none": "Номер не набран. До свидания!",
    },
    "en": {
        "number": "Enter a number, then press pound.",
        "wait": "I am calling, please wait.",
        "ask": "Hello! You are wanted on the phone. Shall I connect you? Say yes or press one.",
        "refused": "They do not want to talk.",
        "nobody": "Nobody answers.",
        "over": "The talk is over. Goodbye!",
        "none": "No number was entered. Goodbye!",
    },
}


@scenario("dial-for-me")
def dial_for_me(call: Call) -> dict[str, object]:
    """Reads a number, dials it, asks whoever answers, connects the two."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    call.answer()
    number = call.read_digits(15, prompt=texts["number"], timeout_s=10).digits
    if len(number) < 3:
        call.speak(texts["none"])
        return {"number": number, "status": None, "agreed": None}
    call.speak(texts["wait"])
    leg = call.dial(number, timeout_s=30)
    agreed = agrees(leg, texts["ask"]) if leg.parked else None
    if agreed:
        call.bridge(leg)
        call.speak(texts["over"])
    else:
        leg.hangup()
        call.speak(texts["nobody"] if agreed is None else texts["refused"])
    return {"number": number, "status": leg.status, "agreed": agreed}


def agrees(leg: Leg, question: str) -> bool:
    """Whether the one who was dialled wants to talk."""
    try:
        heard = leg.hear(question, timeout_s=7, digits=Digits())
    except LegHangup:
        return False
    return heard.digits == "1" or bool(set(heard.text.lower().strip(".!").split()) & YES)
