"""Graphs as text, JSON, networkx and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from engine.errors import TraceError
from engine.feedback import Feedback
from engine.graph.containers import Operand, substitute
from engine.graph.node import ErrorNode, Node, ParamNode
from engine.graph.op import literal, readable
from engine.graph.order import labels, topological
from engine.graph.render import Box, draw

Form = Literal["svg", "text"]
Edge = tuple[Node, Node]


def line(node: Node, names: Mapping[int, str]) -> str:
    """'ask_1 = ask(instruction, question)'; what a call read beside its arguments stands in a comment."""
    name = names[id(node)]
    if isinstance(node, ParamNode) or (not node._parents and node._op.kind == "input"):
        return f"{name} = {literal(node._value)}"
    shown: set[int] = set()
    # Of a method's call the object itself is left out: its repr says nothing.
    args = [_argument(arg, names, shown) for arg in node._args[1 if node._op.is_method else 0 :]]
    kwargs = {key: _argument(arg, names, shown) for key, arg in node._kwargs.items()}
    text = f"{name} = {node._op.expression(args, kwargs)}"
    beside = [names.get(id(p), p._name) for p in node._parents if id(p) not in shown]
    beside = [other for other in beside if other != node._op.name]  # the function's own code
    if isinstance(node, ErrorNode):
        text += f"  # raised {type(node._value).__name__}"
    return f"{text}  # uses {', '.join(beside)}" if beside else text


def to_networkx(nodes: Iterable[Node], edges: Iterable[Edge] | None = None) -> Any:
    """A DiGraph by display name (not by Node, whose `==` compares values)."""
    import networkx  # slow to import, and only this function needs it

    listed, edges = _closed(nodes, edges)
    graph = networkx.DiGraph()
    names = labels(listed)
    for node in listed:
        graph.add_node(names[id(node)], node=node, op=node._op.name, kind=_kind(node), value=node._value)
    graph.add_edges_from((names[id(parent)], names[id(child)]) for parent, child in edges)
    return graph


def to_json(nodes: Iterable[Node], edges: Iterable[Edge] | None = None) -> dict[str, Any]:
    """Nodes and edges by display name; every value whole."""
    listed, edges = _closed(nodes, edges)
    names = labels(listed)
    return {
        "nodes": [_node_json(node, names) for node in listed],
        "edges": [[names[id(parent)], names[id(child)]] for parent, child in edges],
    }


def render(nodes: Iterable[Node], form: Form, edges: Iterable[Edge] | None = None) -> str:
    """The graph as SVG or as lines of text. Raises TraceError for another form."""
    listed, edges = _closed(nodes, edges)
    names = labels(listed)
    if form == "text":
        return "\n".join(_described(node, names) for node in listed)
    if form != "svg":
        raise TraceError(f"no form '{form}' of a graph", allowed="svg, text")
    boxes = [Box(names[id(node)], _text(node), _kind(node), line(node, names)) for node in listed]
    place = {id(node): number for number, node in enumerate(listed)}
    return draw(boxes, [(place[id(parent)], place[id(child)]) for parent, child in edges])


def as_json(value: Any) -> Any:
    """The value where JSON gives it back as it is, else its text."""
    if isinstance(value, Feedback):
        return value.to_json()
    try:
        return value if json.loads(json.dumps(value, allow_nan=False)) == value else literal(value)
    except Exception:  # a value of any type at all, whose own methods may fail
        return literal(value)


def _closed(nodes: Iterable[Node], edges: Iterable[Edge] | None) -> tuple[Sequence[Node], list[Edge]]:
    """The nodes with all their ancestors, parents first; or just these nodes, if the edges are given."""
    if edges is not None:
        return list(nodes), list(edges)
    listed = topological(nodes)
    return listed, [(parent, node) for node in listed for parent in node._parents]


class _Label:
    """Stands for a node where an argument is printed."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _argument(arg: Any, names: Mapping[int, str], shown: set[int]) -> str:
    """An argument as written in a call: nodes by name, also inside containers, the rest as literals."""

    def label(operand: Operand) -> _Label:
        shown.add(id(operand))
        return _Label(names.get(id(operand), operand._name) if isinstance(operand, Node) else repr(operand))

    return literal(substitute(arg, label))


def _kind(node: Node) -> str:
    return "error" if isinstance(node, ErrorNode) else node._op.kind


def _text(node: Node) -> str:
    return node._feedback.text if isinstance(node, ErrorNode) else readable(node._value)


def _described(node: Node, names: Mapping[int, str]) -> str:
    """A line of code, and under it the value."""
    if isinstance(node, ParamNode):
        return f"{line(node, names)}  # parameter"
    if node._op.kind == "input" and not node._parents:
        return line(node, names)
    return line(node, names) + "\n    -> " + _text(node).replace("\n", "\n       ")


def _node_json(node: Node, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "name": names[id(node)],
        "op": node._op.name,
        "kind": _kind(node),
        "value": _text(node) if isinstance(node, ErrorNode) else as_json(node._value),
        "parents": [names.get(id(parent), parent._name) for parent in node._parents],
        "line": line(node, names),
        "description": node._param.description if isinstance(node, ParamNode) else node._op.description,
    }
