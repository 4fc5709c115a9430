"""The control with a model that learns nothing: proposals that see neither scores nor history."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from engine.optimizers._turns import ask_values, fresh
from engine.optimizers.base import Candidate, Optimizer, Options, State


class BestOfNOptions(Options):
    objective: str = Field(default="", description="what to achieve, told first; by default the workflow's docstring")
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=128, ge=1, description="of one value")


class BestOfN(Optimizer):
    """Samples values from what a parameter is and how it started, every parameter anew in each candidate.

    The model sees the objective, name, description and limits of a parameter and its starting value, told as
    `opro` tells them, and always the same. Whatever is better than this under the same budget was learned
    from scores.
    """

    needs = frozenset()
    Config: ClassVar[type[Options]] = BestOfNOptions

    def propose(self, state: State, n: int) -> list[Candidate]:
        sampling = {name: getattr(self.config, name) for name in ("temperature", "top_p", "max_tokens")}
        columns, faults = {}, []
        for param in state.params:
            messages, turns = fresh(param, self.config.objective or state.objective, state.initial[param.name])
            columns[param.name], unusable = ask_values(state, param, messages, turns, n, **sampling)
            faults += unusable
        usable = min(len(values) for values in columns.values())
        rows = [{name: values[i] for name, values in columns.items()} for i in range(usable)]
        return [Candidate(row, "a fresh sample") for row in rows] + faults[: n - usable]


OPTIMIZER = BestOfN
