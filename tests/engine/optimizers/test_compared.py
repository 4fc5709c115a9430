"""What a history says across steps, by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from engine.comparison import win_rates
from engine.feedback import Feedback
from engine.optimizers._compared import comparable_scores, rounds, strengths, whole_scores, with_strengths
from engine.optimizers.base import values_key
from engine.optimizers.glov import has_improved
from engine.optimizers.opro import ranking
from engine.ranking import Ranking
from engine.ranking.bradley_terry import strengths_of
from tests.engine.optimizers.searching import evaluation


def x(value):
    return {"x": value}


def key(value):
    return values_key(x(value))


def unjudged(value, examples=1):
    start = evaluation(x(value), *[0.0] * examples)
    return replace(start, feedback=(Feedback(text="not compared"),) * examples)


def judged(step, held, values, orders, accepted=None):
    """Candidates of one step as the loop has them from a ranker: win rates among them and the held values."""
    tables = [win_rates(order, [held, *values]) for order in orders]
    return [
        evaluation(x(v), *(table[i + 1] for table in tables), step=step, accepted=v == accepted)
        for i, v in enumerate(values)
    ]


def test_scores_of_different_batches_are_differences_to_the_start():
    start = evaluation(x(0), 0.2, 0.9, 0.5)
    easy = evaluation(x(1), 0.95, step=1, examples=(1,))  # .05 above the start there
    hard = evaluation(x(2), 0.4, step=2, examples=(0,))  # .2 above it
    whole = evaluation(x(3), 0.2, 0.9, 0.8, step=3)
    assert comparable_scores([start, easy, hard, whole]) == pytest.approx([0, 0.05, 0.2, 0.1])


def test_failed_runs_count_as_the_lowest_difference_and_none_but_failures_as_nothing():
    start = evaluation(x(0), 0.5, 0.5)
    history = [
        start,
        evaluation(x(1), 1.0, None, step=1),
        evaluation(x(2), 0.1, 0.5, step=1),
        evaluation(x(3), None, None),
    ]
    assert comparable_scores(history) == pytest.approx([0, (0.5 - 0.4) / 2, -0.2, None])
    # where the start has no score, the others' mean stands for it
    history = [evaluation(x(0), 0.5, None), evaluation(x(1), 0.5, 1.0), evaluation(x(2), 0.5, 2.0)]
    assert comparable_scores(history)[1:] == pytest.approx([-0.25, 0.25])
    several = replace(history[0], feedback=(Feedback({"a": 1.0, "b": 0.0}), Feedback(0.5)))
    assert comparable_scores([several]) == [0.0]


def test_a_score_on_a_part_is_estimated_for_the_whole():
    start = evaluation(x(0), 0.2, 0.9, 0.4)  # mean .5
    easy = evaluation(x(1), 0.95, step=1, examples=(1,))
    hard = evaluation(x(2), 0.4, step=2, examples=(0,))
    whole = evaluation(x(3), 0.2, 0.9, 0.7, step=3)
    failed = evaluation(x(4), None, step=4, examples=(0,))
    assert whole_scores([start, easy, hard, whole, failed]) == pytest.approx([0.5, 0.55, 0.7, 0.6, None])
    assert [value for value, _ in ranking([start, easy, hard, whole], "x")] == [0, 1, 3, 2]
    assert not has_improved([start, evaluation(x(1), 0.85, step=1, examples=(1,))])  # below the start there
    assert has_improved([start, hard]) and whole_scores([start, whole]) == [start.score, whole.score]
    assert whole_scores([]) == [] and whole_scores([unjudged(0), easy]) == [None, 0.95]


@pytest.mark.parametrize("seed", range(20))
def test_rankings_are_those_that_were_given_the_held_values_among_them(seed):
    rng = random.Random(seed)
    orders = []
    for _ in range(3):
        levels = {v: rng.randrange(3) for v in range(5)}
        orders.append(Ranking([[v for v in levels if levels[v] == n] for n in range(3) if n in levels.values()]))
    history = [
        unjudged(0, 3),
        *judged(1, 0, [1, 2, 3, 4], orders, accepted=2),
        *judged(2, 2, [5], [Ranking([[2], [5]])]),
    ]
    first, second = rounds(history, is_ranked=True)
    assert first.held is history[0] and second.held is history[2]
    for found, order in zip(first.rankings, orders, strict=True):
        assert [set(tier) for tier in found.tiers] == [{key(v) for v in tier} for tier in order.tiers]
    assert second.rankings[0].tiers == ((key(2),), (key(5),))


def test_scores_are_ranked_in_each_step_and_failures_left_out():
    history = [
        evaluation(x(0), 0.5, 0.5), evaluation(x(1), 0.7, None, step=1),
        replace(evaluation(x(2), 0.5, 0.9, step=1), accepted=True), evaluation(x(3), 0.1, 0.2, step=2),
    ]  # fmt: skip
    first, second = rounds(history, is_ranked=False)
    assert [set(t) for t in first.rankings[0].tiers] == [{key(1)}, {key(2), key(0)}]
    assert first.rankings[1].tiers == ((key(2),), (key(0),))
    assert second.held is history[2] and second.rankings[1].tiers == ((key(2),), (key(3),))


def test_where_nobody_could_judge_there_is_no_ranking():
    silent = replace(evaluation(x(1), 0.0, step=1), feedback=(Feedback(text="cannot judge"),))
    nobody = [unjudged(0), silent]
    assert [r.rankings for r in rounds(nobody, is_ranked=True)] == [()]
    assert strengths(nobody, is_ranked=True) == {}
    # the held values failed: the others alone were ranked
    failed = replace(evaluation(x(0), None), feedback=(Feedback(text="it failed"),))
    pair = [evaluation(x(1), 1.0, step=1), evaluation(x(2), 0.0, step=1)]
    (ranking,) = rounds([failed, *pair], is_ranked=True)[0].rankings
    assert ranking.tiers == ((key(1),), (key(2),))


def test_strengths_join_the_steps_where_win_rates_do_not():
    """.5 in a step of good ones is more than 1 in a step of bad ones."""
    bad = judged(1, 0, [1, 2], [Ranking([[1], [0], [2]])], accepted=1)
    good = judged(2, 1, [3, 4], [Ranking([[3], [4], [1]])], accepted=3)
    history = [unjudged(0), *bad, *good]
    assert bad[0].score == 1 and good[1].score == 0.5
    found = strengths(history, is_ranked=True)
    assert found[key(2)] < found[key(0)] == 0 < found[key(1)] < found[key(4)] < found[key(3)]
    # by hand: each pair of a ranking of three counts 2/3
    wins = [[0, 0, 2, 0, 0], [2, 0, 2, 0, 0], [0] * 5, [0, 2, 0, 0, 2], [0, 2, 0, 0, 0]]
    expected, _ = strengths_of([[w / 3 for w in row] for row in wins])
    assert [found[key(v)] for v in range(5)] == pytest.approx(list(expected - expected[0]))
    told = [e.score for e in with_strengths(history, is_ranked=True)]
    assert told == pytest.approx([1 / (1 + math.exp(-found[key(v)])) for v in range(5)]) and told[0] == 0.5
