"""The scenarios of a folder, kept up to date while calls run: Python files and flows.

A file that changed is loaded anew, and with it the files that import it. New calls take the new
version; those that run keep theirs. What cannot be loaded is refused: its former version goes on.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from backend.call.entering import is_flow as runs_flow
from backend.call.modules import Loading, Source, Version, dependents, read, register
from backend.call.scenario import ScenarioFunction
from backend.errors import FlowError, ScenarioError
from backend.flow.check import flow_circles, unknown
from backend.flow.load import is_flow, load_flow
from backend.flow.model import Flow
from backend.flow.run import flow_scenario

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())  # a command that sets up no logging says it in its own way

# Editors save in steps: empty it, write it; or move it away, write another. So what is there, or
# not there, counts when two looks saw the same.
LOOK_S = 1.0
MAX_PROBLEMS = 3  # of a flow, in one line of the log

_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be loaded. ``former``: an older version of it goes on."""

    path: Path
    error: str
    former: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.error}"


class Folder:
    """One folder's scenarios. ``scenarios`` and ``refused`` may be read by any thread at any time;
    ``look`` is for one at a time."""

    def __init__(self, path: Path, prefix: str = "dialog_scenario_") -> None:
        """Loads what is there; ``prefix``: of its modules' names in sys.modules. Raises
        ScenarioError when there is no such folder."""
        if not path.is_dir():
            raise ScenarioError(f"scenarios folder {path}: there is no such folder")
        self.path = path
        self._prefix = prefix
        self.scenarios: Mapping[str, ScenarioFunction] = {}
        self.refused: Mapping[str, Refused] = {}
        self.flows: Mapping[str, Flow] = {}
        self._stamps: dict[str, _Stamp] = {}  # of what was read
        self._seen: dict[str, _Stamp] = {}  # at the last look
        # By a module's name, or the whole name of a flow's file, which has dots in it.
        self._sources: dict[str, Source] = {}  # of the last version seen, good or bad
        self._flows: dict[bytes, Flow] = {}  # by their sources' digests
        self._versions: dict[str, Version] = {}  # the good ones
        self._missing: set[str] = set()
        self._unreadable = ""
        for name, file, _ in _files(path):
            self._sources[name] = self._read(file)
        self._take(set(self._sources), set())

    def look(self) -> None:
        """Take what has changed since the last look."""
        try:
            files = list(_files(self.path))
        except OSError as error:
            if self._unreadable != str(error):
                log.error("scenarios: %s; what was loaded goes on", error)
            self._unreadable = str(error)
            return
        self._unreadable = ""
        missing = self._sources.keys() - {name for name, _, _ in files}
        gone, self._missing = missing & self._missing, missing
        changed = {name for name, file, stamp in files if self._changed(name, file, stamp)}
        self._seen = {name: stamp for name, _, stamp in files}
        if changed or gone:
            self._take(changed, gone)

    def _changed(self, name: str, file: Path, stamp: _Stamp) -> bool:
        """Whether it is to be loaded: it says something else than before, or was touched to be
        tried again."""
        if self._stamps.get(name) == stamp or self._seen.get(name) != stamp:
            return False
        source, before = self._read(file), self._sources.get(name)
        if _stamp_of(file) != stamp:
            return False  # written while it was read
        self._stamps[name] = stamp
        self._sources[name] = source
        return before is None or before.digest != source.digest or name in self.refused

    def _take(self, changed: set[str], gone: set[str]) -> None:
        for name in gone:
            self._forget(name)
        # Those that were refused are tried again: what they lacked may be there now.
        again = changed | gone | self.refused.keys()
        every = {name: self._every_source(name) for name in self._sources}
        wanted = {name: self._sources[name] for name in dependents(again, every) - gone}
        loading = Loading(self._prefix, wanted, self._versions)
        loading.run()
        self._refuse_doubles(loading)
        self._refuse_circles(loading)
        for name in sorted(loading.fresh.keys() & changed):
            names = ", ".join(loading.fresh[name].scenarios) or "no scenario"
            log.info("scenarios: %s loaded: %s", wanted[name].path, names)
        self._versions |= loading.fresh
        self._settle(loading)

    def _every_source(self, name: str) -> list[Source]:
        good = self._versions.get(name)
        return [self._sources[name], *([good.source] if good else [])]

    def _forget(self, name: str) -> None:
        source = self._sources.pop(name)
        self._stamps.pop(name, None)
        version = self._versions.pop(name, None)
        self.refused = {other: why for other, why in self.refused.items() if other != name}
        names = ", ".join(version.scenarios) if version else ""
        log.warning("scenarios: %s is gone, and with it %s", source.path, names or "no scenario")
        register(self._prefix + name, None)

    def _refuse_doubles(self, loading: Loading) -> None:
        """Of two files with one scenario the newcomer is refused."""
        while double := self._double(loading):
            scenario, files = double
            held = [f for f in files if scenario in _names(self._versions.get(f))]
            newcomers = [f for f in files if f in loading.fresh and f not in held]
            loser = (newcomers or [f for f in files if f in loading.fresh])[-1]
            other = next(f for f in files if f != loser)
            file = self._sources[other].path.name
            loading.refuse(loser, f"scenario {scenario!r} is also in {file}")

    def _double(self, loading: Loading) -> tuple[str, list[str]] | None:
        owners: dict[str, str] = {}
        for file, version in sorted((self._versions | loading.fresh).items()):
            for scenario in version.scenarios:
                if owners.setdefault(scenario, file) != file:
                    return scenario, [owners[scenario], file]
        return None

    def _refuse_circles(self, loading: Loading) -> None:
        """Of flows that enter each other without end the newcomers are refused."""
        while problems := flow_circles(self._all_flows(loading)):
            said = {problem.source: _in_one_line(FlowError([problem])) for problem in problems}
            fresh = [name for name in loading.fresh if loading.sources[name].path.name in said]
            if not fresh:
                return
            loser = sorted(fresh)[-1]
            loading.refuse(loser, said[loading.sources[loser].path.name])
            register(self._prefix + loser, None)

    def _all_flows(self, loading: Loading) -> dict[str, Flow]:
        versions = (self._versions | loading.fresh).values()
        found = (self._flows.get(version.source.digest) for version in versions)
        return {flow.name: flow for flow in found if flow is not None}

    def _read(self, path: Path) -> Source:
        try:
            return self._read_flow(path) if is_flow(path.name) else read(path)
        except OSError as error:
            return Source(path, b"", None, error=f"cannot be read: {error.strerror}")

    def _read_flow(self, path: Path) -> Source:
        data = path.read_bytes()
        digest = sha256(data).digest()
        try:
            flow = load_flow(data.decode("utf-8"), source=path.name)
        except UnicodeDecodeError as error:
            return Source(path, digest, None, error=f"is no UTF-8 text: byte {error.start}")
        except FlowError as error:
            return Source(path, digest, None, error=_in_one_line(error))
        self._flows[digest] = flow
        return Source(path, digest, None, scenarios={flow.name: flow_scenario(flow)})

    def _settle(self, loading: Loading) -> None:
        """What others read, each in one assignment."""
        kept = {n: why for n, why in self.refused.items() if n not in loading.sources}
        failed = {
            name: Refused(loading.sources[name].path, error, name in self._versions)
            for name, error in loading.failed.items()
        }
        for name, refused in failed.items():
            if self.refused.get(name) != refused:
                goes_on = "its former version goes on" if refused.former else "it is left out"
                log.error("scenarios: refused, %s: %s", goes_on, refused)
        versions = self._versions.values()
        self.scenarios = {name: f for version in versions for name, f in version.scenarios.items()}
        self.refused = kept | failed
        self.flows = self._all_flows(loading)
        used = {source.digest for source in self._sources.values()}
        used |= {version.source.digest for version in versions}
        self._flows = {digest: flow for digest, flow in self._flows.items() if digest in used}


def _in_one_line(error: FlowError) -> str:
    """The first of them, for a log; ``asterisk-dialog flow check`` tells all."""
    problems = error.problems
    shown = [
        f"line {problem.line}: {f'node {problem.node}: ' if problem.node else ''}{problem.text}"
        for problem in problems[:MAX_PROBLEMS]
    ]
    more = len(problems) - len(shown)
    tail = f"; {more} more, see: asterisk-dialog flow check" if more else ""
    return "; ".join(shown) + tail


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def _stamp(stat: os.stat_result) -> _Stamp:
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def _names(version: Version | None) -> Mapping[str, ScenarioFunction]:
    return version.scenarios if version else {}


def _files(folder: Path) -> Iterator[tuple[str, Path, _Stamp]]:
    """Name, path and stamp of each file of scenarios. Raises OSError for the folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name, extension = os.path.splitext(entry.name)  # noqa: PTH122  a name, not a path
            if name.startswith(".") or name == "__init__":
                continue
            if is_flow(entry.name):
                name = entry.name
            elif extension != ".py":
                continue
            try:
                stat = entry.stat()
            except OSError:  # deleted meanwhile, or a link to nowhere
                continue
            if entry.is_file():
                yield name, Path(entry.path), _stamp(stat)


class Shelf:
    """All scenarios by name: those of the folders that stay as they are, then those of the
    watched ones, which replace by name. What is read may be read by any thread."""

    def __init__(self, fixed: Sequence[Path], watched: Sequence[Path] = ()) -> None:
        """Raises ScenarioError for a folder that is not there; what cannot be loaded is refused
        and logged."""
        # Files of the same name in two folders are two modules.
        self._fixed = [Folder(path, f"dialog_fixed{n}_") for n, path in enumerate(fixed)]
        self._watched = [Folder(path, f"dialog_scenario{n}_") for n, path in enumerate(watched)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="scenarios", daemon=True)
        self._missed: set[str] = set()  # what flows enter and nobody has, once told
        self._tell_missing()

    def current(self) -> Mapping[str, ScenarioFunction]:
        """The scenarios for a call that begins now. Never waits."""
        found: dict[str, ScenarioFunction] = {}
        for folder in (*self._fixed, *self._watched):
            found |= folder.scenarios
        return found

    def refused(self) -> list[Refused]:
        """The files that cannot be loaded as they are now."""
        every = (f.refused for f in (*self._fixed, *self._watched))
        return [refused[name] for refused in every for name in sorted(refused)]

    def look(self) -> None:
        """Take what has changed. For one thread: who does not ``start``."""
        for folder in self._watched:
            folder.look()
        self._tell_missing()

    def _tell_missing(self) -> None:
        """A flow that enters what is not there is none to be refused: it may come, and the node has
        an exit for it."""
        known = self.current()
        flows = {name for name, function in known.items() if runs_flow(function)}
        missing = {
            str(problem)
            for folder in (*self._fixed, *self._watched)
            for flow in folder.flows.values()
            for problem in unknown(flow, flows, known.keys() - flows)
        }
        for problem in sorted(missing - self._missed):
            log.warning("scenarios: %s; calls that come there take on_error", problem)
        self._missed = missing

    def start(self) -> None:
        """Look once a second in a thread of its own, so that no call waits for it."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that hangs in a scenario file's own code is left to the process."""
        self._stop.set()
        self._thread.join(5)

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                log.exception("scenarios: a look failed by a mistake in this program")


class Named(Protocol):
    """What has scenarios by name, for the moment: a Shelf, and more."""

    def current(self) -> Mapping[str, object]: ...


class Names:
    """The names of a shelf's scenarios, as they are when asked: a Collection of text."""

    def __init__(self, shelf: Named) -> None:
        self._shelf = shelf

    def __contains__(self, name: object) -> bool:
        return name in self._shelf.current()

    def __iter__(self) -> Iterator[str]:
        return iter(self._shelf.current())

    def __len__(self) -> int:
        return len(self._shelf.current())


def load(folders: Sequence[Path]) -> dict[str, ScenarioFunction]:
    """Every scenario in the ``*.py`` files of the folders, as they are now; a later folder
    replaces by name.

    Raises ScenarioError that names the file and what is wrong with it.
    """
    shelf = Shelf(folders)
    if refused := shelf.refused():
        raise ScenarioError("\n".join(str(one) for one in refused))
    return dict(shelf.current())
