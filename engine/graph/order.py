"""Walking a graph from its outputs: without recursion, each node and edge once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from engine.graph.node import Node


class Walk:
    """The outputs and all their ancestors, in `nodes`: parents before children.

    The order depends on the graph alone and not on which thread was faster. Children are kept in
    two flat lists (those of nodes[i] are _children[_starts[i] : _starts[i + 1]]), because a list for
    each node would keep the garbage collector busy in large graphs.
    """

    def __init__(self, outputs: Iterable[Node]) -> None:
        self.nodes = topological(outputs)
        self.place = {id(node): place for place, node in enumerate(self.nodes)}
        parents = [self.place[id(parent)] for node in self.nodes for parent in node._parents]
        counts = [0] * (len(self.nodes) + 1)
        for parent in parents:
            counts[parent + 1] += 1
        self._starts = list(itertools.accumulate(counts))
        self._children = [0] * len(parents)
        free, edge = self._starts[:], iter(parents)
        for place, node in enumerate(self.nodes):
            for parent in itertools.islice(edge, len(node._parents)):
                self._children[free[parent]] = place
                free[parent] += 1

    def descendants(self, sources: Iterable[int]) -> list[int]:
        """The places of all nodes computed from those at the sources, in order."""
        reached: set[int] = set()
        waiting = list(sources)
        while waiting:
            place = waiting.pop()
            for child in self._children[self._starts[place] : self._starts[place + 1]]:
                if child not in reached:
                    reached.add(child)
                    waiting.append(child)
        return sorted(reached)


def topological(outputs: Iterable[Node]) -> list[Node]:
    """The outputs and their ancestors, parents before children: post-order, first parents first."""
    order: list[Node] = []
    is_placed: dict[int, bool] = {}  # absent: not met yet; False: met, waiting for its parents
    stack = list(outputs)[::-1]
    while stack:
        node = stack[-1]
        placed = is_placed.get(id(node))
        if placed is None:
            is_placed[id(node)] = False
            stack.extend(parent for parent in reversed(node._parents) if id(parent) not in is_placed)
        else:
            stack.pop()
            if not placed:
                is_placed[id(node)] = True
                order.append(node)
    return order


def labels(nodes: Sequence[Node]) -> dict[int, str]:
    """Display names by id(): the nodes' own; nodes of different recordings that share one get numbers."""
    found: dict[int, str] = {}
    taken: set[str] = set()
    for node in nodes:
        label, number = node._name, 2
        while label in taken:
            label, number = f"{node._name}_{number}", number + 1
        taken.add(label)
        found[id(node)] = label
    return found
