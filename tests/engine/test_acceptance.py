from __future__ import annotations

import itertools
import random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.acceptance import better, bootstrap_interval, latest, paired, resolve_rule, sign_flip_p
from engine.errors import InputError, UnknownName


def test_sign_flip_of_equal_magnitudes_is_the_sign_test():
    # 8 wins of 10: (C(10,8) + C(10,9) + C(10,10)) / 2^10 = 56/1024
    assert sign_flip_p([1] * 8 + [-1] * 2) == pytest.approx(56 / 1024)
    assert sign_flip_p([0.5] * 5 + [0.0] * 90) == pytest.approx(1 / 32)


def test_sign_flip_by_hand():
    # sums of +-1 +-2 +-3 that reach 1 + 2 + 3 = 6: one of eight; that reach 3 + 2 - 1 = 4: two of eight
    assert sign_flip_p([1, 2, 3]) == pytest.approx(1 / 8)
    assert sign_flip_p([-1, 2, 3]) == pytest.approx(2 / 8)
    assert sign_flip_p([0, 0]) == 1


def test_sign_flip_of_many_differences_agrees_with_simulation():
    rng = random.Random(0)
    differences = [rng.gauss(0.15, 1) for _ in range(60)]
    total = sum(differences)
    draws = [sum(d if rng.random() < 0.5 else -d for d in differences) for _ in range(20_000)]
    assert sign_flip_p(differences) == pytest.approx(fmean(s >= total for s in draws), abs=0.015)


@given(st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_sign_flip_p_is_a_probability_and_at_least_one_pattern(differences):
    p = sign_flip_p(differences)
    nonzero = sum(d != 0 for d in differences)
    assert 1 / 2**nonzero - 1e-12 <= p <= 1


def test_paired_error_rate_under_the_null_is_at_most_the_level():
    rng = random.Random(1)
    rule = paired(level=0.1)
    accepted = sum(
        rule([rng.random() for _ in range(20)], [rng.random() for _ in range(20)]).accepted for _ in range(600)
    )
    assert accepted / 600 <= 0.1 + 3 * (0.1 * 0.9 / 600) ** 0.5


def test_paired_is_better_on_few_examples_and_strict_on_many():
    assert paired()([1, 0, 1], [0, 0, 1]).accepted
    lucky = paired()([1] * 6 + [0] * 5, [0] * 6 + [1] * 5)
    assert not lucky.accepted and lucky.difference == pytest.approx(1 / 11) and lucky.p > 0.1
    assert paired()([1] * 10, [0] * 10).accepted


def test_better_refuses_equal_and_worse():
    assert not better([1, 1], [1, 1]).accepted
    assert not better([0, 1], [1, 1]).accepted
    assert better([1, 2], [1, 1]).accepted


def test_failed_runs_outweigh_scores():
    assert not better([None, 9, 9], [0, 0, 0]).accepted
    assert better([0, 0, 0], [None, 0, 0]).accepted
    assert not better([5, 0, 0], [None, 1, 1]).accepted
    assert not better([None], [None]).accepted
    assert latest([None], [None]).accepted


def test_no_accepted_sequence_ever_lowers_the_mean():
    rng = random.Random(2)
    for rule in (paired(), better):
        current = start = [rng.random() for _ in range(12)]
        for _ in range(200):
            new = [rng.random() for _ in range(12)]
            if rule(new, current).accepted:
                assert fmean(new) > fmean(current)
                current = new
        assert fmean(current) >= fmean(start)


def test_different_lengths_and_unknown_names_are_refused():
    with pytest.raises(InputError, match="same examples"):
        better([1], [1, 2])
    with pytest.raises(UnknownName, match="Did you mean 'paired'"):
        resolve_rule("pared")
    with pytest.raises(InputError, match="callable"):
        resolve_rule(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="level"):
        paired(level=0)
    assert resolve_rule(better) is better


def test_bootstrap_interval_of_a_share_agrees_with_the_binomial():
    interval = bootstrap_interval([1.0] * 70 + [0.0] * 30)
    half = 1.96 * (0.7 * 0.3 / 100) ** 0.5
    assert interval.score == pytest.approx(0.7) and interval.n == 100
    assert interval.low == pytest.approx(0.7 - half, abs=0.02)
    assert interval.high == pytest.approx(0.7 + half, abs=0.02)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    rng = random.Random(3)
    hits = 0
    for seed in range(150):
        interval = bootstrap_interval([rng.gauss(0, 1) for _ in range(40)], resamples=300, seed=seed)
        hits += interval.low <= 0 <= interval.high
    assert hits / 150 >= 0.87


def test_bootstrap_is_deterministic_and_refuses_nothing():
    values = [float(v) for v in itertools.chain(range(10), range(5))]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    with pytest.raises(InputError, match="at least one"):
        bootstrap_interval([])
