"""TOFU's measures: values by hand, and the KS test against scipy's."""

import math
import random

import pytest
from scipy.stats import hmean, ks_2samp

from engine.errors import InputError
from rl.ops import tofu


@pytest.mark.parametrize(
    ("text", "answer", "recall"),
    [
        ("The cat sat on the mat.", "the cat sat on the mat", 1.0),
        ("A cat sat there", "The cat sat on the mat", 2 / 6),
        ("mat the on sat cat the", "the cat sat on the mat", 3 / 6),  # the on the
        ("the the the", "the cat", 1 / 2),
        ("police killed the gunman", "police kill the gunman", 3 / 4),  # these two are Lin's (2004)
        ("the gunman kill police", "police kill the gunman", 2 / 4),
        ("", "a b", 0.0),
        ("a b", "", 0.0),
        ("He was born in 1971!", "1971", 1.0),
    ],
)
def test_rouge_l_recall_by_hand(text, answer, recall):
    assert tofu.rouge_l_recall(text, answer) == pytest.approx(recall)


def test_truth_ratio_and_its_scores_by_hand():
    ratio = tofu.truth_ratio(math.log(0.5), [math.log(0.1), math.log(0.3)])
    assert ratio == pytest.approx(0.4)
    assert tofu.truth_score(ratio) == pytest.approx(0.6)
    assert tofu.truth_score(ratio, is_forgotten=True) == pytest.approx(0.4)
    assert tofu.truth_score(2.5) == 0.0
    assert tofu.truth_score(2.5, is_forgotten=True) == pytest.approx(0.4)
    assert tofu.truth_score(tofu.truth_ratio(-1e5, [0.0]), is_forgotten=True) == pytest.approx(0.0)


def test_choice_probability_by_hand():
    assert tofu.choice_probability(math.log(0.4), [math.log(0.1), math.log(0.3)]) == pytest.approx(0.5)
    assert tofu.choice_probability(-1.0, []) == 1.0


def test_model_utility_is_the_harmonic_mean():
    values = [0.9, 0.5, 0.1]
    assert tofu.model_utility(values) == pytest.approx(hmean(values))
    assert tofu.model_utility([0.9, 0.0]) == 0.0
    with pytest.raises(InputError):
        tofu.model_utility([])


@pytest.mark.parametrize(
    ("matches", "strength"),
    [
        ([True] * 4, 1.0),
        ([False, True, True, True], 0.75),
        ([True, False, True, True], 0.5),
        ([True, True, True, False], 0.0),
        ([], 0.0),
    ],
)
def test_extraction_strength_by_hand(matches, strength):
    assert tofu.extraction_strength(matches) == pytest.approx(strength)


@pytest.mark.parametrize(("n", "m", "shift"), [(1, 1, 0.0), (5, 7, 0.5), (20, 20, 0.0), (20, 20, 1.0), (40, 13, 3.0)])
def test_the_ks_test_is_scipys(n, m, shift):
    draw = random.Random(n * m)
    first = [draw.gauss(0, 1) for _ in range(n)]
    second = [draw.gauss(shift, 1) for _ in range(m)]
    found = ks_2samp(first, second, method="exact")
    assert tofu.ks_test(first, second) == pytest.approx((found.statistic, found.pvalue), rel=1e-9)


def test_the_ks_test_with_ties_is_scipys():
    first, second = [1.0, 1.0, 2.0, 3.0, 3.0], [1.0, 2.0, 2.0, 4.0]
    found = ks_2samp(first, second, method="exact")
    assert tofu.ks_test(first, second) == pytest.approx((found.statistic, found.pvalue), rel=1e-9)


def test_the_ks_test_keeps_small_chances():
    """Of the orders of 40 and 40 numbers two are as far apart as can be: 2 / C(80, 40)."""
    distance, chance = tofu.ks_test(range(40), range(40, 80))
    assert distance == 1.0
    assert chance == pytest.approx(2 / math.comb(80, 40), rel=1e-12)
    assert tofu.forget_quality(range(40), range(40)) == 1.0


def test_the_ks_test_refuses_what_is_no_sample():
    for wrong in ([], [math.nan]):
        with pytest.raises(InputError, match="two samples"):
            tofu.ks_test([1.0], wrong)
