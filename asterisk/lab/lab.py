#!/usr/bin/env python3
"""The lab: two real Asterisks on the loopback, our PBX and the subscriber's, SIP and RTP between.

    with Lab(folder, backend=Backend(agi="127.0.0.1:4573")) as lab:
        … originate PJSIP/1000001@subscriber through lab.pbx.ami_port …
        heard, said = lab.heard("1000001"), lab.said("1000001")

What the subscriber does is told by the number's first three digits (README.md). Needs root, for
mounts of its own; no mount and no process outlives the lab, not even when its owner is killed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import lab_keys
import lab_sanitizer
from lab_config import (
    DEFAULT_VERSION,
    HERE,
    RTP_PORTS,
    VERSIONS,
    Backend,
    LabError,
    Ports,
    common_files,
    pbx_files,
    subscriber_files,
    write_tree,
)
from lab_instance import Instance, wait_until
from lab_keys import WireKey
from lab_ports import check, lease, try_lock

__all__ = ["Backend", "Instance", "Lab", "LabError", "Ports"]

START_S = 20.0
RECORDER_S = 10.0
FOLDERS = ("run", "log", "spool", "lib", "modules", "data/documentation", "calls", "heard", "said")
SCRIPT_FOLDERS = ("scripts", "words")  # of the subscriber 150…, lab_script.py
SYSTEM_FOLDERS = ("bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "usr")


class Lab:
    """Our PBX and the subscriber's PBX, in one folder.

    asterisk         their version, "16" or "22"
    pbx, subscriber  the two instances (see `Instance`): ami_port, ami_user, ami_secret, cli(), pid,
                     threads(), fds(), cpu_s(), channels(), log(), log_tail(), stop(), kill()
    folder           everything the two write; both see it under this very path
    sounds           folder for the backend's sounds, seen by the PBX under this very path
    recordings       folder for the backend's recordings, likewise
    speech           what the subscriber can say: yes.wav, no.wav, long.wav, unavailable.wav
    """

    def __init__(
        self,
        folder: Path,
        *,
        backend: Backend | None = None,
        ports: Mapping[str, int] | None = None,
        asterisk: str = DEFAULT_VERSION,
        module: bool = True,
        patience_s: int = 120,
        tapes: bool = True,
    ) -> None:
        """Prepare a lab in FOLDER, which is made when missing; nothing runs yet.

        ports       ports of your own, by the names in `Ports`; free ones for those not named
        asterisk    the version of both: "16" or "22"
        module      False: the PBX comes without app_audiofork, as one where it was forgotten
        patience_s  how long the subscriber waits for a prompt, and stays after its last word
        tapes       False: none are made, for measurements and long loads
        """
        self.folder = folder.resolve()
        self.backend = backend or Backend()
        self.sounds = (self.backend.sounds or self.folder / "sounds").resolve()
        self.recordings = (self.backend.recordings or self.folder / "recordings").resolve()
        self.speech = Path()
        self._built: dict[str, Path] = {}
        self._wanted_ports = dict(ports or {})
        self.asterisk = asterisk
        self._module = module
        self._patience_s = patience_s
        self._tapes = tapes
        self._recorder: subprocess.Popen[str] | None = None
        self._locks: list[int] = []
        if asterisk not in VERSIONS:
            raise LabError(f"no lab has Asterisk {asterisk!r}; known: {', '.join(VERSIONS)}")
        for place in (self.folder, self.sounds, self.recordings):
            if len(place.parts) < 2 or place.parts[1] in SYSTEM_FOLDERS:
                raise LabError(f"{place}: choose a folder outside the system's own")

    # -- life

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, *, detached: bool = False, timeout_s: float = START_S) -> Lab:
        """Build what is missing, start both PBXs, wait until they are booted and see each other.

        detached  True: they outlive this process, until `Lab.attach(folder).stop()`. False: they
                  die with it, also when it is killed; call this from its main thread.

        Raises LabError, with the end of Asterisk's log, and leaves nothing running then.
        """
        if os.geteuid() != 0:
            raise LabError("needs root: run it with sudo -E")
        if not detached and threading.current_thread() is not threading.main_thread():
            raise LabError("start the lab from the main thread: its processes die with the thread")
        self._built = build(self.asterisk, self._module)
        try:
            self._hold()
            self._prepare()
            self._record()
            self._launch(self._instances(), detached, time.monotonic() + timeout_s)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Stop both PBXs; returns when they are gone. Stopping twice is no error.

        Raises LabError for what a sanitizer has found, where one was wanted (lab_sanitizer.py).
        """
        for instance in self._instances():
            instance.terminate()
        for instance in self._instances():
            instance.stop()
        self._release()
        for instance in self._instances():
            if found := lab_sanitizer.findings(instance.home):
                raise LabError(f"{instance.name}: {found}")

    def kill(self) -> None:
        """SIGKILL both PBXs, as a crash would."""
        for instance in self._instances():
            instance.kill()
        self._release()

    def restart(self, instance: Instance, timeout_s: float = START_S) -> None:
        """Stop one PBX, if it still runs, and start it again: same ports, files and secrets."""
        instance.stop()
        self._launch([instance], False, time.monotonic() + timeout_s)

    @property
    def is_running(self) -> bool:
        """Whether both PBXs are alive."""
        return all(instance.is_alive() for instance in self._instances())

    @classmethod
    def attach(cls, folder: Path) -> Lab:
        """The lab that was started in FOLDER, by whomever. Raises LabError: there never was one."""
        try:
            state = json.loads((folder / "lab.json").read_text())
        except FileNotFoundError:
            raise LabError(f"no lab was started in {folder}") from None
        lab = cls(folder, asterisk=state["asterisk"])
        lab.ports = Ports(**state["ports"])
        lab.speech, lab.sounds = Path(state["speech"]), Path(state["sounds"])
        lab.recordings = Path(state["recordings"])
        lab.pbx = Instance(home=lab.folder / "pbx", **state["pbx"])
        lab.subscriber = Instance(home=lab.folder / "subscriber", **state["subscriber"])
        return lab

    @property
    def root(self) -> Path:
        """The root folder of both, with what else is installed there; of a lab started here."""
        return self._built["root"]

    # -- what a caller heard

    def heard(self, number: str, timeout_s: float = 10) -> Path:
        """What the subscriber heard in the call to NUMBER: wav, 8 kHz, 16 bit, mono.

        Waits until the call is over and the file is whole. Dial each number once only (the digits
        after the third are free): a second call writes over the first. Raises LabError after
        timeout_s.
        """
        return self._tape("heard", number, timeout_s)

    def late_ms(self, number: str, timeout_s: float = 10) -> float:
        """By how much the latest packet to the subscriber came after its place on the tape."""
        return float(self.heard(number, timeout_s).with_suffix(".late").read_text())

    def said(self, number: str, timeout_s: float = 10) -> Path:
        """What the subscriber said, in step with `heard`: sample n of both is the same moment."""
        return self._tape("said", number, timeout_s)

    def pressed(self, number: str, timeout_s: float = 10) -> list[WireKey]:
        """The keys that the subscriber sent, by any way, in order; times as on the tapes."""
        return lab_keys.read(self.said(number, timeout_s).with_suffix(".keys"))[1]

    def begun(self, number: str, timeout_s: float = 10) -> float:
        """When the call's tapes begin, seconds of CLOCK_REALTIME."""
        return lab_keys.read(self.said(number, timeout_s).with_suffix(".keys"))[0]

    def _tape(self, side: str, number: str, timeout_s: float) -> Path:
        path = self.subscriber.home / side / f"{number}.wav"

        def whole() -> Path | None:
            return path if path.exists() else None

        return wait_until(f"the end of the call to {number}", whole, time.monotonic() + timeout_s)

    # -- inside

    def _instances(self) -> list[Instance]:
        found = (getattr(self, name, None) for name in ("pbx", "subscriber"))
        return [instance for instance in found if instance is not None]

    def _hold(self) -> None:
        """Take the folder and the ports; the Asterisks inherit both locks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = try_lock(self.folder / "lab.lock")
        if mine is None:
            raise LabError(f"a lab runs in {self.folder} already")
        self._locks = [mine]
        self.ports, leased = lease()
        self._locks.append(leased)
        if self._wanted_ports:
            self.ports = replace(self.ports, **self._wanted_ports)
            check(self.ports)

    def _release(self) -> None:
        while self._locks:
            os.close(self._locks.pop())
        if self._recorder is not None:
            self._recorder.wait(RECORDER_S)
            self._recorder = None

    def _record(self) -> None:
        """Start what makes the tapes. It ends when the pipe does: with this lab's last process."""
        if not self._tapes:
            return
        reading, writing = os.pipe()
        self._locks.append(writing)
        udp = [getattr(self.ports, name) for name in ("pbx_sip", "subscriber_sip")]
        rtp = [self.ports.pbx_rtp, self.ports.subscriber_rtp]
        span = min(udp + rtp), max(*udp, *(first + RTP_PORTS - 1 for first in rtp))
        with os.fdopen(reading) as end, (self.folder / "recorder.log").open("ab") as log:
            self._recorder = subprocess.Popen(
                [sys.executable, str(HERE / "lab_tapes.py"), str(self.subscriber.home)]
                + [str(port) for port in (*udp, *span)],
                stdin=end,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._recorder.stdout is not None
        with self._recorder.stdout as told:
            if told.readline() != "ready\n":
                raise LabError(f"the recorder does not start: see {self.folder}/recorder.log")

    def _prepare(self) -> None:
        self.speech = self._built["speech"]
        ports = self.ports
        self.pbx = self._instance("pbx", ports.pbx_sip, ports.pbx_ami, "asterisk-dialog")
        self.subscriber = self._instance(
            "subscriber", ports.subscriber_sip, ports.subscriber_ami, "observer"
        )
        for folder in (self.sounds, self.recordings):
            folder.mkdir(parents=True, exist_ok=True)
        values = self._values(self.pbx, ports.pbx_rtp, ports.subscriber_sip)
        files = pbx_files(self.backend, ports, self.pbx.ami_secret, values)
        self._furnish(self.pbx, common_files(values) | files)
        values = self._values(self.subscriber, ports.subscriber_rtp, ports.pbx_sip)
        self._furnish(self.subscriber, common_files(values) | subscriber_files(values))

    def _instance(self, name: str, sip: int, ami: int, user: str) -> Instance:
        observer = secrets.token_urlsafe(18)
        secret = observer if user == "observer" else secrets.token_urlsafe(18)
        return Instance(name, self.folder / name, sip, ami, user, secret, observer)

    def _values(self, instance: Instance, rtp: int, peer_sip: int) -> dict[str, str]:
        own = instance.name == "pbx" and self._module
        return {
            "NAME": instance.name,
            "HOME": str(instance.home),
            "SPEECH": str(self.speech),
            "SIP_PORT": str(instance.sip_port),
            "PEER_SIP_PORT": str(peer_sip),
            "AMI_PORT": str(instance.ami_port),
            "OBSERVER_SECRET": instance.observer_secret,
            "RTP_FIRST": str(rtp),
            "RTP_LAST": str(rtp + RTP_PORTS - 1),
            "OWN_MODULES": "require = app_audiofork.so" if own else "",
            "SUBSCRIBER_MODULES": "" if instance.name == "pbx" else "load = func_env.so",
            "VERSION_MODULES": VERSIONS[self.asterisk].load,
            "POOL": VERSIONS[self.asterisk].pool,
            "PATIENCE_S": str(self._patience_s),
        }

    def _furnish(self, instance: Instance, files: Mapping[str, str]) -> None:
        """Make an instance's own folders afresh; what a former lab left there is removed."""
        home = instance.home
        shutil.rmtree(home, ignore_errors=True)
        for name in FOLDERS + SCRIPT_FOLDERS:
            (home / name).mkdir(parents=True)
        write_tree(home / "etc", files)
        share = Path("/usr/share/asterisk")
        self._furnish_sounds(home / "data/sounds", share / "sounds")
        for name in ("core-en_US.xml", "appdocsxml.dtd", "appdocsxml.xslt"):
            (home / "data/documentation" / name).symlink_to(share / "documentation" / name)
        for module in self._built["root"].glob(VERSIONS[self.asterisk].modules):
            inside = Path("/", module.relative_to(self._built["root"]))
            (home / "modules" / module.name).symlink_to(inside)
        if self._module and instance.name == "pbx":
            for own in self._built["module"].rglob("*.so"):
                (home / "modules" / own.name).symlink_to(own)
            for docs in self._built["module"].rglob("thirdparty"):
                (home / "data/documentation/thirdparty").symlink_to(docs)

    def _furnish_sounds(self, folder: Path, share: Path) -> None:
        """Asterisk's own sounds, and the backend's folder among them as ``dialog/``."""
        folder.mkdir(parents=True)
        for own in self._built["root"].joinpath(*share.parts[1:]).iterdir():
            (folder / own.name).symlink_to(share / own.name)
        (folder / "dialog").symlink_to(self.sounds)

    def _launch(self, instances: list[Instance], detached: bool, deadline: float) -> None:
        binds = [self.folder, self.sounds, self.recordings, self.speech]
        binds += [self._built["module"]] if self._module else []
        root = self._built["root"]
        for instance in instances:
            watched = lab_sanitizer.wanted() and instance.name == "pbx"
            env = lab_sanitizer.environment(root, instance.home) if watched else {}
            instance.spawn(root, binds, self._locks, detached, env)
        self._save()
        for instance in instances:
            instance.wait_booted(deadline)
        self._await_peers(deadline)

    def _await_peers(self, deadline: float) -> None:
        """Wait until each SIP endpoint has answered the other's OPTIONS."""
        for instance, peer in ((self.pbx, "subscriber"), (self.subscriber, "pbx")):
            instance.cli(f"pjsip qualify {peer}")

            def seen(instance: Instance = instance) -> bool | None:
                return " Avail " in instance.cli("pjsip show contacts") or None

            try:
                wait_until(f"{instance.name} to see {peer}", seen, deadline)
            except LabError as error:
                raise LabError(f"{error}\n{instance.log_tail()}") from None

    def _save(self) -> None:
        state: dict[str, Any] = {"asterisk": self.asterisk, "ports": asdict(self.ports)}
        state |= {"speech": str(self.speech), "sounds": str(self.sounds)}
        state |= {"recordings": str(self.recordings)}
        for instance in self._instances():
            kept = {name: value for name, value in vars(instance).items() if name[0] != "_"}
            del kept["home"]
            state[instance.name] = kept
        write_tree(self.folder, {"lab.json": json.dumps(state, indent=2)})


def build(asterisk: str, module: bool) -> dict[str, Path]:
    """Run build.sh; where it put root, speech and module. Raises LabError."""
    command = [str(HERE / "build.sh"), "--asterisk", asterisk]
    command += [] if module else ["--no-module"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise LabError("build.sh failed (see above)")
    return {name: Path(path) for name, path in (row.split("=", 1) for row in done.stdout.split())}


if __name__ == "__main__":
    from lab_cli import main

    sys.exit(main())
