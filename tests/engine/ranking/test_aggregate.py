"""What several annotators say together: hand counts of Borda, and strengths that were known before."""

from __future__ import annotations

import itertools
import math
import random

import choix
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.ranking import Ranking
from engine.ranking.aggregate import borda, by_question, merged
from engine.ranking.plackett_luce import groups, strengths
from tests.engine.ranking.voting import vote

IDS = "abcd"


def test_borda_by_hand():
    """a beats 3, 2, 1 others; b 2, 3, 3; c 1, 0.5, 2; d 0, 0.5, 0."""
    rankings = [Ranking([["a"], ["b"], ["c"], ["d"]]),
                Ranking([["b"], ["a"]], ["c", "d"]), Ranking([["b"], ["c"], ["a"], ["d"]])]  # fmt: skip
    assert borda(rankings) == pytest.approx({"a": 2, "b": 8 / 3, "c": 3.5 / 3, "d": 0.5 / 3})
    assert merged(rankings) == Ranking([["b"], ["a"], ["c"], ["d"]])


def test_condorcets_circle_is_a_tie_and_whom_none_ranks_stays_unranked():
    circle = [Ranking([[a], [b], [c]], ["d"]) for a, b, c in ("abc", "bca", "cab")]
    assert merged(circle) == Ranking([["a", "b", "c"]], ["d"])


def test_who_cannot_judge_is_left_out_and_if_nobody_can_the_notes_say_why():
    able, first = Ranking([["a"], ["b"]]), Ranking(unranked=["a", "b"], cannot_judge=True, note="no Latin")
    second = Ranking(unranked=["b", "a"], cannot_judge=True, note="no Greek")
    assert merged([able, first]) == Ranking([["a"], ["b"]], note="no Latin")
    assert merged([first, second, first]) == Ranking(unranked=["a", "b"], cannot_judge=True, note="no Latin; no Greek")


@pytest.mark.parametrize(("bad", "of", "says"), [(1, 2, False), (2, 3, True), (1, 3, False), (1, 1, True)])
def test_all_are_bad_if_more_than_half_say_so(bad, of, says):
    rankings = [Ranking([["a"], ["b"]], all_bad=number < bad) for number in range(of)]
    assert merged([*rankings, Ranking(unranked=["a", "b"], cannot_judge=True)]).all_bad is says


def test_named_errors():
    with pytest.raises(InputError, match="no rankings"):
        merged([])
    with pytest.raises(InputError, match="different candidates"):
        merged([Ranking([["a"]]), Ranking([["b"]])])
    with pytest.raises(InputError, match="cannot judge has no Borda"):
        borda([Ranking(unranked=["a"], cannot_judge=True)])
    with pytest.raises(InputError, match="penalty"):
        strengths([], penalty=0)


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    levels = draw(st.lists(st.integers(0, 3), min_size=4, max_size=4))
    tiers = [[one for one, level in zip(IDS, levels, strict=True) if level == at] for at in range(3)]
    return Ranking([tier for tier in tiers if tier], [i for i, level in zip(IDS, levels, strict=True) if level == 3])


@given(st.lists(rankings(), min_size=1, max_size=4), st.randoms())
def test_the_order_of_the_annotators_says_nothing_and_saying_it_twice_changes_nothing(given_rankings, rng):
    shuffled = rng.sample(given_rankings, len(given_rankings))
    assert merged(shuffled) == merged(given_rankings) == merged(given_rankings * 2)
    assert sum(borda(given_rankings).values()) == pytest.approx(len(IDS) * (len(IDS) - 1) / 2)


def test_the_first_vote_of_each_annotator_counts():
    first, again, other = (
        vote("q", "ann", ["a", "b"]),
        vote("q2", "ann", ["b", "a"], original="q"),
        vote("q", "bob", ["a", "b"]),
    )
    assert by_question([again, other, first]) == {"q": [first, other]}


def simulated(true: dict[str, float], questions: int, size: int, ranked: int, rng: random.Random):
    """Rankings drawn from Plackett and Luce's model: strengths plus Gumbel noise, in order (Yellott 1977)."""
    for number in range(questions):
        ids = rng.sample(sorted(true), size)
        order = sorted(ids, key=lambda one: math.log(-math.log(rng.random())) - true[one])
        yield vote(f"q{number}", "ann", order[:ranked], order[ranked:])


@pytest.mark.parametrize("ranked", [4, 1], ids=["full", "best"])
def test_known_strengths_are_found_again(ranked):
    """Of 400 questions: naming the best alone tells less, and what it leaves open must not bias."""
    true = {"a": 1.5, "b": 0.5, "c": 0.0, "d": -0.5, "e": -1.5}
    found = strengths(list(simulated(true, 400, 4, ranked, random.Random(1))), penalty=0.01)
    assert max(abs(found[one] - true[one]) for one in true) < 0.35
    assert sum(found.values()) == pytest.approx(0, abs=1e-4)


def test_full_rankings_give_what_choix_gives_for_rankings():
    votes = list(simulated(dict(zip(IDS, (1, 0, 0, -1), strict=True)), 30, 4, 4, random.Random(2)))
    data = [tuple(IDS.index(one) for one in each.ranking.ids) for each in votes]
    expected = choix.opt_rankings(4, data, alpha=0.1, tol=1e-9)
    assert list(strengths(votes).values()) == pytest.approx(list(expected), abs=1e-3)


def test_a_tie_is_half_a_win_for_each():
    """Of two candidates, w wins and l losses: s_a - s_b solves w - n / (1 + exp(-d)) = penalty * d, by hand."""
    votes = [vote("1", "ann", ["a", "b"]), vote("2", "ann", ["ab"]), vote("3", "ann", ["a", "b"])]
    found = strengths(votes, penalty=0.25)
    d = found["a"] - found["b"]
    assert d > 0 and 2.5 - 3 / (1 + math.exp(-d)) == pytest.approx(0.25 * d, abs=1e-3)
    assert strengths([vote("1", "ann", ["ab"])]) == pytest.approx({"a": 0, "b": 0})


def test_the_unranked_are_no_tie():
    """c and d are never compared: c loses to a once, d twice, so d is weaker though they stand side by side."""
    votes = [vote("1", "ann", ["a"], "cd"), vote("2", "ann", ["a"], "de")]
    found = strengths(votes)
    assert found["a"] > found["c"] > found["d"]


def test_what_no_comparison_joins_is_fitted_apart_and_centred():
    one, other = vote("1", "ann", ["a", "b", "c"]), vote("2", "ann", ["x", "y"])
    found = strengths([one, other])
    assert groups([one, other]) == [set("abc"), set("xy")]
    assert found == pytest.approx(strengths([one]) | strengths([other]))
    assert found["x"] == pytest.approx(-found["y"]) and all(map(math.isfinite, found.values()))
    together = choix.opt_rankings(5, [(0, 1, 2), (3, 4)], alpha=0.1, tol=1e-9)
    assert [found[one] for one in "abcxy"] == pytest.approx(list(together), abs=1e-3)


def test_votes_without_a_comparison_have_no_strengths():
    assert strengths([]) == {} and groups([]) == []
    assert strengths([vote("1", "ann", "cannot", "ab"), vote("2", "ann", [], "ab", all_bad=True)]) == {}


def test_the_same_candidate_in_two_questions_joins_them():
    chain = [vote(str(n), "ann", [a, b]) for n, (a, b) in enumerate(itertools.pairwise("abcde"))]
    found = strengths(chain)
    assert groups(chain) == [set("abcde")]
    assert sorted(found, key=found.__getitem__, reverse=True) == list("abcde")
