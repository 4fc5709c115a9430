"""A function with all that it needs, as one program for the sandbox."""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import ParamError
from engine.graph.code import bare, definition_of, is_generator, source_of
from engine.graph.containers import plain
from engine.graph.scope import Definition, Found, check_imports, find, look_up, outer_names, undecorated, unsendable

if TYPE_CHECKING:
    from engine.params import Param

ENTRY = "__engine_run__"
_HEAD = "from __future__ import annotations"  # so that annotations, which may name anything, are not evaluated
_FRAME = re.compile(r'^File "<program>", line (\d+), in (.*)$', re.MULTILINE)
_DRIVER = """
def __engine_wait__(waiting):
    try:
        while waiting.send(None) is None:
            pass
    except StopIteration as ended:
        return ended.value
    raise RuntimeError("it awaits something that needs an event loop, and the sandbox has none")

def __engine_all__(items):
    async def collect():
        return [item async for item in items]
    return __engine_wait__(collect())

def __engine_run__(values, defaults, args, kwargs):
    space = globals()
    space.update(values)
    for name, (by_place, by_name) in defaults.items():
        function = getattr(space[name], "__wrapped__", space[name])
        function.__defaults__, function.__kwdefaults__ = by_place, by_name
    return FINISH(ENTRY(*args, **kwargs))
"""


@dataclass(frozen=True)
class Part:
    """A function's source in the program; `first`: the program's line on which it begins, from 1."""

    name: str
    text: str
    first: int


@dataclass(frozen=True)
class Bundle:
    """A program that defines a function and the names that it uses, but for their values, which go with each call.

    `entry`: what is to be called, with `arguments`; `names`: name of a value -> the function in whose scope it is
    looked up at each call; `functions`: name -> function whose defaults are sent; `versions`: trainable functions
    that are in the program, and their texts in it.
    """

    program: str
    entry: str
    parts: tuple[Part, ...]
    names: Mapping[str, Callable[..., Any]]
    functions: Mapping[str, Callable[..., Any]]
    versions: tuple[tuple[Param, str], ...]

    def is_current(self) -> bool:
        """Whether the trainable functions in the program still have these texts."""
        return all(param.current() == text for param, text in self.versions)

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the program's entry function is given: the present values and defaults, and the call's arguments.

        Raises TypeError for a value that has become one that cannot be sent.
        """
        if self.entry != ENTRY:
            return args, kwargs
        values: dict[str, Any] = {name: plain(look_up(name, function)) for name, function in self.names.items()}
        defaults = {name: plain((f.__defaults__, f.__kwdefaults__)) for name, f in self.functions.items()}
        for name, value in [*values.items(), *defaults.items()]:
            if fault := unsendable(value):
                raise TypeError(f"`{name}` goes to the sandbox with the code, and now holds {fault}")
        return (values, defaults, args, kwargs), {}

    def frames(self, traceback: str) -> str:
        """The lines that a traceback of the program goes through: '  in parse, line 2: return 1 / 0'."""
        lines = []
        for match in _FRAME.finditer(traceback):
            number, name = int(match[1]), match[2]
            for part in self.parts:
                texts = part.text.splitlines()
                local = number - part.first
                if 0 <= local < len(texts):
                    where = name if name == part.name else f"{name} of {part.name}"
                    lines.append(f"  in {where}, line {local + 1}: {texts[local].strip()[:200]}")
        return "\n".join(lines)

    def localized(self, message: str) -> str:
        """A compiler's message with the line counted in the function's source."""

        def counted(match: re.Match[str]) -> str:
            found = [p for p in self.parts if 0 <= int(match[1]) - p.first < len(p.text.splitlines())]
            return f"line {int(match[1]) - found[0].first + 1} of {found[0].name}" if found else match[0]

        return re.sub(r"\bline (\d+)", counted, message)


def bundle(text: str, itself: types.FunctionType) -> Bundle:
    """The program of a version of the function `itself`. Raises ParamError for what the sandbox cannot have."""
    try:
        return _Builder(itself).built(text)
    except RecursionError:
        raise ParamError("the code is nested too deeply to be read") from None


class _Builder:
    """Collects what a function names, and what the functions that it names, name."""

    def __init__(self, itself: types.FunctionType) -> None:
        self.itself = itself
        self.meant: dict[str, Any] = {itself.__name__: itself}
        self.statements: list[str] = []
        self.after: list[str] = []
        self.sources: dict[str, tuple[str, Definition]] = {}
        self.names: dict[str, Callable[..., Any]] = {}
        self.functions: dict[str, Callable[..., Any]] = {}
        self.versions: list[tuple[Param, str]] = []

    def built(self, text: str) -> Bundle:
        definition = definition_of(text)
        self.add(definition.name, text, definition, self.itself)
        lines, parts = [_HEAD, *self.statements], []
        for name, (source, inner) in self.sources.items():
            parts.append(Part(name, source, len(lines) + 1))
            lines += neutral(source, inner).split("\n")
        entry, finish = definition.name, _finish(definition)
        lines += self.after
        if finish or self.names or self.functions:
            lines.append(_DRIVER.replace("FINISH", finish).replace("ENTRY", entry))
            entry = ENTRY
        return Bundle("\n".join(lines), entry, tuple(parts), self.names, self.functions, tuple(self.versions))

    def add(self, name: str, text: str, definition: Definition, function: types.FunctionType) -> None:
        """Take up a function's source, and what it names."""
        self.sources[name] = (text, definition)
        check_imports(definition, name)
        for outer in outer_names(definition):
            found = find(outer, function, self.itself, name)
            if found is None:
                continue
            if found.kind == "self":
                self.functions[self.itself.__name__] = self.itself
            if self.is_new(outer, found.item):
                self.take(outer, found, function)

    def is_new(self, name: str, item: Any) -> bool:
        """Whether the name is met for the first time. Raises ParamError where it means two things."""
        if name not in self.meant:
            self.meant[name] = item
            return True
        if self.meant[name] is not item:
            raise ParamError(f"`{name}` means two things in the functions that would go to the sandbox together")
        return False

    def take(self, name: str, found: Found, function: types.FunctionType) -> None:
        if found.kind == "value":
            self.names[name] = function
        elif found.kind == "statement":
            self.statements.append(found.statement)
        elif found.kind == "self":  # under another name
            self.after.append(f"{name} = {self.itself.__name__}")
        else:
            self.take_function(name, found.item)

    def take_function(self, name: str, item: Any) -> None:
        """A function of the same module: a trainable one by its present version, others by their undecorated source."""
        inner = undecorated(item)
        assert inner is not None  # `find` saw to it
        code: Param | None = getattr(item, "code", None) if hasattr(item, "op") else None
        if code is not None:
            text = str(code.current())
            self.versions.append((code, text))
            definition = definition_of(text)
        else:
            source = source_of(inner)
            if source is None:
                raise ParamError(f"`{name}` cannot go to the sandbox: its source is not found (a lambda?)")
            text, definition = source.text, definition_of(source.text)
        if definition.name != name:
            self.is_new(definition.name, item)
            self.after.append(f"{name} = {definition.name}")
        self.functions[definition.name] = inner
        self.add(definition.name, text, definition, inner)
        if hasattr(item, "cache_parameters"):
            self.after.append(f"{name} = __import__('functools').lru_cache(**{item.cache_parameters()})({name})")


def neutral(text: str, definition: Definition) -> str:
    """The source without decorators, annotations and default values, every line of the body where it was."""
    header = f"{_keyword(definition)} {definition.name}({_parameters(definition.args)}):"
    lines = text.split("\n")
    first = definition.body[0]
    decorators = getattr(first, "decorator_list", [])
    line, column = min([(first.lineno, first.col_offset), *((d.lineno, 0) for d in decorators)])
    before = lines[line - 1].encode()[:column]
    if before.strip():  # on the line of the header
        rest = [header + " " + lines[line - 1].encode()[column:].decode()]
        top = [""] * (line - 1)
    else:
        rest = lines[line - 1 : line]
        top = [""] * (definition.lineno - 1) + [header] + [""] * (line - 1 - definition.lineno)
    kept = "\n".join([*top, *rest, *lines[line:]])
    return kept if _is_same(kept, definition) else f"{header}\n{_indented(definition)}"


def _parameters(given: ast.arguments) -> str:
    stripped = bare(given)
    stripped.defaults = [ast.Constant(None) for _ in given.defaults]
    stripped.kw_defaults = [value and ast.Constant(None) for value in given.kw_defaults]
    return ast.unparse(stripped)


def _is_same(text: str, definition: Definition) -> bool:
    """Whether the text still has the definition's body: a line that goes on behind a backslash is a special case."""
    try:
        body = definition_of(text).body
    except ParamError:
        return False
    return [ast.dump(part) for part in body] == [ast.dump(part) for part in definition.body]


def _indented(definition: Definition) -> str:
    return "\n".join("    " + line for part in definition.body for line in ast.unparse(part).split("\n"))


def _keyword(definition: Definition) -> str:
    return "async def" if isinstance(definition, ast.AsyncFunctionDef) else "def"


def _finish(definition: Definition) -> str:
    """What makes a plain value of what the call gives."""
    is_async = isinstance(definition, ast.AsyncFunctionDef)
    if is_generator(definition):
        return "__engine_all__" if is_async else "list"
    return "__engine_wait__" if is_async else ""
