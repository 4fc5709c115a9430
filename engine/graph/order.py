"""Walking a graph from its outputs: without recursion, each node and edge once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.graph.node import Node


class Walk:
    """The outputs and all their ancestors.

    `nodes`: parents before children, in an order that depends on the graph alone and not on which
    thread was faster; `children[i]`: places in `nodes` of the children of nodes[i].
    """

    def __init__(self, outputs: Iterable[Node]) -> None:
        self.nodes = topological(outputs)
        self.place = {id(node): place for place, node in enumerate(self.nodes)}
        self.children: list[list[int]] = [[] for _ in self.nodes]
        for place, node in enumerate(self.nodes):
            for parent in node._parents:
                self.children[self.place[id(parent)]].append(place)

    def descendants(self, sources: Iterable[int]) -> list[int]:
        """The places of all nodes computed from the sources, in topological order; the sources not among them
        (unless one is computed from another)."""
        reached: set[int] = set()
        waiting = list(sources)
        while waiting:
            for child in self.children[waiting.pop()]:
                if child not in reached:
                    reached.add(child)
                    waiting.append(child)
        return sorted(reached)


def topological(outputs: Iterable[Node]) -> list[Node]:
    """The outputs and their ancestors, parents before children: post-order, first parents first."""
    order: list[Node] = []
    seen: set[int] = set()
    # A node is on the stack twice: to look at its parents, and (True) to be placed after them.
    stack = [(node, False) for node in reversed(list(outputs))]
    while stack:
        node, is_ready = stack.pop()
        if is_ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in reversed(node._parents))
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
