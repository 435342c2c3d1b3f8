"""Rule 1 of the house (docs/architecture.md): imports run one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "backend"
STANDARD_IO = {
    "asyncio",
    "ctypes",
    "http",
    "multiprocessing",
    "os",
    "select",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
}
LIBRARY_IO = {
    "confluent_kafka",
    "flask",
    "grpc",
    "gunicorn",
    "panoramisk",
    "psycopg2",
    "redis",
    "sqlalchemy",
    "yandex",
}

# A room's name → the rooms it may import from (besides itself). "pure" has no I/O at all.
FOUNDATION = {"errors", "model"}
PURE = {"protocol", "media", "tables", "keying", "flow", "bus.event", "bus.telling"} | {
    f"dialing.{room}" for room in ("policy", "progress", "outcomes", "routing")
}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "tables": {"errors"},
    "model": {"errors"},
    "protocol": FOUNDATION,
    "media": FOUNDATION | {"ports", "tables"},
    "keying": FOUNDATION,
    "flow": FOUNDATION | {"keying"},
    "flow.run": FOUNDATION | PURE | {"ports", "call"},  # the interpreter is no pure one
    "flow.fallback": FOUNDATION | {"flow"},  # a thread
    "dialing.outcomes": FOUNDATION,
    "dialing.progress": FOUNDATION | {"dialing.outcomes"},
    "dialing.policy": FOUNDATION,
    "dialing.routing": FOUNDATION,
    "ports": FOUNDATION,
    "dialing": FOUNDATION | PURE | {"ports"},
    "bus.event": FOUNDATION | {"ports"},
    "bus.telling": FOUNDATION | {"ports"},
    "bus": FOUNDATION | PURE | {"ports"},
    "call": FOUNDATION | PURE | {"ports"},
    "call.shelf": FOUNDATION | PURE | {"call", "flow.run"},
    "scenarios": {""},
    "trying": FOUNDATION
    | PURE
    | {"ports", "call", "call.shelf", "config", "flow.run", "outgoing", "testing"},
    "testing": FOUNDATION | PURE | {"ports", "call", "flow.run", "trying"},
    "": {"call", "errors"},  # backend/__init__.py: the scenario author's vocabulary
    "config": {"errors"},
    "supervisor": {"errors"},
    "agi_server": FOUNDATION | PURE | {"ports"},
    "ami": FOUNDATION | PURE | {"ports"},
    "outgoing": FOUNDATION | {"ports"},
    "ws_frames": FOUNDATION | PURE | {"ports"},
    "storage": FOUNDATION | PURE | {"ports"},
    "speech": FOUNDATION | PURE | {"ports"},
    "web": FOUNDATION | PURE | {"ports"},
}
KNOWS_ALL = {"app", "cli", "__main__", "demo", "doctor"}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "migrations" not in path.parts)


def room_of(dotted: str) -> str:
    """``dialing.policy`` where a file has rules of its own, ``ami`` for every ``ami_…`` file,
    ``web`` for the ``web…`` and ``http_…`` files, ``ws_frames`` for ``ws_…``, the same for
    ``cli…`` and ``doctor…``, else the first part."""
    parts = dotted.split(".")
    two = ".".join(parts[:2])
    if two in MAY_IMPORT:
        return two
    families = {"http": "web", "ws": "ws_frames"}
    families |= {name: name for name in ("ami", "cli", "doctor", "web")}
    family = families.get(parts[0].split("_")[0])
    return family or parts[0]


def dotted(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imports(path: Path) -> set[str]:
    """Every imported module; imports for the type checker only do not count."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found.add(module)
            if module.split(".")[0] == "backend":
                found |= {f"{module}.{a.name}" for a in node.names if is_module(module, a.name)}
    return found


def is_module(package: str, name: str) -> bool:
    folder = ROOT.parent.joinpath(*package.split("."))
    return (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_run_one_way(path: Path) -> None:
    me = room_of(dotted(path))
    if me in KNOWS_ALL:
        return
    assert me in MAY_IMPORT, f"{path}: a room without a rule: add it to MAY_IMPORT"
    for name in imports(path):
        if name.split(".")[0] != "backend":
            continue
        other = room_of(name.removeprefix("backend").removeprefix("."))
        package_itself = other == "" and any(i.startswith("backend.") for i in imports(path))
        if other == me or (package_itself and me != "scenarios"):
            continue
        assert other in MAY_IMPORT[me], f"{dotted(path)} imports {name}: not allowed for {me!r}"


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_pure_rooms_do_no_io(path: Path) -> None:
    me = room_of(dotted(path))
    if me not in PURE | FOUNDATION:
        return
    first = {name.split(".")[0] for name in imports(path)}
    assert not first & (STANDARD_IO | LIBRARY_IO), f"{dotted(path)} is pure"


def test_only_the_root_knows_all() -> None:
    importers = {
        room_of(dotted(path))
        for path in modules()
        if any(
            name.split(".")[:2] in (["backend", "app"], ["backend", "cli"])
            for name in imports(path)
        )
    }
    assert importers <= KNOWS_ALL
