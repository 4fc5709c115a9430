"""A form for base models without instruction: every answer is the rest of one line, after a few examples.

def f(x): return min(x, 4) # f(9)        a proposal, of which the model writes what follows "return"
print(f(9)) # 4                          deduction: what follows "#"
assert 4 == f(9)                         abduction: what follows "f("
def f(x): return min(x, 4)               induction, after such assertions: what follows "return"
"""

from __future__ import annotations

from collections.abc import Sequence

from rl.triplets.forms import Form, proposal_of
from rl.triplets.record import Proposal, Task, Triplet

HEAD = "def f(x): return"

EXAMPLES = (
    Triplet("induction", f"{HEAD} max(x, 5)", ("3", "8", "5", "9"), "", ("5", "8", "5", "9")),
    Triplet("induction", f"{HEAD} x", ("7", "2", "0", "4"), "", ("7", "2", "0", "4")),
    Triplet("induction", f"{HEAD} min(x, 4)", ("2", "6", "4", "9"), "", ("2", "4", "4", "4")),
)
"""What stands before every question to a solver."""


class Line(Form):
    """One-line functions of x. Completions should stop at the end of the line."""

    def propose(self, task: Task, references: Sequence[Triplet], program: str, inputs: int) -> str:
        """The references, a line each, and the beginning of one more."""
        lines = [f"{r.program} # {', '.join(f'f({i})' for i in r.inputs)}" for r in references]
        return "\n".join([*lines, f"{program} #" if task == "induction" else HEAD])

    def solve(self, triplet: Triplet) -> str:
        """Three solved examples, and the beginning of the question's last line."""
        solved = [question(e, triplet.task) + _solution(e, triplet.task) for e in EXAMPLES]
        return "\n\n".join([*solved, question(triplet, triplet.task)])

    def answer(self, role: str, task: Task, completion: str) -> str | None:
        """The rest of the line. Of an abduction without the bracket that closes, of a solution without a remark."""
        line = completion.partition("\n")[0].strip()
        if role == "solve" and task == "abduction":
            line = line.removesuffix(")")
        if role == "solve" and task == "induction":
            line = f"{HEAD} {line}" if line else ""
        return line or None

    def proposal(self, task: Task, answer: str, program: str, inputs: int) -> Proposal | None:
        """ "min(x, 4) # f(9)", or for induction "f(9), f(1)"."""
        body, mark, calls = ("", "#", answer) if task == "induction" else answer.rpartition("#")
        calls = calls.strip()
        if not mark or not (calls.startswith("f(") and calls.endswith(")")):
            return None
        given = calls[2:-1].split("), f(")
        return proposal_of(task, program if task == "induction" else f"{HEAD} {body.strip()}", given, "", inputs)


def question(triplet: Triplet, task: Task) -> str:
    """The lines of a question, the last one without its answer."""
    pairs = list(zip(triplet.inputs, triplet.outputs, strict=True))
    if task == "induction":
        shown = "".join(f"assert {output} == f({given})\n" for given, output in pairs[: triplet.visible])
        return f"{shown}{HEAD}"
    given, output = pairs[0]
    last = f"print(f({given})) #" if task == "deduction" else f"assert {output} == f("
    return f"{triplet.program}\n{last}"


def _solution(triplet: Triplet, task: Task) -> str:
    if task == "induction":
        return triplet.program.removeprefix(HEAD)
    return f" {triplet.outputs[0]}" if task == "deduction" else f"{triplet.inputs[0]})"
