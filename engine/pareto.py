"""Comparing score vectors without weights: who is dominated, and who is best where."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import Any

from engine.feedback import Feedback

Vector = Mapping[Any, float]
"""Scores by coordinate, higher is better. What a vector lacks counts as worse than any score."""

SCORE = "score"
"""The name of the one objective where feedback has no named ones."""


def front(vectors: Sequence[Vector]) -> list[int]:
    """The places of the vectors that no other dominates, in order; of equal ones the first.

    x dominates y if x is at least y on every coordinate, and more on one.
    """
    rows = _aligned(vectors)
    # Whoever dominates has as many scores and as high a sum, so it stands before what it dominates.
    order = sorted(range(len(rows)), key=lambda i: (sum(s == -math.inf for s in rows[i]), -_sum(rows[i])))
    kept: list[int] = []
    for i in order:
        if not any(_covers(rows[j], rows[i]) for j in kept):
            # Sums of floats that differ may be equal.
            kept = [j for j in kept if not _covers(rows[i], rows[j])] + [i]
    return sorted(kept)


def wins(vectors: Sequence[Vector]) -> list[set[Hashable]]:
    """The coordinates on which each vector is the best, alone or beside others."""
    highest: dict[Hashable, float] = {}
    for vector in vectors:
        for coordinate, score in vector.items():
            highest[coordinate] = max(score, highest.get(coordinate, -math.inf))
    return [{c for c, score in vector.items() if score == highest[c]} for vector in vectors]


def vector_of(examples: Sequence[int], feedback: Sequence[Feedback]) -> dict[Hashable, float]:
    """A score for each example and objective; nothing where a run failed or was not scored."""
    return {
        (example, objective): score
        for example, judged in zip(examples, feedback, strict=True)
        for objective, score in _named(judged).items()
    }


def objectives(feedback: Sequence[Feedback]) -> dict[str, float]:
    """The mean of each objective over the examples that have it."""
    found: dict[str, list[float]] = {}
    for judged in feedback:
        for objective, score in _named(judged).items():
            found.setdefault(objective, []).append(score)
    return {objective: fmean(scores) for objective, scores in found.items()}


def _named(feedback: Feedback) -> Mapping[str, float]:
    if feedback.score is None:
        return {}
    return feedback.score if isinstance(feedback.score, Mapping) else {SCORE: feedback.score}


def _aligned(vectors: Sequence[Vector]) -> list[tuple[float, ...]]:
    coordinates = list(dict.fromkeys(c for vector in vectors for c in vector))
    return [tuple(vector.get(c, -math.inf) for c in coordinates) for vector in vectors]


def _sum(row: tuple[float, ...]) -> float:
    return math.fsum(score for score in row if score != -math.inf)


def _covers(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True))
