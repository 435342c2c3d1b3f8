"""Conference guest: a seat in a conference, until he is shown out or hangs up."""

from backend import Call, CommandRefused, Hangup, scenario

TEXTS = {
    "ru": {
        "joining": "Соединяю с конференцией.",
        "full": "В конференции нет мест. До свидания!",
        "bye": "Вы вышли из конференции. До свидания!",
    },
    "en": {
        "joining": "I am connecting you to the conference.",
        "full": "The conference is full. Goodbye!",
        "bye": "You have left the conference. Goodbye!",
    },
}


@scenario("conference-guest")
def conference_guest(call: Call) -> dict[str, object]:
    """Seats the caller in the conference ``room`` (variable; else "meeting")."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    call.answer()
    room = call.conference(call.get_variable("room") or "meeting")
    call.speak(texts["joining"])
    try:
        room.join()
    except CommandRefused:
        call.speak(texts["full"])
        return {"joined": False, "left": None}
    try:
        while room.joined:
            call.wait(1)
    except Hangup:
        return {"joined": True, "left": "hangup"}
    call.speak(texts["bye"])
    return {"joined": True, "left": "shown out"}
