"""A node: one value that a traced program computed, and what it was computed from."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from engine.feedback import Feedback
from engine.graph.op import Op
from engine.graph.operators import Operators
from engine.graph.state import STATE

if TYPE_CHECKING:
    from engine.params import Param

_ids = itertools.count(1)


class Node(Operators):
    """A recorded value. Frozen; refers to its parents and never to its children or its graph.

    `value`: what was computed; `name`: its display name, unique in its graph; `op`: what computed
    it; `parents`: the nodes it was computed from, each once. Any other attribute is that of the
    value; where the value has one of these four names too, `node.__getattr__("name")` reaches it.
    """

    __slots__ = ("__weakref__", "_args", "_id", "_kwargs", "_name", "_op", "_parents", "_value")

    _args: tuple[Any, ...]
    _id: int
    _kwargs: dict[str, Any]
    _name: str
    _op: Op
    _parents: tuple[Node, ...]
    _value: Any

    @property
    def value(self) -> Any:
        state = STATE.get()
        if state is not None:
            state.read(self)
        return self._value

    def _peek(self) -> Any:
        return self._value

    @property
    def name(self) -> str:
        return self._name

    @property
    def op(self) -> Op:
        return self._op

    @property
    def parents(self) -> tuple[Node, ...]:
        return self._parents


class ParamNode(Node):
    """A parameter as a recording saw it: a leaf whose value stays what it was then."""

    __slots__ = ("_param",)

    _param: Param

    @property
    def param(self) -> Param:
        return self._param


class ErrorNode(Node):
    """A call that raised. `error`: the exception; `feedback`: the traceback's relevant lines."""

    __slots__ = ("_feedback",)

    _feedback: Feedback

    @property
    def error(self) -> BaseException:
        return self._value  # type: ignore[no-any-return]

    @property
    def feedback(self) -> Feedback:
        return self._feedback


def new_node(
    op: Op,
    value: Any,
    name: str,
    parents: tuple[Node, ...] = (),
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    kind: type[Node] = Node,
) -> Any:
    """A node; slots are set one by one because an __init__ would cost twice as much."""
    node = kind.__new__(kind)
    node._op = op
    node._value = value
    node._name = name
    node._parents = parents
    node._args = args
    node._kwargs = kwargs or {}
    node._id = next(_ids)
    return node
