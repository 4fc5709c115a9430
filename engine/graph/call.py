"""One call inside a recording: arguments in, plain function, node out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from contextvars import Token
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import TYPE_CHECKING, Any

from engine.graph.code import source_of
from engine.graph.containers import SCALARS, Operand, plain, snapshot, substitute
from engine.graph.errors import attach_node, traceback_feedback
from engine.graph.node import ErrorNode, Node
from engine.graph.op import Op
from engine.graph.state import STATE, State

if TYPE_CHECKING:
    from engine.graph.tracer import Graph

_DEFERRED = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})


class Body:
    """The inside of a node function: nothing is recorded, and what it reads from outside is noted."""

    __slots__ = ("reads",)

    is_recording = False

    def __init__(self) -> None:
        self.reads: list[Operand] = []

    def read(self, operand: Operand) -> None:
        self.reads.append(operand)

    def apply(self, op: Op, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return function(*map(plain, args), **{key: plain(item) for key, item in kwargs.items()})


class Call:
    """A call of `op` that the graph records; catch: an exception becomes an error node on its way out."""

    __slots__ = ("args", "body", "catch", "function", "graph", "kwargs", "name", "op", "parents")

    def __init__(self, graph: Graph, op: Op, function: Callable[..., Any], catch: bool = False) -> None:
        self.graph, self.op, self.function, self.catch = graph, op, function, catch
        self.body = Body()
        # The parents to be, by id(): each once, in order of appearance.
        self.parents: dict[int, Node] = {}
        self.name: str | None = None

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The node of function(*args, **kwargs); an awaitable or async iterator where that gives one."""
        values, named = self._capture(args), kwargs
        self.kwargs = kwargs
        if kwargs:
            taken = {key: self._take(arg) for key, arg in kwargs.items()}
            self.kwargs = {key: recorded for key, (recorded, _) in taken.items()}
            named = {key: value for key, (_, value) in taken.items()}
        token = STATE.set(self.body)
        try:
            value = self.function(*values, **named)
            if value.__class__ in _DEFERRED:
                if value.__class__ is not GeneratorType:
                    return self._deferred(value)
                value = list(value)
        except Exception as error:
            self._failed(error)
            raise
        finally:
            STATE.reset(token)
        return self._finish(value)

    def link(self, operand: Operand) -> Node:
        """The operand's node in this graph, noted as a parent."""
        node: Node = operand if isinstance(operand, Node) else self.graph.leaf(operand)  # type: ignore[arg-type]
        self.parents[id(node)] = node
        return node

    def _capture(self, args: tuple[Any, ...]) -> list[Any]:
        """The plain values of the arguments; keeps the arguments as they are now for the record."""
        values = []
        self.args = args
        changed: list[Any] | None = None
        for place, arg in enumerate(args):
            if arg.__class__ is Node:
                self.parents[id(arg)] = arg
                values.append(arg._value)
            elif arg.__class__ in SCALARS:
                values.append(arg)
            else:
                recorded, value = self._take(arg)
                values.append(value)
                if recorded is not arg:
                    changed = changed or list(args)
                    changed[place] = recorded
        if changed is not None:
            self.args = tuple(changed)
        return values

    def _take(self, arg: Any) -> tuple[Any, Any]:
        """What to record of an argument, and what to pass to the function."""
        recorded = substitute(arg, self.link)
        if recorded is arg and not isinstance(arg, Node):
            return snapshot(arg), arg
        return snapshot(recorded), substitute(recorded, _peeked)

    def _finish(self, value: Any) -> Node:
        """The node of a call that gave a value."""
        if value.__class__ not in SCALARS:
            value = substitute(value, self._settle)
        for operand in self.body.reads:
            self.link(operand)
        return self.graph.add(self.op, value, tuple(self.parents.values()), self.args, self.kwargs, name=self.name)

    def _settle(self, operand: Operand) -> Any:
        """The plain value of an operand that a function returned, for instance from its closure."""
        return self.link(operand)._value

    def _failed(self, error: Exception) -> None:
        if not self.catch:
            return
        for operand in self.body.reads:
            self.link(operand)
        parents = tuple(self.parents.values())
        node: Any = self.graph.add(self.op, error, parents, self.args, self.kwargs, name=self.name, kind=ErrorNode)
        node._feedback = traceback_feedback(error, *_own_frames(error, self.function))
        attach_node(error, node)

    def _deferred(self, value: Any) -> Any:
        """A coroutine of the node, or an async iterator of nodes."""
        # The name is taken now, so that names follow the order of calls and not that of answers.
        self.name = self.graph.next_name(self.op)
        return self._awaited(value) if value.__class__ is CoroutineType else self._iterated(value)

    async def _awaited(self, value: Any) -> Node:
        token = STATE.set(self.body)
        try:
            result = await value
        except Exception as error:
            self._failed(error)
            raise
        finally:
            _leave(token)
        return self._finish(result)

    async def _iterated(self, value: Any) -> AsyncIterator[Any]:
        token = STATE.set(self.body)
        try:
            items = [item async for item in value]
        except Exception as error:
            self._failed(error)
            raise
        finally:
            _leave(token)
        for item in self._finish(items):
            yield item


def _peeked(operand: Operand) -> Any:
    return operand._peek()


def _leave(token: Token[State | None]) -> None:
    """Reset the state, unless an abandoned coroutine is being closed from somewhere else."""
    with suppress(ValueError):
        STATE.reset(token)


def _own_frames(error: Exception, function: Callable[..., Any]) -> tuple[TracebackType | None, int]:
    """The traceback from the function's own frame on, and the line where its source begins."""
    code = getattr(function, "__code__", None)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not code:
        trace = trace.tb_next
    if trace is None:  # a function written in C
        return (error.__traceback__.tb_next if error.__traceback__ else None), 1
    found = source_of(function)
    return trace, found.line if found else 1
