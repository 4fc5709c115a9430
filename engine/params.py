"""Typed parameters: the values of a program that may be improved."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from engine.errors import ParamError, SandboxUnavailable
from engine.graph.code import Compiler, assigned_name, check_source
from engine.graph.operators import Operators
from engine.graph.state import STATE
from engine.kinds import Constraint, Kind, Rule, kind_of

Author = Literal["user", "model"]
_OVERLAY: ContextVar[Mapping[Param, Any] | None] = ContextVar("engine.params.overlay", default=None)


class Param(Operators):
    """A value that may be improved, with its type and limits.

    Used as an operand it acts as its value (recorded in a recording), and so do its attributes
    other than those named here. `value`: an overlay's (see `using`) before the stored one; `version`
    counts the stored ones, from 0; `author` wrote the present one; `origin`: file and line of the
    call, or of the function, that it came from. Compare parameters with `is`: `==` compares values.
    """

    _stored: tuple[Any, int, Author] | None = None

    def __init__(
        self,
        value: Any,
        *,
        name: str,
        kind: Kind | None = None,
        description: str = "",
        ge: float | None = None,
        le: float | None = None,
        choices: Sequence[Any] | None = None,
        constraint: Constraint | None = None,
        origin: tuple[str, int] | None = None,
        compiler: Compiler | None = None,
    ) -> None:
        self.name, self.description, self.origin = name, description, origin
        self._compiler = compiler
        with _at(name):
            kind = kind or ("choice" if choices is not None else kind_of(value))
            container = type(value) if kind == "json" and isinstance(value, dict | list) else None
            self._rule = Rule(kind, ge, le, tuple(choices or ()), constraint, container)
            if kind == "code" and compiler is None:
                self._compiler = Compiler(check_source(value, value), None)
            self._stored = (self.check(value), 0, "user")

    @property
    def kind(self) -> Kind:
        return self._rule.kind

    @property
    def ge(self) -> float | None:
        return self._rule.ge

    @property
    def le(self) -> float | None:
        return self._rule.le

    @property
    def choices(self) -> tuple[Any, ...]:
        return self._rule.choices

    @property
    def constraint(self) -> Constraint | None:
        return self._rule.constraint

    @property
    def version(self) -> int:
        return self._present[1]

    @property
    def author(self) -> Author:
        return self._present[2]

    @property
    def value(self) -> Any:
        state = STATE.get()
        if state is not None:
            state.read(self)
        return self._peek()

    def current(self) -> Any:
        """The value object itself, not noted as read; not to be changed."""
        overlay = _OVERLAY.get()
        if overlay is not None and self in overlay:
            return overlay[self]
        return self._present[0]

    def _peek(self) -> Any:
        """The value, as a copy where it could be changed in place; not noted as read."""
        value = self.current()
        return copy.deepcopy(value) if self.kind == "json" else value

    def check(self, value: Any) -> Any:
        """The value as it would be stored. Raises ParamError with the reason why it cannot be."""
        with _at(self.name):
            if self._compiler is not None:
                value = self._compiler.check(value)
            return self._rule.check(value)

    def set(self, value: Any, *, author: Author = "user") -> None:
        """Store a new version. Raises ParamError, and SandboxUnavailable for code that a model wrote."""
        self.admit(value, author)
        self._stored = (self.check(value), self.version + 1, author)

    def admit(self, value: Any, author: Author) -> None:
        """Raise SandboxUnavailable if the value is code that must not run in this process."""
        if self.kind == "code" and author == "model" and value != self._present[0]:
            raise SandboxUnavailable(
                "this version of the code was written by a model, and code of a model does not run in this process",
                place=f"parameter '{self.name}'",
                allowed="code that you wrote, or have read and adopted",
                next_step="read it, then adopt it with param.set(code, author='user'); "
                "or leave trainable code out of what is optimized",
            )

    def schema(self) -> dict[str, Any]:
        """The JSON schema of its values, with the description."""
        return {**self._rule.schema(), **({"description": self.description} if self.description else {})}

    @property
    def source(self) -> str:
        """The present source of a parameter of kind "code"."""
        self._needs_code()
        return str(self.current())

    @property
    def function(self) -> Callable[..., Any]:
        """The function that the present source defines; compiled once a version."""
        return self._needs_code().function(self.current())

    @property
    def _present(self) -> tuple[Any, int, Author]:
        if self._stored is None:
            raise AttributeError("the parameter has no value yet")
        return self._stored

    def _needs_code(self) -> Compiler:
        if self._compiler is None:
            raise ParamError(f"'{self.name}' is {self.kind}, not code")
        return self._compiler

    def __repr__(self) -> str:
        return f"Param({self.name!r}, {self.kind}, version {self.version}, {self.current()!r})"

    def __copy__(self) -> Param:
        twin = Param.__new__(Param)
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: Any) -> Param:
        return self.__copy__()  # stored values are never changed in place, so they may be shared


def param(
    value: Any,
    *,
    name: str | None = None,
    kind: Kind | None = None,
    description: str = "",
    ge: float | None = None,
    le: float | None = None,
    choices: Sequence[Any] | None = None,
    constraint: Constraint | None = None,
) -> Any:
    """A `Param`; typed as Any because it is passed where its value is meant.

    name: by default the name that it is assigned to. kind: by default from the value (bool flag,
    int integer, float number, str text, list and dict json; choice when choices are given). ge, le:
    bounds, both allowed. constraint: a function of the value that answers True, False or a reason.
    Raises ParamError for a value that its own limits refuse.
    """
    caller = sys._getframe(1)
    origin = (caller.f_code.co_filename, caller.f_lineno)
    return Param(
        value,
        name=name or assigned_name(caller) or "param",
        kind=kind,
        description=description,
        ge=ge,
        le=le,
        choices=choices,
        constraint=constraint,
        origin=origin,
    )


@contextmanager
def using(values: Mapping[Param, Any], *, author: Author = "model") -> Iterator[None]:
    """Let parameters show other values in this context only; the stored ones stay.

    Threads and tasks do not see each other's. author: who wrote the values; code of a model is
    refused as `Param.set` does. Raises ParamError for a value that its parameter refuses.
    """
    checked = {}
    for key, value in values.items():
        key.admit(value, author)
        checked[key] = key.check(value)
    token = _OVERLAY.set({**(_OVERLAY.get() or {}), **checked})
    try:
        yield
    finally:
        _OVERLAY.reset(token)


@contextmanager
def _at(name: str) -> Iterator[None]:
    """Say in a ParamError which parameter it is about."""
    try:
        yield
    except ParamError as error:
        if error.place is not None:
            raise
        raise ParamError(
            error.message, place=f"parameter '{name}'", allowed=error.allowed, next_step=error.next_step
        ) from error.__cause__
