"""1 for a completion of the wanted length, less the further it is from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import ConfigError
from rl.rewards.base import Completion


def length(
    prompts: Sequence[Any],
    completions: Sequence[Completion],
    completion_ids: Sequence[Sequence[int]],
    min_tokens: int = 0,
    max_tokens: int = 256,
    slope_tokens: int = 64,
    **columns: Any,
) -> list[float | None]:
    """1.0 from min_tokens to max_tokens, falling in a straight line to 0.0 slope_tokens outside."""
    if slope_tokens < 1 or min_tokens > max_tokens:
        raise ConfigError(
            f"length with min_tokens={min_tokens}, max_tokens={max_tokens}, slope_tokens={slope_tokens}",
            allowed="min_tokens <= max_tokens and slope_tokens >= 1",
        )
    outside = [max(min_tokens - len(ids), len(ids) - max_tokens, 0) for ids in completion_ids]
    return [max(0.0, 1 - distance / slope_tokens) for distance in outside]


REWARD = length
