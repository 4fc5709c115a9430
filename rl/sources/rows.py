"""Prompts that stand in the config itself: a game, a smoke test, a handful of questions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rl.sources._rows import RowsConfig, prompt_of, train_and_held_out
from rl.sources.base import TEXTS, ListSource
from rl.types import Prompt


class InlineConfig(RowsConfig):
    """`rows`: mappings with the prompt and the columns that rewards read, as the lines of a JSONL file hold them."""

    kind: Literal["rows"] = "rows"
    rows: list[dict[str, Any]] = Field(min_length=1)


class Inline(ListSource):
    """The rows of the config. Raises DataError with the number of a row that has no prompt."""

    Config = InlineConfig
    trainers = TEXTS

    def read(self) -> tuple[list[Prompt], list[Prompt]]:
        """The rows as prompts, split."""
        names = [f"row {number}" for number in range(1, len(self.config.rows) + 1)]
        prompts = [prompt_of(row, self.config, n, n) for n, row in zip(names, self.config.rows, strict=True)]
        return train_and_held_out(prompts, self.config, None)

    @property
    def evaluated(self) -> int:
        """As configured."""
        return int(self.config.evaluated)


SOURCE = Inline
