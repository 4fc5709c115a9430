"""Facts of the weights that a ranking gives to perturbations."""

import itertools

import numpy as np
import pytest

from engine.errors import InputError
from engine.ranking import Ranking
from engine.ranking.oracle import level_weights, ranked_levels, ranking_weights

IDS = {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}

# mean cosine of the estimate and the gradient of a linear function, of 400 draws: dimensions, m, k
COSINES = [
    (20, 15, 15, 0.633), (20, 15, 5, 0.564), (20, 15, 1, 0.393), (20, 5, 5, 0.376), (20, 2, 1, 0.192),
    (20, 50, 50, 0.838), (100, 15, 15, 0.337), (100, 15, 5, 0.280), (100, 15, 1, 0.180), (100, 5, 5, 0.175),
    (100, 2, 1, 0.077), (100, 50, 50, 0.564),
]  # fmt: skip


def by_pairs(better_worse, m):
    """The weights as the paper has them: a sum of differences, over the pairs."""
    weights, pairs = [0.0] * m, list(better_worse)
    for better, worse in pairs:
        weights[worse] += 1 / len(pairs)
        weights[better] -= 1 / len(pairs)
    return weights


def test_weights_by_hand():
    assert ranking_weights(2, 1) == [-1.0, 1.0]
    assert ranking_weights(3, 3) == pytest.approx([-2 / 3, 0, 2 / 3])
    assert ranking_weights(4, 2) == pytest.approx([-3 / 5, -1 / 5, 2 / 5, 2 / 5])


@pytest.mark.parametrize("m, k", [(2, 1), (2, 2), (5, 1), (15, 5), (15, 15), (50, 49)])
def test_weights_are_the_sum_over_all_pairs_and_sum_to_nothing(m, k):
    pairs = [(i, j) for i, j in itertools.combinations(range(m), 2) if i < k]
    assert ranking_weights(m, k) == pytest.approx(by_pairs(pairs, m))
    assert sum(ranking_weights(m, k)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("m", [2, 15, 50])
def test_a_full_ranking_is_shaped_as_in_evolution_strategies(m):
    """Centred ranks, 1703.03864: from -1/2 to 1/2 at equal distances."""
    centred, weights = np.linspace(-0.5, 0.5, m), np.array(ranking_weights(m, m))
    np.testing.assert_allclose(weights / weights[-1], centred / centred[-1], atol=1e-12)


@pytest.mark.parametrize("dims, m, k, expected", COSINES)
def test_cosine_with_the_gradient_of_a_linear_function(dims, m, k, expected):
    xi = np.random.default_rng(dims + m + k).normal(size=(400, m, dims))
    ranked = np.take_along_axis(xi, xi[:, :, 0].argsort(axis=1)[:, :, None], axis=1)
    estimates = np.einsum("m,nmd->nd", ranking_weights(m, k), ranked)
    cosines = estimates[:, 0] / np.linalg.norm(estimates, axis=1)
    assert cosines.std() / 20 < 0.012
    assert cosines.mean() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    "ranking",
    [
        Ranking([["c"], ["a", "b"], ["e"]], ["d"]),
        Ranking([["a", "b", "c", "d", "e"]]),
        Ranking([["d"]], ["e"]),
        Ranking([["e"], ["b"]]),
        Ranking(unranked=["a", "b", "c"]),
    ],
)
def test_ties_and_missing_answers_are_no_pairs(ranking):
    pairs = [(IDS[better], IDS[worse]) for better, worse in ranking.pairs()]
    assert level_weights(ranked_levels(ranking, IDS, 5), 5) == pytest.approx(by_pairs(pairs, 5))


def test_only_the_best_k_are_kept_in_order_and_a_tier_is_kept_whole():
    full = Ranking([["e"], ["d"], ["c"], ["b"]], ["a"])
    assert ranked_levels(full, IDS, 2) == [[4], [3], [0, 1, 2]]
    assert ranked_levels(Ranking([["e"], ["d", "c"], ["b"], ["a"]]), IDS, 2) == [[4], [2, 3], [0, 1]]
    assert ranked_levels(Ranking(unranked=list(IDS), cannot_judge=True), IDS, 2) == []


@pytest.mark.parametrize("m, k", [(1, 1), (5, 0), (5, 6), (2.0, 1), (True, 1)])
def test_an_oracle_that_cannot_be(m, k):
    with pytest.raises(InputError):
        ranking_weights(m, k)
