from __future__ import annotations

import random
from statistics import fmean, stdev

from engine.selection_bias import corrected


def arms(rates, n, seed):
    rng = random.Random(seed)
    return [[float(rng.random() < rate) for _ in range(n)] for rate in rates]


def test_the_best_of_equal_arms_is_no_better_than_any():
    """Fifty arms that are right half the time: the best one looks like .65, and the truth is .5."""
    runs = [arms([0.5] * 50, 60, seed) for seed in range(40)]
    looks = fmean(max(map(fmean, scores)) for scores in runs)
    estimates = [corrected(scores, resamples=200).score.score for scores in runs]
    error = 2 * stdev(estimates) / len(estimates) ** 0.5
    assert looks > 0.62
    assert abs(fmean(estimates) - 0.5) < error + 0.01 and error < 0.03


def test_what_is_truly_better_stays_so():
    runs = [arms([0.5] * 20 + [0.9], 60, seed) for seed in range(20)]
    found = [corrected(scores, resamples=200) for scores in runs]
    assert abs(fmean(each.score.score for each in found) - 0.9) < 0.03
    assert abs(fmean(each.difference.score for each in found) - 0.4) < 0.04
    assert all(each.difference.low > 0 for each in found)


def test_its_intervals_hold_the_truth_most_of_the_time():
    """The interval of the gain over the start; the truth is none, as all arms are equal."""
    found = [corrected(arms([0.5] * 10, 50, seed), resamples=200).difference for seed in range(40)]
    assert sum(each.low <= 0 <= each.high for each in found) >= 36


def test_a_candidate_that_wins_on_every_example_needs_no_correction():
    found = corrected([[0.0] * 10, [1.0] * 10, [0.5] * 10])
    assert (found.score.score, found.score.low, found.score.high) == (1, 1, 1)
    assert found.difference.score == 1 and found.candidates == 3


def test_too_little_to_resample_gives_nothing_and_equal_seeds_give_equal_numbers():
    assert corrected([[1.0] * 20]) is None
    assert corrected([[1.0] * 7, [0.0] * 7]) is None
    scores = arms([0.5] * 5, 20, 0)
    assert corrected(scores, seed=3) == corrected(scores, seed=3) != corrected(scores, seed=4)
