"""Feedback sent back from outputs to the parameters that they were computed from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import TraceError
from engine.graph.containers import Operand, substitute
from engine.graph.node import ErrorNode, Node, ParamNode
from engine.graph.order import Walk
from engine.graph.subgraph import Subgraph
from engine.graph.tracer import Graph
from engine.params import Param


def backward(output: Any, feedback: Any = None) -> dict[Param, Subgraph]:
    """For each parameter that the output was computed from, the minimal sub-graph that explains the output.

    output: a node, or a list (or another container) of nodes. feedback: anything, handed on as it
    is; with a list of outputs a list of as many, or one for all. Without feedback an error node's
    own is taken. The sub-graph of parameter x and output y is
    {y} union {c, parents(c) : c a descendant of x, and c = y or an ancestor of y}
    (the trace propagator's of arXiv 2406.16218, section 3.2, without its priority queue), and for
    several outputs the union over those that x reaches. Changes nothing; takes time linear in
    nodes + edges, and each sub-graph, worked out when first looked at, as much again at most.
    Raises TraceError for an output that holds no node, or feedback of another length.
    """
    outputs, feedbacks = _pairs(output, feedback)
    walk = Walk(outputs)
    sources: dict[Param, list[int]] = {}
    for place, node in enumerate(walk.nodes):
        if isinstance(node, ParamNode):
            sources.setdefault(node._param, []).append(place)
    return {param: Subgraph.below(walk, places, outputs, feedbacks) for param, places in sources.items()}


def _pairs(output: Any, feedback: Any) -> tuple[tuple[Node, ...], tuple[Any, ...]]:
    """The output nodes, and a feedback for each."""
    if isinstance(output, Operand):
        return (_node(output),), (_given(_node(output), feedback),)
    outputs = tuple(map(_node, _operands(output)))
    if not outputs:
        raise TraceError(
            f"the output {output!r:.200} holds no node, so nothing can be told back",
            allowed="a node, or a container of nodes",
            next_step="run the program inside `with trace.record():` and pass what it returns",
        )
    if isinstance(feedback, list | tuple) and len(feedback) != len(outputs):
        raise TraceError(
            f"{len(outputs)} outputs and {len(feedback)} feedbacks", allowed="as many feedbacks as outputs, or one"
        )
    several: Sequence[Any] = feedback if isinstance(feedback, list | tuple) else [feedback] * len(outputs)
    return outputs, tuple(_given(node, each) for node, each in zip(outputs, several, strict=True))


def _operands(output: Any) -> list[Operand]:
    """The nodes and parameters in a container, as often as they stand there."""
    found: list[Operand] = []

    def note(operand: Operand) -> Operand:
        found.append(operand)
        return operand

    substitute(output, note)
    return found


def _node(operand: Operand) -> Node:
    """A node as it is; a parameter, returned untouched by a program, as a leaf."""
    return operand if isinstance(operand, Node) else Graph().leaf(operand)  # type: ignore[arg-type]


def _given(node: Node, feedback: Any) -> Any:
    return node._feedback if feedback is None and isinstance(node, ErrorNode) else feedback
