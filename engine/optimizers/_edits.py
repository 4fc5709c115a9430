"""Random small edits of a function's source: what a proposer that knows nothing would try."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Edit = Callable[[Any, random.Random], ast.AST]

_COMPARED: Sequence[Sequence[type[ast.cmpop]]] = (
    (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
    (ast.In, ast.NotIn),
    (ast.Is, ast.IsNot),
)
_COMPUTED: Sequence[Sequence[type[ast.operator]]] = (
    (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    (ast.BitAnd, ast.BitOr, ast.BitXor),
    (ast.LShift, ast.RShift),
)


def edited(source: str, rng: random.Random, most: int = 3) -> str:
    """The source of one function after one to `most` random edits of its body; all but the edited expressions stays.

    An edit moves a number by one or flips a flag, exchanges an arithmetic or comparison operator for another of its
    group, `and` for `or`, drops a `not` or a minus, or swaps two neighbouring arguments of a call. A source in which
    there is nothing to edit comes back as it is.
    """
    for _ in range(rng.randint(1, most)):
        found = list(_sites(source))
        if not found:
            break
        node, edit = rng.choice(found)
        source = _replaced(source, node, edit(node, rng))
    return source


def _sites(source: str) -> Iterator[tuple[Any, Edit]]:
    """What can be edited, and how: in the order of the source."""
    function: Any = ast.parse(source).body[0]
    inside = {id(part) for joined in _of(function, ast.JoinedStr) for part in ast.walk(joined)}
    nodes = [n for statement in function.body for n in ast.walk(statement) if id(n) not in inside]
    placed: list[Any] = [n for n in nodes if hasattr(n, "col_offset")]
    for node in sorted(placed, key=lambda n: (n.lineno, n.col_offset, -(n.end_col_offset or 0))):
        yield from ((node, edit) for edit in _edits_of(node))


def _edits_of(node: Any) -> Iterator[Edit]:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        yield _moved
    elif isinstance(node, ast.Compare) and any(type(node.ops[0]) in group for group in _COMPARED):
        yield _compared
    elif isinstance(node, ast.BinOp | ast.AugAssign) and any(type(node.op) in group for group in _COMPUTED):
        yield _computed
    elif isinstance(node, ast.BoolOp):
        yield lambda node, rng: _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield lambda node, rng: node.operand
    elif isinstance(node, ast.Call) and len(node.args) > 1:
        yield _swapped


def _moved(node: ast.Constant, rng: random.Random) -> ast.AST:
    value: Any = node.value
    return ast.Constant(not value if isinstance(value, bool) else value + rng.choice((-1, 1)))


def _compared(node: ast.Compare, rng: random.Random) -> ast.AST:
    return _with(node, ops=[_other(node.ops[0], _COMPARED, rng), *node.ops[1:]])


def _computed(node: Any, rng: random.Random) -> ast.AST:
    return _with(node, op=_other(node.op, _COMPUTED, rng))


def _swapped(node: ast.Call, rng: random.Random) -> ast.AST:
    at = rng.randrange(len(node.args) - 1)
    args = [*node.args]
    args[at], args[at + 1] = args[at + 1], args[at]
    return _with(node, args=args)


def _other(operator: ast.AST, groups: Sequence[Sequence[type[Any]]], rng: random.Random) -> Any:
    group = next(group for group in groups if type(operator) in group)
    return rng.choice([kind for kind in group if kind is not type(operator)])()


def _with(node: Any, **changed: Any) -> ast.AST:
    fields = {name: getattr(node, name) for name in node._fields}
    copied: ast.AST = type(node)(**{**fields, **changed})
    return copied


def _of(tree: ast.AST, kind: type[ast.AST]) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree) if isinstance(node, kind))


def _replaced(source: str, node: Any, new: ast.AST) -> str:
    """The source with the node's text exchanged, in brackets where it needs them; as it was where it cannot stand."""
    lines = source.encode().split(b"\n")
    first, last = node.lineno - 1, node.end_lineno - 1
    before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]

    def put(text: str) -> str:
        return b"\n".join([*lines[:first], before + text.encode() + after, *lines[last + 1 :]]).decode()

    plain = put(ast.unparse(new))
    bracketed = put(f"({ast.unparse(new)})") if isinstance(new, ast.expr) else plain
    meant = _dump(bracketed)
    if meant and meant == _dump(plain):
        return plain
    return bracketed if meant else source


def _dump(source: str) -> str:
    """The syntax tree as text; nothing where the source is no Python."""
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return ""
