"""Choices by Thompson sampling on the strengths of their values."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.optimizers._compared import PENALTY, Round
from engine.optimizers._space import Category
from engine.optimizers.base import values_key
from engine.ranking.bradley_terry import Floats, strengths_of, win_counts


def value_strengths(rounds: Sequence[Round], categories: Sequence[Category]) -> tuple[Floats, Floats]:
    """Mode and covariance of the strengths of all values of all categories, one after the other.

    A candidate's strength is the sum of its values'. Rankings of candidates that differ in nothing else are Bradley and
    Terry's comparisons of the values; a ranking of k counts as k - 1 comparisons.
    """
    by_id = {values_key(e.candidate.values): e.candidate.values for r in rounds for e in (r.held, *r.evaluations)}
    rankings = [ranking for each in rounds for ranking in each.rankings]
    features = np.zeros((len(by_id), sum(len(c.values) for c in categories)))
    for row, values in enumerate(by_id.values()):
        for first, category in zip(_firsts(categories), categories, strict=True):
            features[row, first + category.place(values[category.param.name])] = 1.0
    return strengths_of(win_counts(rankings, list(by_id), is_even=True), features, penalty=PENALTY)


def sampled(rounds: Sequence[Round], categories: Sequence[Category], rng: random.Random) -> Iterator[dict[str, Any]]:
    """For ever: the best value of each category under strengths drawn from their posterior (Thompson 1933)."""
    mode, covariance = value_strengths(rounds, categories)
    root = np.linalg.cholesky(covariance)
    while True:
        drawn = mode + root @ np.array([rng.gauss(0, 1) for _ in mode])
        yield {
            c.param.name: c.values[int(np.argmax(drawn[first : first + len(c.values)]))]
            for first, c in zip(_firsts(categories), categories, strict=True)
        }


def _firsts(categories: Sequence[Category]) -> list[int]:
    """Where the values of each category begin."""
    sizes = [len(c.values) for c in categories]
    return [sum(sizes[:place]) for place in range(len(sizes))]
