"""Scenario files as Python modules, version beside version.

The files of a folder may import each other by name (``import texts`` for ``texts.py``). What such
an import means is settled for each version of a module when it is loaded, through the
``__import__`` in its builtins (Python's reference, "The import statement"): code of an old version
goes on with the old versions of what it imports, also where it imports in the middle of a call.
So versions need no names of their own: sys.modules holds the newest of each file, and an old one
is freed with the last call that runs it.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import CodeType, ModuleType

from backend.call.scenario import ScenarioFunction, registering

MAX_WHY = 300
_NOT_BESIDE = {*sys.stdlib_module_names, "backend"}  # no file of the folder takes their place


@dataclass(frozen=True, slots=True)
class Source:
    """What a file says. ``imports``: first names of all imports, wherever in the file.
    ``error``: why it cannot be compiled. ``scenarios``: of a file that is no Python: a flow's."""

    path: Path
    digest: bytes
    code: CodeType | None
    imports: frozenset[str] = frozenset()
    error: str = ""
    scenarios: Mapping[str, ScenarioFunction] | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A file that was loaded. ``module``: None: it is no Python."""

    source: Source
    module: ModuleType | None
    scenarios: Mapping[str, ScenarioFunction]


def read(path: Path) -> Source:
    """Read and compile, without a cache of byte code: its times are too coarse for an editor's.
    Raises OSError."""
    data = path.read_bytes()
    digest = sha256(data).digest()
    try:
        tree = ast.parse(data, str(path))
        code = compile(tree, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Source(path, digest, None, error=_one_line(error))
    return Source(path, digest, code, _imports(tree) - _NOT_BESIDE - {path.stem})


def _imports(tree: ast.Module) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


def dependents(changed: Collection[str], sources: Mapping[str, Collection[Source]]) -> set[str]:
    """``changed`` and whatever imports it, directly or not, in any of its sources."""
    found = set(changed)
    while more := {
        name
        for name, mine in sources.items()
        if name not in found and any(source.imports & found for source in mine)
    }:
        found |= more
    return found


@dataclass
class Loading:
    """One round of loading. ``sources``: the files to load, by name; ``known``: the versions of
    the other files, and the former ones of these; ``prefix``: of the names in sys.modules."""

    prefix: str
    sources: Mapping[str, Source]
    known: Mapping[str, Version]
    fresh: dict[str, Version] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    _begun: dict[str, ModuleType] = field(default_factory=dict)
    _imports: list[_Imports] = field(default_factory=list)

    def run(self) -> None:
        """Load all; then ``fresh`` and ``failed`` are complete, and sys.modules is up to date."""
        for name in sorted(self.sources):
            if name not in self.fresh and name not in self.failed:
                self._load(name)
        for imports in self._imports:
            imports.settle()

    def beside(self, name: str) -> ModuleType | None:
        """The module of that file for one that is being loaded; None: there is no such file.
        Raises ImportError when it cannot be loaded."""
        if name in self.sources:
            if name not in self._begun and name not in self.failed:
                self._load(name)
            if name in self.failed:
                raise ImportError(f"{name}.py cannot be loaded", name=name)
            return self._begun[name]
        return self.known[name].module if name in self.known else None

    def settled(self, name: str) -> ModuleType | None:
        """The same after all is loaded: in place of one that failed, its former version."""
        versions = self.fresh if name in self.fresh else self.known
        return versions[name].module if name in versions else None

    def refuse(self, name: str, why: str) -> None:
        """It was loaded, but cannot be had."""
        del self.fresh[name]
        self.failed[name] = why
        self._restore(name)

    def _restore(self, name: str) -> None:
        register(self.prefix + name, self.known[name].module if name in self.known else None)

    def _load(self, name: str) -> None:
        source = self.sources[name]
        if source.scenarios is not None:
            self.fresh[name] = Version(source, None, source.scenarios)
            return
        if source.code is None:
            self.failed[name] = source.error
            return
        module = self._begun[name] = self._module(name, source)
        register(self.prefix + name, module)
        try:
            with registering() as scenarios:
                exec(source.code, module.__dict__)  # noqa: S102  the author's file
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a file may raise
            self.failed[name] = _explain(error, source.path)
            self._restore(name)
        else:
            self.fresh[name] = Version(source, module, scenarios)

    def _module(self, name: str, source: Source) -> ModuleType:
        spec = importlib.util.spec_from_file_location(self.prefix + name, source.path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        imports = _Imports(source.imports, self)
        self._imports.append(imports)
        module.__dict__["__builtins__"] = {**builtins.__dict__, "__import__": imports}
        return module


class _Imports:
    """``__import__`` of one version of a module."""

    def __init__(self, names: frozenset[str], loading: Loading) -> None:
        self._names = names
        self._loading: Loading | None = loading
        self._modules: dict[str, ModuleType] = {}

    def settle(self) -> None:
        """All is loaded: keep what this module imports, and nothing else."""
        assert self._loading is not None
        found = {name: self._loading.settled(name) for name in self._names}
        self._modules = {name: module for name, module in found.items() if module is not None}
        self._loading = None

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        first, _, rest = name.partition(".")
        module = None if level or first not in self._names else self._find(first)
        if module is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if rest:
            raise ModuleNotFoundError(f"{first}.py has no module {rest!r} in it", name=name)
        return module

    def _find(self, name: str) -> ModuleType | None:
        return self._modules.get(name) if self._loading is None else self._loading.beside(name)


def register(name: str, module: ModuleType | None) -> None:
    """Make ``module`` the file's module for those who look it up by name (dataclasses, pickle)."""
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module


def _explain(error: BaseException, path: Path) -> str:
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = "" if line is None else f" (line {line})"
    return _one_line(error) + where


def _one_line(error: BaseException) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= MAX_WHY else f"{text[:MAX_WHY]}…"
