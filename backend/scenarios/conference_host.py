"""Conference host: opens a conference, greets who comes, gives the floor, ends it on a word."""

from backend import Call, Hangup, scenario

WAIT_S = 600.0
STOP = {"закончить", "конец", "stop", "operator"}
TEXTS = {
    "ru": {
        "open": "Конференция открыта. Чтобы закончить, скажите: конец.",
        "welcome": "Здравствуйте! Вы участник номер {}.",
        "end": "Конференция окончена. До свидания!",
    },
    "en": {
        "open": "The conference is open. To end it, say stop.",
        "welcome": "Hello! You are participant number {}.",
        "end": "The conference is over. Goodbye!",
    },
}


@scenario("conference-host")
def conference_host(call: Call) -> dict[str, object]:
    """Opens the conference ``room`` (variable; else "meeting"), whispers a welcome to each who
    comes, keeps who said what, and ends it for all when the host says stop."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    call.answer()
    room = call.conference(call.get_variable("room") or "meeting")
    call.speak(texts["open"])
    room.join()
    said: list[dict[str, str]] = []
    welcome: set[str] = set()
    waited_s = 0.0
    try:
        while waited_s < WAIT_S:
            for one in room.participants():
                if not one.own and one.id not in welcome:
                    welcome.add(one.id)
                    room.whisper(one, texts["welcome"].format(len(welcome)))
            heard = room.hear(timeout_s=2)
            waited_s = 0.0 if heard.recognized else waited_s + 2
            if heard.participant is None:
                continue
            said.append({"who": heard.participant.number, "text": heard.text})
            words = set(heard.text.lower().strip(".!").split())
            if heard.participant.own and words & STOP:
                break
        room.play(texts["end"])
        for one in room.participants():
            if not one.own:
                room.kick(one)
        room.leave()
    except Hangup:
        pass  # the host has gone; the others go on
    return {"participants": len(welcome), "said": said}
