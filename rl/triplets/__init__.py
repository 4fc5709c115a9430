"""Program triplets, the tasks of self-play: a function f, inputs, and the outputs f(input).

Three tasks hide one part of a triplet each: deduction the output, abduction the input, induction the program.
A model proposes triplets and solves those of others; both happen as text, in one of the `forms`. The functions
run in the sandbox only; outputs are compared here, by value and exact type.
"""

from rl.triplets.buffer import Buffer
from rl.triplets.checking import ALLOWED_IMPORTS, Limits, checked, static_fault
from rl.triplets.forms import Form
from rl.triplets.judging import are_right
from rl.triplets.line import Line
from rl.triplets.record import TASKS, Proposal, Task, Triplet
from rl.triplets.tags import Tags

__all__ = [
    "ALLOWED_IMPORTS",
    "FORMS",
    "TASKS",
    "Buffer",
    "Form",
    "Limits",
    "Proposal",
    "Task",
    "Triplet",
    "checked",
    "static_fault",
    "are_right",
]

FORMS: dict[str, Form] = {"tags": Tags(), "line": Line()}
