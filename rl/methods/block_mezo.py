"""Block-wise zeroth-order descent: one part of the weights is perturbed at a time.

Paper: ZO-Bench, 2402.11592 (section 5, block-wise estimation):

    for every block b:  c_b = (L(x + mu z_b) - L(x - mu z_b)) / (2 mu),   z_b = noise in block b, 0 elsewhere
    x <- x - lr sum_b c_b z_b

What it means: the estimate's variance is that of a block's dimensions, for as many forward passes as there are blocks.
What it assumes: that a block alone changes the loss by more than its rounding. When it fails: at equal passes it
need not beat mezo with as many `estimates`: compare.

Departures from the paper:
1. A block is a run of consecutive tensors, of about equal numbers of tensors, rather than a list by hand.
2. `blocks_per_step` walks over the blocks, so that a step may cost less than a round over all of them.
3. All of mezo's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from engine.errors import InputError
from rl.methods._zeroth_order import Measured, Point, central_points
from rl.methods.base import MethodConfig
from rl.methods.mezo import Mezo, MezoConfig
from rl.ops.perturbation import Tensors


class BlockMezoConfig(MezoConfig):
    """`blocks`: into how many parts the tensors are cut. `blocks_per_step`: how many of them a step walks on; null:
    all. `estimates` is for each block."""

    kind: Literal["block_mezo"] = "block_mezo"  # type: ignore[assignment]
    blocks: int = Field(default=4, ge=1)
    blocks_per_step: int | None = Field(default=None, ge=1)


class BlockMezo(Mezo):
    """Block-wise descent; direction n is in block n % blocks. See the module."""

    Config: ClassVar[type[MethodConfig]] = BlockMezoConfig
    paper = "2402.11592"
    title = "Zeroth-order descent, a block of weights at a time"
    config: BlockMezoConfig
    block_of: dict[str, int]

    def begin(self, x: Tensors) -> None:
        """Cut the tensors into blocks. Raises InputError for more blocks than tensors."""
        if self.config.blocks > len(x):
            raise InputError(
                f"{self.config.blocks} blocks of {len(x)} tensors",
                place="method.blocks",
                allowed=f"1 to {len(x)}",
            )
        self.block_of = {name: place * self.config.blocks // len(x) for place, name in enumerate(x)}

    def touches(self, name: str, number: int) -> bool:
        """Whether the tensor is in the direction's block."""
        return self.block_of[name] == number % self.config.blocks

    def points(self, step: int) -> Sequence[Point]:
        """Both sides of x along every direction of this step's blocks."""
        return central_points(self._numbers(step), self.config.mu)

    def move(self, step: int, rate: float, measured: Sequence[Measured]) -> Point:
        """As mezo's; the moves of different blocks add up."""
        place_of = dict(enumerate(self._numbers(step)))
        move = super().move(step, rate, measured)
        return Point(tuple((place_of[place], coefficient) for place, coefficient in move.terms))

    @property
    def divisor(self) -> int:
        """Directions of one block."""
        return self.config.estimates

    def _numbers(self, step: int) -> list[int]:
        """The directions of this step."""
        blocks = self.config.blocks
        count = min(self.config.blocks_per_step or blocks, blocks)
        chosen = [(step * count + i) % blocks for i in range(count)]
        return [block + blocks * estimate for block in chosen for estimate in range(self.config.estimates)]


METHOD = BlockMezo
