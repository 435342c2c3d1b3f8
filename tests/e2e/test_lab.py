"""The lab, the dialplan and the manager's rights on two real Asterisks.

Nothing of the backend is needed: a few lines of FastAGI stand in for it. What a caller hears is
judged by what the subscriber's PBX recorded.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import lab_sound
import pytest
from lab import Backend, Instance, Lab, LabError
from lab_ami import Ami
from lab_config import DIALPLAN, HERE
from lab_instance import wait_until
from lab_sound import Samples, Span, likeness, silence, spans, tone

APOLOGY_HZ, PROMPT_HZ = 700, 1000
PROMPT = [*silence(300), *tone(1000, PROMPT_HZ), *silence(400), *tone(1000, PROMPT_HZ)]


class Agi(socketserver.ThreadingTCPServer):
    """A FastAGI server whose scenarios are the functions below, chosen by the URL's path."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), AgiCall)
        self.over = threading.Event()
        self.seen: dict[str, dict[str, str]] = {}
        threading.Thread(target=self.serve_forever, name="agi", daemon=True).start()

    @property
    def place(self) -> str:
        return "{}:{}".format(*self.server_address)


class AgiCall(socketserver.StreamRequestHandler):
    server: Agi

    def handle(self) -> None:
        lines = iter(lambda: self.rfile.readline().decode().rstrip("\n"), "")
        self.env = dict(line.split(": ", 1) for line in lines if ": " in line)
        self.server.seen[self.env["agi_uniqueid"]] = self.env
        path = self.env.get("agi_network_script", "")
        SCENARIOS[path](self)

    def ask(self, command: str) -> str:
        self.wfile.write(f"{command}\n".encode())
        return self.rfile.readline().decode().strip()

    def variable(self, name: str) -> str:
        return self.ask(f"GET VARIABLE {name}").partition("(")[2].rstrip(")")


def finish(call: AgiCall) -> None:
    call.ask("EXEC Wait 1")
    call.env["fork"] = call.variable("DIALOG_FORK_ID")
    call.ask("SET VARIABLE DIALOG_DONE 1")


def die(call: AgiCall) -> None:
    """Closes its connection without a word, as a process that was killed."""


def die_in_the_prompt(call: AgiCall) -> None:
    prompt = call.variable("LAB_PROMPT")
    call.wfile.write(f'STREAM FILE {prompt} ""\n'.encode())
    call.server.over.wait(1)


def hang(call: AgiCall) -> None:
    call.server.over.wait(60)


def play_for_ever(call: AgiCall) -> None:
    prompt = call.variable("LAB_PROMPT")
    while call.ask(f'STREAM FILE {prompt} ""').startswith("200 result=0"):
        pass


def answer_inbound(call: AgiCall) -> None:
    call.env["before"] = call.ask("CHANNEL STATUS")
    call.env["number"] = call.variable("DIALOG_NUMBER")
    call.ask("ANSWER")
    call.env["after"] = call.ask("CHANNEL STATUS")
    call.ask(f'STREAM FILE {call.variable("LAB_PROMPT")} ""')
    finish(call)


SCENARIOS: dict[str, Callable[[AgiCall], None]] = {
    "finish": finish,
    "die": die,
    "die_in_the_prompt": die_in_the_prompt,
    "hang": hang,
    "play_for_ever": play_for_ever,
    "": answer_inbound,
}


@pytest.fixture(scope="module")
def agi() -> Iterator[Agi]:
    with Agi() as server:
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, agi: Agi) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    sounds = folder / "sounds"
    sounds.mkdir()
    lab_sound.write(sounds / "prompt.wav", Samples("h", PROMPT))
    lab_sound.write(sounds / "late.wav", silence(2000) + Samples("h", PROMPT))
    lab_sound.write(sounds / "apology.wav", tone(900, APOLOGY_HZ))
    settings = {"DIALOG_APOLOGY": f"{sounds}/apology", "LAB_PROMPT": f"{sounds}/prompt"}
    with Lab(folder, backend=Backend(agi=agi.place, globals=settings), patience_s=30) as lab:
        yield lab


@pytest.fixture(scope="module")
def ami(lab: Lab) -> Iterator[Ami]:
    with observer(lab.pbx) as connection:
        yield connection


def observer(instance: Instance) -> Ami:
    return Ami(instance.ami_port, instance.observer_user, instance.observer_secret)


def heard(lab: Lab, number: str) -> Samples[int]:
    return lab_sound.read(lab.heard(number, 40))


def said(lab: Lab, number: str) -> Samples[int]:
    return lab_sound.read(lab.said(number, 40))


# -- the subscriber's behaviour, by its number


@pytest.fixture(scope="module")
def calls(lab: Lab, ami: Ami) -> dict[str, str]:
    """All behaviours at once, each in a prompt of 2.7 s and 5 s of nothing: number → id."""
    late = {"LAB_PROMPT": f"{lab.sounds}/late"}
    special = {
        "1000002": late,
        "1020002": late,
        "1100001": {"LAB_THEN": f"{lab.sounds}/prompt"},
    }
    codes = ("100", "101", "102", "103", "104", "105", "107", "108", "109", "111", "112", "113")
    numbers = [*(f"{code}0001" for code in codes), *special]
    return {
        number: ami.originate(number, "lab-play", {"LAB_STAY": "5", **special.get(number, {})})
        for number in numbers
    }


def word_is(lab: Lab, samples: Samples[int], span: Span, word: str) -> bool:
    return likeness(samples, lab_sound.read(lab.speech / f"{word}.wav"), span.start_ms) > 0.9


@pytest.mark.parametrize(
    ("number", "word"), [("1000001", "yes"), ("1000002", "yes"), ("1010001", "no")]
)
def test_answers_when_the_prompt_has_ended(
    lab: Lab, calls: dict[str, str], number: str, word: str
) -> None:
    prompt, speech = heard(lab, number), said(lab, number)
    (answer,) = spans(speech, gap_ms=300)
    assert len(spans(prompt)) == 2, "it waited for the end, not for the first pause"
    assert 650 < answer.start_ms - spans(prompt)[-1].end_ms < 1900
    assert word_is(lab, speech, answer, word)


@pytest.mark.parametrize(
    ("number", "words"), [("1020001", "over"), ("1020002", "over"), ("1130001", "long")]
)
def test_speaks_over_the_prompt(lab: Lab, calls: dict[str, str], number: str, words: str) -> None:
    prompt, speech = spans(heard(lab, number)), spans(said(lab, number))
    assert word_is(lab, said(lab, number), speech[0], words)
    assert speech[0].start_ms - prompt[0].start_ms == pytest.approx(1540, abs=60)
    assert speech[0].start_ms < prompt[-1].end_ms


def test_stays_silent_and_sends_all_the_while(lab: Lab, calls: dict[str, str]) -> None:
    speech = said(lab, "1030001")
    assert spans(speech) == []
    assert lab_sound.length_ms(speech) > 2700 + 5000 - 100


def test_presses_keys_after_the_prompt_and_in_it(ami: Ami, calls: dict[str, str]) -> None:
    for number, in_the_prompt in (("1040001", False), ("1120001", True)):
        mine = {"Uniqueid": calls[number]}
        ami.event("Hangup", 30, **mine)
        story = [event for event in ami.events if mine.items() <= event.items()]
        keys = [event["Digit"] for event in story if event["Event"] == "DTMFEnd"]
        assert keys == ["1", "2", "3"]
        first = next(at for at, event in enumerate(story) if event["Event"] == "DTMFEnd")
        prompt_over = next(
            at for at, event in enumerate(story) if event.get("Application") == "Wait"
        )
        assert (first < prompt_over) is in_the_prompt


@pytest.mark.parametrize(
    ("number", "cause"), [("1050001", "17"), ("1070001", "21"), ("1090001", "20")]
)
def test_is_not_reached(ami: Ami, calls: dict[str, str], number: str, cause: str) -> None:
    mine = {"Uniqueid": calls[number]}
    assert ami.event("OriginateResponse", 20, **mine)["Response"] == "Failure"
    assert ami.event("Hangup", 20, **mine)["Cause"] == cause


def test_rings_and_does_not_answer(ami: Ami) -> None:
    call = ami.originate("1060001", "lab-play", timeout_ms=700)
    ami.event("Newstate", Uniqueid=call, ChannelStateDesc="Ringing")
    response = ami.event("OriginateResponse", Uniqueid=call)
    assert (response["Response"], response["Reason"]) == ("Failure", "3")


def test_hangs_up_in_the_middle_of_the_prompt(lab: Lab, calls: dict[str, str]) -> None:
    prompt = heard(lab, "1080001")
    assert 900 < lab_sound.length_ms(prompt) - spans(prompt)[0].start_ms < 1300


def test_a_carriers_announcement_comes_before_the_answer(
    lab: Lab, ami: Ami, calls: dict[str, str]
) -> None:
    speech = said(lab, "1090001")
    assert word_is(lab, speech, spans(speech)[0], "unavailable")
    ami.event("Hangup", 20, Uniqueid=calls["1090001"])
    states = [
        e.get("ChannelStateDesc") for e in ami.events if e.get("Uniqueid") == calls["1090001"]
    ]
    assert "Up" not in states


def test_answers_several_prompts(lab: Lab, calls: dict[str, str]) -> None:
    prompt, speech = spans(heard(lab, "1100001")), said(lab, "1100001")
    first, second = spans(speech, gap_ms=300)
    assert word_is(lab, speech, first, "yes")
    assert word_is(lab, speech, second, "no")
    assert prompt[1].end_ms < first.start_ms < prompt[2].start_ms
    assert prompt[3].end_ms < second.start_ms


def test_the_silent_one_for_load_leaves_no_tapes(lab: Lab, ami: Ami, calls: dict[str, str]) -> None:
    ami.event("Hangup", 20, Uniqueid=calls["1110001"])
    assert not (lab.subscriber.home / "heard" / "1110001.wav").exists()


def test_an_unknown_number_does_not_exist(ami: Ami) -> None:
    call = ami.originate("9990001", "lab-play")
    assert ami.event("Hangup", Uniqueid=call)["Cause"] == "1"


# -- the two tapes of a call


def test_tapes_of_both_sides_are_in_step(lab: Lab, ami: Ami) -> None:
    """Number 119 sends back each packet as it comes: in both, tones stand at the same places."""
    ami.originate("1190001", "lab-play", {"LAB_STAY": "0"})
    ears, mouth = spans(heard(lab, "1190001")), spans(said(lab, "1190001"))
    assert len(ears) == len(mouth) == 2
    for one, other in zip(ears, mouth, strict=True):
        assert one.start_ms == pytest.approx(other.start_ms, abs=20)


def test_tapes_stay_in_step_while_one_side_sends_nothing(lab: Lab, ami: Ami) -> None:
    """For 2 s our PBX sends nothing, the subscriber goes on: the gap is on the tape, whole."""
    again = {"LAB_STAY": "2", "LAB_THEN": f"{lab.sounds}/prompt"}
    ami.originate("1030002", "lab-play", again)
    ears = heard(lab, "1030002")
    gap_ms = spans(ears)[2].start_ms - spans(ears)[1].end_ms
    assert gap_ms == pytest.approx(2000 + 300, abs=60)
    assert len(said(lab, "1030002")) == len(ears)


# -- the lab itself


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "lab.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def gone(pids: list[int]) -> bool | None:
    return not any(Path(f"/proc/{pid}/cmdline").exists() and running(pid) for pid in pids) or None


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def test_is_asterisk_16_28_with_the_module(lab: Lab) -> None:
    assert "Asterisk 16.28.0" in lab.pbx.cli("core show version")
    assert "app_audiofork.so" in lab.pbx.cli("module show like audiofork")
    assert "WebSocket" in lab.pbx.cli("core show application AudioFork")


@pytest.mark.parametrize("name", ["pbx", "subscriber"])
def test_nothing_listens_beyond_the_loopback(lab: Lab, name: str) -> None:
    fds = Path(f"/proc/{getattr(lab, name).pid}/fd").iterdir()
    mine = {link[8:-1] for link in map(os.readlink, fds) if link.startswith("socket:")}
    tables = [Path(f"/proc/net/{table}") for table in ("tcp", "tcp6", "udp", "udp6")]
    rows = [row.split() for table in tables for row in table.read_text().splitlines()[1:]]
    places = {row[1] for row in rows if row[9] in mine}
    at_home = {place for place in places if place.startswith("0100007F:")}
    assert len(at_home) >= 2, "SIP and AMI"
    # pjproject's DNS resolver has two sockets for its questions, of which it asks none here.
    assert len(places - at_home) <= 2


def test_start_status_stop(lab: Lab, tmp_path: Path) -> None:
    """From the command line, beside another lab, which is the fixture."""
    there = f"--dir={tmp_path}"
    started = cli("start", there, "--json")
    assert started.returncode == 0, started.stderr
    report = json.loads(started.stdout)
    pids = [report[name]["pid"] for name in ("pbx", "subscriber")]
    try:
        assert report["running"]
        assert report["ports"]["pbx_sip"] != lab.ports.pbx_sip
        refused = cli("start", there)
        assert refused.returncode == 1
        assert "runs in" in refused.stderr
        assert cli("status", there).returncode == 0
    finally:
        assert cli("stop", there).returncode == 0
    assert gone(pids)
    assert cli("status", there).returncode == 1


def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from lab import Lab\n"
        "lab = Lab(Path(sys.argv[1])).start()\n"
        "print(lab.pbx.pid, lab.subscriber.pid, flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    with owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
        owner.send_signal(signal.SIGKILL)
    wait_until("the end of both", lambda: gone(pids), time.monotonic() + 5)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    with Lab(tmp_path) as again:
        assert again.is_running


def test_a_killed_pbx_is_noticed_and_can_be_started_again(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        lab.pbx.kill()
        assert not lab.is_running
        lab.restart(lab.pbx)
        assert lab.is_running
        with observer(lab.pbx) as ami:
            ami.event("Hangup", Uniqueid=ami.originate("1050001", "lab-play"))


def test_a_failing_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    broken = Lab(tmp_path, backend=Backend(globals={"X": "1"}))
    with pytest.raises(LabError, match="waited in vain"):
        broken.start(timeout_s=0.01)
    assert not broken.is_running


# -- the dialplan


@pytest.fixture(params=["dialog-outbound", "lab-macro"], ids=["gosub", "macro"])
def context(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def number_for(request: pytest.FixtureRequest, code: str) -> str:
    """A number that no other test dials."""
    return f"{code}{zlib.crc32(request.node.nodeid.encode()):010}"


def pitch(samples: Samples[int]) -> list[int]:
    """The prompts and apologies in their order, by their tones, in Hz."""
    found: list[int] = []
    last = 0
    for start in range(0, len(samples) - 399, 400):
        window = samples[start : start + 400]
        hz = 0 if max(map(abs, window)) < lab_sound.LOUD else tone_of(window) or last
        if hz and hz != last:
            found.append(hz)
        last = hz
    return found


def tone_of(window: Samples[int]) -> int:
    for hz in (PROMPT_HZ, APOLOGY_HZ):
        if likeness(window, tone(30, hz), at_ms=2, slack_ms=2) > 0.9:
            return hz
    return 0


def story(ami: Ami, call: str) -> list[str]:
    """context,exten:application, in the order they ran, once the call is over."""
    ami.event("Hangup", 20, Uniqueid=call)
    rows = [e for e in ami.events if e["Event"] == "Newexten" and e.get("Uniqueid") == call]
    return [f"{e['Context']},{e['Extension']}:{e['Application']}" for e in rows]


def warnings(lab: Lab, call_channel: str) -> str:
    """What the dialplan warned of on this channel; not the lines that show it being executed."""
    rows = [row for row in lab.pbx.log().splitlines() if "] WARNING[" in row]
    return "\n".join(row for row in rows if f"dialog: {call_channel}" in row)


def test_a_finished_scenario_is_followed_by_nothing(
    lab: Lab, ami: Ami, agi: Agi, context: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    call = ami.originate(number, context, {"DIALOG_SCENARIO": "finish"})
    ran = story(ami, call)
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    assert f"{context},s:Hangup" in ran, "it came back to whoever called the talk"
    assert pitch(heard(lab, number)) == []
    assert agi.seen[call]["agi_request"] == f"agi://{agi.place}/finish"


@pytest.mark.parametrize("fault", ["die", "away", "hang"])
def test_a_caller_hears_the_apology(
    lab: Lab, ami: Ami, context: str, fault: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    wanted = {"DIALOG_SCENARIO": fault, "DIALOG_TASK": "t-1"}
    wanted |= {"away": {"DIALOG_AGI": "127.0.0.1:1"}, "hang": {"DIALOG_MAX_S": "1"}}.get(fault, {})
    call = ami.originate(number, context, wanted)
    assert pitch(heard(lab, number)) == [APOLOGY_HZ]
    channel = ami.event("Hangup", Uniqueid=call)["Channel"]
    why = "stopped after DIALOG_MAX_S=1 s" if fault == "hang" else "was away or died"
    assert "task t-1: " in warnings(lab, channel)
    assert why in warnings(lab, channel)


def test_the_apology_comes_in_mid_prompt_too(
    lab: Lab, ami: Ami, context: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    ami.originate(number, context, {"DIALOG_SCENARIO": "die_in_the_prompt"})
    assert pitch(heard(lab, number)) == [PROMPT_HZ, APOLOGY_HZ]


def test_no_fallback_for_a_caller_who_hung_up(
    ami: Ami, context: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "108")
    ran = story(ami, ami.originate(number, context, {"DIALOG_SCENARIO": "play_for_ever"}))
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    assert [step for step in ran if ",h:" in step]


def test_transfer_instead_of_the_apology(
    lab: Lab, ami: Ami, context: str, request: pytest.FixtureRequest
) -> None:
    caller, operator = number_for(request, "103"), number_for(request, "104")
    wanted = {"DIALOG_SCENARIO": "die", "DIALOG_TRANSFER": f"PJSIP/{operator}@subscriber"}
    call = ami.originate(caller, context, wanted)
    bridge = ami.event("BridgeEnter", Uniqueid=call)["BridgeUniqueid"]
    ami.event("BridgeEnter", BridgeUniqueid=bridge, BridgeNumChannels="2")
    ami.action("Hangup", Channel=ami.event("BridgeEnter", Uniqueid=call)["Channel"])
    assert not [step for step in story(ami, call) if step.endswith(":Playback")]


def test_nobody_at_the_transfer_means_apology(
    lab: Lab, ami: Ami, context: str, request: pytest.FixtureRequest
) -> None:
    caller, operator = number_for(request, "103"), number_for(request, "105")
    wanted = {"DIALOG_SCENARIO": "die", "DIALOG_TRANSFER": f"PJSIP/{operator}@subscriber"}
    ami.originate(caller, context, wanted)
    assert pitch(heard(lab, caller)) == [APOLOGY_HZ]


def test_a_missing_apology_is_not_silence(
    lab: Lab, ami: Ami, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    wanted = {"DIALOG_SCENARIO": "die", "DIALOG_APOLOGY": "no-such-sound"}
    ami.originate(number, "dialog-outbound", wanted)
    assert len(spans(heard(lab, number))) > 2


def test_an_inbound_call_is_answered_by_the_scenario(lab: Lab, ami: Ami, agi: Agi) -> None:
    with observer(lab.subscriber) as subscriber:
        subscriber.originate("74951234567", "subscriber", exten="1000901", trunk="pbx")
        call = ami.event("Newchannel", Context="dialog-inbound", Exten="74951234567")["Uniqueid"]
    assert pitch(heard(lab, "1000901")) == [PROMPT_HZ, PROMPT_HZ]
    ran = story(ami, call)
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    env = agi.seen[call]
    assert env["number"] == "74951234567"
    assert "result=6" not in env["before"]
    assert "result=6" in env["after"]


def test_the_fork_is_started_before_the_talk_and_does_not_hold_it_up(
    lab: Lab, ami: Ami, agi: Agi, context: str, request: pytest.FixtureRequest
) -> None:
    number = number_for(request, "103")
    wanted = {"DIALOG_SCENARIO": "finish", "DIALOG_WS": "ws://127.0.0.1:1/"}
    call = ami.originate(number, context, wanted)
    ran = story(ami, call)
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    assert agi.seen[call]["fork"]
    channel = ami.event("Hangup", Uniqueid=call)["Channel"]
    assert "will not hear the caller" not in warnings(lab, channel)


@pytest.mark.parametrize(
    ("url", "status"), [("http://127.0.0.1/", "BADARGS"), ("ws://127.0.0.1:2/no", "REFUSED")]
)
def test_a_fork_that_is_refused_is_told_and_the_talk_goes_on(
    lab: Lab,
    ami: Ami,
    agi: Agi,
    context: str,
    url: str,
    status: str,
    allowed_forks: None,
    request: pytest.FixtureRequest,
) -> None:
    """TryExec reports SUCCESS: the module ran. Its own status decides, and not an older one."""
    number = number_for(request, "103")
    wanted = {"DIALOG_SCENARIO": "finish", "DIALOG_WS": url, "AUDIOFORK_STATUS": "STARTED"}
    call = ami.originate(number, context, wanted)
    ran = story(ami, call)
    assert not [step for step in ran if step.startswith("dialog-fallback")]
    assert not agi.seen[call]["fork"]
    channel = ami.event("Hangup", Uniqueid=call)["Channel"]
    assert f"AudioFork {status} - the backend will not hear the caller" in warnings(lab, channel)
    assert f"AudioFork on {channel} was not started" in lab.pbx.log()


@pytest.fixture
def allowed_forks(lab: Lab) -> Iterator[None]:
    """audiofork.conf allows the server of the other test, and no more."""
    file = lab.pbx.home / "etc" / "audiofork.conf"
    before = file.read_text()
    file.write_text("[general]\nallow = ws://127.0.0.1:1/\n")
    lab.pbx.cli("module reload app_audiofork.so")
    yield
    file.write_text(before)
    lab.pbx.cli("module reload app_audiofork.so")


def test_the_twins_of_the_dialplan_are_in_step() -> None:
    """But for where the scenario's name is kept, and how they come back."""
    talks = []
    for name in ("dialog-gosub.conf", "dialog-macro.conf"):
        text = (DIALPLAN / name).read_text()
        text = text.replace("LOCAL(scenario)", "DIALOG_CHOICE").replace(
            "{scenario}", "{DIALOG_CHOICE}"
        )
        talks.append([row for row in text.splitlines() if row.startswith(("exten", " same"))])
    gosub, macro = talks
    assert gosub == [*macro, " same => n,Return()"]


def test_without_the_module_the_talk_goes_on_with_a_warning(tmp_path: Path, agi: Agi) -> None:
    backend = Backend(agi=agi.place, fork_ws="ws://127.0.0.1:1/")
    with Lab(tmp_path, backend=backend, module=False) as bare, observer(bare.pbx) as ami:
        for number, context in (("1030001", "dialog-outbound"), ("1030002", "lab-macro")):
            call = ami.originate(number, context, {"DIALOG_SCENARIO": "finish"})
            ran = story(ami, call)
            assert not [step for step in ran if step.startswith("dialog-fallback")]
            channel = ami.event("Hangup", Uniqueid=call)["Channel"]
            assert "AudioFork NOAPP" in warnings(bare, channel)


# -- the manager's rights: the table in manager.conf.sample, tried

CLASSES = [
    "system",
    "call",
    "log",
    "verbose",
    "command",
    "agent",
    "user",
    "config",
    "dtmf",
    "reporting",
    "cdr",
    "dialplan",
    "originate",
    "agi",
    "cc",
    "aoc",
    "test",
    "security",
    "message",
]
NEEDS: dict[str, tuple[dict[str, str], set[str]]] = {
    # action: headers, the classes of which any one is enough
    "Ping": ({}, set(CLASSES)),
    "ListCommands": ({}, set(CLASSES)),
    "Originate": (
        {"Channel": "Local/none@lab-play", "Context": "none", "Exten": "s", "Priority": "1"},
        {"originate"},
    ),
    "ControlPlayback": ({"Channel": "none", "Control": "stop"}, {"call"}),
    "Hangup": ({"Channel": "none"}, {"system", "call"}),
    "Setvar": ({"Channel": "none", "Variable": "A", "Value": "1"}, {"call"}),
    "Getvar": ({"Channel": "none", "Variable": "A"}, {"call", "reporting"}),
    "AudioFork": ({"Channel": "none", "WsServer": "ws://127.0.0.1:1/"}, {"system", "call"}),
    "StopAudioFork": ({"Channel": "none"}, {"system", "call"}),
    "CoreShowChannels": ({}, {"system", "reporting"}),
    "CoreSettings": ({}, {"system", "reporting"}),
    "CoreStatus": ({}, {"system", "reporting"}),
    "ShowDialPlan": ({"Context": "dialog"}, {"config", "reporting"}),
    "StopMixMonitor": ({"Channel": "none"}, {"system", "call"}),
    "MixMonitor": ({"Channel": "none", "File": "none.wav"}, {"system"}),
    "ModuleCheck": ({"Module": "none"}, {"system"}),
    "ModuleLoad": ({"LoadType": "reload", "Module": "none"}, {"system"}),
    "Reload": ({"Module": "none"}, {"system", "config"}),
    "GetConfig": ({"Filename": "none.conf"}, {"system", "config"}),
    "Command": ({"Command": "core show version"}, {"command"}),
}


def allowed(ami: Ami) -> set[str]:
    answers = {name: ami.action(name, **headers) for name, (headers, _) in NEEDS.items()}
    return {
        name for name, answer in answers.items() if answer.get("Message") != "Permission denied"
    }


def test_each_right_is_for_what_the_table_says(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        file = lab.pbx.home / "etc" / "manager-lab.conf"
        users = "".join(f"[only-{name}]\nsecret = x\nwrite = {name}\n" for name in CLASSES)
        file.write_text(users)
        lab.pbx.cli("manager reload")
        for name in CLASSES:
            with Ami(lab.pbx.ami_port, f"only-{name}", "x") as ami:
                assert allowed(ami) == {a for a, (_, any_of) in NEEDS.items() if name in any_of}, (
                    name
                )


def test_the_backends_login_may_do_its_work_and_no_more(lab: Lab) -> None:
    with Ami(lab.pbx.ami_port, lab.pbx.ami_user, lab.pbx.ami_secret) as backend:
        doors = {"MixMonitor", "ModuleCheck", "ModuleLoad", "Reload", "GetConfig", "Command"}
        assert allowed(backend) == set(NEEDS) - doors
        shell = {"Channel": "Local/s@lab-play", "Application": "System", "Data": "id"}
        refusal = backend.action("Originate", **shell)
        assert refusal["Message"] == "Originate Access Forbidden: Application"


def test_the_backends_login_sees_what_happens_in_a_call(lab: Lab) -> None:
    with Ami(lab.pbx.ami_port, lab.pbx.ami_user, lab.pbx.ami_secret) as backend:
        call = backend.originate("1040009", "dialog-outbound", {"DIALOG_SCENARIO": "finish"})
        backend.event("Hangup", Uniqueid=call)
        backend.event("Cdr", UniqueID=call)
        names = {event["Event"] for event in backend.events if event.get("Uniqueid") == call}
        assert {"Newchannel", "Newexten", "VarSet", "OriginateResponse", "Hangup"} <= names
        assert {"AGIExecStart", "AGIExecEnd"} <= names


def test_a_wrong_secret_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="Authentication failed"):
        Ami(lab.pbx.ami_port, lab.pbx.ami_user, "wrong")
