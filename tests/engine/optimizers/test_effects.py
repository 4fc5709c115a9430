from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from engine import Feedback
from engine.optimizers import Candidate, Evaluation
from engine.optimizers._effects import best_combinations, main_effects


def evaluation(score, failed=False, **values):
    return Evaluation(Candidate(values), (0,), (Feedback(score, "text"),), ("",), failed=(failed,))


def test_effects_are_those_of_ridge_regression():
    rng = random.Random(0)
    rows = [(rng.randrange(4), rng.randrange(3), rng.gauss(0, 1)) for _ in range(30)]
    found = main_effects([evaluation(s, one=f"a{i}", two=f"b{j}") for i, j, s in rows], ["one", "two"], ridge=1.0)
    design = np.zeros((30, 7))
    for row, (i, j, _) in enumerate(rows):
        design[row, i] = design[row, 4 + j] = 1
    scores = np.array([s for _, _, s in rows])
    exact = np.linalg.solve(design.T @ design + np.eye(7), design.T @ (scores - scores.mean()))
    effects = {value: effect for known in found.values() for value, effect in known.values()}
    for place, value in enumerate([*(f"a{i}" for i in range(4)), *(f"b{j}" for j in range(3))]):
        assert effects[value] == pytest.approx(exact[place], abs=1e-3)


def test_a_good_value_in_bad_company_is_found():
    history = [evaluation(s, one=i, two=j) for i, j, s in (("+", "-", 0.5), ("-", "+", 0.5), ("-", "-", 0.1))]
    [first, *_] = best_combinations(main_effects(history, ["one", "two"]), 8, random.Random(0))
    assert first == {"one": "+", "two": "+"}


def test_failed_runs_and_missing_scores_are_left_out():
    history = [evaluation(0.5, one="a"), evaluation(0.9, failed=True, one="b"), evaluation(None, one="c")]
    assert list(main_effects(history, ["one"])["one"].values()) == [("a", 0.0)]
    assert main_effects([], ["one"]) == {"one": {}}


def test_many_parameters_are_sampled_and_not_enumerated():
    names = [f"p{i}" for i in range(20)]
    rng = random.Random(0)
    history = [evaluation(rng.random(), **{name: rng.randrange(8) for name in names}) for _ in range(50)]
    found = list(itertools.islice(best_combinations(main_effects(history, names), 8, rng), 5))
    assert all(set(values) == set(names) for values in found) and len(found) == 5
