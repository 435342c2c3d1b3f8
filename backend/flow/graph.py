"""Circles in a graph. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

Graph = Mapping[str, Collection[str]]


class Components:
    """Groups of names that can all be reached from each other (Tarjan 1972); without recursion, as
    a flow may have 2,000 nodes."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._index: dict[str, int] = {}
        self._low: dict[str, int] = {}
        self._stack: list[str] = []
        self._held: set[str] = set()
        self._work: list[tuple[str, Iterator[str]]] = []
        self.found: list[set[str]] = []
        for name in graph:
            if name not in self._index:
                self._begin(name)
                while self._work:
                    self._go_on()

    def _begin(self, name: str) -> None:
        self._index[name] = self._low[name] = len(self._index)
        self._stack.append(name)
        self._held.add(name)
        self._work.append((name, iter(self._graph[name])))

    def _go_on(self) -> None:
        name, ways = self._work[-1]
        for target in ways:
            if target in self._graph and target not in self._index:
                self._begin(target)
                return
            if target in self._held:
                self._low[name] = min(self._low[name], self._index[target])
        self._work.pop()
        if self._work:
            before = self._work[-1][0]
            self._low[before] = min(self._low[before], self._low[name])
        if self._low[name] == self._index[name]:
            self._cut(name)

    def _cut(self, name: str) -> None:
        group: set[str] = set()
        while name not in group:
            group.add(self._stack.pop())
        self._held -= group
        self.found.append(group)


def circles(graph: Graph) -> list[set[str]]:
    """The groups that have a way round: several names, or one that leads to itself."""
    groups = Components(graph).found
    return [group for group in groups if len(group) > 1 or any(n in graph[n] for n in group)]
