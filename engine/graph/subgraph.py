"""The part of a graph that explains an output to one reader."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from engine.graph import export
from engine.graph.node import ErrorNode, Node, ParamNode
from engine.graph.op import Op, readable
from engine.graph.order import Walk, labels, topological

if TYPE_CHECKING:
    from engine.params import Param

Edges = tuple[tuple[Node, Node], ...]


class Subgraph:
    """Nodes with edges, outputs and what was said about them. Immutable; worked out when looked at.

    `nodes`: parents before children; `edges`: (parent, child); `outputs` and `feedbacks`: as many of
    each; `output` and `feedback`: the one, or the tuple where there are several.
    """

    def __init__(
        self,
        find: Callable[[], tuple[tuple[Node, ...], Edges]],
        outputs: Callable[[], tuple[tuple[Node, ...], tuple[Any, ...]]],
    ) -> None:
        self._find, self._find_outputs = find, outputs

    @classmethod
    def below(cls, walk: Walk, sources: Sequence[int], outputs: Sequence[Node], feedbacks: Sequence[Any]) -> Subgraph:
        """The sub-graph that the nodes at `sources` receive from the outputs (see `backward`)."""

        @functools.cache
        def reached() -> list[int]:
            return walk.descendants(sources)

        def find() -> tuple[tuple[Node, ...], Edges]:
            inner = [walk.nodes[place] for place in reached()]
            edges = tuple((parent, node) for node in inner for parent in node._parents)
            kept = set(reached()) | {walk.place[id(parent)] for parent, _ in edges}
            kept |= {place for place in sources if _is_among(walk.nodes[place], outputs)}
            return tuple(walk.nodes[place] for place in sorted(kept)), edges

        def find_outputs() -> tuple[tuple[Node, ...], tuple[Any, ...]]:
            places = {*reached(), *sources}
            pairs = [(y, f) for y, f in zip(outputs, feedbacks, strict=True) if walk.place[id(y)] in places]
            return tuple(y for y, _ in pairs), tuple(f for _, f in pairs)

        return cls(find, find_outputs)

    @classmethod
    def merge(cls, parts: Iterable[Subgraph]) -> Subgraph:
        """The union: what several parameters' sub-graphs show together, each output and feedback once."""
        parts = list(parts)

        def find() -> tuple[tuple[Node, ...], Edges]:
            edges = {(id(a), id(b)): (a, b) for part in parts for a, b in part.edges}
            kept = {id(node) for part in parts for node in part.nodes}
            order = topological(node for part in parts for node in part.outputs)
            return tuple(node for node in order if id(node) in kept), tuple(edges.values())

        def outputs() -> tuple[tuple[Node, ...], tuple[Any, ...]]:
            pairs = {
                (id(y), id(f)): (y, f) for part in parts for y, f in zip(part.outputs, part.feedbacks, strict=True)
            }
            return tuple(y for y, _ in pairs.values()), tuple(f for _, f in pairs.values())

        return cls(find, outputs)

    @functools.cached_property
    def _found(self) -> tuple[tuple[Node, ...], Edges]:
        return self._find()

    @functools.cached_property
    def _ends(self) -> tuple[tuple[Node, ...], tuple[Any, ...]]:
        return self._find_outputs()

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self._found[0]

    @property
    def edges(self) -> Edges:
        return self._found[1]

    @property
    def outputs(self) -> tuple[Node, ...]:
        return self._ends[0]

    @property
    def feedbacks(self) -> tuple[Any, ...]:
        return self._ends[1]

    @property
    def output(self) -> Any:
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs

    @property
    def feedback(self) -> Any:
        return self.feedbacks[0] if len(self.feedbacks) == 1 else self.feedbacks

    @functools.cached_property
    def params(self) -> tuple[Param, ...]:
        """The parameters among the nodes, each once."""
        return tuple({node._param: None for node in self.nodes if isinstance(node, ParamNode)})

    @functools.cached_property
    def inner(self) -> tuple[Node, ...]:
        """The nodes whose computation is shown, outputs among them: one line of code each."""
        computed = {id(child) for _, child in self.edges}
        return tuple(node for node in self.nodes if id(node) in computed)

    @functools.cached_property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes at the border that are no parameters: only their values matter here."""
        computed = {id(node) for node in self.inner}
        return tuple(node for node in self.nodes if id(node) not in computed and not isinstance(node, ParamNode))

    @functools.cached_property
    def ops(self) -> tuple[Op, ...]:
        """The operations of the shown lines, each once, in order of first use."""
        return tuple({id(node._op): node._op for node in self.inner}.values())

    def label(self, node: Node) -> str:
        """The name of a node in this sub-graph's texts: its own, unless another recording's node has it too."""
        return self._labels[id(node)]

    @functools.cached_property
    def _labels(self) -> dict[int, str]:
        return labels(self.nodes)

    def text(self, node: Node) -> str:
        """A node's value as text, whole."""
        return node._feedback.text if isinstance(node, ErrorNode) else readable(node._value)

    def line(self, node: Node) -> str:
        """How a node was computed: 'ask_1 = ask(instruction, question)'."""
        return export.line(node, self._labels)

    def code(self) -> str:
        """The computation as lines of code, in the order of execution."""
        return "\n".join(map(self.line, self.inner))

    def documentation(self, *, sources: bool = False) -> str:
        """What each operation does: signature and description, and with sources=True its code."""
        told = [op for op in self.ops if op.kind in ("function", "operator")]  # the rest is plain Python
        return "\n".join(_documented(op, sources) for op in told)

    def to_networkx(self) -> Any:
        """As Graph.to_networkx."""
        return export.to_networkx(self.nodes, self.edges)

    def to_json(self) -> dict[str, Any]:
        """As Graph.to_json, with "outputs" and "feedback"."""
        ends = [self.label(node) for node in self.outputs]
        return {
            **export.to_json(self.nodes, self.edges),
            "outputs": ends,
            "feedback": [export.as_json(each) for each in self.feedbacks],
        }

    def render(self, form: export.Form = "svg") -> str:
        """As Graph.render."""
        return export.render(self.nodes, form, self.edges)


def _documented(op: Op, sources: bool) -> str:
    kept = f"[{op.name}] {op.signature}" + (f": {op.description}" if op.description else "")
    return f"{kept}\n{op.source}" if sources and op.source else kept


def _is_among(node: Node, nodes: Sequence[Node]) -> bool:
    return any(node is other for other in nodes)
