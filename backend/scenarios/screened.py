"""A screened outbound call: listens before the answer, so that no answer is paid for in vain."""

from contextlib import suppress

from backend import Call, LegHangup, scenario

TEXTS = {
    "ru": {
        "wait": "Звоню, подождите, пожалуйста.",
        "nobody": "Никто не ответил: {}.",
        "hello": "Здравствуйте! Вам звонит робот. Соединяю с абонентом.",
        "bye": "До свидания!",
    },
    "en": {
        "wait": "I am calling, please wait.",
        "nobody": "Nobody answered: {}.",
        "hello": "Hello! This is a robot. I am connecting you with a caller.",
        "bye": "Goodbye!",
    },
}


@scenario("screened")
def screened(call: Call) -> dict[str, object]:
    """Dials the number ``to`` (a variable, or in scenario_config), and connects the caller with a
    person who answers, or tells him what was heard instead."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    number = call.get_variable("to") or call.config.get("to")
    if not number:
        raise ValueError("whom to dial: neither a variable nor scenario_config has to")
    call.answer()
    call.speak(texts["wait"])
    leg = call.dial_screened(str(number))
    heard = leg.screening.result if leg.screening is not None else None
    if leg.parked and heard != "machine":
        with suppress(LegHangup):  # then the bridge is over at once
            leg.speak(texts["hello"])
        call.bridge(leg)
    else:
        leg.hangup()
        call.speak(texts["nobody"].format(heard or leg.status))
    call.speak(texts["bye"])
    return {"status": leg.status, "heard": heard, "reason": leg.reason}
