"""Source code of functions: found, checked, compiled - by the syntax tree, never by patterns."""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import itertools
import linecache
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine.errors import ParamError
from engine.graph.guard import parsed, unfenced

Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class FoundSource:
    """A function's text from `def` on, dedented, and where its `def` stands."""

    text: str
    file: str
    line: int


def source_of(function: Callable[..., Any]) -> FoundSource | None:
    """The source of a function written with `def`; None where there is no text to be found."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if not isinstance(code, types.CodeType):
        return None
    linecache.checkcache(code.co_filename)
    lines = tuple(linecache.getlines(code.co_filename, getattr(function, "__globals__", None)))
    for definition in _definitions("".join(lines)):
        first = definition.decorator_list[0].lineno if definition.decorator_list else definition.lineno
        if definition.name == code.co_name and first == code.co_firstlineno:
            text = _dedented(lines[definition.lineno - 1 : definition.end_lineno], definition.col_offset)
            return FoundSource(text, code.co_filename, definition.lineno)
    return None


def assigned_name(frame: types.FrameType) -> str | None:
    """What the call that runs in this frame is assigned to: 'x' for `x = ...` and for `self.x = ...`."""
    line, _, column, _ = next(itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    for target, value in _bindings("".join(lines)):
        if (value.lineno, value.col_offset) == (line, column):
            return getattr(target, "id", getattr(target, "attr", None))
    return None


def check_source(text: object, original: Def | None = None) -> str:
    """The text, if it is one function with the name and signature of the original; nothing is compiled or run.

    A Markdown fence around it is taken off. Raises ParamError with what is wrong: not Python, not one
    function, another name, other parameters (annotations may differ; decorators are not looked at).
    """
    if not isinstance(text, str):
        raise ParamError(f"code is {type(text).__name__}, not text", allowed="the source of one function")
    text = unfenced(text.replace("\r\n", "\n").replace("\r", "\n"))
    new = definition_of(text)
    old = original or new
    try:
        before_after = {what: (before, _traits(new)[what]) for what, before in _traits(old).items()}
    except RecursionError:
        raise ParamError("the code's signature is nested too deeply to be read") from None
    for what, (before, after) in before_after.items():
        if before != after:
            raise ParamError(
                f"the function's {what} changed from '{before}' to '{after}'",
                allowed=f"a function that keeps its signature: {signature_text(old)}",
                next_step="change the body only",
            )
    return _flush(text).strip("\n") + "\n"


def signature_text(definition: Def) -> str:
    """'def parse(text: str) -> int', as written."""
    returns = f" -> {ast.unparse(definition.returns)}" if definition.returns else ""
    return f"{_keyword(definition)} {definition.name}({ast.unparse(definition.args)}){returns}"


class Compiler:
    """Functions for the versions of one piece of source that the user wrote; each compiled once, the last few kept.

    The first version is the reference function itself. Others get its globals, defaults and
    closure, so they see what it saw. `definition` is the first version's syntax.
    """

    KEPT = 32

    def __init__(self, text: str, reference: types.FunctionType | None) -> None:
        self.text, self.reference = text, reference
        self.definition = _only_definition(ast.parse(_flush(text)))
        self._checked: OrderedDict[str, str] = OrderedDict()
        self._compiled: OrderedDict[str, Callable[..., Any]] = OrderedDict()
        self._count = 0

    def check(self, text: object) -> str:
        """The text as a version of this source, whoever wrote it. Raises ParamError; compiles and runs nothing."""
        if not isinstance(text, str) or text == self.text:
            return text if isinstance(text, str) else check_source(text)
        found = self._checked.get(text)
        if found is None:
            found = self._checked[text] = check_source(text, self.definition)
            _keep(self._checked, self.KEPT)
        return found

    def compile(self, text: str) -> None:
        """Compile a version that the user wrote. Raises ParamError for what only the compiler sees."""
        try:
            self.function(text)
        except (SyntaxError, ValueError) as error:
            raise ParamError(f"the code does not compile: {error}", allowed="the source of one function") from None

    def function(self, text: str) -> Callable[..., Any]:
        """The function of a version that the user wrote; runs nothing of the text."""
        if text == self.text and self.reference is not None:
            return self.reference
        found = self._compiled.get(text)
        if found is None:
            found = self._compiled[text] = self._build(text)
            for dropped in _keep(self._compiled, self.KEPT):
                linecache.cache.pop(dropped.__code__.co_filename, None)
        return found

    def _build(self, text: str) -> Callable[..., Any]:
        """The code object taken out of a compiled module: the `def` statement itself is never executed."""
        definition, reference = _only_definition(ast.parse(_flush(text))), self.reference
        self._count += 1
        file = f"<{definition.name}, version {self._count} of {id(self):x}>"
        # Traceback lines come from linecache; an entry without a time is never dropped by checkcache.
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        free = reference.__code__.co_freevars if reference else ()
        definition.decorator_list = []
        module = ast.Module([_enclosing(definition, free)], [])
        flags = reference.__code__.co_flags & __future__.annotations.compiler_flag if reference else 0
        compiled = compile(ast.fix_missing_locations(module), file, "exec", flags, dont_inherit=True)
        code = _nested(_nested(compiled, "enclosing"), definition.name)
        if reference is None:
            return _with_literal_defaults(types.FunctionType(code, {"__builtins__": __builtins__}), definition.args)
        cells = dict(zip(free, reference.__closure__ or (), strict=True))
        closure = tuple(cells[name] for name in code.co_freevars)
        function = types.FunctionType(code, reference.__globals__, code.co_name, reference.__defaults__, closure)
        function.__kwdefaults__ = reference.__kwdefaults__
        function.__annotations__, function.__qualname__ = reference.__annotations__, reference.__qualname__
        function.__module__, function.__doc__ = reference.__module__, ast.get_docstring(definition)
        return function


def _with_literal_defaults(function: types.FunctionType, given: ast.arguments) -> types.FunctionType:
    """A function of no module takes its defaults from the text. Raises ValueError where they are no literals."""
    function.__globals__[function.__name__] = function
    function.__defaults__ = tuple(map(ast.literal_eval, given.defaults))
    named = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    function.__kwdefaults__ = {arg.arg: ast.literal_eval(value) for arg, value in named if value is not None}
    return function


def definition_of(text: str) -> Def:
    """The one function that a text of a model defines, read behind the limits of `guard`. Raises ParamError."""
    return _only_definition(parsed(_flush(text)))


def is_generator(definition: Def) -> bool:
    """Whether the function has a `yield` of its own."""
    return any(isinstance(part, ast.Yield | ast.YieldFrom) for part in _own_parts(definition))


def _only_definition(tree: ast.Module) -> Def:
    body = tree.body
    if len(body) != 1 or not isinstance(body[0], Def):
        held = ", ".join(type(statement).__name__ for statement in body) or "nothing"
        raise ParamError(
            f"the code is not one function: it holds {held}",
            allowed="one `def`, with its imports and helper functions inside it",
        )
    return body[0]


def _traits(definition: Def) -> dict[str, str]:
    """What a new version must not change; annotations may."""
    return {
        "name": definition.name,
        "kind": _keyword(definition) + (" with yield" if is_generator(definition) else ""),
        "parameters": ast.unparse(bare(definition.args)),
    }


def bare(given: ast.arguments) -> ast.arguments:
    """The parameters and defaults without annotations."""
    return ast.arguments(
        posonlyargs=[ast.arg(a.arg) for a in given.posonlyargs],
        args=[ast.arg(a.arg) for a in given.args],
        vararg=ast.arg(given.vararg.arg) if given.vararg else None,
        kwonlyargs=[ast.arg(a.arg) for a in given.kwonlyargs],
        kw_defaults=given.kw_defaults,
        kwarg=ast.arg(given.kwarg.arg) if given.kwarg else None,
        defaults=given.defaults,
    )


def _own_parts(definition: Def) -> Iterator[ast.AST]:
    """The syntax nodes of the body, without those of functions and classes inside it."""
    waiting: list[ast.AST] = list(definition.body)
    while waiting:
        part = waiting.pop()
        yield part
        if not isinstance(part, Def | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(part))


def _keyword(definition: Def) -> str:
    return "async def" if isinstance(definition, ast.AsyncFunctionDef) else "def"


def _enclosing(definition: Def, names: tuple[str, ...]) -> ast.FunctionDef:
    """A function around the definition that makes `names` free variables of it."""
    around: Any = ast.parse(f"def enclosing({', '.join(names)}): pass").body[0]
    own = [] if definition.name in names else [ast.Global([definition.name])]  # so that it can call itself
    around.body = [*own, definition]
    return around  # type: ignore[no-any-return]


def _nested(code: types.CodeType, name: str) -> types.CodeType:
    return next(const for const in code.co_consts if isinstance(const, types.CodeType) and const.co_name == name)


def _keep(cache: OrderedDict[str, Any], most: int) -> list[Any]:
    """Drop the oldest entries beyond `most`; what was dropped."""
    dropped = []
    while len(cache) > most:
        with suppress(KeyError):  # another thread was faster
            dropped.append(cache.popitem(last=False)[1])
    return dropped


def _flush(text: str) -> str:
    """The text dedented by what its first line is indented."""
    return _dedented(tuple(text.splitlines(keepends=True)), None)


def _dedented(lines: tuple[str, ...], columns: int | None) -> str:
    """Lines with up to `columns` leading blanks taken off (None: as many as the first line has)."""
    if columns is None:
        first = next((line for line in lines if line.strip()), "")
        columns = len(first) - len(first.lstrip())
    return "".join(line[min(columns, len(line) - len(line.lstrip(" \t"))) :] for line in lines)


@functools.lru_cache(maxsize=32)
def _tree(text: str) -> tuple[ast.AST, ...]:
    try:
        return tuple(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        return ()


def _definitions(text: str) -> list[Def]:
    return [part for part in _tree(text) if isinstance(part, Def)]


@functools.lru_cache(maxsize=32)
def _bindings(text: str) -> tuple[tuple[ast.expr, ast.expr], ...]:
    """(target, value) of every plain assignment; of `a, b = f(), g()` each of the two."""
    found: list[tuple[ast.expr, ast.expr]] = []
    for part in _tree(text):
        if isinstance(part, ast.AnnAssign) and part.value is not None:
            found.append((part.target, part.value))
        elif isinstance(part, ast.Assign) and len(part.targets) == 1:
            target, value = part.targets[0], part.value
            is_pair = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            found += zip(target.elts, value.elts, strict=False) if is_pair else [(target, value)]  # type: ignore[attr-defined]
    return tuple(found)
