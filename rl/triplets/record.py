"""What a proposal and a triplet are, as plain data."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from rl.triplets.literals import without_warnings

Task = Literal["deduction", "abduction", "induction"]
TASKS: tuple[Task, ...] = ("deduction", "abduction", "induction")

FUNCTION = "f"
"""The name that the function of a program must have."""


@dataclass(frozen=True)
class Proposal:
    """A program and inputs that somebody proposes.

    inputs: the arguments of a call each, as Python: "'Hello world', 2". Deduction and abduction have one, induction
    several. message: what the program does, in words, for induction.
    """

    task: Task
    program: str
    inputs: tuple[str, ...]
    message: str = ""

    @property
    def key(self) -> str:
        """Equal for proposals of a task that differ in layout, comments or message only. The program must be Python."""
        return f"{_plain(self.program)}\n# {'; '.join(self.inputs)}"


@dataclass(frozen=True)
class Triplet(Proposal):
    """A proposal that was run. outputs: f of each input, as Python."""

    outputs: tuple[str, ...] = ()

    @property
    def visible(self) -> int:
        """How many of the pairs an induction shows; it is judged on the others."""
        return len(self.inputs) // 2

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The triplet of an `as_dict`, after JSON; further keys are left out."""
        return cls(row["task"], row["program"], tuple(row["inputs"]), row["message"], tuple(row["outputs"]))


def _plain(program: str) -> str:
    """The program in a layout of its own, without comments; as it is where it cannot be written anew."""
    try:
        with without_warnings():
            return ast.unparse(ast.parse(program))
    except (RecursionError, ValueError):  # nested too deeply, or with a number too long to print
        return program
