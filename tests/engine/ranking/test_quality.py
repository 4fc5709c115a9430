"""Bias to a place, steadiness and gold questions: hand counts, and scipy's chi-square."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from engine.ranking import Ranking
from engine.ranking.quality import gold_accuracy, position_bias, self_agreement
from tests.engine.ranking.voting import vote


def test_who_always_takes_the_top_is_found_out():
    """Of three places and 20 votes the first wins all: shares 1, 0, 0, and scipy's chi-square."""
    found = position_bias([vote(str(q), "ann", "abc", shown=tuple("abc")) for q in range(20)])
    assert [(p.place, p.shown, p.first, p.standing) for p in found.places] == [
        (1, 20, 1, 0), (2, 20, 0, 0.5), (3, 20, 0, 1)]  # fmt: skip
    assert [p.by_chance for p in found.places] == pytest.approx([1 / 3] * 3)
    assert found.tested == 20
    assert found.p_value == pytest.approx(stats.chisquare([20, 0, 0]).pvalue)


def test_votes_on_questions_of_different_length_are_tested_together():
    """Scipy's chi-squares of pairs (8 and 3 wins) and of threes (4, 9, 5) add up, and so do their degrees."""
    votes = [vote(f"a{n}", "ann", ["x", "y"], shown=("x", "y") if n < 8 else ("y", "x")) for n in range(11)]
    for place, count in enumerate((4, 9, 5)):
        shown = tuple(f"{'bc'[:place]}a{'bc'[place:]}")
        votes += [vote(f"b{place}{n}", "ann", ["a", "b", "c"], shown=shown) for n in range(count)]
    found = position_bias(votes)
    parts = [stats.chisquare([8, 3]), stats.chisquare([4, 9, 5])]
    assert found.tested == 29
    assert found.p_value == pytest.approx(stats.chi2.sf(sum(part.statistic for part in parts), 1 + 2))
    assert [p.shown for p in found.places] == [29, 29, 18]
    assert found.places[0].by_chance == pytest.approx((11 / 2 + 18 / 3) / 29)


def test_shuffled_winners_show_no_bias():
    rng = random.Random(3)
    votes = [vote(str(q), "ann", "abcd", shown=tuple(rng.sample("abcd", 4))) for q in range(400)]
    found = position_bias(votes)
    assert found.p_value is not None and found.p_value > 0.01
    assert all(p.first == pytest.approx(0.25, abs=0.08) and p.standing == pytest.approx(0.5, abs=0.08)
               for p in found.places)  # fmt: skip


def test_ties_share_the_first_place_and_are_not_tested():
    found = position_bias([vote("1", "ann", ["ab", "c"]), vote("2", "bob", "cannot", "abc")])
    assert [p.first for p in found.places] == [0.5, 0.5, 0] and found.tested == 0 and found.p_value is None
    assert position_bias([]).places == []


def test_steadiness_by_hand():
    """ann swaps one of three pairs; bob turns an order into a tie; cem orders the other way round."""
    votes = [
        vote("1", "ann", "abc"),
        vote("1", "bob", ["a", "bc"]),
        vote("1", "cem", "ab", "c"),
        vote("2", "dee", "ab"),
    ]
    votes += [vote("1r", name, tiers, rest, original="1", repeat=1)
              for name, tiers, rest in (("ann", "acb", ""), ("bob", "abc", ""), ("cem", "c", "ab"))]  # fmt: skip
    found = self_agreement(votes)
    assert found["ann"] == (1, pytest.approx(2 / 3))
    assert found["bob"] == (1, pytest.approx(2.5 / 3))
    assert found["cem"] == (1, pytest.approx((0.5 + 0 + 0) / 3))
    assert found["dee"] == (0, None)


def test_naming_the_same_best_again_is_steady():
    votes = [vote("1", "ann", "a", "bcd"), vote("1r", "ann", "a", "bcd", original="1", repeat=1)]
    votes += [vote("2", "ann", "ab"), vote("2r", "ann", "cannot", "ab", original="2", repeat=1)]
    assert self_agreement(votes) == {"ann": (1, 1)}


def test_gold_by_hand():
    """Gold says a > b = c > d: five pairs. Right in 5, in 2 of 5, and in 4.5; naming a alone is all right."""
    gold = Ranking([["a"], ["b", "c"], ["d"]])
    says = {"ann": ("acbd", ""), "bob": ("dabc", ""), "cem": (["a", "b", "cd"], ""), "dee": ("a", "bcd")}
    votes = [vote("1", name, tiers, rest, gold=gold) for name, (tiers, rest) in says.items()]
    votes += [vote("1", "eve", "cannot", "abcd", gold=gold), vote("2", "fay", "ab")]
    found = gold_accuracy(votes)
    assert found["ann"] == (1, 1) and found["bob"] == (1, pytest.approx(2 / 5))
    assert found["cem"] == (1, pytest.approx(4.5 / 5)) and found["dee"] == (1, 1)
    assert found["eve"] == found["fay"] == (0, None)
