"""Nodes and parameters inside lists, tuples, dicts and sets."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Collection
from typing import Any

# Types that hold nothing: the check that keeps calls with ordinary arguments cheap.
SCALARS = frozenset({str, int, float, bool, type(None), bytes, complex})


class Operand:
    """What stands for a value in a traced program: a node or a parameter."""

    __slots__ = ()

    @property
    def value(self) -> Any:
        """The plain value; the recording or the node function that runs takes note that it was read."""
        raise NotImplementedError

    def _peek(self) -> Any:
        """The plain value, and nobody takes note."""
        raise NotImplementedError


def substitute(value: Any, swap: Callable[[Operand], Any], inside: frozenset[int] = frozenset()) -> Any:
    """The value with every operand in it replaced by swap(operand).

    Walks lists, tuples, sets, dicts and their subclasses; returns the very same object when it
    holds no operand, so that a function still sees (and may change) its caller's own list.
    """
    if isinstance(value, Operand):
        return swap(value)
    children: Collection[Any]
    if isinstance(value, list | tuple):
        children = value
    elif isinstance(value, set | frozenset):
        children = list(value)
    elif isinstance(value, dict):
        children = [*value.keys(), *value.values()]
    else:
        return value
    if SCALARS.issuperset(map(type, children)) or id(value) in inside:
        return value
    inside = inside | {id(value)}
    replaced = [substitute(child, swap, inside) for child in children]
    return value if all(map(operator.is_, replaced, children)) else _rebuilt(value, replaced)


def plain(value: Any) -> Any:
    """The value with operands in it replaced by what they stand for."""
    return substitute(value, _value_of)


def snapshot(value: Any) -> Any:
    """A copy of the lists, sets and dicts that `value` consists of: what it was at this moment."""
    return _snapshot(value, frozenset())


def _snapshot(value: Any, inside: frozenset[int]) -> Any:
    kind = type(value)
    if kind not in (list, tuple, dict, set) or id(value) in inside:
        return value
    inside = inside | {id(value)}
    if kind is dict:
        return {key: _snapshot(item, inside) for key, item in value.items()}
    if SCALARS.issuperset(map(type, value)):
        return kind(value)
    return kind(_snapshot(item, inside) for item in value)


def _value_of(operand: Operand) -> Any:
    return operand.value


def _rebuilt(container: Any, children: list[Any]) -> Any:
    """A container of the same type with other children (for dicts: the keys, then the values)."""
    if isinstance(container, tuple):
        make = getattr(container, "_make", None)  # a named tuple
        return make(children) if make else tuple(children)
    if isinstance(container, frozenset):
        return frozenset(children)
    fresh = copy.copy(container)  # keeps a subclass's own state, as of defaultdict
    fresh.clear()
    if isinstance(container, dict):
        half = len(children) // 2
        fresh.update(zip(children[:half], children[half:], strict=True))
    elif isinstance(container, list):
        fresh.extend(children)
    else:
        fresh.update(children)
    return fresh
