"""The lab's Asterisks and their configuration files: what is asked for, the texts made of it.

The PBX is configured with the very files that an admin installs (asterisk/config and /dialplan): a
few of their settings are given the lab's values (`set_key`), the rest is used as it stands. The
lab's own files (lab/etc) are templates with @NAME@ in the places to fill (`render`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ETC = HERE / "etc"
SAMPLES = HERE.parent / "config"
DIALPLAN = HERE.parent / "dialplan"

_PLACE = re.compile(r"@([A-Z_]+)@")


class LabError(Exception):
    """The lab cannot do what was asked; the message says why in words for its user."""


@dataclass(frozen=True)
class Version:
    """What the lab does differently for one Asterisk."""

    modules: str
    """Where Debian keeps the modules in the root folder, a pattern."""
    pool: str
    """What its settings call a pool of threads."""
    load: str = ""
    """Lines of modules.conf for modules that the others do not have."""


VERSIONS = {
    "16": Version("usr/lib/asterisk/modules/*.so", "threadpool", "load = app_macro.so"),
    "22": Version("usr/lib/*/asterisk/modules/*.so", "taskpool"),
}
"""The Asterisks that build.sh can make."""

DEFAULT_VERSION = os.environ.get("ASTERISK_DIALOG_LAB", "16")


@dataclass(frozen=True)
class Ports:
    """All ports of one lab, UDP for SIP and RTP, TCP for AMI; every one on 127.0.0.1."""

    pbx_sip: int
    subscriber_sip: int
    pbx_ami: int
    subscriber_ami: int
    pbx_rtp: int  # first of RTP_PORTS
    subscriber_rtp: int  # first of RTP_PORTS


RTP_PORTS = 400
"""RTP and RTCP ports of one instance: two a call, so 200 calls at once."""


@dataclass(frozen=True)
class Backend:
    """Where the PBX finds the backend: the dialplan's globals, and folders that both must see."""

    agi: str = "127.0.0.1:4573"
    """host:port of the FastAGI server (DIALOG_AGI)."""
    fork_ws: str = ""
    """WebSocket URL for AudioFork (DIALOG_WS); empty: the backend starts the fork itself."""
    sounds: Path | None = None
    """Folder of the backend's sounds; None: <lab>/sounds."""
    recordings: Path | None = None
    """Folder that the backend's MixMonitor writes to; None: <lab>/recordings."""
    globals: Mapping[str, str] = field(default_factory=dict)
    """More dialplan globals, e.g. DIALOG_MAX_S or DIALOG_TRANSFER; they win over the samples'."""


def render(text: str, values: Mapping[str, str]) -> str:
    """Fill each @NAME@ of a template. Raises LabError for a name that has no value."""

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise LabError(f"template: no value for @{name}@")
        return values[name]

    return _PLACE.sub(fill, text)


def set_key(text: str, key: str, value: str) -> str:
    """Give the one line `key = …` of an Asterisk configuration (or `;key = …`) another value.

    Raises LabError unless there is exactly one such line: a sample that changed must not silently
    go untested.
    """
    line = re.compile(rf"^;?({re.escape(key)} ?= ?)[^;\n]*?( *;.*)?$", re.MULTILINE)
    found = line.findall(text)
    if len(found) != 1:
        raise LabError(f"sample: {len(found)} lines set {key}, 1 expected")
    return line.sub(lambda match: f"{match[1]}{value}{match[2] or ''}", text)


def trunk(sample: str, peer: str, ports: Ports) -> str:
    """The sample trunk, renamed to PEER and led to the other instance."""
    text = re.sub(r"\btrunk\b", peer, sample)
    for key, value in (
        ("bind", f"127.0.0.1:{ports.pbx_sip}"),
        ("contact", f"sip:127.0.0.1:{ports.subscriber_sip}"),
        ("match", "127.0.0.1"),
        ("media_address", "127.0.0.1"),
        ("bind_rtp_to_media_address", "yes"),
    ):
        text = set_key(text, key, value)
    return text


def dialog_globals(sample: str, backend: Backend) -> tuple[str, str]:
    """The sample's globals with the backend's values, and the lines of those it does not know."""
    wanted = {"DIALOG_AGI": backend.agi, "DIALOG_WS": backend.fork_ws, **backend.globals}
    more = []
    for name, value in wanted.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or re.search(r"[\r\n;]", value):
            raise LabError(f"global {name!r}: name or value cannot stand in a dialplan")
        if re.search(rf"^{name}=", sample, re.MULTILINE):
            sample = set_key(sample, name, value)
        else:
            more.append(f"{name}={value}")
    return sample, "\n".join(more)


def pbx_files(
    backend: Backend, ports: Ports, secret: str, values: Mapping[str, str]
) -> dict[str, str]:
    """Our PBX's own configuration files, name → text."""
    settings, more = dialog_globals((DIALPLAN / "dialog-globals.conf.sample").read_text(), backend)
    manager = (SAMPLES / "manager.conf.sample").read_text()
    manager = set_key(set_key(manager, "port", str(ports.pbx_ami)), "secret", secret)
    files = {path.name: path.read_text() for path in DIALPLAN.glob("*.conf")}
    files |= {
        path.name.removesuffix(".sample"): path.read_text() for path in SAMPLES.glob("*.sample")
    }
    files.pop("pjsip-trunk.conf")
    files |= _templates(ETC / "pbx", {**values, "GLOBALS": more})
    sip = trunk((SAMPLES / "pjsip-trunk.conf.sample").read_text(), "subscriber", ports)
    return files | {
        "dialog-globals.conf": settings,
        "manager.conf": manager + "\n#include manager-lab.conf\n",
        "pjsip.conf": sip + "\n#include pjsip-system.conf\n#include pjsip-digits.conf\n",
    }


def subscriber_files(values: Mapping[str, str]) -> dict[str, str]:
    """The subscriber's PBX's own configuration files, name → text."""
    observer = render((ETC / "pbx" / "manager-lab.conf").read_text(), values)
    return _templates(ETC / "subscriber", values) | {"manager-lab.conf": observer}


def common_files(values: Mapping[str, str]) -> dict[str, str]:
    """What both instances have alike."""
    return _templates(ETC / "common", values)


def _templates(folder: Path, values: Mapping[str, str]) -> dict[str, str]:
    return {path.name: render(path.read_text(), values) for path in sorted(folder.glob("*.conf"))}


def write_tree(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files, readable by their owner alone: some hold secrets."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text)
