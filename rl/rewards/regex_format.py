"""1 where the completion has the wanted form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from engine.errors import ConfigError
from rl.rewards.base import Completion, text_of

THINK_ANSWER = r"<think>.*?</think>\s*<answer>.*?</answer>"


def regex_format(
    prompts: Sequence[Any],
    completions: Sequence[Completion],
    completion_ids: Sequence[Sequence[int]],
    pattern: str = THINK_ANSWER,
    match: Literal["full", "start", "anywhere"] = "full",
    **columns: Any,
) -> list[float | None]:
    """1.0 where the pattern (dot matches newlines) matches the stripped completion, else 0.0."""
    try:
        form = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ConfigError(f"the pattern {pattern!r} of regex_format is no regular expression: {error}") from None
    matchers = {"full": form.fullmatch, "start": form.match, "anywhere": form.search}
    if match not in matchers:
        raise ConfigError(f"match of regex_format is {match!r}", allowed=", ".join(matchers))
    return [float(matchers[match](text_of(c).strip()) is not None) for c in completions]


REWARD = regex_format
