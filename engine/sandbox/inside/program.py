"""Runs one program in a confined child and gives its answer as one frame."""

from __future__ import annotations

import builtins
import linecache
import sys
import types
from typing import Any

from engine.sandbox.inside.codec import TooLarge, Unencodable, decode, encode
from engine.sandbox.inside.protocol import ERROR, VALUE, frame

__all__ = ["FILE", "OUT_OF_MEMORY", "answer"]

FILE = "<program>"
_TEXT, _FRAMES = 2000, 12  # characters of a message, frames of a traceback
_ABSENT = object()
_RECURSION = 1000


class _Failure(Exception):
    """What goes into an ERROR frame: kind, text, type, traceback."""


def _error(kind: str, text: str, type_name: str = "", traceback: str = "") -> bytes:
    parts = [part.encode("utf-8", "replace").decode("utf-8") for part in (kind, text, type_name, traceback)]
    return frame(ERROR, encode(tuple(parts), 2**20))


OUT_OF_MEMORY = _error("memory", "MemoryError: the program needs more memory than it is allowed", "MemoryError")


def answer(job: bytes, limit: int) -> bytes:
    """The frame with the program's value, of at most `limit` bytes, or with why there is none; raises nothing."""
    try:
        source, function, args, kwargs = decode(job)
        value = _value(source, function, args, kwargs)
        try:
            return frame(VALUE, encode(value, limit))
        except (Unencodable, TooLarge, RecursionError) as error:
            kind = "output" if isinstance(error, TooLarge) else "value"
            what = "RESULT" if function is None else f"the result of {function}"
            return _error(kind, f"{what} cannot be sent: {error}")
    except _Failure as error:
        return _error(*error.args)
    except MemoryError:
        return OUT_OF_MEMORY


def _value(source: str, function: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the program binds to RESULT, or what its function returns; raises `_Failure` or MemoryError."""
    code = _compiled(source)
    # A module of that name has to be there: dataclasses, typing and pickle look classes up in it.
    module = types.ModuleType("__main__" if function is None else "program")
    sys.modules[module.__name__] = module
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    try:
        exec(code, module.__dict__)
        if function is None:
            value = module.__dict__.get("RESULT", _ABSENT)
        else:
            called = module.__dict__.get(function, _ABSENT)
            value = called if called is _ABSENT or not callable(called) else called(*args, **kwargs)
    except MemoryError:
        module.__dict__.clear()
        raise
    except BaseException as error:
        raise _Failure(*_described(error, source)) from None
    finally:
        sys.setrecursionlimit(_RECURSION)
    if function is None and value is _ABSENT:
        raise _Failure("value", "the program binds no global RESULT")
    if function is not None and (called is _ABSENT or not callable(called)):
        raise _Failure("value", f"the program defines no function '{function}'")
    return value


def _compiled(source: str) -> types.CodeType:
    try:
        return compile(source, FILE, "exec", dont_inherit=True)
    except MemoryError:
        raise
    except SyntaxError as error:
        place = f" (line {error.lineno})" if error.lineno else ""
        raise _Failure("syntax", f"{type(error).__name__}: {error.msg}{place}"[:_TEXT], "SyntaxError") from None
    except Exception as error:  # null bytes, nesting, numbers of too many digits
        raise _Failure("syntax", f"{type(error).__name__}: {error}"[:_TEXT], type(error).__name__) from None


def _described(error: BaseException, source: str) -> tuple[str, str, str, str]:
    """Kind, text, nearest built-in type and the program's own frames, of an exception that may lie about itself."""
    nearest = next((base for base in type(error).__mro__ if vars(builtins).get(base.__name__) is base), Exception)
    try:
        text = str(error)
    except BaseException as failed:
        text = f"<its text cannot be had: {type(failed).__name__}>"
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return "exception", _short(text), nearest.__name__, _traceback(error, source)


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}... ({len(text)} characters)"


def _traceback(error: BaseException, source: str) -> str:
    """The frames within the program, oldest first, with their lines; the last dozen."""
    lines, places = source.splitlines(), []
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if code.co_filename == FILE:
            places.append((at.tb_lineno, code.co_name))
        at = at.tb_next
    shown = [f"... {len(places) - _FRAMES} more"] if len(places) > _FRAMES else []
    for number, name in places[-_FRAMES:]:
        text = lines[number - 1].strip()[:200] if 0 < number <= len(lines) else ""
        shown.append(f'File "{FILE}", line {number}, in {name}\n    {text}'.rstrip())
    return "\n".join(shown)
