"""Scenarios of more than one channel. What they dial is in the variables of their task."""

import threading

from backend import Call, DialogError, Leg, Sound, scenario

TONE = "own/long-tone"


def other(call: Call, name: str = "leg") -> str:
    return call.get_variable(name) or ""


def described(leg: Leg) -> dict[str, object]:
    return {"status": leg.status, "reason": leg.reason, "cause": leg.cause}


@scenario("leg-dial")
def leg_dial(call: Call) -> dict[str, object]:
    """Dial, and tell how it ended; a leg that is there is spoken to."""
    call.answer()
    ended: list[str] = []
    wait_s, shown = float(other(call, "wait") or 20), other(call, "shown") or None
    leg = call.dial(other(call), timeout_s=wait_s, caller_id=shown)
    found = described(leg)
    leg.on_hangup(lambda leg: ended.append(leg.id))
    if leg.parked:
        found["played"] = leg.speak(Sound("own/short-tone")).end
        found["text"] = leg.hear(timeout_s=6).text
        call.speak(Sound("own/short-tone"))
        leg.hangup()
        found["after"] = described(leg)
    return {**found, "ended": ended == [leg.id]}


@scenario("leg-keep")
def leg_keep(call: Call) -> None:
    """Dial, and leave the leg to the runtime."""
    call.answer()
    call.dial(other(call))
    call.wait(float(other(call, "wait") or 1))


@scenario("leg-bridge")
def leg_bridge(call: Call) -> dict[str, object]:
    """Dial, bridge; afterwards speak to whoever is there."""
    call.answer()
    leg = call.dial(other(call))
    keep = other(call, "keep") == "1"
    end = call.bridge(leg, keep_after=keep)
    found = {"ended_by": end.ended_by, "duration_s": end.duration_s, "leg": leg.status}
    if end.ended_by == "other":
        found["after"] = call.speak(Sound("own/short-tone")).end
    elif leg.parked:
        found["after"] = leg.speak(Sound("own/short-tone")).end
    return found


@scenario("leg-two-bridges")
def leg_two_bridges(call: Call) -> list[object]:
    """One leg after the other."""
    call.answer()
    ends: list[object] = []
    for name in ("leg", "leg2"):
        leg = call.dial(other(call, name))
        ends.append(call.bridge(leg).ended_by)
    call.speak(Sound("own/short-tone"))
    return ends


@scenario("leg-transfer")
def leg_transfer(call: Call) -> dict[str, object]:
    """Transfer, and go on with the caller, if he is there."""
    call.answer()
    wait_s, shown = float(other(call, "wait") or 20), other(call, "shown") or None
    end = call.transfer(other(call), timeout_s=wait_s, caller_id=shown)
    found: dict[str, object] = {
        "status": end.status,
        "ended_by": end.ended_by,
        "duration_s": end.duration_s,
        "cause": end.cause,
    }
    if end.ended_by != "caller":
        found["after"] = call.speak(Sound("own/short-tone")).end
    return found


@scenario("leg-late-bridge")
def leg_late_bridge(call: Call) -> str:
    """Bridge with a leg that has gone: it hangs up 3 s after its answer."""
    call.answer()
    gone = threading.Event()
    leg = call.dial(other(call))
    leg.on_hangup(lambda leg: gone.set())
    assert gone.wait(30)
    return call.bridge(leg).ended_by


@scenario("conf-guest")
def conf_guest(call: Call) -> str:
    """Take a seat until somebody says otherwise; afterwards the call goes on."""
    call.answer()
    room = call.conference(other(call, "room"))
    room.join()
    while room.joined:
        call.wait(0.2)
    return call.speak(Sound("own/short-tone")).end


@scenario("conf-leaves")
def conf_leaves(call: Call) -> dict[str, object]:
    """Sit for two seconds; while seated the call's own channel is busy."""
    call.answer()
    room = call.conference(other(call, "room"))
    room.create()
    room.join()
    refused = ""
    try:
        call.speak(Sound("own/short-tone"))
    except DialogError as error:
        refused = str(error)
    seated = [one.own for one in room.participants()]
    call.wait(2)
    room.leave()
    return {
        "refused": refused,
        "seated": seated,
        "left": len(room.participants()),
        "after": call.speak(Sound("own/short-tone")).end,
    }


@scenario("conf-host")
def conf_host(call: Call) -> dict[str, object]:
    """A moderator without a seat: whispers to one, plays to all, mutes one, puts all out."""
    call.answer()
    room = call.conference(other(call, "room"))
    seats = int(other(call, "seats"))
    while len(room.participants()) < seats:
        call.wait(0.2)
    one = min(room.participants(), key=lambda one: one.id)
    call.wait(2)
    whispered = room.whisper(one, Sound("own/whisper-tone"))
    played = room.play(Sound("own/play-tone"))
    room.mute(one)
    muted = [each.id for each in room.participants() if each.muted]
    call.wait(2)
    for each in room.participants():
        room.kick(each)
    return {
        "one": one.id,
        "whispered": whispered.end,
        "played": sorted(f"{key} {end.end}" for key, end in played.items()),
        "muted": muted,
        "left": len(room.participants()),
    }


@scenario("conf-hears")
def conf_hears(call: Call) -> dict[str, object]:
    """A moderator without a seat: who says what."""
    call.answer()
    room = call.conference(other(call, "room"))
    said = []
    for _ in range(int(other(call, "wait"))):
        heard = room.hear(timeout_s=15)
        said.append([heard.participant.id if heard.participant else "", heard.text])
    for each in room.participants():
        room.kick(each)
    silence = room.hear(timeout_s=2)
    while silence.recognized:  # what was being said when they were put out
        silence = room.hear(timeout_s=2)
    return {"said": said, "silence": silence.status}


@scenario("leg-screened")
def leg_screened(call: Call) -> dict[str, object]:
    """Dial, listen before the answer; whoever is there is spoken to."""
    call.answer()
    leg = call.dial_screened(other(call), timeout_s=float(other(call, "wait") or 30))
    found = described(leg)
    if leg.screening is not None:
        found |= {"result": leg.screening.result, "answered": leg.screening.answered}
    if leg.parked:
        leg.speak(Sound("own/short-tone"))
        found["text"] = leg.hear(timeout_s=6).text
    return found
