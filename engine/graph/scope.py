"""What a function names from outside, and what of that can go with its source into the sandbox."""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import inspect
import re
import symtable
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import ParamError
from engine.graph.containers import SCALARS, Operand, plain
from engine.graph.op import Op

_MODULES = """
abc array ast base64 binascii bisect calendar cmath collections collections.abc colorsys contextlib copy csv dataclasses
datetime decimal difflib enum fractions functools graphlib hashlib heapq html io itertools json keyword math numbers
operator pprint random re reprlib shlex statistics string struct textwrap time types typing unicodedata zlib
"""
ALLOWED_MODULES = frozenset(_MODULES.split())
"""Modules that sandboxed code may import: of the standard library, and of use for computing with values.

The list is there to tell a proposer early and plainly; what holds code back is the sandbox, not this list.
"""

CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
MAX_DEPTH = 90
Kind = Literal["value", "statement", "function", "self"]
Definition = ast.FunctionDef | ast.AsyncFunctionDef
_ABSENT = object()
_CACHED = type(functools.cache(len))


@dataclass(frozen=True)
class Found:
    """What a name stands for: a plain value, what a statement makes, a function, or the very code that is run."""

    kind: Kind
    item: Any = None
    statement: str = ""


def outer_names(definition: Definition) -> list[str]:
    """The names that the function takes from outside itself, annotations aside, sorted; nothing is compiled.

    Raises ParamError for scopes that make no sense (a stray `nonlocal`).
    """
    try:
        bare = ast.fix_missing_locations(_Bare().visit(_without_header(definition)))
        table = symtable.symtable(ast.unparse(bare), "<code>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ParamError(f"the code does not compile: {error}", allowed="the source of one function") from None
    bound: set[str] = {name for inner in table.get_children() for name in _rebound(inner)}
    used = {name for inner in table.get_children() for name in _globals_of(inner)}
    return sorted(used - bound)


def check_imports(definition: ast.AST, owner: str) -> None:
    """Raise ParamError for an import statement in the code of a module that is not allowed."""
    for part in ast.walk(definition):
        names = [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
        if isinstance(part, ast.ImportFrom):
            names = ["." * part.level + (part.module or "")]
        for name in names:
            if name not in ALLOWED_MODULES:
                raise ParamError(f"{owner} imports `{name}`, which the sandbox has not", allowed=_modules())


def look_up(name: str, function: Callable[..., Any]) -> Any:
    """What a name means inside the function now: of its closure, else of its module. Raises LookupError."""
    code, cells = function.__code__, function.__closure__ or ()
    if name in code.co_freevars:
        try:
            return cells[code.co_freevars.index(name)].cell_contents
        except ValueError:
            raise LookupError(name) from None
    return function.__globals__[name]


def find(name: str, function: types.FunctionType, itself: Callable[..., Any], owner: str) -> Found | None:
    """What `name` in the code of `function` can be in the sandbox; None for a built-in.

    itself: the function whose versions are run; owner: what to call the code in an error. Raises ParamError for what
    cannot go there.
    """
    try:
        item = look_up(name, function)
    except LookupError:
        if hasattr(builtins, name):
            return None
        raise ParamError(
            f"{owner} uses `{name}`, which is not defined", next_step="define it inside, or pass it as an argument"
        ) from None
    if isinstance(item, types.FunctionType) and inspect.unwrap(item) is itself:
        return Found("self", itself)
    found = _found(name, item, function)
    if found is None:
        is_module = isinstance(item, types.ModuleType)
        what = f"the module `{item.__name__}`" if is_module else f"`{name}` ({_described(item)})"
        then = "" if is_module else ": pass what it needs as an argument"
        raise ParamError(
            f"{owner} uses {what}, which the sandbox has not{then}",
            allowed=f"values of built-in types, functions of the same module, and of the modules {_modules()}",
        )
    return found


def unsendable(value: Any, depth: int = 0) -> str:
    """What in a value cannot be sent to the sandbox ('a numpy.ndarray'), or nothing."""
    kind = type(value)
    if kind is str:
        return "" if value.isascii() or _is_unicode(value) else "a str with a lone surrogate"
    if kind in SCALARS:
        return ""
    if kind not in CONTAINERS:
        return _described(value)
    if depth > MAX_DEPTH:
        return f"a container nested more than {MAX_DEPTH} deep"
    items = [*value.keys(), *value.values()] if kind is dict else value
    return next((fault for item in items if (fault := unsendable(item, depth + 1))), "")


def undecorated(item: Any) -> types.FunctionType | None:
    """The function that a plain function, a traced one or a cached one runs; None for anything else."""
    is_known = type(item) is _CACHED or isinstance(getattr(item, "op", None), Op)
    inner = item.__wrapped__ if is_known and hasattr(item, "__wrapped__") else item
    is_plain = isinstance(inner, types.FunctionType) and not hasattr(inner, "__wrapped__")
    return inner if is_plain else None


def _found(name: str, item: Any, function: types.FunctionType) -> Found | None:
    if isinstance(item, Operand) or type(item) in SCALARS | CONTAINERS:
        value = item._peek() if isinstance(item, Operand) else item
        return None if unsendable(plain(value)) else Found("value", item)
    if type(item) is re.Pattern:
        return Found("statement", item, f"{name} = __import__('re').compile({item.pattern!r}, {item.flags})")
    if isinstance(item, types.ModuleType):
        is_allowed = item.__name__ in ALLOWED_MODULES
        return Found("statement", item, _import(item.__name__, name)) if is_allowed else None
    inner = undecorated(item)
    if inner is not None and inner.__globals__ is function.__globals__:
        return Found("function", item)
    origin = _origin(name, item)
    return Found("statement", item, f"from {origin[0]} import {origin[1]} as {name}") if origin else None


def _import(module: str, name: str) -> str:
    return f"import {module}" if module == name else f"import {module} as {name}"


def _origin(name: str, item: Any) -> tuple[str, str] | None:
    """The allowed module that holds the very object, and its name there."""
    for attribute in (getattr(item, "__name__", name), name):
        for module in ("builtins", *sorted(ALLOWED_MODULES & sys.modules.keys())):
            if isinstance(attribute, str) and vars(sys.modules[module]).get(attribute, _ABSENT) is item:
                return module, attribute
    return None


def _described(item: Any) -> str:
    """'a module', 'a class', 'an openai.Client'."""
    if isinstance(item, types.ModuleType):
        return f"the module {item.__name__}"
    if isinstance(item, type):
        return f"the class {item.__qualname__}"
    if inspect.isroutine(item):
        return f"a function of {getattr(item, '__module__', None) or 'elsewhere'}"
    kind = type(item)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


@functools.cache
def _modules() -> str:
    return ", ".join(sorted(ALLOWED_MODULES))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_header(definition: Definition) -> Definition:
    """A copy without decorators, and with None for every default: both stay behind."""
    copied = copy.deepcopy(definition)
    copied.decorator_list = []
    copied.args.defaults = [ast.Constant(None) for _ in copied.args.defaults]
    copied.args.kw_defaults = [value and ast.Constant(None) for value in copied.args.kw_defaults]
    return copied


class _Bare(ast.NodeTransformer):
    """Takes annotations off: the sandbox does not evaluate them."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for inner in table.get_children():
        yield from _scopes(inner)


def _globals_of(table: symtable.SymbolTable) -> Iterator[str]:
    for scope in _scopes(table):
        yield from (symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global())


def _rebound(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that the code itself binds in the module (`global x; x = 1`)."""
    for scope in _scopes(table):
        yield from (s.get_name() for s in scope.get_symbols() if s.is_declared_global() and s.is_assigned())
