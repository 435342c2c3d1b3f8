"""The fuzz targets of tests/fuzz under gcc's sanitizers: their corpus, and damaged copies of it.

This is the short form; `make fuzz` runs them in libFuzzer (docs/testing.md).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import native

FUZZ = Path(__file__).parent / "fuzz"
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TARGETS = {
    "message": (200_000, ["fork_json", "fork_json_write", "fork_keys", "fork_message"]),
    "options": (50_000, ["fork_options", "fork_url"]),
}


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_copies_of_the_corpus(target: str, tmp_path: Path) -> None:
    runs, parts = TARGETS[target]
    flags = [str(FUZZ / f"fork_{target}_fuzz.c"), *SANITIZED]
    binary = native.build(tmp_path / target, "../fuzz/replay.c", parts, [], flags)
    files = sorted((FUZZ / "corpus" / target).iterdir())
    done = subprocess.run([binary, str(runs), *files], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(files)} files, {runs} runs\n"
