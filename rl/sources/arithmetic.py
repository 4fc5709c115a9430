"""Few-shot addition: a task that a 135M model half knows, and learns in minutes on a laptop.

2+3=5
4+4=8
7+6=13
a+b=            <- the model's first line is the answer
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.errors import ConfigError
from rl.sources.base import ListSource, SourceConfig, split_off
from rl.types import Prompt

EXAMPLES = ((2, 3), (4, 4), (7, 6), (9, 5), (1, 8), (3, 0), (6, 9), (5, 2))
"""The examples before the question, in this order; the default shows the first three."""


class ArithmeticConfig(SourceConfig):
    """All pairs a+b with 0 <= a, b <= max_operand.

    `held_out`: pairs that are never trained on, which ones by `split_seed`, so that runs of
    different seeds measure on the same pairs. `shots`: examples before the question.
    """

    kind: Literal["arithmetic"] = "arithmetic"
    max_operand: int = Field(9, ge=1, le=99)
    shots: int = Field(3, ge=0, le=len(EXAMPLES))
    held_out: int = Field(20, ge=0)
    split_seed: int = 0


class Arithmetic(ListSource):
    """Addition problems; the column `answer` is the sum. With defaults 80 training and 20 held-out pairs."""

    Config = ArithmeticConfig

    def read(self) -> tuple[list[Prompt], list[Prompt]]:
        """The pairs, split. Raises ConfigError where none is left to train on."""
        numbers = range(self.config.max_operand + 1)
        pairs = [(a, b) for a in numbers for b in numbers]
        if self.config.held_out >= len(pairs):
            raise ConfigError(
                f"source.held_out is {self.config.held_out}, and there are {len(pairs)} pairs",
                allowed=f"0 to {len(pairs) - 1}",
            )
        train, held_out = split_off(pairs, self.config.held_out, self.config.split_seed)
        return [self._prompt(a, b) for a, b in train], [self._prompt(a, b) for a, b in held_out]

    def _prompt(self, a: int, b: int) -> Prompt:
        shots = "".join(f"{x}+{y}={x + y}\n" for x, y in EXAMPLES[: self.config.shots])
        return Prompt(f"{a}+{b}", f"{shots}{a}+{b}=", {"answer": str(a + b)})


SOURCE = Arithmetic
