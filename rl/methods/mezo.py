"""MeZO: gradient descent with two forward passes a step, in the memory of inference.

Paper: 2305.17333 (algorithm 1), after SPSA (Spall, 1992):

    c_n = (L(x + mu z_n) - L(x - mu z_n)) / (2 mu),   z_n ~ N(0, I)
    x <- x - lr (1/n) sum_n c_n z_n

What it means: c z is an estimate of the gradient without bias (as mu -> 0), of variance that grows with the effective
dimension of the loss, which fine-tuning from a good start with a prompt has small. What it assumes: a learning rate
10 to 100 times smaller than Adam's, and patience. When it fails: with large rates the loss jumps; watch `slope`, the
root mean square of c. On adapters mu must be larger, as there are fewer weights.

Values: mu 1e-3, n = 1; lr 1e-7 to 1e-6 for all weights of a model of billions, 1e-3 and mu 1e-2 for LoRA in the
paper's appendix; smaller models take larger rates.

Departures from the paper:
1. Weights are not perturbed in place and put back, which floating-point numbers do not undo: each layer computes with
   perturbed weights that are gone after it, so x is bit for bit what it was. No weight decay.
2. Every tensor has noise of its own, in blocks; the noise of a block is made three times a step instead of four.
3. n > 1 averages estimates at one x.
4. Any reward can be the objective; the paper's non-differentiable ones are accuracy and F1.
"""

from __future__ import annotations

import math
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


class MezoConfig(ZerothOrderConfig):
    """`estimates`: n, directions a step, two forward passes each. `clip`: the most that a slope may be, in size;
    null: any."""

    kind: Literal["mezo"] = "mezo"
    estimates: int = Field(default=1, ge=1)
    clip: float | None = Field(default=None, gt=0)


class Mezo(ZerothOrderMethod):
    """MeZO. See the module."""

    Config: ClassVar[type[MethodConfig]] = MezoConfig
    paper = "2305.17333"
    title = "Zeroth-order descent: two forward passes a step"
    config: MezoConfig

    @property
    def estimates(self) -> int:
        """Directions of a step."""
        return self.config.estimates

    def points(self, step: int) -> Sequence[Point]:
        """Both sides of x along every direction."""
        return central_points(range(self.estimates), self.config.mu)

    def move(self, step: int, rate: float, measured: Sequence[Measured]) -> Point:
        """Against each slope along its direction, by the mean of all."""
        slopes = central_slopes(measured, self.config.mu)
        most = math.inf if self.config.clip is None else self.config.clip
        clipped = [max(-most, min(slope, most)) for slope in slopes]
        self.metrics = {
            "slope": math.sqrt(sum(slope**2 for slope in slopes) / len(slopes)),
            "clipped": sum(abs(slope) > most for slope in slopes) / len(slopes),
        }
        return Point(tuple((number, -rate * slope / self.divisor) for number, slope in enumerate(clipped)))

    @property
    def divisor(self) -> int:
        """By how much the sum over directions is divided: of directions through the same weights a mean is taken."""
        return self.estimates


METHOD = Mezo
