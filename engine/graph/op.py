"""What made a node: its name, what it does, and how a call of it is written."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from engine.graph.code import source_of

OpKind = Literal["input", "param", "operator", "index", "item", "attribute", "method", "call", "function"]


class Op:
    """One operation. Nothing but the name is worked out before it is asked for.

    name: the stem of its nodes' names; kind: how a call is written; function: what runs.
    """

    def __init__(
        self,
        name: str,
        kind: OpKind,
        function: Callable[..., Any],
        description: str | None = None,
        parameters: str = "value",
    ) -> None:
        self.name, self.kind, self.function = name, kind, function
        self._description, self._parameters = description, parameters

    def __repr__(self) -> str:
        return f"Op({self.name!r}, {self.kind})"

    @functools.cached_property
    def description(self) -> str:
        """What it does: as given to the decorator, else the docstring, else nothing."""
        if self._description is not None:
            return self._description
        return inspect.getdoc(self.function) or "" if self.kind == "function" else ""

    @functools.cached_property
    def source(self) -> str | None:
        """Its source text, without decorators; None where there is none (built in, typed, generated)."""
        found = source_of(self.function) if self.kind == "function" else None
        return found.text if found else None

    @functools.cached_property
    def signature(self) -> str:
        """'ask(instruction: str, question: str) -> str', or 'add(left, right)' for an operator."""
        if self.kind == "operator":
            return f"{self.name}({self._parameters})"
        try:
            return self.name + str(inspect.signature(self.function))
        except (TypeError, ValueError):  # some functions written in C tell nothing
            return f"{self.name}(...)"

    @functools.cached_property
    def is_method(self) -> bool:
        """True for a function whose first argument is the object or class it belongs to."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return code is not None and code.co_argcount > 0 and code.co_varnames[0] in ("self", "cls")

    def expression(self, args: Sequence[str], kwargs: Mapping[str, str]) -> str:
        """How a call is written, from the texts of its arguments: 'ask(instruction, question)'."""
        parts = [*args, *(f"{key}={text}" for key, text in kwargs.items())]
        head, rest = (parts[0], ", ".join(parts[1:])) if parts else ("", "")
        match self.kind:
            case "index":
                return f"{head}[{rest}]"
            case "item":
                return f"list({head})[{rest}]"
            case "attribute":
                return f"{head}.{self.name}"
            case "method":
                return f"{head}.{self.name}({rest})"
            case "call":
                return f"{head}({rest})"
        return f"{self.name}({', '.join(parts)})"


def readable(value: Any) -> str:
    """A value as text for people and models: strings as they are, the rest as `literal`."""
    return value if isinstance(value, str) else literal(value)


def literal(value: Any) -> str:
    """A value as it stands in a line of code; memory addresses left out, so that runs compare equal."""
    if isinstance(value, slice):
        parts = ["" if part is None else literal(part) for part in (value.start, value.stop)]
        return ":".join(parts) + (f":{literal(value.step)}" if value.step is not None else "")
    if inspect.isroutine(value) or inspect.isclass(value):
        return str(getattr(value, "__qualname__", value))
    try:
        text = repr(value)
    except Exception as error:  # a user's __repr__ may fail; printing a graph may not
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
