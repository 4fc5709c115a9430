"""The control with a model that learns nothing: proposals that see neither scores nor history."""

from __future__ import annotations

from typing import ClassVar

from engine.optimizers._turns import SamplingOptions, fresh, rows
from engine.optimizers.base import Candidate, Optimizer, Options, State


class BestOfN(Optimizer):
    """Samples values from what a parameter is, every parameter anew in each candidate.

    The model sees the objective, and the description and limits of a parameter (its name and starting value
    where it has no description), told as `opro` tells them, and always the same. Whatever is better than
    this under the same budget was learned from scores.
    """

    needs = frozenset()
    Config: ClassVar[type[Options]] = SamplingOptions

    def calls(self, params: int) -> int:
        return params

    def propose(self, state: State, n: int) -> list[Candidate]:
        objective = self.config.objective or state.objective
        return rows(
            state,
            lambda param: fresh(param, objective, state.initial[param.name]),
            n,
            "a fresh sample",
            self.config.sampling(),
        )


OPTIMIZER = BestOfN
