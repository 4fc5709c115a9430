"""Parameters and values in the words of a prompt."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from engine.graph.scope import ALLOWED_MODULES
from engine.params import Param

_CODE = (
    "the whole source of one Python function that keeps its signature, {}; what it needs is defined or imported inside "
    "it, arguments and result are of built-in types, and it may import {}"
)


def show(value: Any) -> str:
    """A value as JSON, so that a text's end and a flag's kind are plain."""
    return json.dumps(value, ensure_ascii=False)


def about(param: Param) -> str:
    """'  # description', or nothing."""
    return f"  # {param.description}" if param.description else ""


def variable(param: Param, value: Any) -> str:
    """'(kind) name = value  # description'; code stands below its name, in a fence."""
    if param.kind != "code":
        return f"({param.kind}) {param.name} = {show(value)}{about(param)}"
    return f"(code) {param.name} =\n{fenced(value, 'python')}"


def fenced(text: str, language: str = "") -> str:
    """The text between fences that do not stand in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def constraint_of(param: Param) -> str:
    """The limits of a parameter in one line, or nothing."""
    parts = [_CODE.format(param.signature, ", ".join(sorted(ALLOWED_MODULES)))] if param.kind == "code" else []
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
