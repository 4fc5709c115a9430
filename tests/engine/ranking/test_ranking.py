"""Facts of the answer type: what a ranking says of every pair, and what it refuses to be."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DataError, InputError
from engine.ranking import Ranking


@st.composite
def rankings(draw):
    """Rankings of up to seven candidates, with ties and unranked ones."""
    levels = draw(st.lists(st.integers(0, 3), min_size=1, max_size=7))
    ids = [f"c{i}" for i in range(len(levels))]
    tiers = [[one for one, level in zip(ids, levels, strict=True) if level == n] for n in (1, 2, 3)]
    return Ranking([tier for tier in tiers if tier], [one for one, n in zip(ids, levels, strict=True) if n == 0])


def test_preferences_by_hand():
    """a first, b and c together, d and e not placed."""
    ranking = Ranking(tiers=[["a"], ["b", "c"]], unranked=["d", "e"])
    assert ranking.preferences() == [
        [0.5, 1.0, 1.0, 1.0, 1.0],
        [0.0, 0.5, 0.5, 1.0, 1.0],
        [0.0, 0.5, 0.5, 1.0, 1.0],
        [0.0, 0.0, 0.0, 0.5, 0.5],
        [0.0, 0.0, 0.0, 0.5, 0.5],
    ]
    assert ranking.preferences(["d", "a"]) == [[0.5, 0.0], [1.0, 0.5]]
    assert set(ranking.pairs()) == {(x, y) for x, y in ["ab", "ac", "ad", "ae", "bd", "be", "cd", "ce"]}


@given(rankings())
def test_every_two_preferences_sum_to_one_and_pairs_are_the_decided_ones(ranking):
    matrix, ids = ranking.preferences(), ranking.ids
    for i, row in enumerate(matrix):
        assert all(row[j] + matrix[j][i] == 1 for j in range(len(ids)))
    decided = {(a, b) for i, a in enumerate(ids) for j, b in enumerate(ids) if matrix[i][j] == 1}
    assert sorted(ranking.pairs()) == sorted(decided)


@given(rankings())
def test_json_reads_back_as_the_same(ranking):
    assert Ranking.from_json(json.loads(json.dumps(ranking.to_json()))) == ranking


def test_who_cannot_judge_says_nothing_of_any_pair():
    ranking = Ranking(unranked=["a", "b"], cannot_judge=True, note="both in Greek")
    assert [[x if x == x else None for x in row] for row in ranking.preferences()] == [[0.5, None], [None, 0.5]]
    assert list(ranking.pairs()) == []
    assert list(Ranking(unranked=["a", "b"], all_bad=True).preferences()) == [[0.5, 0.5], [0.5, 0.5]]


def test_scores_make_tiers():
    ranking = Ranking.by_score({"a": 1.0, "b": 3, "c": 1.0, "d": None, "e": math.nan})
    assert ranking == Ranking(tiers=[["b"], ["a", "c"]], unranked=["d", "e"])


def test_other_names():
    ranking = Ranking([["x"], ["y"]], unranked=["z"], all_bad=True)
    assert ranking.renamed({"x": [1], "y": [2, 3], "z": [4]}) == Ranking([[1], [2, 3]], unranked=[4], all_bad=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tiers": [["a"], ["a"]]},
        {"tiers": [["a", "b"]], "unranked": ["b"]},
        {"tiers": [[1], ["1", 1]]},
        {"tiers": [["a"], []]},
        {"tiers": ["ab"]},
        {"tiers": "ab"},
        {"tiers": [[1.5]]},
        {"tiers": [[True]]},
        {"unranked": [["a"]]},
        {"tiers": [["a"]], "cannot_judge": True},
    ],
)
def test_what_is_no_ranking_is_refused(wrong):
    with pytest.raises(InputError):
        Ranking(**wrong)
    with pytest.raises(DataError, match=r"votes\.jsonl:3"):
        Ranking.from_json(wrong, place="votes.jsonl:3")


@pytest.mark.parametrize("wrong", [None, [], {"tiers": [["a"]], "tier": 1}])
def test_what_was_not_written_by_a_ranking_is_refused(wrong):
    with pytest.raises(DataError, match="no ranking"):
        Ranking.from_json(wrong)


def test_an_id_that_it_does_not_hold_is_named():
    with pytest.raises(InputError, match="'z'"):
        Ranking([["a"]]).preferences(["a", "z"])
