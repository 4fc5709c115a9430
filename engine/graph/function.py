"""The decorator `trace.node`: a function as an operator of the graph."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from engine.errors import TraceError
from engine.graph.call import Call
from engine.graph.code import Compiler, source_of
from engine.graph.containers import SCALARS, Operand, plain
from engine.graph.op import Op
from engine.graph.sandboxed import Limits
from engine.graph.state import STATE
from engine.graph.tracer import Graph
from engine.params import Param

F = TypeVar("F", bound=Callable[..., Any])


@overload
def node(function: F, /) -> F: ...
@overload
def node(
    *,
    trainable: bool = False,
    name: str | None = None,
    description: str | None = None,
    catch: bool = False,
    timeout_s: float = ...,
    memory_mb: int = ...,
) -> Callable[[F], F]: ...
def node(
    function: Any = None,
    /,
    *,
    trainable: bool = False,
    name: str | None = None,
    description: str | None = None,
    catch: bool = False,
    timeout_s: float = Limits.timeout_s,
    memory_mb: int = Limits.memory_mb,
) -> Any:
    """Make a function an operator of the graph.

    Outside a recording it stays the plain function: nodes and parameters among its arguments, also
    inside containers, arrive as their values. In a recording it gives a Node (a coroutine function
    a coroutine of one, a generator function the node of the list of its items, an async generator
    function an async iterator of item nodes). Its body runs on plain values and is not recorded;
    parameters and nodes that it reads from outside (globals, closures, attributes) are parents too.

    trainable: the source is a parameter of kind "code", at `.code` of the result. The version that stands in the
    file, and those that the user sets or adopts (`.code.adopt()`), run in this process; a version that a model
    wrote runs in the sandbox, at every call. There it has copies of its arguments, which must be of built-in types
    as its result must; what it names from outside goes with it if it is a value of built-in types, a function of
    the same module, or comes from one of `engine.graph.scope.ALLOWED_MODULES`. timeout_s, memory_mb: limits of one
    such call, beyond which it raises TimeoutError and MemoryError. name, description:
    in place of the function's own and its docstring. catch: an exception in the body is recorded
    as an error node with the traceback's relevant lines (`error_node(exception)` finds it) and
    goes on as the exception that it was; of a trainable function always.

    Raises TraceError for what is not a function, and for trainable=True where no source is found.
    """
    limits = Limits(timeout_s, memory_mb) if trainable else None
    decorate = functools.partial(_decorated, limits=limits, name=name, description=description, catch=catch)
    return decorate if function is None else decorate(function)


def _decorated(function: Any, *, limits: Limits | None, name: str | None, description: str | None, catch: bool) -> Any:
    if isinstance(function, staticmethod | classmethod):
        inner = _decorated(function.__func__, limits=limits, name=name, description=description, catch=catch)
        return type(function)(inner)
    if not callable(function) or isinstance(function, type):
        raise TraceError(
            f"trace.node was given {function!r:.80}",
            allowed="a function, method, coroutine or generator function",
            next_step="decorate the methods of a class, not the class",
        )
    stem = name or getattr(function, "__name__", type(function).__name__).strip("<>")
    op = Op(stem, "function", function, description)
    code = _code_param(function, stem, op, limits) if limits else None
    wrapper = _wrapped(function, op, code, catch or code is not None)
    wrapper.op, wrapper.code = op, code
    return wrapper


def _wrapped(function: Callable[..., Any], op: Op, code: Param | None, catch: bool) -> Any:
    fill = _default_filler(function)
    is_simple = fill is None and code is None

    def call(*args: Any, **kwargs: Any) -> Any:
        state = STATE.get()
        if state is None and is_simple and not kwargs and SCALARS.issuperset(map(type, args)):
            return function(*args)  # production: nothing here to take out of a parameter or node
        if fill is not None:
            kwargs = fill(args, kwargs)
        current = function if code is None else code.function
        if isinstance(state, Graph):
            recorded = Call(state, op, current, catch)
            if code is not None:
                recorded.link(code)
            return recorded.run(args, kwargs)
        return current(*map(plain, args), **{key: plain(item) for key, item in kwargs.items()})

    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    is_coroutine = inspect.iscoroutinefunction(function)
    return functools.wraps(function)(call_async if is_coroutine else call)


def _default_filler(function: Callable[..., Any]) -> Callable[..., dict[str, Any]] | None:
    """Adds defaults that are parameters or nodes to a call's keywords; None if there are none."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    places = list(signature.parameters)
    defaults = {
        name: p.default
        for name, p in signature.parameters.items()
        if isinstance(p.default, Operand) and p.kind is not p.POSITIONAL_ONLY
    }
    if not defaults:
        return None

    def fill(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        given = places[: len(args)]
        return {**{name: value for name, value in defaults.items() if name not in given}, **kwargs}

    return fill


def _code_param(function: Any, name: str, op: Op, limits: Limits) -> Param:
    found = source_of(function)
    if found is None:
        raise TraceError(
            f"the source of {name} cannot be found, so it cannot be trained",
            allowed="a function written with `def` in a file or a notebook cell",
            next_step="leave trainable=True away, or put the function into a file",
        )
    return Param(
        found.text,
        name=name,
        kind="code",
        description=op.description,
        origin=(found.file, found.line),
        compiler=Compiler(found.text, function),
        limits=limits,
    )
