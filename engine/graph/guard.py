"""Reading source that a model wrote: to a syntax tree, behind limits, and never further."""

from __future__ import annotations

import ast
import re
import threading
import warnings

from engine.errors import ParamError
from engine.sandbox import check_nesting

MAX_CHARACTERS = 20_000
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n`]*\n(.*?)^ {0,3}\1[`~]* *$", re.DOTALL | re.MULTILINE)
_QUIET = threading.Lock()


def parsed(text: str) -> ast.Module:
    """The syntax tree of the text. Raises ParamError: not Python, or too long or too deep to be read safely."""
    if len(text) > MAX_CHARACTERS:
        raise ParamError(f"the code has {len(text)} characters", allowed=f"at most {MAX_CHARACTERS}")
    check_nesting(text)
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in a model's string is no warning to the user
            return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f" at line {line}" if line else ""
        raise ParamError(f"the code is not Python{where}: {error}", allowed="the source of one function") from None
    except (MemoryError, RecursionError):
        raise ParamError("the code is nested too deeply to be read") from None


def unfenced(text: str) -> str:
    """What stands inside the first Markdown code fence that holds a `def`; the text itself where there is none."""
    blocks = [block for _, block in _FENCE.findall(text)]
    return next((block for block in blocks if re.search(r"^\s*(?:async )?def ", block, re.MULTILINE)), text)
