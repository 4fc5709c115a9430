"""Fails where a file has more than 400 lines (an example 80) or a function more than 60; prints the medians."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LIMITS = {"examples": 80}
FILE_LIMIT = 400
FUNCTION_LIMIT = 60
SOURCES = ("engine", "rl", "agents", "examples", "benchmarks", "tools")
MEASURED = ("engine", "rl")


def functions(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length of every function in the tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def main() -> int:
    files: list[int] = []
    lengths: list[int] = []
    faults: list[str] = []
    for path in sorted(file for folder in SOURCES for file in Path(folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines, found = text.count("\n"), list(functions(ast.parse(text)))
        if path.parts[0] in MEASURED and found:
            files.append(lines)
            lengths += [length for _, _, length in found]
        if lines > (limit := FILE_LIMITS.get(path.parts[0], FILE_LIMIT)):
            faults.append(f"{path}: {lines} lines, at most {limit}")
        faults += [f"{path}:{at}: {name} has {n} lines, at most {FUNCTION_LIMIT}"
                   for name, at, n in found if n > FUNCTION_LIMIT]  # fmt: skip
    print(f"{len(files)} files: median {statistics.median(files):.0f} lines, longest {max(files)}")
    print(f"{len(lengths)} functions: median {statistics.median(lengths):.0f} lines, longest {max(lengths)}")
    print("\n".join(faults), file=sys.stderr if faults else sys.stdout, end="\n" if faults else "")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
