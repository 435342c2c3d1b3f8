"""The manager's rights: the table in manager.conf.sample, tried."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab, LabError
from lab_ami import Ami

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
    "AudioForkMute": ({"Channel": "none", "State": "1"}, {"system", "call"}),
    "AudioForkPause": ({"Channel": "none", "State": "1"}, {"call"}),
    "AudioForkPlayClear": ({"Channel": "none"}, {"call"}),
    "AudioForkList": ({"Channel": "none"}, {"call", "reporting"}),
    "CoreShowChannels": ({}, {"system", "reporting"}),
    "CoreSettings": ({}, {"system", "reporting"}),
    "CoreStatus": ({}, {"system", "reporting"}),
    "ShowDialPlan": ({"Context": "dialog"}, {"config", "reporting"}),
    "ConfbridgeList": ({"Conference": "none"}, {"reporting"}),
    "ConfbridgeKick": ({"Conference": "none", "Channel": "none"}, {"call"}),
    "ConfbridgeMute": ({"Conference": "none", "Channel": "none"}, {"call"}),
    "ConfbridgeUnmute": ({"Conference": "none", "Channel": "none"}, {"call"}),
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


def test_each_right_is_for_what_the_table_says(tmp_path: Path, asterisk: str) -> None:
    with Lab(tmp_path, asterisk=asterisk) as lab:
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
        assert refusal["Message"].startswith("Originate Access Forbidden: ")


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
