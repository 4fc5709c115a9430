"""Evolution strategies on weights: a population around x, and a step to where the rewards are.

Paper: "Evolution Strategies at Scale", 2509.24372 (algorithm 1), after Salimans et al., 1703.03864:

    A_n = (R(x + sigma eps_n) - mean R) / (std R),   eps_n ~ N(0, I),  n = 1..N
    x <- x + (alpha / N) sum_n A_n eps_n

What it means: members that did better than the others pull x to them. Rewards are only compared within the step, so
their scale does not matter and nothing need be differentiable. What it assumes: that sigma is large enough to
change what the model says, and rewards are not all equal. When it fails: `spread`, the standard deviation of the
rewards, is 0 where the model says the same everywhere: raise sigma, or ask for more completions.

Values: N = 30, sigma (here `mu`) 1e-3, alpha (here `trainer.lr`) 5e-4 are the paper's, for all weights of 0.5 B to 8 B.

Departures from the paper:
1. `antithetic` measures each eps on both sides of x (Salimans et al.); off by default, as in the paper.
2. Every tensor has noise of its own; the authors' program starts each tensor's noise from the same seed.
3. x is not changed in place while a member is measured, so nothing must be undone.
4. The mean of all members is what the paper's greedy evaluation gives; completions here are sampled with the config's
   temperature, with the same seeds for all members.
5. A member without a reward has advantage 0, and is in neither the mean nor the deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from rl.methods._zeroth_order import Measured, Point, ZerothOrderConfig, ZerothOrderMethod
from rl.methods.base import MethodConfig


class EsConfig(ZerothOrderConfig):
    """`population`: N, the members measured in a step; with `antithetic` an even number, two to a direction."""

    kind: Literal["es"] = "es"
    objective: Literal["loss", "reward"] = "reward"
    population: int = Field(default=30, ge=2)
    antithetic: bool = False

    @model_validator(mode="after")
    def _is_even(self) -> Self:
        if self.antithetic and self.population % 2:
            raise ValueError(f"population is {self.population}; with antithetic members it must be even")
        return self


class EvolutionStrategies(ZerothOrderMethod):
    """Evolution strategies. See the module."""

    Config: ClassVar[type[MethodConfig]] = EsConfig
    paper = "2509.24372"
    title = "Evolution strategies: a population of perturbed weights"
    config: EsConfig

    def points(self, step: int) -> Sequence[Point]:
        """The members."""
        return [Point(((number, sign * self.config.mu),)) for number, sign in self._members()]

    def move(self, step: int, rate: float, measured: Sequence[Measured]) -> Point:
        """Towards the members that did better than the mean."""
        advantages = standardized([-found.loss for found in measured])
        sums: dict[int, float] = {}
        for (number, sign), advantage in zip(self._members(), advantages, strict=True):
            sums[number] = sums.get(number, 0.0) + sign * advantage
        known = [found.loss for found in measured if not math.isnan(found.loss)]
        self.metrics = {"spread": deviation(known), "best": -min(known, default=math.nan)}
        return Point(tuple((number, rate * total / len(measured)) for number, total in sums.items() if total))

    def _members(self) -> list[tuple[int, float]]:
        """(direction, side) of every member."""
        if not self.config.antithetic:
            return [(number, 1.0) for number in range(self.config.population)]
        return [(number, sign) for number in range(self.config.population // 2) for sign in (1.0, -1.0)]


def standardized(values: Sequence[float]) -> list[float]:
    """(value - mean) / standard deviation over those that are known; 0 for NaN, and for all where all are equal."""
    known = [value for value in values if not math.isnan(value)]
    scale = deviation(known)
    if not scale:
        return [0.0] * len(values)
    mean = math.fsum(known) / len(known)
    return [0.0 if math.isnan(value) else (value - mean) / scale for value in values]


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of the population; 0 for equal values, whatever rounding says."""
    if not values or min(values) == max(values):
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


METHOD = EvolutionStrategies
