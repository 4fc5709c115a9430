"""1 where the first line of the completion is the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl.rewards.base import Completion, column_of, first_line, text_of


def first_line_equals(
    prompts: Sequence[Any],
    completions: Sequence[Completion],
    completion_ids: Sequence[Sequence[int]],
    column: str = "answer",
    **columns: Any,
) -> list[float | None]:
    """1.0 where the stripped first line equals the column, else 0.0."""
    answers = column_of(columns, column, "first_line_equals")
    return [float(extract(c) == str(a).strip()) for c, a in zip(completions, answers, strict=True)]


def extract(completion: Completion, **row: Any) -> str | None:
    """The stripped first line; None if it is empty."""
    return first_line(text_of(completion))


first_line_equals.extract = extract  # type: ignore[attr-defined]

REWARD = first_line_equals
