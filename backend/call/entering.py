"""The other scenarios that a call may enter: from a flow, or by ``call.run_flow``. One object a
call; all in the scenario's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from backend.errors import ScenarioError

if TYPE_CHECKING:
    from backend.call.call import Call

MAX_DEPTH = 10  # flows in flows

Function = Callable[["Call"], Any]
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def mark_flow(function: Function, name: str) -> Function:
    """Say that this function runs a flow: it may be entered as one. It finds the flow's variables
    in ``call.entering.given``."""
    function.__dict__["flow_name"] = function.__dict__["scenario_name"] = name
    return function


def is_flow(function: Function) -> bool:
    return "flow_name" in getattr(function, "__dict__", {})


class Entering:
    """What the call knew when it began stays so for all of it: new versions are for others."""

    def __init__(self) -> None:
        self._known: dict[str, Function] = {}
        self._depth = 0
        self.arguments = _NOTHING  # of the function under way
        self.given = _NOTHING  # to the flow that begins
        self._nodes = 0  # passed by the flow under way and those that it has entered
        self._most: int | None = None  # of them

    def know(self, scenarios: Mapping[str, Function]) -> None:
        """These, too; a name that is known stays what it is."""
        for name, function in scenarios.items():
            self._known.setdefault(name, function)

    def knows(self, name: str) -> bool:
        return name in self._known

    def flow(self, call: Call, name: str, variables: Mapping[str, Any]) -> Any:
        """Run a flow with these variables. Raises ScenarioError, and what it raises."""
        function = self._find(name, flow=True)
        with self._deeper(name):
            self.given, self.arguments = MappingProxyType(dict(variables)), _NOTHING
            return function(call)

    def function(self, call: Call, name: str, arguments: Mapping[str, Any]) -> Any:
        """Run a scenario function. Raises ScenarioError, and what it raises."""
        function = self._find(name, flow=False)
        with self._deeper(name):
            self.given, self.arguments = _NOTHING, MappingProxyType(dict(arguments))
            return function(call)

    def take_given(self) -> Mapping[str, Any]:
        """For the flow that begins: what it was given, once."""
        given, self.given = self.given, _NOTHING
        return given

    @property
    def inside_another(self) -> bool:
        """Whether what runs now was entered from a flow or a function."""
        return self._depth > 0

    @contextmanager
    def counting(self, most: int) -> Iterator[None]:
        """The nodes of a flow and of all that it enters; the outermost one's limit counts."""
        outermost = self._most is None
        if outermost:
            self._nodes, self._most = 0, most
        try:
            yield
        finally:
            if outermost:
                self._most = None

    def too_many_nodes(self) -> bool:
        """Another one is passed; whether that is over the limit."""
        self._nodes += 1
        return self._most is not None and self._nodes > self._most

    @contextmanager
    def _deeper(self, name: str) -> Iterator[None]:
        if self._depth >= MAX_DEPTH:
            raise ScenarioError(f"{name!r}: flows enter flows deeper than {MAX_DEPTH}")
        before = self.arguments
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self.given, self.arguments = _NOTHING, before

    def _find(self, name: str, *, flow: bool) -> Function:
        found = self._known.get(name)
        kind = "flow" if flow else "scenario function"
        if found is None:
            same = [n for n, function in self._known.items() if is_flow(function) is flow]
            near = get_close_matches(name, same, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ScenarioError(f"there is no {kind} {name!r}{hint}")
        if is_flow(found) is not flow:
            other = "a scenario function: use call" if flow else "a flow: use flow"
            raise ScenarioError(f"{name!r} is no {kind}, but {other}")
        return found
