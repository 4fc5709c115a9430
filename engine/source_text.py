"""Values as Python literals that a person would write, and new bodies for functions in a file."""

from __future__ import annotations

import ast
import pprint
import textwrap
from typing import Any

_WIDTH = 110
_SHORT_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def literal(value: Any, column: int = 0) -> str:
    """Python source of the value, lines joined by a newline.

    Texts of several lines are triple-quoted, long ones are broken at words into adjacent strings
    (so the place must be inside brackets), numbers are written by repr, containers by pprint.
    column: where the literal begins, to which further lines are aligned.
    """
    if isinstance(value, str):
        return _string(value, column)
    text = pprint.pformat(value, width=max(40, _WIDTH - column), sort_dicts=False)
    return text.replace("\n", "\n" + " " * column)


def function_source(source: str, column: int) -> str:
    """A function's source without decorators, indented to the column; string contents stay as they are.

    Raises SyntaxError (or ValueError for a null byte) if the source is not one function.
    """
    source = textwrap.dedent(source).strip("\n")
    node = only_function(source)
    lines = source.split("\n")
    inside = {
        line
        for child in ast.walk(node)
        if isinstance(child, ast.Constant | ast.JoinedStr) and child.end_lineno is not None
        for line in range(child.lineno + 1, child.end_lineno + 1)
    }
    kept = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    pad = " " * column
    return "\n".join(lines[n - 1] if n in inside or not lines[n - 1].strip() else pad + lines[n - 1] for n in kept)


def only_function(source: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The one function that the source defines. Raises SyntaxError otherwise."""
    body = ast.parse(textwrap.dedent(source)).body
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef | ast.AsyncFunctionDef):
        raise SyntaxError("the source is not one function")
    return body[0]


def _string(text: str, column: int) -> str:
    if "\n" in text:
        return f'"""{_escaped_block(text)}"""'
    quote = "'" if '"' in text and "'" not in text else '"'
    chunks = _chunks(text, max(40, _WIDTH - column)) if len(text) > _WIDTH - column else [text]
    return ("\n" + " " * column).join(quote + _escaped(chunk, quote) + quote for chunk in chunks)


def _escaped(text: str, quote: str) -> str:
    return "".join("\\" + char if char == quote else _character(char) for char in text)


def _escaped_block(text: str) -> str:
    """The inside of a triple-quoted string: line breaks stand as they are, quotes where they may."""
    written = []
    for index, char in enumerate(text):
        closes = char == '"' and (text[index + 1 : index + 3] == '""' or index == len(text) - 1)
        written.append("\n" if char == "\n" else '\\"' if closes else _character(char))
    return "".join(written)


def _character(char: str) -> str:
    """The character itself if it can be seen, else its escape."""
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _chunks(text: str, width: int) -> list[str]:
    """The text cut behind spaces into pieces of at most width characters, where spaces allow it."""
    chunks = [""]
    for word in text.split(" "):
        if chunks[-1] and len(chunks[-1]) + len(word) > width:
            chunks.append("")
        chunks[-1] += word + " "
    chunks[-1] = chunks[-1][:-1]
    return [chunk for chunk in chunks if chunk] or [""]
