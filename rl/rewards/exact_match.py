"""1 where the whole completion is the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl.rewards.base import Completion, column_of, text_of


def exact_match(
    prompts: Sequence[Any],
    completions: Sequence[Completion],
    completion_ids: Sequence[Sequence[int]],
    column: str = "answer",
    ignore_case: bool = False,
    **columns: Any,
) -> list[float | None]:
    """1.0 where the completion equals the column, else 0.0; surrounding space does not count."""
    answers = column_of(columns, column, "exact_match")
    pairs = [(extract(c, ignore_case), _normal(str(a), ignore_case)) for c, a in zip(completions, answers, strict=True)]
    return [float(given == wanted) for given, wanted in pairs]


def extract(completion: Completion, ignore_case: bool = False, **row: Any) -> str:
    """The completion as it is compared."""
    return _normal(text_of(completion), ignore_case)


def _normal(text: str, ignore_case: bool) -> str:
    return text.strip().casefold() if ignore_case else text.strip()


exact_match.extract = extract  # type: ignore[attr-defined]

REWARD = exact_match
