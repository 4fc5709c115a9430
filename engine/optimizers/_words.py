"""Parameters and values in the words of a prompt."""

from __future__ import annotations

import inspect
import json
from typing import Any

from engine.params import Param


def show(value: Any) -> str:
    """A value as JSON, so that a text's end and a flag's kind are plain."""
    return json.dumps(value, ensure_ascii=False)


def about(param: Param) -> str:
    """'  # description', or nothing."""
    return f"  # {param.description}" if param.description else ""


def constraint_of(param: Param) -> str:
    """The limits of a parameter in one line, or nothing."""
    parts = []
    if param.choices:
        parts.append("one of " + ", ".join(map(show, param.choices)))
    if param.ge is not None:
        parts.append(f"at least {param.ge:g}")
    if param.le is not None:
        parts.append(f"at most {param.le:g}")
    if param.constraint is not None:
        name = getattr(param.constraint, "__name__", "a constraint")
        told = inspect.getdoc(param.constraint) if inspect.isfunction(param.constraint) else ""
        parts.append(f"accepted by {name}" + (f" ({told})" if told else ""))
    return ", ".join(parts)
