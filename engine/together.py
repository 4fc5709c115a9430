"""Several workflows improved at once: what they share is judged by all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.errors import DataError, InputError
from engine.trace import Module


class Part(NamedTuple):
    """One workflow with its examples and its feedback function (example, output)."""

    workflow: Callable[..., Any]
    data: Sequence[Any]
    feedback: Callable[[Any, Any], Any]


class Case(NamedTuple):
    """An example of one of the workflows, which is named."""

    workflow: str
    example: Any


class Together(Module):
    """Several workflows as one, for `optimize`.

        both = Together(ask=Part(ask, questions, right), sum=Part(summarize, articles, short))
        optimize(both, both.data, feedback=both.feedback)

    Its parameters are those of all, each once; a parameter that several workflows use is changed for all of them, and a
    candidate is accepted by its scores on all examples together. Scores should therefore have one scale, and a
    workflow with more examples weighs more: `data` has those of all, one of each in turn, so that batches are mixed.
    Workflows and feedback functions may be coroutine functions. Raises InputError for what is no Part, DataError for a
    workflow without examples.
    """

    def __init__(self, **parts: Part) -> None:
        if not parts:
            raise InputError("Together() of nothing", allowed="name=Part(workflow, data, feedback), once or more often")
        for name, part in parts.items():
            if not isinstance(part, Part) or not callable(part.workflow) or not callable(part.feedback):
                raise InputError(f"{name} is {part!r:.80}", allowed="Part(workflow, data, feedback)")
            if not list(part.data):
                raise DataError(f"{name} has no examples", allowed="at least one for each workflow")
        self.parts: Mapping[str, Part] = parts
        self.workflows = {name: part.workflow for name, part in parts.items()}  # where Module looks for parameters
        self.data = _in_turn({name: [Case(name, one) for one in part.data] for name, part in parts.items()})

    def __call__(self, case: Case) -> Any:
        """The output of the case's own workflow."""
        return self.parts[case.workflow].workflow(case.example)

    def feedback(self, case: Case, output: Any) -> Any:
        """What the case's own feedback function says."""
        return self.parts[case.workflow].feedback(case.example, output)


def _in_turn(cases: Mapping[str, list[Case]]) -> list[Case]:
    """One of each in turn, as long as there are any."""
    longest = max(map(len, cases.values()))
    return [rows[place] for place in range(longest) for rows in cases.values() if place < len(rows)]
