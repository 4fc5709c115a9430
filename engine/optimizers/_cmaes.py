"""CMA-ES (Hansen 2016, 1604.00772) replayed from a history."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from cmaes import CMA

SIGMA = 1 / 4
"""Standard deviation of the first generation, of an interval."""


def points(
    told: Sequence[tuple[Sequence[float], float | None]], candidates: int, seed: int, population: int | None = None
) -> Iterator[list[float]]:
    """What CMA-ES asks for next in [0, 1]^d, one after the other for ever.

    told: the points so far and their scores, oldest first; the starting one, where the first generation's mean is, is
    the first and in no generation. Each `population` of them in turn is one generation, of which only the order of
    the scores counts; None, a failed run, is the worst. population: None for the least multiple of `candidates` that is
    not below the usual 4 + 3 ln d, so that a step ends within no generation's middle but where proposals were dropped.
    Then a generation takes up some of the next step's, which were drawn from the mean before it.

    By the package cmaes, which optuna's sampler wraps as well; that one keeps a pickled state with each trial, and
    draws a generation's members with seeds of their own. Points outside are drawn anew, at last clipped.
    """
    dims = len(told[0][0])
    size = population or generation_size(dims, candidates)
    everywhere = np.array([[0.0, 1.0]] * dims)
    search = CMA(np.array(told[0][0], dtype=float), SIGMA, everywhere, 10 * dims, seed=0, population_size=size)
    for begin in range(1, len(told) - size + 1, size):
        members = told[begin : begin + size]
        search.tell([(np.array(point, dtype=float), math.inf if s is None else -s) for point, s in members])
    search.reseed_rng(seed)
    while True:
        yield [float(u) for u in search.ask()]


def generation_size(dims: int, candidates: int) -> int:
    """The least multiple of `candidates` that is not below 4 + 3 ln d (eq. 48 of the tutorial), and at least 4."""
    usual = 4 + math.floor(3 * math.log(dims))
    return max(1, math.ceil(usual / candidates)) * candidates
