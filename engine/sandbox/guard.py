"""Checks on source that nobody has looked at, before the host itself parses it."""

from __future__ import annotations

import ast
import re

from engine.errors import ParamError

__all__ = ["MAX_DEPTH", "MAX_SOURCE", "check_nesting", "imported_modules"]

MAX_SOURCE = 200_000  # characters
MAX_DEPTH = 400
_MAX_ELIF = 400

_TOKEN = re.compile(
    r"""
    (?P<comment> \#[^\n]* )
  | (?P<string> (?P<prefix> [A-Za-z]{0,2} )
        (?: '{3} (?: [^\\'] | \\. | '(?!'') )*+ (?: '{3} )? | "{3} (?: [^\\"] | \\. | "(?!"") )*+ (?: "{3} )?
          | ' (?: [^\\\n'] | \\. )*+ '? | " (?: [^\\\n"] | \\. )*+ "? ) )
  | (?P<word> \w+ )
  | (?P<newline> \n )
  | (?P<sign> [^\w\s] )
    """,
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"not", "lambda", "if", "else", "await", "yield", "in", "is", "for", "and", "or"}


def check_nesting(source: str) -> None:
    """Raises ParamError for source so long or so deeply nested that parsing it could bring the interpreter down.

    CPython's parser and compiler work on the C stack, and a syntax tree may be as deep as an expression has operators.
    The depth is that of brackets within one another plus, for each, the operators since the last comma.
    """
    if len(source) > MAX_SOURCE:
        raise ParamError(f"source of {len(source)} characters", allowed=f"at most {MAX_SOURCE}")
    if (depth := _depth(source)) > MAX_DEPTH:
        raise ParamError(f"source with an expression about {depth} levels deep", allowed=f"at most {MAX_DEPTH}")
    if len(re.findall(r"\belif\b", source)) > _MAX_ELIF:  # each is nested in the one before
        raise ParamError("source with very many branches `elif`", allowed=f"at most {_MAX_ELIF}")


def _depth(source: str) -> int:
    deepest, chains = 0, [0]  # for each open bracket, and outside all: operators since the last comma
    total = 0
    for token in _TOKEN.finditer(source):
        kind, text = token.lastgroup, token.group()
        if kind == "newline":
            if len(chains) == 1:
                total, chains = 0, [0]
        elif kind == "string" and "f" in token["prefix"].lower():
            deepest = max(
                deepest, total + text.count("{") + sum(_depth(part) for part in re.findall(r"\{[^{}]*", text))
            )
        elif text in ("(", "[", "{"):
            chains.append(1)
            total += 1
        elif text in (")", "]", "}"):
            total -= chains.pop() if len(chains) > 1 else 0
            chains[-1], total = chains[-1] + 1, total + 1
        elif text in (",", ";"):
            total, chains[-1] = total - chains[-1], 0
        elif kind == "sign" or text in _WORDS:
            chains[-1], total = chains[-1] + 1, total + 1
        deepest = max(deepest, total)
    return deepest


def imported_modules(source: str) -> frozenset[str]:
    """The top-level modules that the source's import statements name: what it says, not what it can reach.

    For checks of validity, not of security. Raises ParamError for source that `check_nesting` refuses, SyntaxError for
    what is no Python.
    """
    check_nesting(source)
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else (node.module or "").partition(".")[0])
    return frozenset(names)
