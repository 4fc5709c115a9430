"""Values that a model wrote, read without running anything, and values written so that they can be read."""

from __future__ import annotations

import ast
import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from engine.errors import ParamError
from engine.sandbox import check_nesting, same

_quiet = threading.Lock()


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """For parsing what a model wrote, whose odd escapes concern nobody. Filters are the process', so one at a time."""
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def literal(text: str) -> Any:
    """The value of a Python literal. Raises ValueError for everything else, and for what is nested too deeply."""
    try:
        check_nesting(text)
        with without_warnings():
            return ast.literal_eval(text.strip())
    except (ParamError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"no literal: {error}") from None


def arguments(text: str) -> tuple[Any, ...]:
    """The values of a call's arguments, "1, 'a'", of which there is at least one. Raises ValueError."""
    values = literal(f"({text.strip()},)")
    if type(values) is not tuple:
        raise ValueError(f"no arguments: {text!r:.80}")
    return values


def written(value: Any) -> str:
    """The value as a literal, the same in every process. Raises ValueError where there is none, as for infinity."""
    text = _written(value)
    if not same(literal(text), value):
        raise ValueError(f"a {type(value).__name__} that no literal gives")
    return text


def _written(value: Any) -> str:
    """As repr, but with sets in order."""
    if type(value) is list:
        return f"[{', '.join(map(_written, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(_written, value))}{',' * (len(value) == 1)})"
    if type(value) is dict:
        return f"{{{', '.join(f'{_written(k)}: {_written(v)}' for k, v in value.items())}}}"
    if type(value) is set and value:
        return f"{{{', '.join(sorted(map(_written, value)))}}}"
    return repr(value)
