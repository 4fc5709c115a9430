"""Which proposals are valid: they are Python with a function f, import what they may, run, and run the same again."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from engine.errors import ParamError
from engine.sandbox import Outcome, imported_modules, shared
from rl.triplets.literals import without_warnings, written
from rl.triplets.record import FUNCTION, Proposal, Triplet

ALLOWED_IMPORTS = (
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "re",
    "string",
    "typing",
)
"""Modules without a clock, chance or the system in them."""

MEMORY_MB = 512
THREADS = 16
"""Programs that may be asked for at once; how many run at once is the sandbox's to say."""


@dataclass(frozen=True)
class Limits:
    """timeout_s: of one run. max_chars: of a program, an input, an output or a message, each."""

    timeout_s: float = 10.0
    max_chars: int = 4096
    imports: tuple[str, ...] = ALLOWED_IMPORTS

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"timeout_s": self.timeout_s, "max_chars": self.max_chars, "imports": list(self.imports)}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The limits of an `as_dict`, after JSON."""
        return cls(row["timeout_s"], row["max_chars"], tuple(row["imports"]))


EVASIONS = frozenset({"__import__", "eval", "exec", "compile", "open", "input", "globals", "vars", "breakpoint"})
"""Built-ins by which a program could reach what it may not import, and by which its value could depend on a machine."""


def refused(program: str, limits: Limits) -> str | None:
    """Why a program is not even run: "long", "syntax", "import", "function"; None if it is."""
    if len(program) > limits.max_chars:
        return "long"
    try:
        with without_warnings():
            tree = ast.parse(program)
            if not imported_modules(program) <= set(limits.imports) or any(map(_evades, ast.walk(tree))):
                return "import"
            body = tree.body
    except (ParamError, SyntaxError, ValueError, MemoryError, RecursionError):
        return "syntax"
    is_there = any(isinstance(node, ast.FunctionDef) and node.name == FUNCTION for node in body)
    return None if is_there else "function"


def _evades(node: ast.AST) -> bool:
    """Whether it names one of the evasions, or an attribute of Python's own, as __class__."""
    if isinstance(node, ast.Attribute):
        return node.attr.startswith("__")
    return isinstance(node, ast.Name) and node.id in EVASIONS


def call(program: str, arguments: str) -> str:
    """The source that gives f of the arguments, which must be literals as `literals.written` writes them."""
    return f"{program}\n\nRESULT = {FUNCTION}({arguments})\n"


def outcome_of(program: str, arguments: str, limits: Limits) -> Outcome:
    """What f gives of the arguments, once, in the sandbox."""
    return shared().run(call(program, arguments), timeout_s=limits.timeout_s, memory_mb=MEMORY_MB)


def static_fault(proposal: Proposal, limits: Limits) -> str | None:
    """What `refused` says of its program; "long" where another part of it is. None if it can be run."""
    if any(len(text) > limits.max_chars for text in (*proposal.inputs, proposal.message)):
        return "long"
    return refused(proposal.program, limits)


def checked(proposals: Sequence[Proposal], limits: Limits) -> list[Triplet | str]:
    """The triplet of each proposal, its outputs from the sandbox; or why there is none.

    Each input runs in two processes with different hash seeds. Reasons: those of `static_fault`; "failed" (an
    exception, a crash, no value of built-in types), "timeout", "random" (the two runs differ), "value" (an output
    that has no literal, or a long one).
    """
    faults = [static_fault(proposal, limits) for proposal in proposals]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="triplets") as pool:
        ran = [pool.submit(_run, p, limits) if not f else None for p, f in zip(proposals, faults, strict=True)]
        return [future.result() if future else str(fault) for future, fault in zip(ran, faults, strict=True)]


def _run(proposal: Proposal, limits: Limits) -> Triplet | str:
    outputs = []
    for arguments in proposal.inputs:
        twice = shared().run_twice(call(proposal.program, arguments), timeout_s=limits.timeout_s, memory_mb=MEMORY_MB)
        error = twice.outcome.error
        if not twice.agrees:
            return "random"
        if error is not None:
            return "timeout" if error.kind == "timeout" else "failed"
        try:
            outputs.append(written(twice.outcome.value))
        except ValueError:
            return "value"
        if len(outputs[-1]) > limits.max_chars:
            return "value"
    return Triplet(proposal.task, proposal.program, proposal.inputs, proposal.message, tuple(outputs))
