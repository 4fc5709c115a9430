"""Typed parameters: the values of a program that may be improved."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from engine.errors import ParamError
from engine.graph.code import Compiler, assigned_name, check_source, signature_text
from engine.graph.operators import Operators
from engine.graph.sandboxed import Limits, SandboxedVersions
from engine.graph.state import STATE
from engine.kinds import Constraint, Kind, Rule, kind_of

Author = Literal["user", "model"]
_OVERLAY: ContextVar[Mapping[Param, tuple[Any, Author]] | None] = ContextVar("engine.params.overlay", default=None)


class Param(Operators):
    """A value that may be improved, with its type and limits.

    Used as an operand it acts as its value (recorded in a recording), and so do its attributes
    other than those named here. `value`: an overlay's (see `using`) before the stored one; `version`
    counts the stored ones, from 0; `author` wrote the present one; `origin`: file and line of the
    call, or of the function, that it came from. Code whose author is "model" runs in the sandbox until the
    user adopts it; a text that the user wrote too is the user's. Compare parameters with `is`: `==`
    compares values.
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
        limits: Limits | None = None,
    ) -> None:
        self.name, self.description, self.origin = name, description, origin
        self._compiler = compiler
        with _at(name):
            kind = kind or ("choice" if choices is not None else kind_of(value))
            container = type(value) if kind == "json" and isinstance(value, dict | list) else None
            self._rule = Rule(kind, ge, le, tuple(choices or ()), constraint, container)
            if kind == "code" and compiler is None:
                self._compiler = Compiler(check_source(value), None)
            if self._compiler is not None:
                value = self._compiler.text
                self._compiler.compile(value)
                self._sandboxed = SandboxedVersions(name, self._compiler, limits or Limits())
            self._own = {value} if kind == "code" else set()
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
        return self._stored_now[1]

    @property
    def author(self) -> Author:
        return self._shown[1]

    @property
    def value(self) -> Any:
        state = STATE.get()
        if state is not None:
            state.read(self)
        return self._peek()

    def current(self) -> Any:
        """The value object itself, not noted as read; not to be changed."""
        return self._shown[0]

    @property
    def _shown(self) -> tuple[Any, Author]:
        """The value and its author: an overlay's before the stored one."""
        overlay = _OVERLAY.get()
        if overlay is not None and self in overlay:
            return overlay[self]
        value, _, author = self._stored_now
        return value, author

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
        """Store a new version. Code of a model is read here and never run outside the sandbox. Raises ParamError."""
        checked, author = self.admit(value, author)
        if self.kind == "code" and author == "user":
            self._own.add(checked)
        self._stored = (checked, self.version + 1, author)

    def adopt(self) -> None:
        """Make the stored value the user's own: code of a model then runs in this process, with all that it may do.

        Read it first. Raises ParamError where it does not compile.
        """
        value, version, _ = self._stored_now
        self.admit(value, "user")
        if self.kind == "code":
            self._own.add(value)
        self._stored = (value, version, "user")

    def admit(self, value: Any, author: Author) -> tuple[Any, Author]:
        """The value as it would be stored, and its author: of code that the user wrote too, the user.

        Raises ParamError, for code of a model also where it needs what the sandbox has not.
        """
        checked = self.check(value)
        if self._compiler is None:
            return checked, author
        with _at(self.name):
            if author == "user" or checked in self._own:
                self._compiler.compile(checked)
                return checked, "user"
            self._sandboxed.check(checked)
        return checked, author

    @property
    def obstacle(self) -> str:
        """Why an optimizer can propose nothing for it that would run, or nothing."""
        if self.kind == "weights":
            return "weights are trained with `engine rl train`, not proposed"
        return self._sandboxed.obstacle if self.kind == "code" else ""

    def schema(self) -> dict[str, Any]:
        """The JSON schema of its values, with the description."""
        return {**self._rule.schema(), **({"description": self.description} if self.description else {})}

    @property
    def source(self) -> str:
        """The present source of a parameter of kind "code"."""
        self._needs_code()
        return str(self.current())

    @property
    def signature(self) -> str:
        """'def parse(text: str) -> int', which every version of a parameter of kind "code" has."""
        return signature_text(self._needs_code().definition)

    @property
    def function(self) -> Callable[..., Any]:
        """The function that the present source defines; a model's is run by the sandbox. Made once a version."""
        compiler = self._needs_code()
        value, author = self._shown
        return compiler.function(value) if author == "user" else self._sandboxed.function(value)

    @property
    def _stored_now(self) -> tuple[Any, int, Author]:
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

    Threads and tasks do not see each other's. author: who wrote the values; code of a model runs in the
    sandbox. Raises ParamError for a value that its parameter refuses.
    """
    checked = {key: key.admit(value, author) for key, value in values.items()}
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
