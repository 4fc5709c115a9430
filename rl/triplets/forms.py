"""How tasks are put into words and read back. A form turns triplets into prompts, and completions into answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from rl.triplets.literals import arguments, written
from rl.triplets.record import Proposal, Task, Triplet


class Form(ABC):
    """One way to ask and to answer.

    `answer` cuts the answer out of a completion and knows nothing of its meaning; None says that the completion is
    not of this form. `proposal` reads an answer to `propose`.
    """

    @abstractmethod
    def propose(self, task: Task, references: Sequence[Triplet], program: str, inputs: int) -> str:
        """Asks for a triplet unlike the references; for induction for that many inputs of that program."""

    @abstractmethod
    def solve(self, triplet: Triplet) -> str:
        """Asks for the part of the triplet that its task hides."""

    @abstractmethod
    def answer(self, role: str, task: Task, completion: str) -> str | None:
        """The answer to `propose` or `solve` (the role); None where the completion does not keep to the form."""

    @abstractmethod
    def proposal(self, task: Task, answer: str, program: str, inputs: int) -> Proposal | None:
        """What is proposed; None where no inputs can be read. inputs: how many are wanted, and taken."""


def proposal_of(task: Task, program: str, inputs: Sequence[str], message: str, wanted: int) -> Proposal | None:
    """The proposal with its inputs rewritten as plain literals; None unless there are as many different ones."""
    try:
        read = dict.fromkeys(", ".join(map(written, arguments(text))) for text in inputs)
    except ValueError:
        return None
    needed = wanted if task == "induction" else 1
    return Proposal(task, program, tuple(read)[:needed], message) if len(read) >= needed else None
