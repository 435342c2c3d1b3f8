"""A lab without a backend: a few lines of FastAGI stand in for it.

What a caller hears is judged by what the subscriber's PBX recorded.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from pathlib import Path

import lab_sound
from lab import Backend, Instance, Lab
from lab_ami import Ami
from lab_sound import Samples, silence, tone

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


def plain_lab(folder: Path, agi: Agi, asterisk: str) -> Lab:
    """Its sounds: prompt, late (the same after 2 s) and apology."""
    sounds = folder / "sounds"
    sounds.mkdir()
    lab_sound.write(sounds / "prompt.wav", Samples("h", PROMPT))
    lab_sound.write(sounds / "late.wav", silence(2000) + Samples("h", PROMPT))
    lab_sound.write(sounds / "apology.wav", tone(900, APOLOGY_HZ))
    settings = {"DIALOG_APOLOGY": f"{sounds}/apology", "LAB_PROMPT": f"{sounds}/prompt"}
    backend = Backend(agi=agi.place, globals=settings)
    return Lab(folder, backend=backend, asterisk=asterisk, patience_s=30)


def observer(instance: Instance) -> Ami:
    return Ami(instance.ami_port, instance.observer_user, instance.observer_secret)


def heard(lab: Lab, number: str) -> Samples[int]:
    return lab_sound.read(lab.heard(number, 40))


def said(lab: Lab, number: str) -> Samples[int]:
    return lab_sound.read(lab.said(number, 40))
