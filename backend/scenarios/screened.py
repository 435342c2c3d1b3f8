"""A screened outbound call: listens before the answer, so that no answer is paid for in vain."""

from backend import Call, scenario

TEXTS = {
    "ru": {
        "wait": "Звоню, подождите, пожалуйста.",
        "screened": "Номер не отвечает: {}.",
        "nobody": "Никто не ответил.",
        "hello": "Здравствуйте! Вам звонит робот. Соединяю с абонентом.",
        "bye": "До свидания!",
    },
    "en": {
        "wait": "I am calling, please wait.",
        "screened": "The number cannot be reached: {}.",
        "nobody": "Nobody answered.",
        "hello": "Hello! This is a robot. I am connecting you with a caller.",
        "bye": "Goodbye!",
    },
}


@scenario("screened")
def screened(call: Call) -> dict[str, object]:
    """Dials the number ``to`` (a variable, or in scenario_config), tells the caller what was heard
    before the answer, or connects the two."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    number = call.get_variable("to") or call.config.get("to")
    if not number:
        raise ValueError("whom to dial: neither a variable nor scenario_config has to")
    call.answer()
    call.speak(texts["wait"])
    leg = call.dial_screened(str(number))
    verdict = leg.screening.verdict.what if leg.screening and leg.screening.verdict else None
    if leg.parked:
        leg.speak(texts["hello"])
        call.bridge(leg)
    elif verdict is not None:
        call.speak(texts["screened"].format(verdict))
    else:
        call.speak(texts["nobody"])
    call.speak(texts["bye"])
    return {"status": leg.status, "heard": verdict, "reason": leg.reason}
