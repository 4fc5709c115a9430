"""Strengths of candidates from counts of who beat whom, and how sure they are (Bradley and Terry 1952)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.ranking.ranking import Id, Ranking

ROUNDS = 100
NEAR = 1e-9

Floats = NDArray[np.float64]


def strengths_of(wins: Any, features: Any = None, *, penalty: float = 0.1) -> tuple[Floats, Floats]:
    """The mode (n,) and covariance (n, n) of the strengths s: a beats b with probability 1 / (1 + exp(s_b - s_a)).

    The mode of prod sigma(s_a - s_b)^wins[a, b] * exp(-penalty * sum s^2), by Newton's method; the covariance is the
    inverse Hessian there (Laplace's approximation). wins: (m, m), how often the row's candidate beat the column's; a
    tie is half a win for each; the diagonal is not read. features: (m, n), where candidate a has the strength
    sum_j features[a, j] s_j; None: each candidate has its own. With strengths of their own the mode is that of
    `plackett_luce.strengths` for rankings that have ties, without choix. The prior is N(0, 1 / (2 penalty)).
    Raises InputError for a penalty that is not above 0.
    """
    if not penalty > 0:
        raise InputError(f"the penalty is {penalty!r}", allowed="a number above 0: without it strengths are infinite")
    wins = np.asarray(wins, dtype=float)
    rows, columns = np.nonzero(np.triu(wins + wins.T, 1))
    won, lost = wins[rows, columns], wins[columns, rows]
    features = np.eye(len(wins)) if features is None else np.asarray(features, dtype=float)
    gaps = features[rows] - features[columns]
    found = np.zeros(features.shape[1])
    for _ in range(ROUNDS):
        value, slope, bend = _posterior(found, gaps, won, lost, penalty)
        step = np.linalg.solve(bend, slope)
        length = 1.0
        while length > NEAR and _posterior(found - length * step, gaps, won, lost, penalty)[0] > value:
            length /= 2
        found = found - length * step
        if np.abs(length * step).max(initial=0.0) < NEAR:
            break
    covariance = np.linalg.inv(_posterior(found, gaps, won, lost, penalty)[2]).astype(np.float64)
    return found, covariance


def win_counts(rankings: Sequence[Ranking], ids: Sequence[Id], *, is_even: bool = False) -> Floats:
    """(m, m): how often the row's id stands above the column's in the rankings; a tie is half for each.

    is_even: a ranking of k counts as k - 1 comparisons, not as its k (k - 1) / 2 pairs, which are not independent.
    """
    row = {one: number for number, one in enumerate(ids)}
    wins = np.zeros((len(ids), len(ids)))
    for ranking in rankings:
        if ranking.cannot_judge or len(ranking.ids) < 2:
            continue
        at = [row[one] for one in ranking.ids]
        table = np.array(ranking.preferences(), dtype=float)
        np.fill_diagonal(table, 0.0)
        wins[np.ix_(at, at)] += table * (2 / len(at) if is_even else 1.0)
    return wins


def _posterior(found: Floats, gaps: Floats, won: Floats, lost: Floats, penalty: float) -> tuple[float, Floats, Floats]:
    """The negative log posterior, its gradient and its Hessian."""
    apart = gaps @ found
    chance = 1 / (1 + np.exp(-np.clip(apart, -500, 500)))
    value = won @ np.logaddexp(0, -apart) + lost @ np.logaddexp(0, apart) + penalty * found @ found
    slope = gaps.T @ ((won + lost) * chance - won) + 2 * penalty * found
    weight = (won + lost) * chance * (1 - chance)
    bend = (gaps.T * weight) @ gaps + 2 * penalty * np.eye(len(found))
    return float(value), slope, bend
