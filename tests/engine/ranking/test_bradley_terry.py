"""Strengths by hand, by finite differences and by choix."""

from __future__ import annotations

import random

import numpy as np
import pytest

from engine.errors import InputError
from engine.ranking.bradley_terry import strengths_of, win_counts
from engine.ranking.plackett_luce import strengths
from engine.ranking.ranking import Ranking
from engine.ranking.vote import Vote


def test_two_candidates_by_hand():
    # s_a = -s_b = s, and 3 (1 - p) - 1 p - 2 * 0.1 s = 0 with p = 1 / (1 + exp(-2 s)): s = .51086
    found, covariance = strengths_of([[0, 3], [1, 0]])
    s = found[0]
    p = 1 / (1 + np.exp(-2 * s))
    assert found[1] == pytest.approx(-s) and 3 * (1 - p) - p - 0.2 * s == pytest.approx(0, abs=1e-9)
    # without a prior s_a - s_b = ln 3
    found, _ = strengths_of([[0, 3], [1, 0]], penalty=1e-9)
    assert found[0] - found[1] == pytest.approx(np.log(3), abs=1e-6)
    # the Hessian is 4 p (1 - p) [[1, -1], [-1, 1]] + 2 * .1, so the variance of the sum is that of the prior
    assert np.ones(2) @ covariance @ np.ones(2) == pytest.approx(2 / 0.2)
    h = 4 * p * (1 - p)
    assert np.array([1, -1]) @ covariance @ np.array([1, -1]) == pytest.approx(2 / (0.2 + 2 * h))


def test_without_comparisons_there_is_the_prior():
    found, covariance = strengths_of(np.zeros((3, 3)), penalty=0.5)
    assert found == pytest.approx(np.zeros(3)) and covariance == pytest.approx(np.eye(3))


@pytest.mark.parametrize("seed", range(5))
def test_the_mode_is_that_of_choix_where_rankings_have_ties(seed):
    pytest.importorskip("choix", reason="choix is not installed: pip install 'trace-engine[web]'")
    rng = random.Random(seed)
    rankings = [Ranking([["a", "b"], ["c"]])]
    for _ in range(8):
        shown = rng.sample("abcdefg", 4)
        rankings.append(Ranking([[shown[0]], shown[1:3]], [shown[3]]))
    votes = [Vote(str(n), "ann", ranking, ranking.ids, at=n, seconds=1) for n, ranking in enumerate(rankings)]
    expected = strengths(votes)
    ids = sorted(expected)
    found, _ = strengths_of(win_counts(rankings, ids))
    assert dict(zip(ids, found, strict=True)) == pytest.approx(expected, abs=1e-4)


def test_the_covariance_is_the_inverse_of_the_curvature():
    rng = np.random.default_rng(0)
    wins, features = rng.integers(0, 4, (5, 5)).astype(float), rng.normal(size=(5, 3))
    np.fill_diagonal(wins, 0)

    def loss(s):
        gap = (features @ s)[:, None] - (features @ s)[None, :]
        return float(np.sum(wins * np.log1p(np.exp(-gap))) + 0.3 * s @ s)

    found, covariance = strengths_of(wins, features, penalty=0.3)
    h, e = 1e-4, np.eye(3)
    for i in range(3):
        assert (loss(found + h * e[i]) - loss(found - h * e[i])) / (2 * h) == pytest.approx(0, abs=1e-6)

    def bent(a, b):
        both, one = h * (a + b), h * (a - b)
        return (loss(found + both) + loss(found - both) - loss(found + one) - loss(found - one)) / (4 * h * h)

    curvature = np.array([[bent(a, b) for b in e] for a in e])
    assert np.linalg.inv(curvature) == pytest.approx(covariance, rel=1e-3)


def test_wins_by_hand():
    rankings = [Ranking([["a"], ["b", "c"]]), Ranking([["b"]], ["a"]), Ranking(unranked=["a", "b"], cannot_judge=True)]
    assert win_counts(rankings, ["a", "b", "c"]).tolist() == [[0, 1, 1], [1, 0, 0.5], [0, 0.5, 0]]
    # of three candidates each pair counts 2/3, of two 1
    even = win_counts(rankings, ["a", "b", "c"], is_even=True)
    assert even.tolist() == pytest.approx(np.array([[0, 2 / 3, 2 / 3], [1, 0, 1 / 3], [0, 1 / 3, 0]]))


def test_one_that_always_wins_stays_finite_and_a_penalty_is_needed():
    found, _ = strengths_of([[0, 1000], [0, 0]])
    assert 2 < found[0] < 10
    with pytest.raises(InputError, match="the penalty is 0"):
        strengths_of([[0, 1], [0, 0]], penalty=0)
