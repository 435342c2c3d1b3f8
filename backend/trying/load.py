"""A scenario from one file, with the files beside it that it imports."""

from __future__ import annotations

from pathlib import Path

from backend.call.modules import Loading, Source, read
from backend.call.scenario import ScenarioFunction
from backend.errors import ScenarioError
from backend.flow.load import is_flow
from backend.trying.flows import flow_of, read_flow

READY = Path(__file__).parents[1] / "scenarios"


def load(file: str, name: str | None = None) -> tuple[Path, str, ScenarioFunction]:
    """The scenario called ``name``, or the only one, of a file: its path, or the name of a ready
    scenario. Raises ScenarioError that names the file and what is wrong with it."""
    path = Path(file)
    ready = READY / f"{file.replace('-', '_')}.py"
    if not path.is_file() and path.suffix != ".py" and ready.is_file():
        path = ready
    if not path.is_file():
        raise ScenarioError(f"{file}: there is no such file, and no ready scenario of that name")
    if is_flow(path.name):
        return _flow(path, name)
    found = _load(path.resolve())
    if not found:
        raise ScenarioError(f"{path}: defines no scenario: is @scenario(…) missing?")
    if name is None and len(found) > 1:
        raise ScenarioError(f"{path}: has several scenarios: choose --scenario of {_names(found)}")
    name = next(iter(found)) if name is None else name
    if name not in found:
        raise ScenarioError(f"{path}: has no scenario {name!r}, but {_names(found)}")
    return path, name, found[name]


def _flow(path: Path, name: str | None) -> tuple[Path, str, ScenarioFunction]:
    flow = read_flow(path)
    if name not in (None, flow.name):
        raise ScenarioError(f"{path}: has no scenario {name!r}, but {flow.name}")
    return path, flow.name, flow_of(path)


def files_of(path: Path) -> list[Path]:
    """The file, and those beside it that it imports, directly or not; of a flow: all flows and
    Python files beside it, since any may be entered."""
    if is_flow(path.name):
        beside = sorted(path.parent.iterdir())
        return [one for one in beside if is_flow(one.name) or one.suffix == ".py"]
    return [source.path for source in _sources(path).values()]


def _sources(path: Path) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    wanted = {path.stem: path}
    while wanted:
        name, file = wanted.popitem()
        try:
            sources[name] = read(file)
        except OSError as error:
            raise ScenarioError(f"{file}: cannot be read: {error.strerror}") from None
        beside = {other: path.with_name(f"{other}.py") for other in sources[name].imports}
        wanted |= {o: f for o, f in beside.items() if o not in sources and f.is_file()}
    return sources


def _load(path: Path) -> dict[str, ScenarioFunction]:
    sources = _sources(path)
    loading = Loading("dialog_tried_", sources, {})
    loading.run()
    if path.stem in loading.failed:
        others = [
            f"{sources[n].path}: {why}" for n, why in loading.failed.items() if n != path.stem
        ]
        raise ScenarioError("\n".join([*others, f"{path}: {loading.failed[path.stem]}"]))
    return dict(loading.fresh[path.stem].scenarios)


def _names(found: dict[str, ScenarioFunction]) -> str:
    return ", ".join(sorted(found))
