"""The recording: which nodes there are, and how one is begun, suspended and ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.graph import export
from engine.graph.call import Body, Call
from engine.graph.containers import Operand, plain
from engine.graph.names import Names
from engine.graph.node import Node, ParamNode, new_node
from engine.graph.op import Op
from engine.graph.state import STATE

if TYPE_CHECKING:
    from engine.params import Param

PARAM = Op("param", "param", lambda value: value, "a parameter")
VALUE = Op("value", "input", lambda value: value, "an input")


class Graph:
    """What a recording recorded; it owns its nodes, and no node refers to it.

    `nodes`: in order of creation. `detached`: parameters whose plain value was taken in the
    recording outside of any node function (by an f-string, by `.value`), where Python leaves no
    way to record the dependency; worth telling for one that `backward` does not reach.
    """

    is_recording = True

    def __init__(self, names: Names | None = None) -> None:
        self._nodes: list[Node] = []
        self._names = names or Names()
        self._leaves: dict[tuple[int, int], ParamNode] = {}
        self._detached: dict[int, Param] = {}
        self._lock = threading.Lock()

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._nodes)

    @property
    def params(self) -> tuple[Param, ...]:
        """The parameters that took part, in order of first use."""
        return tuple({node._param: None for node in self._nodes if isinstance(node, ParamNode)})

    @property
    def detached(self) -> tuple[Param, ...]:
        return tuple(self._detached.values())

    def to_networkx(self) -> Any:
        """A networkx.DiGraph by display name, parent to child, with `node`, `op`, `kind` and `value` on each."""
        return export.to_networkx(self._nodes)

    def to_json(self) -> dict[str, Any]:
        """{"nodes": [...], "edges": [[parent, child], ...]} by display name; what is not JSON becomes text."""
        return export.to_json(self._nodes)

    def render(self, form: export.Form = "svg") -> str:
        """The graph drawn as "svg", or written as "text"."""
        return export.render(self._nodes, form)

    def add(
        self,
        op: Op,
        value: Any,
        parents: tuple[Node, ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        name: str | None = None,
        kind: type[Node] = Node,
    ) -> Node:
        """A new node of this graph."""
        node: Node = new_node(op, value, name or self._names.next(op.name), parents, args, kwargs, kind)
        self._nodes.append(node)
        return node

    def input(self, value: Any, name: str | None) -> Node:
        """A node of a value given from outside, or of a container with nodes in it."""
        call = Call(self, VALUE, VALUE.function)
        call.name = self._names.claim(name) if name else None
        node: Node = call.run((value,), {})
        return node

    def next_name(self, op: Op) -> str:
        return self._names.next(op.name)

    def leaf(self, param: Param) -> ParamNode:
        """The node of a parameter: one for each value that it shows in this recording."""
        value = param.current()
        key = (id(param), id(value))  # both are kept alive by the node
        with self._lock:
            found = self._leaves.get(key)
            if found is None:
                found = new_node(PARAM, param._peek(), self._names.claim(param.name), kind=ParamNode)
                found._param, found._args = param, (value,)
                self._leaves[key] = found
                self._nodes.append(found)
        return found

    def read(self, operand: Operand) -> None:
        """Note a parameter whose plain value left the graph."""
        if not isinstance(operand, Node):
            self._detached[id(operand)] = operand  # type: ignore[assignment]

    def apply(self, op: Op, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call function on the plain values of the arguments; record the result as a node of op."""
        return Call(self, op, function).run(args, kwargs)


def value(value: Any, *, name: str | None = None) -> Node:
    """An input node; made outside a recording, it belongs to none and takes part in any."""
    if isinstance(value, Node):
        return value
    state = STATE.get()
    if isinstance(state, Graph):
        return state.input(value, name)
    node: Node = new_node(VALUE, plain(value), name or "value", args=(value,))
    return node


@contextmanager
def record() -> Iterator[Graph]:
    """Record what traced functions and operators do in this context, as a Graph.

    Recordings nest: the inner one records alone, and names stay apart from the outer one's.
    """
    outer = STATE.get()
    graph = Graph(outer._names if isinstance(outer, Graph) else None)
    token = STATE.set(graph)
    try:
        yield graph
    finally:
        STATE.reset(token)


@contextmanager
def off() -> Iterator[None]:
    """Suspend recording: traced functions are plain functions again."""
    token = STATE.set(None)
    try:
        yield
    finally:
        STATE.reset(token)


__all__ = ["PARAM", "VALUE", "Body", "Graph", "off", "record", "value"]
