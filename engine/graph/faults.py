"""What went wrong in the sandbox, as the exception that it would have been in this process."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.graph.bundle import Bundle
    from engine.sandbox import Fault


class _Told(str):
    """A text that is shown without quotes also where an exception shows its argument's repr, as KeyError does."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def raised(fault: Fault, name: str, bundle: Bundle, *, timeout_s: float, memory_mb: int) -> Exception:
    """The exception of a version of the function `name`, with the lines of its source that led to it as a note.

    An exception keeps its type where that is built in, else it has the nearest built-in one; where it took too long it
    is TimeoutError, where it took too much memory MemoryError, where it is no Python SyntaxError, where its result
    cannot be sent TypeError, and otherwise RuntimeError.
    """
    error = _error(fault, name, bundle, timeout_s, memory_mb)
    if frames := bundle.frames(fault.traceback):
        error.add_note(frames)
    return error


def _error(fault: Fault, name: str, bundle: Bundle, timeout_s: float, memory_mb: int) -> Exception:
    if fault.kind == "exception":
        return _exception(fault)
    if fault.kind == "timeout":
        return TimeoutError(f"{name} did not end within {timeout_s:g} s")
    if fault.kind == "memory":
        return MemoryError(f"{name} needed more than {memory_mb} MB")
    if fault.kind == "syntax":
        return SyntaxError(bundle.localized(fault.text).removeprefix("SyntaxError: "))
    if fault.kind == "value":
        return TypeError(fault.text.replace(bundle.entry, name))
    return RuntimeError(f"{name} was ended in the sandbox ({fault.kind}): {fault.text}")


def _exception(fault: Fault) -> Exception:
    kind = getattr(builtins, fault.type, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):  # SystemExit, KeyboardInterrupt
        return RuntimeError(fault.text)
    named, _, message = fault.text.partition(": ")
    if named != kind.__name__:  # a class of the code's own: its name is worth telling
        message = fault.text
    for base in kind.__mro__:
        try:
            return base(_Told(message)) if message else base()  # type: ignore[no-any-return]
        except TypeError:  # UnicodeDecodeError and others take more than a message
            continue
    return RuntimeError(fault.text)
