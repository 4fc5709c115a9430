"""Versions of a function that a model wrote: every call of one runs in the sandbox."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import types
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engine import sandbox
from engine.errors import InputError, ParamError, SandboxUnavailable
from engine.graph.bundle import Bundle, bundle
from engine.graph.code import Compiler
from engine.graph.containers import plain
from engine.graph.faults import raised
from engine.graph.scope import unsendable


@dataclass(frozen=True)
class Limits:
    """What one call of a sandboxed version may take."""

    timeout_s: float = 2.0
    memory_mb: int = 512

    def __post_init__(self) -> None:
        for name, value in (("timeout_s", self.timeout_s), ("memory_mb", self.memory_mb)):
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise InputError(f"{name} is {value!r}", allowed="a number above 0")


class SandboxedVersions:
    """The functions of versions that a model wrote; each is read and put together once, the last few kept."""

    KEPT = 64

    def __init__(self, name: str, compiler: Compiler, limits: Limits) -> None:
        self.name, self.compiler, self.limits = name, compiler, limits
        self._known: OrderedDict[str, Version | ParamError] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, text: str) -> None:
        """Raise ParamError for a version that could not run in the sandbox; nothing of it is run."""
        self._version(text)

    def function(self, text: str) -> Callable[..., Any]:
        """The function of a version, a coroutine or generator function as the user's own is. Raises ParamError."""
        return self._version(text).function

    @property
    def obstacle(self) -> str:
        """Why no version whatever could run in the sandbox, or nothing."""
        first = next(iter(inspect.signature(self._reference).parameters), "")
        if first in ("self", "cls"):
            return f"a version of a model would run in the sandbox, and its argument `{first}` cannot go there"
        try:
            _ = sandbox.shared().tier
        except SandboxUnavailable as error:
            return error.message
        return ""

    def _version(self, text: str) -> Version:
        with self._lock:
            found = self._known.get(text)
        if found is None:
            try:
                found = Version(self.name, text, self._reference, self.limits)
            except ParamError as error:
                found = error
            with self._lock:
                self._known[text] = found
                while len(self._known) > self.KEPT:
                    self._known.popitem(last=False)
        if isinstance(found, ParamError):
            raise ParamError(found.message, allowed=found.allowed, next_step=found.next_step)
        return found

    @functools.cached_property
    def _reference(self) -> Any:
        """The user's own function, without decorators below `trace.node`."""
        return inspect.unwrap(self.compiler.function(self.compiler.text))


class Version:
    """One version: its program, and the function that has the sandbox run it."""

    def __init__(self, name: str, text: str, reference: types.FunctionType, limits: Limits) -> None:
        self.name, self.text, self.limits = name, text, limits
        self._reference, self._signature = reference, inspect.signature(reference)
        self._bundle = bundle(text, reference)

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        call = self._call
        if inspect.isasyncgenfunction(self._reference):

            async def items_async(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                for item in await _aside(call, args, kwargs):
                    yield item

            return items_async
        if inspect.iscoroutinefunction(self._reference):

            async def value_async(*args: Any, **kwargs: Any) -> Any:
                return await _aside(call, args, kwargs)

            return value_async
        if inspect.isgeneratorfunction(self._reference):

            def items(*args: Any, **kwargs: Any) -> Iterator[Any]:
                yield from call(*args, **kwargs)

            return items
        return call

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """What the version gives for these arguments. Raises what it raised, TimeoutError, MemoryError..."""
        current = self._current()
        given, named = current.arguments(*self._bound(args, kwargs))
        outcome = sandbox.shared().call(
            current.program,
            current.entry,
            given,
            named,
            timeout_s=self.limits.timeout_s,
            memory_mb=self.limits.memory_mb,
        )
        if outcome.error is not None:
            limits = self.limits
            raise raised(
                outcome.error, self.name, current, timeout_s=limits.timeout_s, memory_mb=limits.memory_mb
            ) from None
        return outcome.value

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with the user's own defaults. Raises TypeError, also for one that cannot be sent."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            bound.arguments[name] = value = plain(value)
            if fault := unsendable(value):
                raise TypeError(
                    f"{self.name} was written by a model and runs in the sandbox, which takes values of built-in "
                    f"types; its argument `{name}` holds {fault}"
                )
        return bound.args, bound.kwargs

    def _current(self) -> Bundle:
        """The program, put together anew where a trainable function in it has another version now."""
        if not self._bundle.is_current():
            return bundle(self.text, self._reference)
        return self._bundle


async def _aside(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call's result, waited for in a thread where an event loop runs, which goes on meanwhile."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call(*args, **kwargs)
    return await asyncio.to_thread(call, *args, **kwargs)
