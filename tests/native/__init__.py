"""Builds the small C programs of this folder against the sources in asterisk/.

They need gcc, libwebsockets-dev and libssl-dev, and no Asterisk.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent
ASTERISK = HERE.parent.parent / "asterisk"
FLAGS = [
    "-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-pthread", f"-I{ASTERISK}",
    "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers",
    "-Wno-tsan",  # the ring's fences are not modelled, its payload is all atomics
]  # fmt: skip
SOCKET_SOURCES = [
    "fork_audio", "fork_event", "fork_eventfd", "fork_fill", "fork_frame", "fork_guard",
    "fork_json", "fork_json_write", "fork_keys", "fork_life", "fork_message", "fork_play",
    "fork_player", "fork_prompt", "fork_receive", "fork_resolve", "fork_send", "fork_socket",
    "fork_tell", "fork_url", "fork_wire",
]  # fmt: skip


def build(
    target: Path, source: str, parts: list[str], libraries: list[str], flags: list[str]
) -> Path:
    """Compile `source` of this folder and `parts` of asterisk/ into `target`."""
    files = [HERE / source, *(ASTERISK / f"{part}.c" for part in parts)]
    command = ["gcc", *FLAGS, *flags, *map(str, files), "-o", str(target)]
    command += [f"-l{library}" for library in libraries]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target
