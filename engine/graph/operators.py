"""Python's operators on nodes and parameters: plain outside a recording, recorded inside one."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from engine.errors import TraceError
from engine.graph.containers import Operand, plain
from engine.graph.op import Op
from engine.graph.state import STATE

Method = Callable[..., Any]


def apply(op: Op, *args: Any, **kwargs: Any) -> Any:
    """op(*args, **kwargs): a node in a recording, elsewhere the plain result."""
    state = STATE.get()
    if state is None:
        return op.function(*map(plain, args), **{key: plain(item) for key, item in kwargs.items()})
    return state.apply(op, op.function, args, kwargs)


def _binary(name: str, function: Callable[[Any, Any], Any], text: str) -> tuple[Method, Method]:
    """The method of an operator of two values, and its reflected twin."""
    op = Op(name, "operator", function, text, "left, right")

    def method(self: Any, other: Any) -> Any:
        state = STATE.get()
        if state is None:
            return function(self.value, plain(other))
        return state.apply(op, function, (self, other), {})

    def reflected(self: Any, other: Any) -> Any:
        return apply(op, other, self)

    return method, reflected


def _unary(name: str, function: Callable[..., Any], text: str, parameters: str = "value") -> Method:
    op = Op(name, "operator", function, text, parameters)

    def method(self: Any, *args: Any) -> Any:
        return apply(op, self, *args)

    return method


INDEX = Op("item", "index", operator.getitem, "container[key]")
ITEM = Op("item", "item", lambda values, place: list(values)[place], "one of the values iterated over")
CALL = Op("call", "call", lambda function, *args, **kwargs: function(*args, **kwargs), "a call of a value")


@functools.lru_cache(maxsize=1024)
def _attribute_op(name: str) -> Op:
    return Op(name, "attribute", operator.attrgetter(name), f"the attribute {name}")


@functools.lru_cache(maxsize=1024)
def _method_op(name: str) -> Op:
    def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(owner, name)(*args, **kwargs)

    return Op(name, "method", call, f"the method {name}")


@functools.lru_cache(maxsize=1024)
def _library_op(function: Callable[..., Any]) -> Op:
    """The op of a NumPy ufunc or a torch function."""
    return Op(str(getattr(function, "__name__", function)), "function", function)


class Bound:
    """A method of a value, not yet called; calling it records one node."""

    __slots__ = ("_name", "_owner")

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return apply(_method_op(self._name), self._owner, *args, **kwargs)


class Operators(Operand):
    """Everything that Python lets an object answer for.

    What Python insists on being its own type (`bool`, `int`, `len`, `str`, f-strings, `in`) gives
    the plain value. Hash is identity, so nodes with equal values stay apart in sets and dicts;
    `==` compares values and, in a recording, is recorded.
    """

    __slots__ = ()

    __add__, __radd__ = _binary("add", operator.add, "left + right")
    __sub__, __rsub__ = _binary("subtract", operator.sub, "left - right")
    __mul__, __rmul__ = _binary("multiply", operator.mul, "left * right")
    __truediv__, __rtruediv__ = _binary("divide", operator.truediv, "left / right")
    __floordiv__, __rfloordiv__ = _binary("floor_divide", operator.floordiv, "left // right")
    __mod__, __rmod__ = _binary("modulo", operator.mod, "left % right")
    __divmod__, __rdivmod__ = _binary("divmod", divmod, "(left // right, left % right)")
    __pow__, __rpow__ = _binary("power", operator.pow, "left ** right")
    __matmul__, __rmatmul__ = _binary("matmul", operator.matmul, "left @ right")
    __lshift__, __rlshift__ = _binary("shift_left", operator.lshift, "left << right")
    __rshift__, __rrshift__ = _binary("shift_right", operator.rshift, "left >> right")
    __and__, __rand__ = _binary("bit_and", operator.and_, "left & right")
    __or__, __ror__ = _binary("bit_or", operator.or_, "left | right")
    __xor__, __rxor__ = _binary("bit_xor", operator.xor, "left ^ right")
    __lt__ = _binary("less", operator.lt, "left < right")[0]
    __le__ = _binary("less_or_equal", operator.le, "left <= right")[0]
    __gt__ = _binary("greater", operator.gt, "left > right")[0]
    __ge__ = _binary("greater_or_equal", operator.ge, "left >= right")[0]
    __eq__ = _binary("equal", operator.eq, "left == right")[0]
    __ne__ = _binary("not_equal", operator.ne, "left != right")[0]
    __hash__ = object.__hash__

    __neg__ = _unary("negate", operator.neg, "-value")
    __pos__ = _unary("positive", operator.pos, "+value")
    __abs__ = _unary("absolute", abs, "abs(value)")
    __invert__ = _unary("invert", operator.invert, "~value")
    __round__ = _unary("round", round, "round(value, digits)", "value, digits=None")
    __trunc__ = _unary("truncate", math.trunc, "math.trunc(value)")
    __floor__ = _unary("floor", math.floor, "math.floor(value)")
    __ceil__ = _unary("ceil", math.ceil, "math.ceil(value)")
    __reversed__ = _unary("reversed", lambda value: list(reversed(value)), "list(reversed(value))")

    def __getitem__(self, key: Any) -> Any:
        return apply(INDEX, self, key)

    def __iter__(self) -> Iterator[Any]:
        state = STATE.get()
        if state is None or not state.is_recording:
            yield from self.value
            return
        value = self._peek()
        op = INDEX if isinstance(value, list | tuple | str | range) else ITEM
        for place, item in enumerate(value):
            # The item is at hand: nothing is looked up again, so a dict is walked once.
            yield state.apply(op, lambda _value, _place, item=item: item, (self, place), {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols that Python and libraries probe for
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        found = getattr(self._peek(), name)
        # A callable object may have attributes of its own, so it is an attribute; it can be called as one.
        return Bound(self, name) if inspect.isroutine(found) else apply(_attribute_op(name), self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return apply(CALL, self, *args, **kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return apply(_library_op(getattr(ufunc, method) if method != "__call__" else ufunc), *inputs, **kwargs)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return apply(_library_op(function), *args, **(kwargs or {}))

    def __setitem__(self, key: Any, item: Any) -> NoReturn:
        _refuse_change("item assignment")

    def __delitem__(self, key: Any) -> NoReturn:
        _refuse_change("item deletion")

    def __contains__(self, item: Any) -> bool:
        return plain(item) in self.value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __complex__(self) -> complex:
        return complex(self.value)

    def __index__(self) -> int:
        return operator.index(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        # The value's own, so that f"{[node]}" in a traced program reads as it does in production.
        return repr(self.value)

    def __format__(self, form: str) -> str:
        return format(self.value, form)

    def __fspath__(self) -> Any:
        return self.value.__fspath__() if hasattr(self.value, "__fspath__") else self.value

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


def _refuse_change(what: str) -> NoReturn:
    raise TraceError(
        f"{what} on a node: the values of a graph do not change once recorded",
        next_step="build a new value, or make the change inside a @trace.node function",
    )
