"""The subscriber 150…: what he does in a call is written for that call, step by step.

    steps = [LabStep("after", 0.7, "say", "yes"), LabStep("then", 1, "hangup")]
    write_script(lab, "1500001", steps)
    … dial 1500001 …

The dialplan ([script] in etc/subscriber/extensions.conf) reads the file when the call comes. What
is said is spoken by flite, inside the lab's root folder, by the voice of the lab's other words.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import lab_sound
from lab import Lab
from lab_config import LabError
from lab_sound import Samples

NUMBERS = "150"
SPEAK_S = 30.0
MAX_BYTES = 4000  # of a script; Asterisk's FILE() gives a line of 4,096 (func_env.c)
VOICE = "slt"
CUT = ("silence", "1", "0.005", "0.5%")
SHAPE = (*CUT, "reverse", *CUT, "reverse", "norm", "-3")  # as build.sh's
PATTERNS = {
    "say": r"[\x20-\x7e]{1,1000}",
    "press": r"[0-9A-D*#]{1,64}",
    "tones": r"[1-3]",
    "info": "",
    "silence": "",
    "cough": "",
    "hangup": r"\d{0,3}",
}


@dataclass(frozen=True)
class LabStep:
    """``when``: "after" a prompt's end; "over": after a prompt's first sound; "then": after the
    step before. ``verb``: say, press, tones (one key, in the voice), info (keys by SIP INFO from
    now on), silence, cough, hangup; ``what``: text, keys, key, –, seconds, –, cause."""

    when: str
    after_s: float
    verb: str
    what: str = ""

    def check(self) -> None:
        """Raises LabError."""
        if self.when not in ("after", "over", "then") or not 0 <= self.after_s <= 3600:
            raise LabError(f"{self}: when is after, over or then; after_s 0 to 3600")
        pattern = PATTERNS.get(self.verb)
        if self.verb == "silence":
            pattern = r"(\d+(\.\d+)?)?"
        if pattern is None or not re.fullmatch(pattern, self.what):
            raise LabError(f"{self}: the lab's subscriber cannot do that (he speaks English)")


def write_script(lab: Lab, number: str, steps: Sequence[LabStep]) -> None:
    """What the subscriber does when NUMBER (150 and more digits) is dialled. Raises LabError."""
    if not re.fullmatch(rf"{NUMBERS}\d{{1,12}}", number):
        raise LabError(f"{number}: a script is for a number of {NUMBERS} and 1 to 12 more digits")
    fields: list[str] = []
    for step in steps:
        step.check()
        what = word_file(lab, step.what).stem if step.verb == "say" else step.what
        fields += [step.when, f"{step.after_s:.3f}", step.verb, what or "-"]
    text = ":".join(fields)
    if len(text) > MAX_BYTES:
        raise LabError(f"{number}: a script of {len(steps)} steps is too long")
    (lab.subscriber.home / "scripts" / number).write_text(text)


def word_file(lab: Lab, text: str, spoken: Samples[int] | None = None) -> Path:
    """TEXT as the subscriber says it; spoken now, if it was not before. Raises LabError.

    ``spoken``: how he says it, in place of the synthesised voice: any sound."""
    name = sha256(text.encode()).hexdigest()[:16]
    path = lab.subscriber.home / "words" / f"{name}.wav"
    if spoken is not None:
        lab_sound.write(path, spoken)
    elif not path.exists():
        _speak(lab.root, text, path)
    return path


def _speak(root: Path, text: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="words-", dir=root) as folder:
        inside = Path("/", Path(folder).name)
        raw, shaped = f"{inside}/raw.wav", f"{inside}/shaped.wav"
        _run(root, "flite", "-voice", VOICE, "-t", text, "-o", raw)
        _run(root, "sox", raw, "-r", "8000", "-c", "1", "-b", "16", shaped, *SHAPE)
        shutil.move(Path(folder, "shaped.wav"), path)


def _run(root: Path, *command: str) -> None:
    try:
        done = subprocess.run(
            ["chroot", str(root), *command], capture_output=True, text=True, timeout=SPEAK_S
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{command[0]} takes longer than {SPEAK_S:g} s") from None
    if done.returncode:
        raise LabError(f"{command[0]}: {done.stderr.strip()}")
