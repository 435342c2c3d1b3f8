"""The PBX under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer.

With ASTERISK_DIALOG_SANITIZE=1 build.sh compiles the module with them. Asterisk itself is Debian's:
their library is loaded before it, so that its memory is watched too wherever our code touches it.
"""

from __future__ import annotations

import os
from pathlib import Path

OURS = "app_audiofork"
LIBRARIES = ("libasan.so.*", "libubsan.so.*")


def wanted() -> bool:
    return bool(os.environ.get("ASTERISK_DIALOG_SANITIZE"))


def environment(root: Path, home: Path) -> dict[str, str]:
    """Variables for an Asterisk of this root folder; its reports go to HOME/log."""
    found = [min(root.glob(f"usr/lib/*/{name}")) for name in LIBRARIES]
    log = home / "log" / "sanitizer"
    return {
        "LD_PRELOAD": " ".join(str(Path("/", one.relative_to(root))) for one in found),
        "ASAN_OPTIONS": f"log_path={log}:detect_leaks=1:quarantine_size_mb=32",
        "UBSAN_OPTIONS": f"log_path={log}:print_stacktrace=1",
    }


def findings(home: Path) -> str:
    """What the sanitizers found; leaks count only where our module is on the stack.

    Debian's Asterisk keeps no frame pointers, so of what its allocator was asked for by us nobody
    knows: leaked forks are found by the module itself, which then cannot be unloaded.
    """
    reports = [path.read_text(errors="replace") for path in (home / "log").glob("sanitizer.*")]
    return "\n".join(part for report in reports for part in _parts(report))


def _parts(report: str) -> list[str]:
    leaks = "LeakSanitizer: detected memory leaks" in report
    return [part for part in report.split("\n\n") if OURS in part] if leaks else [report]
