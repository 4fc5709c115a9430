"""CMA-ES (Hansen 2016, 1604.00772) replayed from a history."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cmaes import CMA

SIGMA = 1 / 6
"""Standard deviation of the first generation in shares of an interval, as optuna has it."""

LEAST_SIGMA = 1e-6

Point = tuple[Sequence[float], float | None]
"""Coordinates in [0, 1]^d, and a score; None: the run failed."""


def points(
    told: Sequence[Point], candidates: int, seed: int, population: int | None = None, *, warm: int = 0
) -> Iterator[list[float]]:
    """What CMA-ES asks for next in [0, 1]^d, one after the other for ever.

    told: the points so far, oldest first. The starting one, where the first generation's mean is, is the first and in
    no generation; then each `population` of them is one, of which only the order of the scores counts, a failed run
    being the worst. population: None for the least multiple of `candidates` that is not below the usual
    4 + 3 ln d, so that generations end with steps. Where proposals were dropped a generation takes up some of the
    next step's, which were drawn from the mean before it.
    warm: so many points after the starting one were found otherwise; mean and covariance begin at the best tenth of
    them (warm starting CMA-ES, Nomura et al. 2021, 2012.06932).

    By the package cmaes, which optuna's sampler wraps as well; that one keeps a pickled state with each trial, and
    draws a generation's members with seeds of their own. Points outside are drawn anew, at last clipped.
    """
    size = population or generation_size(len(told[0][0]), candidates)
    losses = [(np.array(point, dtype=float), math.inf if s is None else -s) for point, s in told]
    search = _begun(losses[: warm + 1], size)
    for begin in range(warm + 1, len(losses) - size + 1, size):
        search.tell(losses[begin : begin + size])
    search.reseed_rng(seed)
    while True:
        yield [float(u) for u in search.ask()]


def _begun(source: list[tuple[NDArray[np.float64], float]], size: int) -> CMA:
    """The first generation, around one point or where the best of several lie."""
    # Here, because cmaes loads scipy.stats, which takes a second that TPE does not need.
    from cmaes import CMA, get_warm_start_mgd

    mean, sigma, cov = source[0][0], SIGMA, None
    if len(source) > 1:
        mean, sigma, cov = get_warm_start_mgd(source, gamma=0.1, alpha=0.1)
    bounds = np.array([[0.0, 1.0]] * len(mean))
    mean = np.clip(mean, 0.0, 1.0)
    return CMA(mean, max(LEAST_SIGMA, sigma), bounds, 10 * len(mean), 0, size, cov)


def generation_size(dims: int, candidates: int) -> int:
    """The least multiple of `candidates` that is not below 4 + 3 ln d (eq. 48 of the tutorial), and at least 4."""
    usual = 4 + math.floor(3 * math.log(dims))
    return max(1, math.ceil(usual / candidates)) * candidates
