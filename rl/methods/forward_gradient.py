"""Forward gradients: the slope along a random direction, exactly, in one forward pass.

Paper: "Gradients without Backpropagation", 2202.08587; on language models ZO-Bench, 2402.11592:

    g = (1/n) sum_n (grad L(x) . z_n) z_n,   z_n ~ N(0, I);   x <- x - lr g

What it means: mezo's estimate in the limit mu -> 0, without its rounding: the directional derivative goes along with
the forward pass (a Jacobian-vector product), and nothing is stored for a backward pass. What it assumes: operations
that have forward derivatives; attention is computed plainly (`eager`). When it fails: memory is that of two forward
passes, and of a direction, as it goes along with the weights; rewards of samples have no such derivative.

Departures from the paper:
1. `estimates` directions a step are averaged; the papers have one.
2. Noise of its own for every tensor, in blocks; all weights of a direction are there at once, unlike mezo's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from rl.methods._zeroth_order import Measured, Point, Slope, ZerothOrderConfig, ZerothOrderMethod
from rl.methods.base import MethodConfig


class ForwardGradientConfig(ZerothOrderConfig):
    """`estimates`: n, directions a step."""

    kind: Literal["forward_gradient"] = "forward_gradient"
    objective: Literal["loss"] = "loss"
    estimates: int = Field(default=1, ge=1)


class ForwardGradient(ZerothOrderMethod):
    """Forward gradients. See the module."""

    Config: ClassVar[type[MethodConfig]] = ForwardGradientConfig
    paper = "2202.08587"
    title = "Forward gradients: exact slopes without a backward pass"
    config: ForwardGradientConfig

    def points(self, step: int) -> Sequence[Slope]:
        """The slope along every direction."""
        return [Slope(number) for number in range(self.config.estimates)]

    def move(self, step: int, rate: float, measured: Sequence[Measured]) -> Point:
        """Against each slope along its direction, by the mean of all."""
        slopes = [found.loss for found in measured]
        self.metrics = {"slope": math.sqrt(sum(slope**2 for slope in slopes) / len(slopes))}
        return Point(tuple((number, -rate * slope / len(slopes)) for number, slope in enumerate(slopes)))


METHOD = ForwardGradient
