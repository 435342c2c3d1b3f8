"""The published flows from memory: a call does not wait for PostgreSQL to know its version."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from zlib import crc32

from backend.errors import BadRequest, ScenarioError, StorageUnavailable
from backend.flow.published import FlowVersion
from backend.flow.rollout import Cohort, Rollout, choose
from backend.storage.flows import Flows, rollout_of, values_of

log = logging.getLogger(__name__)

REFRESH_S = 2.0  # when nobody told of a change: it was written by SQL, or PostgreSQL was away

T = TypeVar("T")  # a flow that is ready to run
Key = tuple[str, str]  # flow, version


@dataclass(frozen=True, slots=True)
class Chosen(Generic[T]):
    """What a call gets."""

    flow: T
    version: str
    cohort: Cohort


@dataclass(frozen=True, slots=True)
class FlowView(Generic[T]):
    """The flows at one moment. A call keeps the view it began with, so its sub-flows, too, stay
    what they were."""

    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    loaded: Mapping[Key, T] = field(default_factory=dict)
    last_good: Mapping[str, str] = field(default_factory=dict)  # flow → version

    def choose(self, flow: str, caller_key: str) -> Chosen[T] | None:
        """None: the flow is not published, or nothing of it for this caller.

        A version that this program cannot load is passed over: for a candidate the stable one
        steps in, for that the last stable one that was loaded here, or the previous one.
        """
        rollout = self.rollouts.get(flow)
        if rollout is None:
            return None
        version, cohort = choose(rollout, caller_key)
        found = self._loaded(flow, version, cohort)
        if found is None and cohort != "stable":
            found = self._loaded(flow, rollout.stable, "stable")
        for former in (self.last_good.get(flow), rollout.previous):
            if found is None and rollout.stable is not None:
                found = self._loaded(flow, former, "stable")
        return found

    def _loaded(self, flow: str, version: str | None, cohort: Cohort) -> Chosen[T] | None:
        if version is None or (flow, version) not in self.loaded:
            return None
        return Chosen(self.loaded[flow, version], version, cohort)

    def names(self) -> Iterator[str]:
        """The flows that some call may get."""
        for name, rollout in self.rollouts.items():
            if rollout.stable is not None or rollout.state in ("test", "share"):
                yield name

    def stable(self) -> Iterator[tuple[str, str]]:
        """(flow, version) of those that all calls have: files of these names count no more."""
        for name, rollout in self.rollouts.items():
            if rollout.stable is not None:
                yield name, rollout.stable


def fingerprint(rollouts: Iterable[Rollout]) -> int:
    """A number that is the same where the same is known: in the figures of all workers."""
    values = sorted((values_of(one) for one in rollouts), key=lambda one: str(one["flow"]))
    return crc32(json.dumps(values).encode())


class FlowBook(Generic[T]):
    """What was known last counts while PostgreSQL is away, also to a process that begins then: it
    is kept in the file ``kept``. ``view`` and ``refused`` may be read by any thread."""

    def __init__(self, table: Flows, kept: Path, load: Callable[[FlowVersion], T]) -> None:
        """``load``: raises ScenarioError for a text that this program cannot use."""
        self.view: FlowView[T] = FlowView()
        self.refused: Mapping[Key, str] = {}
        self._table = table
        self._kept = kept
        self._load = load
        self._texts: dict[Key, FlowVersion] = {}  # of those in use
        self._seen: list[Rollout] | None = None  # None: never read
        self._bad: list[str] = []
        self._away = False
        self._mutex = threading.Lock()  # one refresh at a time: the later reading counts

    def refresh(self) -> None:
        """Read the tables; when PostgreSQL is away it is said once, and all stays as it was.
        Thread-safe."""
        with self._mutex:
            try:
                stored, bad = self._table.rollouts()
                found = [one.rollout for one in stored]
                texts = self._fetch(found)
            except StorageUnavailable as error:
                self._stay(error)
                return
            if self._away:
                log.warning("flows: they can be read again")
            self._away = False
            self._say_bad(bad)
            if found != self._seen:
                self._use(found, texts)
                self._keep(found)

    def _fetch(self, found: list[Rollout]) -> dict[Key, FlowVersion]:
        """The texts of all versions in use: those that are not known yet are read."""
        wanted = {(one.flow, version) for one in found for version in one.in_use}
        known = {key: text for key, text in self._texts.items() if key in wanted}
        if missing := wanted - known.keys():
            fresh = self._table.texts(missing)
            known |= {(text.flow, text.version): text for text in fresh}
        return known

    def _stay(self, error: StorageUnavailable) -> None:
        if not self._away:
            log.warning("flows: %s; those known last count", error)
        self._away = True
        if self._seen is None:
            found, texts = self._recall()
            self._use(found, {(text.flow, text.version): text for text in texts})

    def _say_bad(self, bad: list[str]) -> None:
        for words in bad:
            if words not in self._bad:
                log.error("flows: %s; it is left out", words)
        self._bad = bad

    def _use(self, found: list[Rollout], texts: dict[Key, FlowVersion]) -> None:
        before = self.view
        loaded: dict[Key, T] = {}
        refused: dict[Key, str] = {}
        for one in found:
            for version in sorted(one.in_use):
                key = one.flow, version
                if key in before.loaded:
                    loaded[key] = before.loaded[key]
                else:
                    self._try(key, texts.get(key), loaded, refused)
        last_good: dict[str, str] = {}
        for one in found:
            if one.stable is not None and (one.flow, one.stable) in loaded:
                last_good[one.flow] = one.stable
            elif former := before.last_good.get(one.flow):
                last_good[one.flow] = former
                loaded[one.flow, former] = before.loaded[one.flow, former]
        self._texts, self._seen = texts, found
        self.refused = refused
        self.view = FlowView({one.flow: one for one in found}, loaded, last_good)

    def _try(
        self,
        key: Key,
        text: FlowVersion | None,
        loaded: dict[Key, T],
        refused: dict[Key, str],
    ) -> None:
        try:
            if text is None:
                raise ScenarioError("its text is not in table flow_versions")
            loaded[key] = self._load(text)
        except ScenarioError as error:
            why = str(error)
        except Exception as error:
            log.exception("flows: %s version %s: a mistake in this program", *key)
            why = repr(error)
        else:
            return
        refused[key] = why
        if self.refused.get(key) != why:
            log.error(
                "flows: %s version %s cannot be loaded here, the stable or the former one goes on"
                " (is this program older than others?): %s",
                *key,
                why,
            )

    def _keep(self, found: list[Rollout]) -> None:
        texts = [[t.flow, t.version, t.format, t.text] for _, t in sorted(self._texts.items())]
        whole = {"rollouts": [values_of(one) for one in found], "texts": texts}
        # Processes of this machine share the file: each writes the same, none half of it.
        draft = self._kept.with_name(f"{self._kept.name}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(whole), encoding="utf-8")
            draft.replace(self._kept)
        except OSError as error:
            log.warning("flows: %s cannot be written: %s", self._kept, error)

    def _recall(self) -> tuple[list[Rollout], list[FlowVersion]]:
        try:
            whole: Any = json.loads(self._kept.read_text(encoding="utf-8"))
            found = [rollout_of(values) for values in whole["rollouts"]]
            texts = [
                FlowVersion(str(flow), str(version), str(text), str(form))
                for flow, version, form, text in whole["texts"]
            ]
            return found, texts
        except FileNotFoundError:
            return [], []
        except (OSError, ValueError, TypeError, LookupError, BadRequest) as error:
            log.error("flows: %s cannot be read: %s", self._kept, error)
            return [], []
