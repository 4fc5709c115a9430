"""Fails on what must not be left behind: open ends in the source, and host names in the lock."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCES = ("engine", "rl", "agents", "configs", "examples", "benchmarks", "tests")
MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
PINNED = re.compile(r"(#.*|[A-Za-z0-9._-]+(\[[a-z,]+\])?==[A-Za-z0-9.!+_-]+)?")


def marks(path: Path) -> Iterator[str]:
    """Lines of the file that promise work."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if found := MARKS.search(line):
            yield f"{path}:{number}: {found.group()}"


def open_ends(path: Path) -> Iterator[str]:
    """Functions that only raise NotImplementedError without a docstring that says what a subclass gives."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is None:
            for part in ast.walk(node):
                if isinstance(part, ast.Raise) and "NotImplementedError" in ast.unparse(part):
                    yield f"{path}:{part.lineno}: {node.name} is not implemented and does not say what a subclass gives"


def unpinned(lock: Path) -> Iterator[str]:
    """Lines of the lock that are not NAME==VERSION: an address, a path or a range."""
    for number, line in enumerate(lock.read_text(encoding="utf-8").splitlines(), 1):
        if not PINNED.fullmatch(line):
            yield f"{lock}:{number}: not NAME==VERSION: {line}"


def main() -> int:
    texts = [
        file for folder in SOURCES for pattern in ("*.py", "*.yaml", "*.md") for file in Path(folder).rglob(pattern)
    ]
    faults = [fault for file in sorted(texts) for fault in marks(file)]
    faults += [fault for file in sorted(texts) if file.suffix == ".py" for fault in open_ends(file)]
    faults += unpinned(Path("requirements.lock"))
    print("\n".join(faults) if faults else "no leftovers")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
