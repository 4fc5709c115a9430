"""Coordinate-wise gradient estimation: a finite difference along each coordinate, for spaces of few dimensions.

Paper: DeepZero, 2310.02025 (equation 2):

    g_j = (L(x + mu e_j) - L(x)) / mu,   x <- x - lr g

What it means: the gradient itself, up to terms of order mu (mu^2 with `central`), for one forward pass a coordinate.
What it assumes: few coordinates (`space.dims`), or that a share of them a step is enough. When it fails: rounding: a
coordinate changes the loss by about mu times its slope, which must be above 1e-7 of the loss.

Values: mu 5e-3 in the paper, for networks trained from nothing.

Departures from the paper:
1. Its sparsity by a pruning score at the start is `space.dims` here, a random subspace; its reuse of features before
   the perturbed layer is left out.
2. `coordinates` of them are measured a step, other ones each step, from the run's seed; null measures all. The move is
   along those alone, without a factor for those left out.
3. `central` differences; off by default, as in the paper.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from rl.methods._zeroth_order import (
    Measured,
    Point,
    ZerothOrderConfig,
    ZerothOrderMethod,
    central_points,
    central_slopes,
)
from rl.methods.base import MethodConfig
from rl.ops.perturbation import Tensors


class CgeConfig(ZerothOrderConfig):
    """`coordinates`: how many are measured a step; null: all. `central`: on both sides of x."""

    kind: Literal["cge"] = "cge"
    mu: float = Field(default=5e-3, gt=0)
    coordinates: int | None = Field(default=None, ge=1)
    central: bool = False


class Cge(ZerothOrderMethod):
    """Coordinate-wise estimation. See the module."""

    directions = "coordinates"
    Config: ClassVar[type[MethodConfig]] = CgeConfig
    paper = "2310.02025"
    title = "Coordinate-wise finite differences, in few dimensions"
    config: CgeConfig
    size: int

    def begin(self, x: Tensors) -> None:
        """Count the coordinates."""
        self.size = sum(tensor.numel() for tensor in x.values())

    def points(self, step: int) -> Sequence[Point]:
        """x and its neighbours, or both sides of x."""
        numbers = self._numbers(step)
        if self.config.central:
            return central_points(numbers, self.config.mu)
        return [Point(), *(Point(((number, self.config.mu),)) for number in numbers)]

    def move(self, step: int, rate: float, measured: Sequence[Measured]) -> Point:
        """Against each slope along its coordinate."""
        mu = self.config.mu
        if self.config.central:
            slopes = central_slopes(measured, mu)
        else:
            slopes = [(found.loss - measured[0].loss) / mu for found in measured[1:]]
        self.metrics = {"slope": math.sqrt(sum(slope**2 for slope in slopes) / len(slopes))}
        return Point(tuple((n, -rate * slope) for n, slope in zip(self._numbers(step), slopes, strict=True)))

    def _numbers(self, step: int) -> list[int]:
        """The coordinates of this step, ascending."""
        count = min(self.config.coordinates or self.size, self.size)
        return sorted(random.Random(f"cge/{self.seed}/{step}").sample(range(self.size), count))


METHOD = Cge
