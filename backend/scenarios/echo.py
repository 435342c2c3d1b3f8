"""Echo of several turns: what the caller says is said back to him, until he has had enough."""

from backend import Call, scenario

TURNS = 20
STOP = {"стоп", "хватит", "всё", "stop", "enough", "goodbye", "operator"}
TEXTS = {
    "ru": {
        "greeting": "Здравствуйте! Говорите, а я повторю. Чтобы закончить, скажите: стоп.",
        "you_said": "Вы сказали: {}",
        "bye": "До свидания!",
    },
    "en": {
        "greeting": "Hello! Speak, and I will repeat it. To end, say stop.",
        "you_said": "You said: {}",
        "bye": "Goodbye!",
    },
}


@scenario("echo")
def echo(call: Call) -> dict[str, object]:
    """Repeats what the caller says, turn by turn, until he says stop, or nothing."""
    texts = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    call.answer()
    said: list[str] = []
    prompt = texts["greeting"]
    while len(said) < TURNS:
        heard = call.hear(prompt, timeout_s=5)
        if not heard.recognized:
            break
        said.append(heard.text)
        if set(heard.text.lower().strip(".!").split()) & STOP:
            break
        prompt = texts["you_said"].format(heard.text)
    call.speak(texts["bye"])
    return {"turns": len(said), "said": said}
