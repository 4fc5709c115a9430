"""What every method on the zeroth-order trainer is: points to measure, and a move that follows from what was measured.

    x + sum_n c_n d_n   is a point, and a move: n numbers the directions of a step, d_n follows from (seed, step, n)

So a step is told in full by its numbers and coefficients, and no direction is ever stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from engine.config import Config
from rl.methods.base import Method, MethodConfig
from rl.ops.perturbation import Tensors

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

Term = tuple[int, float]
"""The number of a direction, and how far along it."""


@dataclass(frozen=True)
class Point:
    """Where to measure, or where to go: x + the sum of the terms, or the values themselves."""

    terms: tuple[Term, ...] = ()
    values: Tensors | None = None


@dataclass(frozen=True)
class Slope:
    """What to measure: the exact derivative of the loss at x along direction `number`, by forward differentiation."""

    number: int


@dataclass(frozen=True)
class Measured:
    """What was found at a point: the loss, lower is better, or the slope; and what a ranker is shown of it."""

    loss: float
    shown: str = ""


class SpaceConfig(Config):
    """What is moved. `of: weights` are those that are trained: all, or those of `model.lora`. `of: soft_prompt` are
    vectors before every prompt, which begin as the tokens of `text`. `dims`: only in so many random directions through
    them (50 or fewer where people rank); null for the whole space."""

    of: Literal["weights", "soft_prompt"] = "weights"
    dims: int | None = Field(default=None, ge=1)
    text: str = "Answer the question."


class ZerothOrderConfig(MethodConfig):
    """`objective`: the loss of the source's answers (its column `answer`), or the reward of sampled completions.
    `mu`: how far from x is measured. `offload`: large weights stay in the machine's memory and are brought to the
    accelerator a block at a time."""

    objective: Literal["loss", "reward"] = "loss"
    space: SpaceConfig = SpaceConfig()
    mu: float = Field(default=1e-3, gt=0)
    offload: bool = False


def until_there(poll: Callable[[], T | None]) -> T:
    """What poll returns once that is not None."""
    while (found := poll()) is None:
        pass
    return found


class ZerothOrderMethod(Method):
    """One method on the zeroth-order trainer.

    `directions`: what a number stands for: standard normal noise, or one coordinate of x. `moves_values`: whether
    points are values of x; x is then a copy of what is trained, checkpoints keep where it began, and the learning
    rate is the same throughout. `rate`: the config's. `awaited`: the trainer's way to wait for an answer from outside:
    poll is called in the main process alone, again until it does not return None, and all processes get the answer;
    it should return within seconds. Raises Stopped where the run is to end meanwhile.
    """

    trainer = "zeroth_order"
    directions: ClassVar[Literal["noise", "coordinates"]] = "noise"
    Config: ClassVar[type[MethodConfig]] = ZerothOrderConfig
    moves_values: ClassVar[bool] = False
    config: Any

    def __init__(self, config: Any, *, seed: int = 0, near: Path | None = None) -> None:
        super().__init__(config, seed=seed, near=near)
        self.rate = 0.0
        self.awaited: Callable[[Callable[[], Any]], Any] = until_there

    @classmethod
    def needs_rewards(cls, config: Any) -> bool:
        """Where the reward is the objective."""
        return bool(config.objective == "reward")

    def begin(self, x: Tensors) -> None:
        """Look at x before the first step, and again after a resume, before `load_state_dict`.

        With `moves_values` it is x as it was before the first step, also after a resume."""

    def points(self, step: int) -> Sequence[Point | Slope]:
        """What to measure in this step."""
        raise NotImplementedError

    def move(self, step: int, rate: float, measured: Sequence[Measured]) -> Point:
        """Where to go from x; measured: what was found at each of the points. rate: the learning rate."""
        raise NotImplementedError

    def touches(self, name: str, number: int) -> bool:
        """Whether direction `number` has any part in the tensor of that name."""
        return True

    def mask(self, name: str, weights: Tensor) -> Tensor | None:
        """1 where the direction counts for these weights (a block of rows of the tensor), 0 elsewhere; None: all 1."""
        return None

    def allowed(self, values: Tensor) -> Tensor:
        """The values of x nearest to these that x may have."""
        return values


def central_points(numbers: Sequence[int], mu: float) -> list[Point]:
    """x + mu d_n and x - mu d_n for every n."""
    return [Point(((number, sign * mu),)) for number in numbers for sign in (1.0, -1.0)]


def central_slopes(measured: Sequence[Measured], mu: float) -> list[float]:
    """(loss(x + mu d_n) - loss(x - mu d_n)) / (2 mu) of what was found at `central_points`."""
    losses = [found.loss for found in measured]
    return [(plus - minus) / (2 * mu) for plus, minus in zip(losses[::2], losses[1::2], strict=True)]
