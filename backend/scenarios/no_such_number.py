"""A carrier's "no such number": an announcement before any answer, then the hangup's cause. For
trying out dial_screened, and for numbers that nobody uses: route them here."""

from backend import Call, scenario

NO_SUCH_NUMBER = 1  # Q.850: unallocated number
TEXTS = {
    "ru": "Неправильно набран номер. Проверьте номер и позвоните снова.",
    "en": "The number you have dialed does not exist. Please check the number and dial again.",
}


@scenario("no-such-number")
def no_such_number(call: Call) -> None:
    """Announces that there is no such number, without an answer, and hangs up with cause 1."""
    text = TEXTS.get(call.language.split("-")[0], TEXTS["en"])
    call.execute("Progress")  # early media: the caller hears us, and pays nothing
    call.speak(text, repeat=2)
    call.hangup(NO_SUCH_NUMBER)
